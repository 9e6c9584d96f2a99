package app

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hongyan-dispatch/hongyan/internal/clock"
	"github.com/hongyan-dispatch/hongyan/internal/devstack"
	"github.com/hongyan-dispatch/hongyan/internal/postgres"
)

// Not parallel: the offset is the process's.
func TestSetClock(t *testing.T) {
	store, err := postgres.Open(t.Context(), devstack.Postgres(t, postgres.Migrate), postgres.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	asked := time.Now()
	if !clock.Follow(asked.Add(10*time.Minute), asked, asked) || clock.Offset() != 10*time.Minute {
		t.Fatalf("offset %v, want ten minutes", clock.Offset())
	}
	var said strings.Builder
	log := slog.New(slog.NewTextHandler(&said, nil))
	for range 2 { // the database is on this machine
		if _, err := setClock(t.Context(), store.Now, log); err != nil {
			t.Fatal(err)
		}
		if clock.Offset() != 0 {
			t.Errorf("offset %v, want none", clock.Offset())
		}
	}
	if n := strings.Count(said.String(), "agrees with the database's again"); n != 1 {
		t.Errorf("said %d times that the clock agrees, want once:\n%s", n, said.String())
	}
}

// Not parallel: the offset is the process's.
func TestASlowDatabaseSetsTheClockAllTheSame(t *testing.T) {
	for name, c := range map[string]struct {
		off, slow time.Duration
		first     int // answers that are slow, before a quick one
		asked     int
		want      time.Duration
		says      string
	}{
		"quick":                              {10 * time.Minute, 3 * time.Second, 0, 1, 10 * time.Minute, "differs from the database's"},
		"slow, and more off than that":       {10 * time.Minute, 3 * time.Second, 9, clockTries, 10 * time.Minute, "slow to say what time it is"},
		"slow at first, and off by less":     {time.Second, 3 * time.Second, 1, 2, time.Second, "differs from the database's"},
		"slow all the time, and off by less": {time.Second, 3 * time.Second, 9, clockTries, 0, "by=1.5s"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				defer func() {
					now := time.Now()
					clock.Follow(now, now, now)
				}()
				var said strings.Builder
				asked := 0
				ask := func(context.Context) (time.Time, error) {
					if asked++; asked > c.first {
						return time.Now().Add(c.off), nil
					}
					time.Sleep(c.slow / 2)
					answer := time.Now().Add(c.off)
					time.Sleep(c.slow / 2)
					return answer, nil
				}
				if err := startClock(t.Context(), ask, slog.New(slog.NewTextHandler(&said, nil))); err != nil {
					t.Fatal(err)
				}
				if asked != c.asked || clock.Offset() != c.want || !strings.Contains(said.String(), c.says) {
					t.Errorf("asked %d times, %v behind; want %d and %v, and %q in:\n%s", asked, clock.Offset(), c.asked, c.want, c.says, said.String())
				}
			})
		})
	}
	away := errors.New("away")
	err := startClock(t.Context(), func(context.Context) (time.Time, error) { return time.Time{}, away }, slog.New(slog.DiscardHandler))
	if !errors.Is(err, away) {
		t.Errorf("a database that is away: %v", err)
	}
}
