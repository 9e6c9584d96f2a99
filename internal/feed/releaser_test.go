package feed_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hongyan-dispatch/hongyan/internal/feed"
	"github.com/hongyan-dispatch/hongyan/internal/gate"
	"github.com/hongyan-dispatch/hongyan/message"
)

// A world is the ledger, the gates and the queue of a releaser.
type world struct {
	flows  []feed.Flow
	due    map[string]int            // by account
	admit  map[string]gate.Admission // by account; Freely where it says nothing
	gates  error
	store  error
	redis  func(*message.Parcel) error
	letErr error
	sleep  time.Duration             // of the next Release
	later  func(since time.Duration) // changes the world as time goes by

	events   []string             // in order
	released map[string]int       // messages, by account
	at       map[string][]release // by account
	asked    int                  // calls of Release
}

type release struct {
	at time.Duration
	n  int
}

func (w *world) Due(context.Context, time.Time) ([]feed.Stock, error) {
	var due []feed.Stock
	for _, f := range w.flows {
		if w.due[f.Account] > 0 {
			due = append(due, feed.Stock{Account: f.Account, Kind: f.Kind})
		}
	}
	return due, nil
}

func (w *world) Release(_ context.Context, budgets []feed.Budget, now time.Time) ([]*message.Parcel, error) {
	w.asked++
	time.Sleep(w.sleep)
	w.sleep = 0
	if w.store != nil {
		return nil, w.store
	}
	var parcels []*message.Parcel
	for _, b := range budgets {
		n := min(b.N, w.due[b.Account])
		if n == 0 {
			continue
		}
		w.due[b.Account] -= n
		p := &message.Parcel{ID: message.NewID(now), Account: b.Account, Kind: b.Kind}
		for range n {
			p.Messages = append(p.Messages, &message.Message{ID: message.NewID(now), Account: b.Account, Kind: b.Kind})
		}
		parcels = append(parcels, p)
		w.released[b.Account] += n
		w.at[b.Account] = append(w.at[b.Account], release{now.Sub(epoch), n})
	}
	return parcels, nil
}

func (w *world) Admit(_ context.Context, account, _ string, _ time.Time) (gate.Admission, error) {
	if w.later != nil {
		w.later(time.Since(epoch))
	}
	if a, ok := w.admit[account]; ok {
		return a, w.gates
	}
	return gate.Freely, w.gates
}

func (w *world) LetPass(_ context.Context, account, api string, id message.ID) error {
	w.events = append(w.events, fmt.Sprintf("let pass %s %s %s", account, api, id))
	return w.letErr
}

func (w *world) Enqueue(_ context.Context, parcels []*message.Parcel) []error {
	errs := make([]error, len(parcels))
	for i, p := range parcels {
		if w.redis != nil {
			errs[i] = w.redis(p)
		}
		word := "enqueue "
		if errs[i] != nil {
			word = "cannot enqueue "
		}
		w.events = append(w.events, word+p.Account+" "+p.Messages[0].ID.String())
	}
	return errs
}

// epoch is when a synctest bubble begins.
var epoch = time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)

var errAway = errors.New("store is away")

func flow(account string, perSecond float64) feed.Flow {
	return feed.Flow{Account: account, Kind: message.Template, API: "/" + account, PerSecond: perSecond}
}

// during runs a releaser for a while of the bubble's time.
func during(t *testing.T, d time.Duration, w *world, flows ...feed.Flow) {
	t.Helper()
	if w.due == nil {
		w.due = map[string]int{}
		for _, f := range flows {
			w.due[f.Account] = 1 << 30
		}
	}
	w.flows, w.released, w.at = flows, map[string]int{}, map[string][]release{}
	r := &feed.Releaser{
		Store: w, Gates: w, Queue: w,
		Flows: func() []feed.Flow { return w.flows }, Log: slog.New(slog.DiscardHandler),
	}
	ctx, cancel := context.WithTimeout(t.Context(), d)
	defer cancel()
	if err := r.Run(ctx); err != nil {
		t.Fatal(err)
	}
}

