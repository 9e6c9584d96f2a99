package feed_test

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hongyan-dispatch/hongyan/internal/campaign"
	"github.com/hongyan-dispatch/hongyan/internal/clock"
	"github.com/hongyan-dispatch/hongyan/internal/feed"
	"github.com/hongyan-dispatch/hongyan/internal/gate"
	"github.com/hongyan-dispatch/hongyan/internal/tasks"
	"github.com/hongyan-dispatch/hongyan/message"
)

// A season is the campaigns, the gates and the queue of a feeder.
type season struct {
	firings  []feed.Firing
	due      []feed.Due
	gates    map[string]gate.Gate // by API
	flows    []feed.Flow
	fails    map[string]error // Fire, by campaign's name
	lost     map[int32][]tasks.Chunk
	redis    error
	sends    func(w *season) // what workers do in a tick
	mostBusy map[int32]int

	fired  []string
	ticked []string
	queued map[int32]int
	put    []tasks.Chunk
	moves  []string
}

func (w *season) Due(context.Context, time.Time) ([]feed.Due, error) { return w.due, nil }

func (w *season) Fire(_ context.Context, id message.ID, tick time.Time) (bool, error) {
	for _, d := range w.due {
		if d.Campaign == id && w.fails[d.Name] != nil {
			return false, w.fails[d.Name]
		}
	}
	word := fmt.Sprintf("%s %v", id.Hex()[:2], tick.Sub(epoch))
	if slices.Contains(w.fired, word) {
		return false, nil
	}
	w.fired = append(w.fired, word)
	return true, nil
}

func (w *season) Ticked(_ context.Context, d feed.Due) error {
	w.ticked = append(w.ticked, d.Name)
	w.due = slices.DeleteFunc(slices.Clone(w.due), func(other feed.Due) bool { return other.Name == d.Name })
	return nil
}

func (w *season) Firings(context.Context) ([]feed.Firing, error) {
	if w.sends != nil {
		w.sends(w)
	}
	return slices.Clone(w.firings), nil
}

func (w *season) of(firing int32) *feed.Firing {
	return &w.firings[slices.IndexFunc(w.firings, func(f feed.Firing) bool { return f.ID == firing })]
}

func (w *season) QueueChunks(_ context.Context, firing int32, n int) ([]tasks.Chunk, error) {
	f := w.of(firing)
	f.Busy += n
	w.mostBusy[firing] = max(w.mostBusy[firing], f.Busy)
	list := make([]tasks.Chunk, n)
	for i := range list {
		w.queued[firing]++
		list[i] = tasks.Chunk{Firing: firing, No: int32(w.queued[firing])}
	}
	return list, nil
}

func (w *season) Tidy(_ context.Context, firing int32) ([]tasks.Chunk, error) {
	lost := w.lost[firing]
	delete(w.lost, firing)
	return lost, nil
}

func (w *season) Hold(_ context.Context, id message.ID, state campaign.State, reason string, until time.Time) error {
	for i := range w.firings {
		if f := &w.firings[i]; f.Campaign == id {
			f.State, f.Reason, f.Until = state, reason, until
		}
	}
	w.moves = append(w.moves, fmt.Sprintf("%s: %s", state, reason))
	return nil
}

func (w *season) Free(ctx context.Context, id message.ID) error {
	return w.Hold(ctx, id, campaign.Running, "", time.Time{})
}

func (w *season) Look(_ context.Context, _, api string, _ message.ID, _ time.Time) (gate.Gate, bool, error) {
	g, shut := w.gates[api]
	return g, !shut, nil
}

func (w *season) EnqueueChunks(_ context.Context, chunks []tasks.Chunk) []error {
	errs := make([]error, len(chunks))
	for i := range errs {
		errs[i] = w.redis
	}
	if w.redis == nil {
		w.put = append(w.put, chunks...)
	}
	return errs
}

// firing is a running one of an account.
func firing(id int32, account string) feed.Firing {
	return feed.Firing{
		ID: id, Campaign: message.ID{byte(id)}, Stock: feed.Stock{Account: account, Kind: message.Template}, State: campaign.Running, ChunkSize: 100,
		Opens: func(time.Time) (time.Time, bool) { return time.Time{}, true },
	}
}

// feeds runs a feeder for a while of the bubble's time.
func (w *season) feeds(t *testing.T, d time.Duration) {
	t.Helper()
	w.queued, w.mostBusy = map[int32]int{}, map[int32]int{}
	f := &feed.Feeder{Campaigns: w, Gates: w, Queue: w, Flows: func() []feed.Flow { return w.flows }, Log: slog.New(slog.DiscardHandler)}
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), d)
		defer cancel()
		if err := f.Run(ctx); err != nil {
			t.Error(err)
		}
	})
}

