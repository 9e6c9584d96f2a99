package main

import (
	"context"
	"fmt"
	"strings"
	"syscall"
	"time"

	"github.com/hongyan-dispatch/hongyan/internal/fault"
)

// producing says whether the producer has more to enqueue.
func (r *rig) producing() bool { return r.books.count() < r.plan.messages }

// flowing waits until the simulator has accepted so many messages: trouble begins under load.
func (r *rig) flowing(ctx context.Context, accepts int) error {
	for r.sim.AcceptedTotal() < min(accepts, r.plan.messages/3) {
		if err := pause(ctx, 10*time.Millisecond); err != nil {
			return err
		}
	}
	return nil
}

func killWorkers(ctx context.Context, r *rig) error {
	for {
		if err := pause(ctx, r.between(2*time.Second, 5*time.Second)); err != nil {
			return err
		}
		if !r.producing() {
			return nil
		}
		alive := r.crew.alive()
		if err := r.crew.replace(alive[r.rand.IntN(len(alive))]); err != nil {
			return err
		}
	}
}

func stopWorker(ctx context.Context, r *rig) error {
	if err := r.flowing(ctx, 300); err != nil {
		return err
	}
	w := r.crew.alive()[0]
	mended := r.broke("SIGSTOP", w.name)
	if err := w.cmd.Process.Signal(syscall.SIGSTOP); err != nil {
		return err
	}
	if err := pause(ctx, r.plan.outage); err != nil {
		return err
	}
	mended()
	return w.cmd.Process.Signal(syscall.SIGCONT)
}

// poison lets workers die at their first claim, until one message has cost three.
func poison(ctx context.Context, r *rig) error {
	r.crew.env = []string{"HONGYAN_FAULT_AT=" + string(fault.Claimed)}
	for range 3 {
		if err := r.dieOnce(ctx, 90*time.Second); err != nil {
			return err
		}
	}
	r.crew.env = nil
	return r.crew.hire(ctx, 1)
}

// dieOnce starts a worker that is told to die, and waits until it has.
func (r *rig) dieOnce(ctx context.Context, within time.Duration) error {
	w, err := r.crew.start()
	if err != nil {
		return err
	}
	mended := r.broke(strings.Join(r.crew.env, " "), w.name)
	defer mended()
	select {
	case <-w.ended:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-time.After(within):
		w.kill()
		return fmt.Errorf("worker %s lives on after %v, with %v", w.name, within, r.crew.env)
	}
}

func diedOfPoison(ctx context.Context, r *rig) []string {
	var n int
	if err := r.db.QueryRow(ctx, "SELECT count(*)::int FROM message WHERE state = 'dead' AND reason = 'poison'").Scan(&n); err != nil {
		return []string{err.Error()}
	}
	if n != 1 {
		return []string{fmt.Sprintf("(a) %d messages are dead: poison, want the one that killed three workers", n)}
	}
	return nil
}

// workerPoints are the points that a worker passes.
var workerPoints = []fault.Point{fault.Dequeued, fault.Taken, fault.Claimed, fault.Written, fault.Answered, fault.Settled}

// crashPoints starts workers that die at one point each, three times at each, while messages of all kinds flow.
func crashPoints(ctx context.Context, r *rig) error {
	for _, p := range workerPoints {
		for range 3 {
			r.crew.env = []string{fmt.Sprintf("HONGYAN_FAULT_AT=%s:%d", p, 1+r.rand.IntN(40))}
			if p == fault.Dequeued || p == fault.Settled { // of parcels, of which there are fewer
				r.crew.env = []string{fmt.Sprintf("HONGYAN_FAULT_AT=%s:%d", p, 1+r.rand.IntN(3))}
			}
			if err := r.dieOnce(ctx, 90*time.Second); err != nil {
				return err
			}
		}
	}
	r.crew.env = nil
	return r.crew.hire(ctx, 3)
}

func crashedOften(_ context.Context, r *rig) []string {
	if got, want := len(r.faults), 3*len(workerPoints); got != want {
		return []string{fmt.Sprintf("%d workers died, want %d", got, want)}
	}
	return nil
}
