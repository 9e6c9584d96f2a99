package reconcile

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hongyan-dispatch/hongyan/outcome"
)

func TestWhatBecomesOfAMessageWhosePodDied(t *testing.T) {
	now := time.Now()
	template, mass, never := Repeats{For: 8 * time.Minute}, Repeats{For: 23 * time.Hour, After: time.Minute}, Repeats{}
	for name, c := range map[string]struct {
		left LeftBehind
		may  Repeats
		want outcome.Outcome
	}{
		"a template while WeChat knows its id goes on at once": {
			LeftBehind{Deaths: 1, Age: 20 * time.Second, Intent: 20 * time.Second},
			template,
			outcome.Outcome{Status: outcome.Parked, Reason: outcome.Backoff, Until: now},
		},
		"one that was in doubt before goes on as well": {
			LeftBehind{Deaths: 2, Doubt: true, Age: 7 * time.Minute, Intent: 20 * time.Second},
			template,
			outcome.Outcome{Status: outcome.Parked, Reason: outcome.Backoff, Until: now},
		},
		"a template too late for that is unknown": {
			LeftBehind{Deaths: 1, Age: 8 * time.Minute, Intent: 20 * time.Second},
			template,
			outcome.Outcome{Status: outcome.Unknown, Reason: outcome.InDoubt},
		},
		"a mass send goes on a minute after its call": {
			LeftBehind{Deaths: 1, Age: 20 * time.Second, Intent: 20 * time.Second},
			mass,
			outcome.Outcome{Status: outcome.Parked, Reason: outcome.Backoff, Until: now.Add(40 * time.Second)},
		},
		"a mass send too late for that is unknown": {
			LeftBehind{Deaths: 1, Age: 23*time.Hour - 30*time.Second, Intent: 20 * time.Second},
			mass,
			outcome.Outcome{Status: outcome.Unknown, Reason: outcome.InDoubt},
		},
		"one that is never repeated is unknown": {
			LeftBehind{Deaths: 1, Age: 0}, never, outcome.Outcome{Status: outcome.Unknown, Reason: outcome.InDoubt},
		},
		"one that may always be repeated goes on": {
			LeftBehind{Deaths: 1, Age: 100 * time.Hour},
			Repeats{For: Always},
			outcome.Outcome{Status: outcome.Parked, Reason: outcome.Backoff, Until: now},
		},
		"the third death is the last": {
			LeftBehind{Deaths: 3, Doubt: true, Age: time.Minute},
			template,
			outcome.Outcome{Status: outcome.Dead, Reason: outcome.Poison},
		},
	} {
		c.left.Pod = "tea-1"
		got, note := Decide(c.left, c.may, now)
		if got != c.want || !strings.Contains(note, "tea-1 fell silent") || !strings.Contains(note, "may have been sent") {
			t.Errorf("%s: got %+v, %q; want %+v", name, got, note, c.want)
		}
	}
}

// A ledger that was away makes every pod look dead until it has beaten again.
func TestHeartbeatsAreTrustedAfterTheLedgerAnsweredForAWhile(t *testing.T) {
	var w watch
	at := time.Now()
	steps := func(n int) (steady int) {
		for range n {
			at = at.Add(time.Second)
			if w.steady(at) {
				steady++
			}
		}
		return steady
	}
	if n := steps(8); n != 0 {
		t.Errorf("steady %d times in the first 8 s", n)
	}
	if n := steps(10); n != 10 {
		t.Errorf("steady %d times of 10", n)
	}
	at = at.Add(2 * time.Minute)
	if n := steps(8); n != 0 {
		t.Errorf("steady %d times within 8 s of a pause", n)
	}
	if n := steps(1); n != 1 {
		t.Error("not steady again")
	}
}

// A ledger answers, is away, or stands still until it goes on; it knows when it was first asked what dead pods left
// since the last pause.
type ledger struct {
	Store
	mu    sync.Mutex
	away  bool
	still chan struct{}
	asked time.Time
}