func TestTwoSecondsOfThePaceAreInTheQueue(t *testing.T) {
	for pace, want := range map[float64]int{1: 2, 100: 2, 1000: 20, 1_000_000: 200} {
		w := &season{firings: []feed.Firing{firing(1, "shop")}, flows: []feed.Flow{flow("shop", pace)}}
		w.sends = func(w *season) { w.firings[0].Busy -= w.firings[0].Busy / 2 } // workers end half of them
		w.feeds(t, time.Second)
		if w.mostBusy[1] != want {
			t.Errorf("at %v/s: at most %d chunks in the queue, want %d", pace, w.mostBusy[1], want)
		}
		if len(w.put) != w.queued[1] || len(w.put) <= want && want > 2 {
			t.Errorf("at %v/s: %d chunks marked, %d put", pace, w.queued[1], len(w.put))
		}
	}
}

func TestCampaignsOfAnAccountTakeTurns(t *testing.T) {
	heavy := firing(2, "shop")
	heavy.Weight = 3
	slow := firing(3, "shop")
	slow.PerSecond = 50
	w := &season{firings: []feed.Firing{firing(1, "shop"), heavy, slow, firing(4, "club")}, flows: []feed.Flow{flow("shop", 1000), flow("club", 100)}}
	w.sends = func(w *season) { // the workers end what is there, 40 chunks of shop a second in the order of the queue
		for i := range w.firings {
			w.firings[i].Busy = w.firings[i].Busy / 2
		}
	}
	w.feeds(t, time.Minute)
	if share := float64(w.queued[2]) / float64(w.queued[1]); share < 2.5 || share > 3.5 {
		t.Errorf("chunks %v: three times the weight got %.1f times as much", w.queued, share)
	}
	if w.mostBusy[3] > 2 || w.mostBusy[4] > 2 {
		t.Errorf("most in the queue %v: a slow campaign, or account, has more than two", w.mostBusy)
	}
}

func TestSlowCampaignsDoNotHoldUpTheirAccount(t *testing.T) {
	const pace, slice = 100.0, 10 * time.Second
	drip, drop, fast := firing(1, "shop"), firing(2, "shop"), firing(3, "shop")
	drip.PerSecond, drop.PerSecond = 1, 2
	w := &season{firings: []feed.Firing{drip, drop, fast}, flows: []feed.Flow{flow("shop", pace)}}
	for i := range w.firings {
		w.firings[i].ChunkSize = 500
	}
	began := map[int32][]time.Time{}
	at, sent := epoch, 0.0
	w.sends = func(w *season) { // a worker gives slow chunks back after a slice, and ends one fast chunk after another
		now := time.Now()
		for i := range w.firings[:2] {
			f := &w.firings[i]
			for len(began[f.ID]) < f.Busy {
				began[f.ID] = append(began[f.ID], now)
			}
			for len(began[f.ID]) > 0 && now.Sub(began[f.ID][0]) >= slice {
				began[f.ID] = began[f.ID][1:]
				f.Busy--
			}
		}
		if f := &w.firings[2]; f.Busy > 0 {
			if sent += now.Sub(at).Seconds() * pace; sent >= float64(f.ChunkSize) {
				sent -= float64(f.ChunkSize)
				f.Busy--
			}
		}
		at = now
	}
	w.feeds(t, 100*time.Second)
	if w.queued[3] < 19 || w.queued[1] < 10 || w.queued[2] < 10 {
		t.Errorf("in 100 s there were chunks %v, want 20 of the one that takes 5 s for each, and always one of each slow one", w.queued)
	}
}

func TestWhoWasPausedDoesNotMakeUpForIt(t *testing.T) {
	w := &season{firings: []feed.Firing{firing(1, "shop"), firing(2, "shop")}, flows: []feed.Flow{flow("shop", 1000)}}
	w.firings[1].State = campaign.Paused
	ticks := 0
	before := 0
	w.sends = func(w *season) {
		if ticks++; ticks == 100 {
			w.firings[1].State, before = campaign.Running, w.queued[1]
		}
		for i := range w.firings {
			w.firings[i].Busy = 0
		}
	}
	w.feeds(t, 40*time.Second)
	if after := w.queued[1] - before; after*10 < w.queued[2]*8 {
		t.Errorf("since the resume one got %d chunks and the other %d, want as many but for 20", after, w.queued[2])
	}
}

