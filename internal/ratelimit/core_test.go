package ratelimit

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// pretend is a pod that the tests move by hand: it keeps its own book as pool does, and loses answers,
// repeats requests and dies as pods do.
type pretend struct {
	name         string
	urgent       bool
	day          int64
	seq          int64
	spent, acked int64
	held         int64
	last         *request
}

func TestLuaAgreesWithTheModel(t *testing.T) {
	rdb := connect(t)
	ctx := context.Background()
	rapid.Check(t, func(t *rapid.T) {
		if err := rdb.FlushDB(ctx).Err(); err != nil {
			t.Fatal(err)
		}
		now := time.Date(2028, 2, 28, 23, 59, 30, 0, beijing).UnixMicro()
		lua := &redisStore{rdb: rdb, clock: func() int64 { return now }}
		model := &core{}
		limits := drawLimits(t)
		open, reserved := limits.intervals()
		var pods []*pretend
		born := 0
		for range 5 {
			pods = append(pods, &pretend{name: fmt.Sprint("pod", born), urgent: born%2 == 1, day: dayOf(now)})
			born++
		}

		both := func(what string, p *pretend, day int64, r request) (grant, error) {
			got, gotErr := lua.lease(ctx, template, day, r)
			want, wantErr := model.lease(now, day, r)
			if got != want || fmt.Sprint(gotErr) != fmt.Sprint(wantErr) {
				t.Fatalf("%s of %s with %+v:\nlua   %+v, %v\nmodel %+v, %v", what, p.name, r, got, gotErr, want, wantErr)
			}
			return got, gotErr
		}
		pick := func() *pretend { return pods[rapid.IntRange(0, len(pods)-1).Draw(t, "pod")] }
		t.Repeat(map[string]func(*rapid.T){
			"lease": func(t *rapid.T) {
				p := pick()
				spend := rapid.Int64Range(0, p.held).Draw(t, "spend")
				back := rapid.Int64Range(0, p.held-spend).Draw(t, "back")
				p.spent += spend
				p.held -= spend + back
				p.seq++
				r := request{
					holder: p.name, seq: p.seq, spent: p.spent, acked: p.acked, held: p.held,
					want:    rapid.Int64Range(0, 300).Draw(t, "want"),
					free:    rapid.Int64Range(0, p.held).Draw(t, "free"),
					bare:    rapid.Int64Range(0, 2).Draw(t, "bare"),
					maxWait: rapid.Int64Range(0, 5_000_000).Draw(t, "wait"), urgent: p.urgent,
					perDay: limits.PerDay, margin: ppm(limits.Margin), reserve: ppm(limits.UrgentDay),
					open: open.Nanoseconds(), reserved: reserved.Nanoseconds(),
					rebuilt: rapid.IntRange(0, 9).Draw(t, "rebuilt") > 0,
					heard:   now - rapid.Int64Range(0, 40_000_000).Draw(t, "heard"),
				}
				p.last = &r
				g, err := both("lease", p, p.day, r)
				if today, other := errors.AsType[otherDay](err); other {
					p.day, p.seq, p.spent, p.acked, p.held, p.last = int64(today), 0, 0, 0, 0, nil
					return
				}
				if err != nil || rapid.IntRange(0, 9).Draw(t, "answer lost") == 0 {
					return
				}
				p.acked = r.spent
				p.held += g.tokens
			},
			"repeat": func(t *rapid.T) {
				if p := pick(); p.last != nil {
					r := *p.last
					r.seq -= rapid.Int64Range(0, 1).Draw(t, "older")
					_, _ = both("repeat", p, p.day, r)
				}
			},
			"crash": func(t *rapid.T) {
				i := rapid.IntRange(0, len(pods)-1).Draw(t, "pod")
				pods[i] = &pretend{name: fmt.Sprint("pod", born), urgent: born%2 == 1, day: dayOf(now)}
				born++
			},
			"time": func(t *rapid.T) {
				step := rapid.SampledFrom([]time.Duration{time.Millisecond, 200 * time.Millisecond, 11 * time.Second, 31 * time.Second}).Draw(t, "unit")
				now += step.Microseconds() * rapid.Int64Range(1, 5).Draw(t, "times")
			},
			"clock step": func(t *rapid.T) {
				now += rapid.Int64Range(-200_000_000, 200_000_000).Draw(t, "by")
			},
			"sync": func(t *rapid.T) {
				told := count{
					limit: rapid.Int64Range(0, 2000).Draw(t, "limit"), used: rapid.Int64Range(0, 500).Draw(t, "used"),
					rebuilt: rapid.Bool().Draw(t, "rebuilt"), mark: rapid.Int64Range(0, 500).Draw(t, "mark"),
				}
				got, want := lua.sync(ctx, template, dayOf(now), told), model.sync(now, dayOf(now), told)
				if !errors.Is(got, want) {
					t.Fatalf("sync %+v: lua %v, model %v", told, got, want)
				}
			},
			"mark": func(t *rapid.T) {
				got, gotErr := lua.mark(ctx, template, dayOf(now))
				want, wantErr := model.mark(now, dayOf(now))
				if got != want || !errors.Is(gotErr, wantErr) {
					t.Fatalf("mark: lua %d, %v, model %d, %v", got, gotErr, want, wantErr)
				}
			},
			"restart": func(t *rapid.T) {
				if model.known {
					if err := rdb.HSet(ctx, paceKey(template), "run", "another").Err(); err != nil {
						t.Fatal(err)
					}
				}
				model.known = false
			},
			"slow": func(t *rapid.T) {
				got, err := lua.slow(ctx, template)
				if want := model.slow(now); err != nil || got != want {
					t.Fatalf("slow: lua %s, %v, model %s", got, err, want)
				}
			},
			"": func(t *rapid.T) {
				got, gotErr := lua.usage(ctx, template, dayOf(now))
				want, _ := model.usage(now, dayOf(now))
				if got != want || gotErr != nil {
					t.Fatalf("usage:\nlua   %+v, %v\nmodel %+v", got, gotErr, want)
				}
			},
		})
	})
}