func bubble(t *testing.T, claim string, f func(t *testing.T)) {
	t.Run(claim, func(t *testing.T) { synctest.Test(t, f) })
}

func TestPace(t *testing.T) {
	for pace, want := range map[float64]int{0: 0, 0.5: 30, 1: 60, 3.3: 198, 100: 6000, 1000: 60_000} {
		bubble(t, fmt.Sprintf("of %v a second is kept over a minute", pace), func(t *testing.T) {
			w := &world{}
			during(t, time.Minute, w, flow("shop", pace))
			got := w.released["shop"]
			if least := want - int(pace*feed.Tick.Seconds()) - 1; got > want || got < least {
				t.Errorf("released %d, want %d to %d", got, least, want)
			}
			for _, r := range w.at["shop"] {
				if most := int(pace*feed.Tick.Seconds()) + 1; r.n > most {
					t.Fatalf("%d at once after %v, want at most %d", r.n, r.at, most)
				}
			}
		})
	}

	bubble(t, "is bounded for an account without a bound", func(t *testing.T) {
		w := &world{}
		during(t, time.Second+1, w, flow("shop", 1e9))
		for _, r := range w.at["shop"] {
			if r.n != 2000 {
				t.Errorf("%d at once, want 2000", r.n)
			}
		}
	})

	bubble(t, "is each account's own", func(t *testing.T) {
		w := &world{due: map[string]int{"shop": 1000, "news": 0}}
		during(t, 2*time.Second+1, w, flow("news", 500), flow("shop", 10))
		if w.released["shop"] != 20 || w.released["news"] != 0 {
			t.Errorf("released %v, want 20 of shop", w.released)
		}
	})

	bubble(t, "allows no burst after a pause of the store", func(t *testing.T) {
		w := &world{sleep: 10 * time.Minute}
		during(t, 10*time.Minute+2*time.Second, w, flow("shop", 100))
		for i, r := range w.at["shop"] {
			if r.n > 100 || i > 1 && r.n > 20 {
				t.Errorf("%d at once after %v, want at most a second's worth, once", r.n, r.at)
			}
		}
	})

	bubble(t, "allows no burst after a closed gate", func(t *testing.T) {
		w := &world{admit: map[string]gate.Admission{"shop": gate.Nothing}}
		w.later = func(since time.Duration) {
			if since >= time.Hour {
				w.admit["shop"] = gate.Freely
			}
		}
		during(t, time.Hour+time.Second, w, flow("shop", 100))
		if got := w.released["shop"]; got != 120 || w.at["shop"][0].n > 20 {
			t.Errorf("released %v, want 20 at each of six ticks", w.at["shop"])
		}
	})
}

func TestGates(t *testing.T) {
	bubble(t, "a closed one releases nothing, and holds up nobody else", func(t *testing.T) {
		w := &world{admit: map[string]gate.Admission{"shop": gate.Nothing}}
		during(t, time.Second+1, w, flow("shop", 100), flow("news", 100))
		if w.released["shop"] != 0 || w.released["news"] != 100 {
			t.Errorf("released %v, want 100 of news", w.released)
		}
	})

	bubble(t, "a broken one lets a single message pass, which is named before it is enqueued", func(t *testing.T) {
		w := &world{admit: map[string]gate.Admission{"shop": gate.OneProbe}}
		during(t, feed.Tick+1, w, flow("shop", 100), flow("news", 5))
		if w.released["shop"] != 1 || w.released["news"] != 1 {
			t.Fatalf("released %v, want one each", w.released)
		}
		named := slices.IndexFunc(w.events, func(e string) bool { return strings.HasPrefix(e, "let pass ") })
		put := slices.IndexFunc(w.events, func(e string) bool { return strings.HasPrefix(e, "enqueue shop ") })
		if named != 0 || put < 1 {
			t.Fatalf("got %v, want the probe named and then enqueued", w.events)
		}
		if id := w.events[put][len("enqueue shop "):]; w.events[named] != "let pass shop /shop "+id {
			t.Errorf("named %q and enqueued %q", w.events[named], w.events[put])
		}
		if len(w.events) != 3 {
			t.Errorf("got %v, want one name and two parcels", w.events)
		}
	})

	bubble(t, "are not asked for a probe that nothing waits for", func(t *testing.T) {
		w := &world{due: map[string]int{"shop": 0}, later: func(time.Duration) { t.Error("a gate was asked") }}
		during(t, time.Second, w, flow("shop", 100))
	})

	bubble(t, "a probe that cannot be named goes all the same: the gate parks it again", func(t *testing.T) {
		w := &world{admit: map[string]gate.Admission{"shop": gate.OneProbe}, letErr: errAway}
		during(t, feed.Tick+1, w, flow("shop", 100))
		if len(w.events) != 2 {
			t.Errorf("got %v, want the parcel enqueued", w.events)
		}
	})

	bubble(t, "that cannot be read release nothing", func(t *testing.T) {
		w := &world{gates: errAway}
		during(t, time.Second, w, flow("shop", 100))
		if w.asked > 0 {
			t.Errorf("the store was asked %d times", w.asked)
		}
	})
}