func TestACampaignWaitsForItsAccountAndItsHours(t *testing.T) {
	later := epoch.Add(3 * time.Second)
	for name, tc := range map[string]struct {
		before func(w *season)
		after  func(w *season)
		want   []string
	}{
		"quiet hours": {func(w *season) {
			w.firings[0].Opens = func(now time.Time) (time.Time, bool) { return later, !now.Before(later) }
		}, func(*season) {}, []string{"parked: quiet hours or a closed day", "running: "}},
		"a closed gate": {
			func(w *season) { w.gates["/shop"] = gate.Gate{State: gate.Closed, Reason: "quota", Until: later} },
			func(w *season) { delete(w.gates, "/shop") },
			[]string{"throttled: gate: quota", "running: "},
		},
		"a closed gate that is opened before its time": {
			func(w *season) {
				w.gates["/shop"] = gate.Gate{State: gate.Closed, Reason: "quota", Until: epoch.Add(time.Hour)}
			},
			func(w *season) { delete(w.gates, "/shop") },
			[]string{"throttled: gate: quota", "running: "},
		},
		"a broken gate": {
			func(w *season) {
				w.gates["/shop"] = gate.Gate{State: gate.Broken, Reason: "refused_account", Detail: "invalid ip 1.2.3.4"}
			},
			func(w *season) { delete(w.gates, "/shop") },
			[]string{"throttled: gate: invalid ip 1.2.3.4", "running: "},
		},
		"a spent quota, found by a worker": {func(w *season) {
			w.firings[0].State, w.firings[0].Reason, w.firings[0].Until = campaign.Throttled, "quota", later
		}, func(*season) {}, []string{"running: "}},
		"no such account": {
			func(w *season) { w.flows = nil },
			func(w *season) { w.flows = []feed.Flow{flow("shop", 100)} },
			[]string{"throttled: its account is not in the workers' configuration", "running: "},
		},
		"a pause": {
			func(w *season) { w.firings[0].State = campaign.Paused },
			func(w *season) { w.firings[0].State = campaign.Running },
			nil,
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := &season{firings: []feed.Firing{firing(1, "shop")}, flows: []feed.Flow{flow("shop", 100)}, gates: map[string]gate.Gate{}}
			tc.before(w)
			first := time.Duration(-1)
			over := false
			w.sends = func(w *season) {
				since := time.Since(epoch)
				if len(w.put) > 0 && first < 0 {
					first = since
				}
				if !over && since >= 3*time.Second {
					over = true
					tc.after(w)
				}
			}
			w.feeds(t, 5*time.Second)
			if first < 3*time.Second || first > 4*time.Second {
				t.Errorf("its first chunks were queued by %v, want soon after 3 s", first)
			}
			if !slices.Equal(w.moves, tc.want) {
				t.Errorf("moves %q, want %q", w.moves, tc.want)
			}
		})
	}
}

// What a campaign has left when its time is over ends as expired: neither a gate nor a night keeps it open.
func TestACampaignThatIsOverGoesOnWhateverHoldsItUp(t *testing.T) {
	night := func(time.Time) (time.Time, bool) { return epoch.Add(9 * time.Hour), false }
	for name, tc := range map[string]struct {
		before func(w *season)
		moves  []string
		fed    bool
	}{
		"quiet hours":   {func(w *season) { w.firings[0].Opens = night }, []string{"parked: quiet hours or a closed day", "running: "}, true},
		"a broken gate": {func(w *season) { w.gates["/shop"] = gate.Gate{State: gate.Broken, Reason: "ip"} }, []string{"throttled: gate: ip", "running: "}, true},
		"a spent quota": {func(w *season) {
			w.firings[0].State, w.firings[0].Reason, w.firings[0].Until = campaign.Throttled, "quota", epoch.Add(time.Hour)
		}, []string{"running: "}, true},
		"quiet hours, and a younger firing": {func(w *season) {
			w.firings[0].Opens = night
			w.firings = append(w.firings, w.firings[0])
			w.firings[1].ID, w.firings[1].Expires = 2, epoch.Add(time.Hour)
		}, []string{"parked: quiet hours or a closed day", "parked: quiet hours or a closed day"}, false}, // of each, and no more
		"a pause":    {func(w *season) { w.firings[0].State = campaign.Paused }, nil, false},
		"no account": {func(w *season) { w.flows = nil }, []string{"throttled: its account is not in the workers' configuration"}, false},
	} {
		t.Run(name, func(t *testing.T) {
			w := &season{firings: []feed.Firing{firing(1, "shop")}, flows: []feed.Flow{flow("shop", 100)}, gates: map[string]gate.Gate{}}
			w.firings[0].Expires = epoch.Add(time.Second)
			tc.before(w)
			first := time.Duration(-1)
			w.sends = func(w *season) {
				if len(w.put) > 0 && first < 0 {
					first = time.Since(epoch)
				}
			}
			w.feeds(t, 12*time.Second)
			if !slices.Equal(w.moves, tc.moves) || len(w.put) > 0 != tc.fed {
				t.Errorf("moves %q and %d chunks queued, want %q and %v", w.moves, len(w.put), tc.moves, tc.fed)
			}
			if tc.fed && first < 6*time.Second {
				t.Errorf("its first chunk was queued by %v, when workers might still have sent it", first)
			}
		})
	}
}

