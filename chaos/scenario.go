package main

import (
	"context"
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/hongyan-dispatch/hongyan/internal/fault"
)

// The subjects.
const (
	hongyan = "hongyan"
	naive   = "naive"
)

// A scenario is one kind of trouble.
type scenario struct {
	name      string
	about     string
	plan      plan                                 // what is sent, in the short form
	long      plan                                 // what else the long form asks for; zero values are those of plan
	do        func(context.Context, *rig) error    // breaks things while the producer works
	without   fault.Safety                         // is taken away from the workers: the suite must notice
	naive     bool                                 // also strikes the naive build
	brief     bool                                 // is part of go test
	command   bool                                 // uses the command enqueue
	old       bool                                 // begins with workers of an earlier version, which --old names
	mounts    bool                                 // mounts a disk of its own
	notice    string                               // the letter of the promise that must be seen broken without the safety; empty: any
	tolerated map[int]int64                        // calls over a limit that belong to the scenario, by code
	after     func(context.Context, *rig) []string // more checks, when all is decided
}

// A plan says what is enqueued and by how many workers it is sent.
type plan struct {
	messages  int
	perSecond int
	workers   int
	handOver  bool          // a fifth of the messages goes straight into Redis
	campaigns bool          // the messages are two campaigns', at the pace of their APIs
	windows   bool          // users have windows of five; else everybody may always be answered
	outage    time.Duration // of servers
	settle    time.Duration // how long the last message may take after the producer's end
	tags      string        // of the worker's build
	parked    bool          // parked is an end, too
	fixed     bool          // the number of messages is part of the scenario
	yaml      string        // the account's limits, in place of the usual ones
	latency   string        // of WeChat
	templates bool          // only template messages
	customs   bool          // only customer-service messages
	failed    bool          // failed is no end: it is replayed
	neighbour bool          // there is a second account, which sends little
	link      bool          // workers reach Redis over a link that we can slow down
	servers   int           // of the HTTP API, through which the producers enqueue; 0: they do it themselves
	clocks    bool          // of three workers one has a clock that is ten minutes ahead, one a clock ten minutes behind
	many      int           // messages beside the producer's
	faster    int           // times the usual paces; 0: once
	scarce    bool          // a day has fewer calls than there are template messages
	troubles  int           // how often something breaks; 0: for as long as the producer works
}

func (p plan) with(o plan) plan {
	if o.messages > 0 {
		p.messages = o.messages
	}
	if o.perSecond > 0 {
		p.perSecond = o.perSecond
	}
	if o.outage > 0 {
		p.outage = o.outage
	}
	if o.settle > 0 {
		p.settle = o.settle
	}
	if o.many > 0 {
		p.many = o.many
	}
	if o.faster > 0 {
		p.faster = o.faster
	}
	if o.troubles > 0 {
		p.troubles = o.troubles
	}
	return p
}

// templatesPerDay are the template messages that a day allows: of what the producer has, more than half are some.
func (p plan) templatesPerDay() int64 {
	if p.scarce {
		return int64(p.messages) * 2 / 5
	}
	return perDay
}

// paces are what the account's APIs may be called for in a second.
func (p plan) paces() (template, other int64) {
	times := int64(max(1, p.faster))
	return times * templatePerSecond, times * otherPerSecond
}

func names() string {
	var all []string
	for _, s := range scenarios {
		all = append(all, s.name)
	}
	return strings.Join(all, ", ")
}

// choose are the scenarios that the flags ask for, with their plans made final.
func choose(f flags) ([]scenario, error) {
	for _, name := range f.Only {
		if !slices.ContainsFunc(scenarios, func(s scenario) bool { return s.name == name }) {
			return nil, fmt.Errorf("--only: there is no scenario %q; there are %s", name, names())
		}
	}
	var chosen []scenario
	for _, s := range scenarios {
		if s.old && f.Old == "" {
			if slices.Contains(f.Only, s.name) {
				return nil, fmt.Errorf("--only %s wants --old PATH, a worker that was built from an earlier version", s.name)
			}
			continue
		}
		if s.mounts && len(f.Only) == 0 && !mayMount() {
			continue
		}
		if len(f.Only) > 0 && !slices.Contains(f.Only, s.name) || len(f.Only) == 0 && f.Mutations != (s.without != "") || f.Subject == naive && !s.naive {
			continue
		}
		if f.Long {
			s.plan = s.plan.with(s.long)
		}
		if f.Messages > 0 && !s.plan.fixed {
			s.plan.messages = f.Messages
		}
		if f.Duration > 0 && !s.plan.fixed {
			s.plan.perSecond = max(1, int(float64(s.plan.messages)/f.Duration.Seconds()))
		}
		chosen = append(chosen, s)
	}
	return chosen, nil
}

// play runs scenarios, some side by side, each with servers of its own.
func play(ctx context.Context, f flags, chosen []scenario, p *progress) ([]*Result, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	home, err := prepare(ctx, chosen, f.Old)
	if err != nil {
		return nil, err
	}
	defer home.close()
	results := make([]*Result, len(chosen))
	var wg sync.WaitGroup
	free := make(chan struct{}, max(1, f.Parallel))
	for i, s := range chosen {
		wg.Go(func() {
			free <- struct{}{}
			defer func() { <-free }()
			if ctx.Err() != nil {
				return
			}
			r, err := perform(ctx, f, s, home, p)
			if err != nil {
				cancel(fmt.Errorf("%s (repeat with make chaos SEED=%d ARGS='--only %s'): %w", s.name, f.Seed, s.name, err))
			}
			results[i] = r
		})
	}
	wg.Wait()
	p.end()
	return slices.DeleteFunc(results, func(r *Result) bool { return r == nil }), context.Cause(ctx)
}

// perform plays one scenario from its servers' start to the check.
func perform(ctx context.Context, f flags, s scenario, home *home, p *progress) (_ *Result, err error) {
	began := time.Now()
	if f.Subject == naive {
		s.plan.windows, s.plan.scarce = false, false // it knows none
	}
	r := &rig{scenario: s, plan: s.plan, subject: f.Subject, home: home, progress: p, rand: random(f.Seed, s.name)}
	defer func() {
		if end := r.close(); err == nil {
			err = end
		}
	}()
	if err := r.open(ctx); err != nil {
		return nil, err
	}
	if err := r.work(ctx); err != nil {
		return nil, err
	}
	result, err := r.judge(ctx)
	if err != nil {
		return nil, err
	}
	result.mutated(s.without, s.notice)
	result.Took = time.Since(began).Round(time.Second).String()
	result.Repeat = fmt.Sprintf("make chaos SEED=%d ARGS='--only %s%s'", f.Seed, s.name, map[bool]string{true: " --long"}[f.Long])
	p.done(result)
	return result, nil
}

// random is the scenario's own stream of chance: it does not depend on which others run.
func random(seed uint64, name string) *rand.Rand {
	h := fnv.New64a()
	h.Write([]byte(name))
	return rand.New(rand.NewPCG(seed, h.Sum64()))
}

// pause waits, unless the context ends.
func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-t.C:
		return nil
	}
}

// between is a time from a to b, as chance wants.
func (r *rig) between(a, b time.Duration) time.Duration {
	return a + time.Duration(r.rand.Int64N(int64(b-a)+1))
}
