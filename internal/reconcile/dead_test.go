package reconcile

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
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
	var w Watch
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

// Leaders that die often would otherwise never have looked for long enough.
func TestAWatchIsKeptBeforeThePodLeads(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, stop := context.WithCancel(t.Context())
		defer stop()
		var w Watch
		var answers atomic.Bool
		go w.Keep(ctx, func(context.Context) error {
			if answers.Load() {
				return nil
			}
			return errors.New("away")
		})
		time.Sleep(time.Minute)
		synctest.Wait()
		answers.Store(true)
		if w.steady(time.Now()) {
			t.Error("steady while the ledger was away")
		}
		time.Sleep(trustedAfter + time.Second)
		synctest.Wait()
		if !w.steady(time.Now()) {
			t.Error("a new term does not trust what the pod saw before it")
		}
	})
}
