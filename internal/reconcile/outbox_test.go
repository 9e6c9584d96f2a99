package reconcile

import (
	"bytes"
	"context"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hongyan-dispatch/hongyan/internal/clock"
	"github.com/hongyan-dispatch/hongyan/internal/tasks"
	"github.com/hongyan-dispatch/hongyan/message"
)

// A shelf is an outbox whose parcels are in no queue.
type shelf struct {
	Store
	Lookup
	parcels []Waiting
	rebuilt map[message.ID]time.Time
	leased  int
	known   bool
}

func (s *shelf) Outbox(_ context.Context, after, before message.ID, age time.Duration, _ int) ([]Waiting, error) {
	var list []Waiting
	for _, w := range s.parcels {
		if bytes.Compare(w.ID[:], after[:]) > 0 && bytes.Compare(w.ID[:], before[:]) < 0 && clock.Since(w.ID.Time()) >= age {
			list = append(list, w)
		}
	}
	return list, nil
}

func (s *shelf) Rebuild(_ context.Context, list []Waiting) ([]*message.Parcel, error) {
	for _, w := range list {
		if s.rebuilt[w.ID].IsZero() {
			s.rebuilt[w.ID] = time.Now()
		}
	}
	return nil, nil
}

func (s *shelf) Gone(_ context.Context, places []tasks.Place) ([]bool, error) {
	gone := make([]bool, len(places))
	for i := range gone {
		gone[i] = true
	}
	return gone, nil
}

func (s *shelf) Lease(context.Context, time.Time) (int64, error) {
	s.leased++
	return 0, nil
}

func (s *shelf) Forgot(context.Context) (bool, error) {
	forgot := !s.known
	s.known = true
	return forgot, nil
}

// Not parallel: the offset is the process's.
func TestAClockThatIsPutRightHidesNoParcel(t *testing.T) {
	behind := func(d time.Duration) {
		now := time.Now()
		clock.Follow(now.Add(d), now, now)
	}
	for _, first := range []time.Duration{10 * time.Minute, -10 * time.Minute} {
		synctest.Test(t, func(t *testing.T) {
			defer behind(0)
			s := &shelf{rebuilt: map[message.ID]time.Time{}}
			r := &Reconciler{Store: s, Lookup: s, Log: slog.New(slog.DiscardHandler)}
			var o outbox
			sweep := func(d time.Duration) {
				for end := time.Now().Add(d); time.Now().Before(end); time.Sleep(tick) {
					if err := r.sweep(t.Context(), &o, clock.Now()); err != nil {
						t.Fatal(err)
					}
				}
			}
			behind(first)
			sweep(2*wholeEvery + wholeEvery/2)
			if s.leased != 3 {
				t.Errorf("%v behind: %d looks at everything, want 3", first, s.leased)
			}
			behind(0)
			made := time.Now()
			s.parcels = []Waiting{{ID: message.FirstID(clock.Now()), Account: "shop", Kind: message.Template, Lane: message.Normal}}
			sweep(wholeEvery)
			if s.leased != 4 {
				t.Errorf("%v behind, and put right: %d looks at everything, want a fourth within a minute", first, s.leased)
			}
			if at := s.rebuilt[s.parcels[0].ID]; at.IsZero() || at.Sub(made) > SettleIn+2*tick {
				t.Errorf("%v behind, and put right: a new parcel is found after %v", first, at.Sub(made))
			}
		})
	}
}
