package pipeline

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hongyan-dispatch/hongyan/internal/wechat"
	"github.com/hongyan-dispatch/hongyan/message"
	"github.com/hongyan-dispatch/hongyan/outcome"
)

// A slow account answers after a while, as it is told: with silence, or well.
type slow struct {
	takes  time.Duration
	silent bool
	calls  atomic.Int64
	flying atomic.Int64
	most   atomic.Int64
}

func (s *slow) send() wechat.Result {
	s.calls.Add(1)
	if n := s.flying.Add(1); n > s.most.Load() {
		s.most.Store(n)
	}
	defer s.flying.Add(-1)
	time.Sleep(s.takes)
	if s.silent {
		return lost
	}
	return accepted
}

func (s *slow) SendTemplate(context.Context, wechat.Token, message.OpenID, string, []byte) wechat.Result {
	return s.send()
}

func (s *slow) SendSubscribe(context.Context, wechat.Token, message.OpenID, []byte) wechat.Result {
	return s.send()
}

func (s *slow) SendCustom(context.Context, wechat.Token, message.OpenID, []byte) wechat.Result {
	return s.send()
}

func (s *slow) SendMass(context.Context, wechat.Token, []message.OpenID, string, []byte) wechat.Result {
	return s.send()
}

// passes sends n messages of an account side by side, and counts what came of them.
func passes(senders *Senders, app message.AppID, s *slow, n int, lane message.Lane) func() map[outcome.Status]int {
	var mu sync.Mutex
	var all sync.WaitGroup
	counts := map[outcome.Status]int{}
	for range n {
		all.Go(func() {
			w := newWorld()
			a := w.attempt(message.Custom)
			a.Message.Lane, a.Account.AppID, a.Account.Name, a.Client, a.quota = lane, app, string(app), s, spent{}
			o, err := Pipeline{hasSender(senders), claimed(w), send(Deps{Gates: w, Tokens: w, Senders: senders})}.Run(context.Background(), a)
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				o.Status = outcome.Status(err.Error())
			}
			counts[o.Status]++
		})
	}
	return func() map[outcome.Status]int {
		all.Wait()
		return counts
	}
}

func TestOneAccountsOutageTakesAtMostItsShare(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		senders := NewSenders(16, 2)
		hangs, well := &slow{takes: 10 * time.Second, silent: true}, &slow{takes: 50 * time.Millisecond}
		start := time.Now()
		hung := passes(senders, "hangs", hangs, 300, message.Bulk)
		synctest.Wait()
		if n := hangs.flying.Load(); n > 8 {
			t.Errorf("%d calls of one account are on the wire, want at most half of 16", n)
		}
		if got := passes(senders, "well", well, 70, message.Bulk)(); got[outcome.Sent] != 70 || time.Since(start) > time.Second {
			t.Errorf("the other account: %v after %v, want all sent at once", got, time.Since(start))
		}
		if got := hung(); got[outcome.Parked] != 293 || got[outcome.Unknown] != 7 {
			t.Errorf("%v, want what got no place to be parked: others need the hands", got)
		}
		if after := time.Since(start); after > 11*time.Second {
			t.Errorf("all came back after %v, want no more than one call", after)
		}
	})
}

func TestAShareFollowsItsCalls(t *testing.T) {
	now := time.Now()
	s := newShare(20, 40)
	for i := range 10 {
		s.came(lost, false, now) // those of one moment count once
		if i == 9 && s.wire.size != 14 {
			t.Errorf("%d places after silence, want 14 of 20", s.wire.size)
		}
	}
	for range 20 {
		now = now.Add(cutEvery)
		s.came(lost, false, now)
	}
	if s.wire.size != 1 || s.wire.kept != 0 {
		t.Errorf("%d places of which %d are kept, want one for whoever comes", s.wire.size, s.wire.kept)
	}
	calls := 0
	for ; s.wire.size < 20; calls++ {
		s.came(accepted, false, now)
	}
	if calls < 150 || calls > 250 {
		t.Errorf("back after %d answers, want one place for each window of them", calls)
	}
	if s.wire.free != 20 {
		t.Errorf("%d places are free, want all", s.wire.free)
	}
}

func TestRepetitionsThatBringNothingAreATenthOfTheCalls(t *testing.T) {
	now := time.Now()
	s := newShare(20, 40)
	tried := 0
	repeat := func(r wechat.Result) bool {
		if !s.may(now) {
			return false
		}
		s.came(r, true, now)
		return true
	}
	for range 10_000 {
		s.came(lost, false, now)
		if repeat(lost) {
			tried++
		}
	}
	if most := 1000 + int(spareMost); tried < 1000 || tried > most {
		t.Errorf("%d repetitions of 10,000 calls, want %d at most", tried, most)
	}
	now = now.Add(20 * time.Second)
	tried = 0
	for repeat(accepted) && tried < 1000 {
		tried++
	}
	if tried != 1000 {
		t.Errorf("%d repetitions when WeChat was back, want as many as there are", tried)
	}
}
