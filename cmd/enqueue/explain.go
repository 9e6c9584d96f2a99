package main

import (
	"context"
	"fmt"
	"slices"
	"text/tabwriter"
	"time"

	"github.com/hongyan-dispatch/hongyan/message"
)

type explainCommand struct {
	ID string `arg:"" help:"The message's id."`
}

func (*explainCommand) Help() string {
	return `Says which limit, window, gate or schedule holds the message and until when, or why it ended as it did, with the timeline. It asks
the ledger, and Redis for the window, the quota and the queue where redis.url is set; it asks WeChat nothing and changes nothing.

Examples:

  enqueue explain 0198c0de-0000-7000-8000-000000000001
  enqueue explain 0198c0de-0000-7000-8000-000000000001 --json`
}

// explanation is what --json writes: the names of enqueue status, and why.
type explanation struct {
	statusView
	Why     string     `json:"why"`
	HeldBy  []string   `json:"held_by,omitempty"` // names of checks
	Until   time.Time  `json:"until,omitzero"`    // zero: ended, or nobody knows
	Checks  []check    `json:"checks,omitempty"`
	Instead message.ID `json:"fallback_id,omitzero"`
}

// A check is one thing that may hold a message.
type check struct {
	Name  string    `json:"check"`
	Holds bool      `json:"holds"`
	Until time.Time `json:"until,omitzero"` // of one that holds; zero: nobody knows
	Text  string    `json:"text"`
}

// Run prints why the message is where it is.
func (c *explainCommand) Run(ctx context.Context, s *session) error {
	id, err := message.ParseID(c.ID)
	if err != nil {
		return refuse("%w", err)
	}
	known, err := s.facts(ctx, id)
	if err != nil {
		return ledgerError(err, id)
	}
	e := explain(known)
	if s.json {
		return s.printJSON(e)
	}
	return e.table(s)
}

func (e explanation) table(s *session) error {
	_, _ = fmt.Fprintln(s.stdout, e.Why) // the last write tells
	if !e.Until.IsZero() {
		_, _ = fmt.Fprintln(s.stdout, "until", clock(e.Until))
	}
	_, _ = fmt.Fprintln(s.stdout)
	if len(e.Checks) > 0 {
		w := tabwriter.NewWriter(s.stdout, 0, 0, 2, ' ', 0)
		_, _ = fmt.Fprintln(w, "CHECK\tHOLDS\t")
		for _, c := range e.Checks {
			_, _ = fmt.Fprintf(w, "%s\t%s\t%s\n", c.Name, map[bool]string{true: "yes", false: "no"}[c.Holds], c.Text)
		}
		if err := w.Flush(); err != nil {
			return err
		}
		_, _ = fmt.Fprintln(s.stdout)
	}
	return e.statusView.table(s)
}

// explain reasons from what is known; it asks nobody.
func explain(f facts) explanation {
	e := explanation{statusView: viewOf(f.status), Instead: f.around.Instead}
	if f.status.State.Terminal() {
		e.Why = ended(f)
		return e
	}
	for _, look := range []func(facts) (check, bool){
		worker, expiry, suppression, gates, schedule, parts, turn, queue, claim, windowCheck, quotaCheck, redisCheck,
	} {
		if c, applies := look(f); applies {
			e.Checks = append(e.Checks, c)
		}
	}
	e.Why = fmt.Sprintf("The message is %s, and nothing holds it: it goes any moment.", f.status.State)
	if i := slices.IndexFunc(e.Checks, func(c check) bool { return c.Holds }); i >= 0 {
		e.Why = fmt.Sprintf("The message is %s, and waits: %s.", f.status.State, e.Checks[i].Text)
	}
	var ends []time.Time
	for _, c := range e.Checks {
		if c.Holds {
			e.HeldBy, ends = append(e.HeldBy, c.Name), append(ends, c.Until)
		}
	}
	e.Until = last(ends)
	return e
}
