package main

import (
	"context"
	"fmt"
	"time"

	"github.com/hongyan-dispatch/hongyan/internal/wechattest"
	"github.com/hongyan-dispatch/hongyan/message"
)

// Times of messages in the scenario: less than the clocks are wrong by.
const (
	heldBack  = 8 * time.Second   // of some
	goodFor   = 6 * time.Minute   // all of them
	tooEarly  = 3 * time.Second   // a message waits in its worker for the last seconds
	latestEnd = 150 * time.Second // what a dead worker has in hand comes back after 55 to 125 s
)

// timed gives the n-th message its times.
func (r *rig) timed(n int, m *message.Message) {
	due := r.started.Add(time.Duration(n) * time.Second / time.Duration(r.plan.perSecond))
	m.ExpiresAt = due.Add(goodFor).Truncate(time.Millisecond)
	if heldBackOf(n) {
		m.NotBefore = due.Add(heldBack).Truncate(time.Millisecond)
	}
}

func heldBackOf(n int) bool { return n%40 == 7 }

// wrongClocks kills workers with clocks of their own, lets WeChat be busy now and then, and closes and opens a gate.
func wrongClocks(ctx context.Context, r *rig) error {
	var busy []int
	for _, api := range sendAPIs {
		id, err := r.sim.Inject(wechattest.Fault{Kind: wechattest.Errcode, Code: -1, API: api, Chance: 0.02})
		if err != nil {
			return err
		}
		busy = append(busy, id)
	}
	for round := 0; r.producing(); round++ {
		if err := pause(ctx, r.between(2*time.Second, 5*time.Second)); err != nil {
			return err
		}
		if round == 1 {
			if err := r.shutFor(ctx, 3*time.Second); err != nil {
				return err
			}
			continue
		}
		alive := r.crew.alive()
		if err := r.crew.replace(alive[round%len(alive)]); err != nil {
			return err
		}
	}
	r.sim.Heal(busy...)
	return nil
}

// shutFor closes the account's gate for a while.
func (r *rig) shutFor(ctx context.Context, d time.Duration) error {
	if out, err := r.enqueue(ctx, nil, "gate", "close", account, "all").CombinedOutput(); err != nil {
		return fmt.Errorf("close the gate: %w: %s", err, out)
	}
	if err := pause(ctx, d); err != nil {
		return err
	}
	if out, err := r.enqueue(ctx, nil, "gate", "open", account, "all").CombinedOutput(); err != nil {
		return fmt.Errorf("open the gate: %w: %s", err, out)
	}
	return nil
}

// rightTimes: nothing goes too early or late, and nothing expires or finds its window closed, for the sake of a clock.
func rightTimes(ctx context.Context, r *rig) (found []string) {
	went := map[int]time.Time{}
	r.sim.Accepts(0, func(a wechattest.Accept) bool {
		went[markerOf(a.Body)] = a.At
		return true
	})
	rows, err := r.ledger(ctx)
	if err != nil {
		return []string{err.Error()}
	}
	var slowest time.Duration
	closed, early := 0, 0
	for _, o := range rows {
		if o.Status == "expired" {
			found = append(found, fmt.Sprintf("%s expired, within %v", o, goodFor))
		}
		if o.Reason == "window_closed" {
			closed++
		}
		at, sent := went[o.N]
		if !sent {
			continue
		}
		due := o.ID.Time()
		if heldBackOf(o.N) {
			due = r.compose(o.N).NotBefore
			if at.Before(due.Add(-tooEarly)) {
				early++
			}
		}
		slowest = max(slowest, at.Sub(due))
	}
	r.figure("slowest s", slowest)
	r.figure("windows closed", closed)
	if early > 0 {
		found = append(found, fmt.Sprintf("%d messages went before their not_before", early))
	}
	if slowest > latestEnd {
		found = append(found, fmt.Sprintf("a message went after %v, want within %v", slowest.Round(time.Second), latestEnd))
	}
	if most := len(rows) / 50; closed > most {
		found = append(found, fmt.Sprintf("%d messages found a window closed that was open, want at most %d", closed, most))
	}
	return found
}