func TestOfCancelledCampaignsThePartsOfMassSendsAreFed(t *testing.T) {
	for kind, want := range map[message.Kind]int{message.Template: 0, message.Mass: 2} {
		w := &season{firings: []feed.Firing{firing(1, "shop")}, flows: []feed.Flow{flow("shop", 100)}, gates: map[string]gate.Gate{"/shop": {State: gate.Broken}}}
		w.firings[0].State, w.firings[0].Stock.Kind = campaign.Cancelled, kind
		w.feeds(t, time.Second)
		if len(w.put) != want || len(w.moves) > 0 {
			t.Errorf("%s: %d chunks, moves %v, want %d and none", kind, len(w.put), w.moves, want)
		}
	}
}

func TestACanaryGoesAlone(t *testing.T) {
	w := &season{firings: []feed.Firing{firing(1, "shop")}, flows: []feed.Flow{flow("shop", 10_000)}}
	w.firings[0].Canary = true
	w.feeds(t, time.Second)
	if len(w.put) != 1 {
		t.Errorf("%d chunks, want 1", len(w.put))
	}
}

func TestLostChunksArePutAgain(t *testing.T) {
	lost := tasks.Chunk{Firing: 1, No: 9, Run: 3}
	w := &season{firings: []feed.Firing{firing(1, "shop")}, flows: []feed.Flow{flow("shop", 100)}, lost: map[int32][]tasks.Chunk{1: {lost}}}
	w.firings[0].Busy = 2
	w.feeds(t, time.Second)
	if !slices.Equal(w.put, []tasks.Chunk{lost}) {
		t.Errorf("put %+v, want %+v", w.put, lost)
	}
}

func TestDueTicksFire(t *testing.T) {
	tick := func(n int) time.Time { return epoch.Add(time.Duration(n) * time.Minute) }
	w := &season{
		due: []feed.Due{
			{Campaign: message.ID{1}, Name: "no audience", Ticks: []time.Time{tick(0)}},
			{Campaign: message.ID{2}, Name: "all missed", Ticks: []time.Time{tick(-2), tick(-1), tick(0)}},
			{Campaign: message.ID{3}, Name: "skipped"},
		},
		fails: map[string]error{"no audience": errAway},
		fired: []string{"02 -1m0s"}, // by another feeder
	}
	w.feeds(t, 3*time.Second)
	if want := []string{"02 -1m0s", "02 -2m0s", "02 0s"}; !slices.Equal(w.fired, want) {
		t.Errorf("fired %v, want %v", w.fired, want)
	}
	if want := []string{"all missed", "skipped"}; !slices.Equal(w.ticked, want) {
		t.Errorf("moved on %v, want %v: one that could not fire is tried again", w.ticked, want)
	}
}

// behind has this machine's clock be that much behind.
func behind(d time.Duration) {
	now := time.Now()
	clock.Follow(now.Add(d), now, now)
}

// Not parallel: the offset is the process's.
func TestAClockThatIsPutRightHoldsNoCampaignUp(t *testing.T) {
	for _, first := range []time.Duration{10 * time.Minute, -10 * time.Minute} {
		w := &season{firings: []feed.Firing{firing(1, "shop")}, flows: []feed.Flow{flow("shop", 100)}}
		ticks := 0
		w.sends = func(w *season) {
			ticks++
			switch time.Duration(ticks) * feed.Tick {
			case 3 * time.Second:
				behind(first)
			case 6 * time.Second:
				behind(0)
				w.due = []feed.Due{{Campaign: message.ID{1}, Name: "tea", Ticks: []time.Time{epoch}}}
				w.lost = map[int32][]tasks.Chunk{1: {{Firing: 1, No: 1000}}}
			}
		}
		t.Cleanup(func() { behind(0) })
		w.feeds(t, 8*time.Second)
		if len(w.fired) != 1 || len(w.lost) != 0 {
			t.Errorf("two seconds after a clock that was %v behind was put right: fired %v, lost chunks left %v", first, w.fired, w.lost)
		}
	}
}