func (l *ledger) Ping(context.Context) error {
	l.mu.Lock()
	away, still := l.away, l.still
	l.mu.Unlock()
	if still != nil {
		<-still
	}
	if away {
		return errors.New("away")
	}
	return nil
}

func (l *ledger) ResolveLeftBehind(context.Context, time.Duration, func(LeftBehind) (outcome.Outcome, string)) ([]LeftBehind, int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.asked.IsZero() {
		l.asked = time.Now()
	}
	return nil, 0, nil
}

// pause makes the ledger answer nothing for a while.
func (l *ledger) pause(still bool, d time.Duration) {
	goesOn := make(chan struct{})
	l.mu.Lock()
	l.asked = time.Time{}
	if l.away = !still; still {
		l.still = goesOn
	}
	l.mu.Unlock()
	time.Sleep(d)
	l.mu.Lock()
	l.away, l.still = false, nil
	l.mu.Unlock()
	close(goesOn)
}

// after is how long after from it was asked, within a minute.
func (l *ledger) after(from time.Time) time.Duration {
	time.Sleep(time.Minute)
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.asked.Sub(from)
}

// pod is a reconciler that leads whenever it may, as the only one.
func (l *ledger) pod(ctx context.Context) *Reconciler {
	r := &Reconciler{Store: l, Log: slog.New(slog.DiscardHandler)}
	go func() { _ = r.Watch(ctx) }()
	go func() {
		r.every(ctx, "lead", func() error { return r.Resolve(ctx) })
	}()
	return r
}

func TestAPodResolvesAsSoonAsItHasWatchedForLongEnough(t *testing.T) {
	for name, pause := range map[string]func(*ledger){
		"from its start":                   func(*ledger) {},
		"after the ledger was away":        func(l *ledger) { time.Sleep(time.Minute); l.pause(false, DeadAfter) },
		"after the ledger stood still":     func(l *ledger) { time.Sleep(time.Minute); l.pause(true, DeadAfter) },
		"after it was away from the start": func(l *ledger) { l.pause(false, time.Minute) },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, stop := context.WithCancel(t.Context())
				defer stop()
				var l ledger
				l.pod(ctx)
				pause(&l)
				if got := l.after(time.Now()); got < trustedAfter || got > trustedAfter+2*tick {
					t.Errorf("it resolves after %v, want %v", got, trustedAfter)
				}
			})
		})
	}
}

// A hiccup is none of the ledger's being away.
func TestAShortPauseOfTheLedgerDelaysNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, stop := context.WithCancel(t.Context())
		defer stop()
		var l ledger
		l.pod(ctx)
		time.Sleep(time.Minute)
		l.pause(true, hiccup-2*tick)
		if got := l.after(time.Now()); got > tick {
			t.Errorf("it resolves after %v, want at once", got)
		}
	})
}

// Workers that die every few seconds leave few who have watched for long: those must lead, and not wait for one that
// has just come and holds the lead.
func TestAPodThatHasJustComeGivesTheLeadAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, stop := context.WithCancel(t.Context())
		defer stop()
		var l ledger
		young := &Reconciler{Store: &l, Log: slog.New(slog.DiscardHandler)}
		if err := young.Resolve(ctx); err != nil || !l.asked.IsZero() { // it would not return if it led
			t.Errorf("it resolves, %v", err)
		}
		term, over := context.WithTimeout(ctx, time.Minute)
		defer over()
		old := &Reconciler{Store: &l, Log: slog.New(slog.DiscardHandler)}
		go func() { _ = old.Watch(ctx) }()
		time.Sleep(trustedAfter + tick)
		heir := time.Now()
		if err := old.Resolve(term); err != nil || l.asked != heir {
			t.Errorf("one that has watched resolves at %v, %v, want at %v, at once", l.asked, err, heir)
		}
	})
}
