package app

import (
	"context"
	"log/slog"
	"time"

	"github.com/hongyan-dispatch/hongyan/internal/clock"
	"github.com/hongyan-dispatch/hongyan/internal/fault"
)

// clockEvery is how often a process compares its machine's clock with the database's.
const clockEvery = 3 * time.Second

// clockTries is how often it asks at its start for an answer that is quick enough to be exact.
const clockTries = 3

// asksTime asks the database what time it is.
type asksTime func(context.Context) (time.Time, error)

// startClock asks at the start of a process, some times while the answers are slow.
func startClock(ctx context.Context, ask asksTime, log *slog.Logger) error {
	var took time.Duration
	for range clockTries {
		var err error
		if took, err = setClock(ctx, ask, log); err != nil || took <= 2*clock.Tolerated {
			return err
		}
	}
	log.Warn("the database is slow to say what time it is: until it is faster this process's clock may be wrong", "by", (took / 2).Round(time.Millisecond))
	return nil
}

// followClock asks the database what time it is, until the context ends. What this process writes, and compares with
// what others wrote, goes by that: see the package clock.
func followClock(ctx context.Context, ask asksTime, log *slog.Logger) error {
	tick := time.NewTicker(clockEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			if _, err := setClock(ctx, ask, log); err != nil && ctx.Err() == nil {
				log.Warn("compare the clock with the database's", "error", err)
			}
		}
	}
}

// setClock asks once, and says how long the answer took.
func setClock(ctx context.Context, ask asksTime, log *slog.Logger) (took time.Duration, err error) {
	if !fault.Has(fault.Clock) {
		return 0, nil
	}
	asked := time.Now()
	answer, err := ask(ctx)
	if err != nil {
		return 0, err
	}
	answered := time.Now()
	took = answered.Sub(asked)
	if !clock.Follow(answer, asked, answered) {
		return took, nil
	}
	if off := clock.Offset().Round(time.Millisecond); off != 0 {
		log.Warn("this machine's clock differs from the database's, by which this process goes: is it synchronised (chrony, NTP)?", "behind", off)
	} else {
		log.Info("this machine's clock agrees with the database's again")
	}
	return took, nil
}