func TestRedisAway(t *testing.T) {
	bubble(t, "what was released is kept, and goes before more is released", func(t *testing.T) {
		w := &world{due: map[string]int{"shop": 1000, "news": 1}}
		tries := 0
		w.redis = func(p *message.Parcel) error {
			if tries++; tries <= 10 {
				return errAway
			}
			return nil
		}
		during(t, 3*time.Second+1, w, flow("news", 10), flow("shop", 10))
		// Two parcels were released at the first tick; five ticks fail with both.
		if got := w.at["shop"]; len(got) < 2 || got[1].at < 6*feed.Tick {
			t.Errorf("released %v while Redis was away", got)
		}
		want := w.events[:2]
		for i := 0; i < 10; i += 2 {
			if !slices.Equal(w.events[i:i+2], want) {
				t.Errorf("tried %v, want %v again", w.events[i:i+2], want)
			}
		}
		for i, e := range w.events[10:12] {
			if "cannot "+e != want[i] {
				t.Errorf("then %q, want the same parcel enqueued as %q", e, want[i])
			}
		}
		if got := w.at["shop"][1].n; got > 10 {
			t.Errorf("then %d at once, want at most a second's worth", got)
		}
	})

	bubble(t, "for one parcel repeats that one only", func(t *testing.T) {
		w := &world{due: map[string]int{"shop": 1, "news": 1, "club": 1}}
		failed := map[string]int{}
		w.redis = func(p *message.Parcel) error {
			if failed[p.Account]++; p.Account != "news" && failed[p.Account] == 1 {
				return errAway
			}
			return nil
		}
		during(t, time.Second, w, flow("shop", 10), flow("news", 10), flow("club", 10))
		if failed["shop"] != 2 || failed["news"] != 1 || failed["club"] != 2 {
			t.Errorf("tried %v, want news once and the others twice", failed)
		}
	})

	bubble(t, "for good, for one account's parcel, holds up no other account", func(t *testing.T) {
		w := &world{}
		w.redis = func(p *message.Parcel) error {
			if p.Account == "shop" {
				return errAway
			}
			return nil
		}
		during(t, 10*time.Second+1, w, flow("shop", 10), flow("news", 10))
		if w.released["shop"] != 2 || w.released["news"] != 100 {
			t.Errorf("released %v, want one tick's worth of shop and all of news", w.released)
		}
	})

	bubble(t, "ends no releaser", func(t *testing.T) {
		w := &world{redis: func(*message.Parcel) error { return errAway }}
		during(t, time.Minute, w, flow("shop", 10))
		if w.asked != 1 {
			t.Errorf("the store was asked %d times, want once", w.asked)
		}
	})
}

func TestStoreAway(t *testing.T) {
	bubble(t, "nothing is enqueued, and the next tick tries again", func(t *testing.T) {
		w := &world{store: errAway}
		w.later = func(since time.Duration) {
			if since > time.Second {
				w.store = nil
			}
		}
		during(t, 2*time.Second+1, w, flow("shop", 10))
		if w.asked < 8 || w.released["shop"] == 0 {
			t.Errorf("asked %d times, released %d", w.asked, w.released["shop"])
		}
	})
}
