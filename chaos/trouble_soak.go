package main

import (
	"context"
	"fmt"
	"regexp"
	"strconv"
	"time"
)

// What soaking may cost a worker.
const (
	mayGrow   = 8 << 20 // bytes, from one third of the time to another
	mayHold   = 96 << 20
	mayVary   = 50 // file descriptors, goroutines
	overload  = 3  // times what is offered else
	afterRest = 15 * time.Second
)

// A sample is what a worker holds at a time.
type sample struct {
	at                   time.Time
	rss, fds, goroutines float64
}

// soak runs for long at four fifths of what the limits allow, and for a while at three times that, and watches what a worker
// holds; when the queue has drained it holds what it held before.
func soak(ctx context.Context, r *rig) error {
	w := r.crew.alive()[0]
	var samples []sample
	for r.producing() {
		if err := pause(ctx, 2*time.Second); err != nil {
			return err
		}
		s, err := w.sample(ctx)
		if err != nil {
			return err
		}
		samples = append(samples, s)
	}
	if len(samples) < 6 {
		return fmt.Errorf("%d samples say nothing: the scenario wants more messages, or fewer a second", len(samples))
	}
	third := len(samples) / 3
	before, end := least(samples[third:2*third]), least(samples[2*third:])
	r.figure("RSS MiB at a third", mib(before.rss))
	r.figure("RSS MiB at the end", mib(end.rss))
	r.compare("after the soak", before, end)
	if err := r.overload(ctx); err != nil {
		return err
	}
	began := time.Now()
	if err := r.settle(ctx); err != nil {
		return err
	}
	r.figure("drained in s", time.Since(began))
	if err := pause(ctx, afterRest); err != nil {
		return err
	}
	last, err := w.sample(ctx)
	if err != nil {
		return err
	}
	r.figure("RSS MiB after the overload", mib(last.rss))
	r.figure("goroutines", last.goroutines)
	r.figure("file descriptors", last.fds)
	if last.rss > mayHold {
		r.finding("a worker holds %v MiB after the overload", mib(last.rss))
	}
	last.rss = end.rss // what is freed goes back to the system by and by
	r.compare("after the overload", before, last)
	return nil
}

// overload offers the plan's further messages as fast as three producers would.
func (r *rig) overload(ctx context.Context) error {
	const first = 30_000_000
	began := time.Now()
	for from := 0; from < r.plan.many; from += batch {
		if err := pause(ctx, time.Until(began.Add(time.Duration(from)*time.Second/time.Duration(overload*r.plan.perSecond)))); err != nil {
			return err
		}
		var numbers []int
		for n := from; n < min(from+batch, r.plan.many); n++ {
			if n%20 != 19 { // mass messages are few: see compose
				numbers = append(numbers, first+n)
			}
		}
		if err := r.offer(ctx, r.producer, numbers); err != nil {
			return err
		}
	}
	r.figure("overload messages/s", int(float64(r.plan.many)/time.Since(began).Seconds()))
	return nil
}

// compare says where a worker holds more than before.
func (r *rig) compare(when string, before, after sample) {
	if grown := after.rss - before.rss; grown > mayGrow {
		r.finding("%s a worker holds %v MiB more than %v before", when, mib(grown), after.at.Sub(before.at).Round(time.Second))
	}
	if after.fds > before.fds+mayVary {
		r.finding("%s a worker holds %.0f file descriptors, and held %.0f", when, after.fds, before.fds)
	}
	if after.goroutines > before.goroutines+mayVary {
		r.finding("%s a worker has %.0f goroutines, and had %.0f", when, after.goroutines, before.goroutines)
	}
}

// least is the least of each that some samples have: what comes and goes is not held.
func least(samples []sample) sample {
	l := samples[0]
	for _, s := range samples[1:] {
		l.rss, l.fds, l.goroutines = min(l.rss, s.rss), min(l.fds, s.fds), min(l.goroutines, s.goroutines)
	}
	return l
}

func mib(bytes float64) float64 { return float64(int(bytes/(1<<20)*10)) / 10 }

var goroutines = regexp.MustCompile(`(?m)^go_goroutines (\d+)`)

func (w *worker) sample(ctx context.Context) (s sample, err error) {
	s.at = time.Now()
	if s.rss, s.fds, err = w.holds(); err != nil {
		return s, err
	}
	text, err := fetch(ctx, w.metrics)
	if err != nil {
		return s, err
	}
	found := goroutines.FindSubmatch(text)
	if found == nil {
		return s, fmt.Errorf("the metrics of %s tell of no goroutines", w.name)
	}
	s.goroutines, err = strconv.ParseFloat(string(found[1]), 64)
	return s, err
}
