package main

import (
	"context"
	"fmt"
	"strings"
	"syscall"
	"time"

	"github.com/hongyan-dispatch/hongyan/internal/fault"
	"github.com/hongyan-dispatch/hongyan/message"
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

// poison lets workers die at their first claim of a template message, until the one that there is has cost three. Others
// of another kind go beside it.
func poison(ctx context.Context, r *rig) error {
	r.crew.env = []string{"HONGYAN_FAULT_AT=" + string(fault.Claimed) + "/template"}
	const first = 60_000_000
	next := first
	for range 3 {
		var beside []int
		for ; len(beside) < r.plan.many/4; next++ {
			if r.compose(next).Kind == message.Custom {
				beside = append(beside, next)
			}
		}
		if err := r.offer(ctx, r.producer, beside); err != nil {
			return err
		}
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
	_, at, _ := strings.Cut(strings.Join(r.crew.env, " "), "=")
	at, _, _ = strings.Cut(at, ":")
	at, _, _ = strings.Cut(at, "/")
	mended := r.killed("death at "+at, w.name)
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
	var found []string
	if n != 1 {
		found = append(found, fmt.Sprintf("(a) %d messages are dead: poison, want the one that killed three workers", n))
	}
	var sent, others int
	err := r.db.QueryRow(ctx, `
		SELECT count(*) FILTER (WHERE state = 'sent')::int, count(*) FILTER (WHERE state NOT IN ('sent', 'unknown'))::int
		FROM message WHERE kind <> 'template'`).Scan(&sent, &others)
	if err != nil {
		return append(found, err.Error())
	}
	r.figure("sent beside", sent)
	if others > 0 || sent == 0 { // what a worker had in hand when it died is unknown
		found = append(found, fmt.Sprintf("(a) beside the poison %d messages are sent, and %d neither sent nor unknown", sent, others))
	}
	return found
}

// lateResults counts what a worker had to say that had counted as dead: it stands in the timeline, and decides nothing that
// was decided.
func lateResults(ctx context.Context, r *rig) []string {
	var n int
	if err := r.db.QueryRow(ctx, "SELECT count(*)::int FROM event WHERE note LIKE 'late result%'").Scan(&n); err != nil {
		return []string{err.Error()}
	}
	r.figure("late results", n)
	return nil
}

// killAtGate kills workers while messages come to a closed gate, and opens it.
func killAtGate(ctx context.Context, r *rig) error {
	if out, err := r.enqueue(ctx, nil, "gate", "close", account, "all").CombinedOutput(); err != nil {
		return fmt.Errorf("close the gate: %w: %s", err, out)
	}
	for r.producing() {
		if err := pause(ctx, r.between(time.Second, 2*time.Second)); err != nil {
			return err
		}
		alive := r.crew.alive()
		if err := r.crew.replace(alive[r.rand.IntN(len(alive))]); err != nil {
			return err
		}
	}
	if err := pause(ctx, 3*time.Second); err != nil { // to the last, they come to the gate
		return err
	}
	if out, err := r.enqueue(ctx, nil, "gate", "open", account, "all").CombinedOutput(); err != nil {
		return fmt.Errorf("open the gate: %w: %s", err, out)
	}
	return nil
}

// rollWorkers replaces each worker, one after another, as a rolling update does.
func rollWorkers(ctx context.Context, r *rig) error {
	for i, w := range r.crew.alive() {
		if err := r.flowing(ctx, 300*(i+1)); err != nil {
			return err
		}
		if err := r.crew.hire(ctx, 1); err != nil {
			return err
		}
		if err := r.crew.retire(ctx, w); err != nil {
			return err
		}
	}
	return nil
}

// drainedInTime says what a rolling update must not leave. (Without a recorded fault the checker takes no unknown.)
func drainedInTime(_ context.Context, r *rig) (found []string) {
	if s, _ := r.figures["drained s"].(float64); s > 40 {
		found = append(found, fmt.Sprintf("a worker drained for %.0f s, want at most 40", s))
	}
	return found
}

// wake stops a worker between its claim and the wire until another one has the message on the wire, and lets it go on
// then: what it has to say must not count.
func wake(ctx context.Context, r *rig) error {
	r.crew.env = append(r.crew.env, "HONGYAN_FAULT_STOP="+string(fault.Claimed)+"/custom")
	late, err := r.crew.start()
	if err != nil {
		return err
	}
	if err := r.until(ctx, time.Minute, "SELECT claim = 1 AND state = 'sending' FROM message"); err != nil {
		return err
	}
	mended := r.broke("SIGSTOP", late.name)
	r.crew.env = r.crew.env[:len(r.crew.env)-1]
	if err := r.crew.hire(ctx, 1); err != nil {
		return err
	}
	if err := r.until(ctx, 2*time.Minute, "SELECT claim > 1 AND state = 'sending' FROM message"); err != nil {
		return err
	}
	mended()
	return late.cmd.Process.Signal(syscall.SIGCONT)
}

// until waits for a query to answer true.
func (r *rig) until(ctx context.Context, within time.Duration, query string) error {
	for began := time.Now(); time.Since(began) < within; {
		var yes bool
		if err := r.db.QueryRow(ctx, query).Scan(&yes); err == nil && yes {
			return nil
		}
		if err := pause(ctx, 20*time.Millisecond); err != nil {
			return err
		}
	}
	return fmt.Errorf("not within %v: %s", within, query)
}