func drawLimits(t *rapid.T) Limits {
	return Limits{
		PerDay:     rapid.Int64Range(0, 1500).Draw(t, "per day"),
		PerSecond:  rapid.SampledFrom([]float64{1.0 / 60, 0.33, 1, 7.5, 100, 200, 12345, 1e6}).Draw(t, "per second"),
		UrgentDay:  rapid.SampledFrom([]float64{0, 0.1, 0.29}).Draw(t, "urgent day"),
		UrgentPace: rapid.SampledFrom([]float64{0, 0.2, 0.5}).Draw(t, "urgent pace"),
		Margin:     rapid.SampledFrom([]float64{0, 0.01, 0.07}).Draw(t, "margin"),
	}
}

// The day's promise, on the model: whatever pods do, die and come back, what they sent and what they still
// may send is within the limit.
func TestNoPodCanPassTheDaysLimit(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		now := time.Date(2026, 11, 22, 9, 0, 0, 0, beijing).UnixMicro()
		day := dayOf(now)
		limits := drawLimits(t)
		limits.PerSecond = 1e6
		open, reserved := limits.intervals()
		model := &core{}
		var pods []*pretend
		for i := range 4 {
			pods = append(pods, &pretend{name: fmt.Sprint("pod", i), urgent: i%2 == 1})
		}
		spentByDead := int64(0)
		t.Repeat(map[string]func(*rapid.T){
			"lease": func(t *rapid.T) {
				p := pods[rapid.IntRange(0, 3).Draw(t, "pod")]
				spend := rapid.Int64Range(0, p.held).Draw(t, "spend")
				p.spent += spend
				p.held -= spend
				p.seq++
				g, err := model.lease(now, day, request{
					holder: p.name, seq: p.seq, spent: p.spent, acked: p.acked, held: p.held, free: p.held,
					want: rapid.Int64Range(0, 300).Draw(t, "want"), maxWait: 1e6, urgent: p.urgent,
					perDay: limits.PerDay, margin: ppm(limits.Margin), reserve: ppm(limits.UrgentDay),
					open: open.Nanoseconds(), reserved: reserved.Nanoseconds(), rebuilt: true,
				})
				if err != nil {
					t.Fatal(err)
				}
				if rapid.IntRange(0, 9).Draw(t, "answer lost") > 0 {
					p.acked = p.spent
					p.held += g.tokens
				}
			},
			"spend": func(t *rapid.T) {
				p := pods[rapid.IntRange(0, 3).Draw(t, "pod")]
				spend := rapid.Int64Range(0, p.held).Draw(t, "spend")
				p.spent += spend
				p.held -= spend
			},
			"crash": func(t *rapid.T) { // the dead may have sent all that it held
				i := rapid.IntRange(0, 3).Draw(t, "pod")
				spentByDead += pods[i].spent + pods[i].held
				pods[i] = &pretend{name: pods[i].name + "'", urgent: pods[i].urgent}
			},
			"time":   func(t *rapid.T) { now += min(rapid.Int64Range(1, 60_000_000).Draw(t, "by"), microsToMidnight(now)-1) },
			"freeze": func(t *rapid.T) { now += min(45_000_000, microsToMidnight(now)-1) },
			"": func(t *rapid.T) {
				sent := spentByDead
				for _, p := range pods {
					sent += p.spent + p.held
				}
				all := request{margin: ppm(limits.Margin), urgent: true}.allowed(limits.PerDay)
				if sent > all {
					t.Fatalf("%d calls made or possible, %d allowed", sent, all)
				}
				l := model.ledger(day)
				if l.used+l.leased > all || l.leased < 0 {
					t.Fatalf("used %d and leased %d, %d allowed", l.used, l.leased, all)
				}
			},
		})
	})
}

func TestSyncWhileTokensAreOut(t *testing.T) {
	l := ledger{used: 100, leased: 40, holders: map[string]*holding{"dead": {lapsed: 20}}}
	l.used += 20 // the dead one's
	for _, step := range []struct {
		claim       string
		leased      int64
		used        int64 // by WeChat's count
		since       int64 // of ours, reported since the mark
		other, ours int64
	}{
		{"what the dead held stays in doubt while others' tokens are out", 40, 130, 0, 20, 100},
		{"what others use shows beyond all that is out", 40, 170, 0, 30, 100},
		{"WeChat's count is exact when nothing is out", 0, 112, 0, 12, 100},
		{"calls that are spent and not reported are not taken for others'", 40, 150, 0, 12, 100},
		{"calls that were reported while WeChat was asked make others' no less", 0, 112, 60, 12, 160},
		{"a count that was cleared clears what others used", 40, 0, 0, 0, 160},
	} {
		mark := l.mark()
		l.leased, l.used = step.leased, l.used+step.since
		l.sync(step.used, mark)
		if l.other != step.other || l.used != step.ours {
			t.Errorf("%s: others used %d and we %d, want %d and %d", step.claim, l.other, l.used, step.other, step.ours)
		}
	}
}
