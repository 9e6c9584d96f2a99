package feed_test

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hongyan-dispatch/hongyan/internal/campaign"
	"github.com/hongyan-dispatch/hongyan/internal/feed"
)

// A desk is where firings are settled: each turn takes as long, and ends so.
type desk struct {
	takes time.Duration
	turns func(n int) (more bool, err error)
	began []time.Duration
}

func (d *desk) Settle(ctx context.Context) (bool, error) {
	d.began = append(d.began, time.Since(epoch))
	select {
	case <-ctx.Done():
		return false, ctx.Err()
	case <-time.After(d.takes):
	}
	return d.turns(len(d.began))
}

func TestASettlerHasTurnsForAsLongAsThereIsMore(t *testing.T) {
	d := &desk{takes: 2 * time.Second, turns: func(n int) (bool, error) {
		if n == 4 {
			return true, errors.New("the database is away")
		}
		return n < 3, nil
	}}
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 14*time.Second)
		defer cancel()
		if err := (&feed.Settler{Firings: d, Log: slog.New(slog.DiscardHandler)}).Run(ctx); err != nil {
			t.Error(err)
		}
	})
	if want := []time.Duration{0, 2 * time.Second, 4 * time.Second, 7 * time.Second, 10 * time.Second, 13 * time.Second}; !slices.Equal(d.began, want) {
		t.Errorf("turns began after %v, want %v", d.began, want)
	}
}

func TestSettlingHoldsUpNoFeeding(t *testing.T) {
	w := &season{firings: []feed.Firing{firing(1, "shop")}, flows: []feed.Flow{flow("shop", 1000)}, queued: map[int32]int{}, mostBusy: map[int32]int{}}
	w.firings[0].State = campaign.Running
	w.sends = func(w *season) { w.firings[0].Busy = 0 } // workers end all of it at once
	f := &feed.Feeder{Campaigns: w, Gates: w, Queue: w, Flows: func() []feed.Flow { return w.flows }, Log: slog.New(slog.DiscardHandler)}
	s := &feed.Settler{Firings: &desk{takes: time.Hour, turns: func(int) (bool, error) { return false, nil }}, Log: slog.New(slog.DiscardHandler)}
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second-1)
		defer cancel()
		settled := make(chan error)
		go func() { settled <- s.Run(ctx) }()
		if err := errors.Join(f.Run(ctx), <-settled); err != nil {
			t.Error(err)
		}
	})
	if ticks := int(10 * time.Second / feed.Tick); w.queued[1] != 20*ticks {
		t.Errorf("%d chunks were queued, want 20 at each of %d ticks", w.queued[1], ticks)
	}
}
