package app

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/hongyan-dispatch/hongyan/internal/clock"
	"github.com/hongyan-dispatch/hongyan/internal/fault"
	"github.com/hongyan-dispatch/hongyan/internal/postgres"
)

// clockEvery is how often a process compares its machine's clock with the database's.
const clockEvery = 3 * time.Second

// followClock asks the database what time it is, until the context ends. What this process writes, and compares with
// what others wrote, goes by that: see the package clock.
func followClock(ctx context.Context, store *postgres.Store, log *slog.Logger) error {
	tick := time.NewTicker(clockEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			if err := setClock(ctx, store, log); err != nil && ctx.Err() == nil {
				log.Warn("compare the clock with the database's", "error", err)
			}
		}
	}
}

// setClock asks once.
func setClock(ctx context.Context, store *postgres.Store, log *slog.Logger) error {
	if !fault.Has(fault.Clock) {
		return nil
	}
	asked := time.Now()
	answer, err := store.Time(ctx)
	if err != nil {
		return fmt.Errorf("ask for the time: %w", err)
	}
	if !clock.Follow(answer, asked, time.Now()) {
		return nil
	}
	if off := clock.Offset().Round(time.Millisecond); off != 0 {
		log.Warn("this machine's clock differs from the database's, by which this process goes: is it synchronised (chrony, NTP)?", "behind", off)
	} else {
		log.Info("this machine's clock agrees with the database's again")
	}
	return nil
}
