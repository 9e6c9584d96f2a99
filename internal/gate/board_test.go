package gate_test

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hongyan-dispatch/hongyan/internal/gate"
	"github.com/hongyan-dispatch/hongyan/message"
)

// store is the gate table of several pods.
type store struct {
	mu     sync.Mutex
	gates  map[[2]string]gate.Gate
	probed map[[2]string]time.Time
	writes int
	err    error
}

func newStore() *store {
	return &store{gates: map[[2]string]gate.Gate{}, probed: map[[2]string]time.Time{}}
}

func (s *store) Gates(context.Context) ([]gate.Gate, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []gate.Gate
	for _, g := range s.gates {
		all = append(all, g)
	}
	return all, s.err
}

func (s *store) SetGate(_ context.Context, g gate.Gate) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.writes++
	s.gates[[2]string{g.Account, g.API}] = g
	return s.err
}

func (s *store) OpenGate(_ context.Context, account, api string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.gates, [2]string{account, api})
	return s.err
}

func (s *store) ClaimProbe(_ context.Context, account, api string, every time.Duration) (bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	k := [2]string{account, api}
	if time.Since(s.probed[k]) < every {
		return false, nil
	}
	s.probed[k] = time.Now()
	return true, nil
}

const api = "/cgi-bin/message/template/send"

func open(t *testing.T, b *gate.Board, id message.ID) bool {
	t.Helper()
	_, ok, err := b.Look(t.Context(), "shop", api, id, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	return ok
}

func TestBoard(t *testing.T) {
	quiet := func(error) {}

	t.Run("every pod knows of a closed gate within a second, and of its opening time by itself", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			s := newStore()
			here, there := gate.NewBoard(s), gate.NewBoard(s)
			ctx, stop := context.WithCancel(t.Context())
			defer synctest.Wait()
			defer stop()
			go there.Run(ctx, quiet)
			if !open(t, there, message.ID{}) {
				t.Fatal("a gate that nobody closed is shut")
			}
			if err := here.Close(ctx, gate.Gate{Account: "shop", API: api, Reason: "quota", Until: time.Now().Add(time.Hour)}); err != nil {
				t.Fatal(err)
			}
			if open(t, here, message.ID{}) {
				t.Error("the pod that closed the gate lets messages pass")
			}
			time.Sleep(time.Second)
			if open(t, there, message.ID{}) {
				t.Error("after a second the other pod lets messages pass")
			}
			time.Sleep(time.Hour)
			if !open(t, there, message.ID{}) {
				t.Error("the gate is shut after its time")
			}
		})
	})

	t.Run("a burst of equal refusals costs one write, and is news to one", func(t *testing.T) {
		s := newStore()
		b := gate.NewBoard(s)
		var news atomic.Int32
		refused := func(code int) {
			var all sync.WaitGroup
			for range 100 {
				all.Go(func() {
					isNews, err := b.Break(t.Context(), gate.Gate{Account: "shop", ErrCode: code, Since: time.Now()})
					if err != nil {
						t.Error(err)
					}
					if isNews {
						news.Add(1)
					}
				})
			}
			all.Wait()
		}
		refused(40125)
		if s.writes != 1 || news.Load() != 1 {
			t.Errorf("got %d writes, and news %d times, want 1 and 1", s.writes, news.Load())
		}
		refused(40164)
		if s.writes != 2 || news.Load() != 2 {
			t.Errorf("with another reason: got %d writes, and news %d times, want 2 and 2", s.writes, news.Load())
		}
	})

	t.Run("the account's gate stands before all its APIs, and before no other account", func(t *testing.T) {
		b := gate.NewBoard(newStore())
		if _, err := b.Break(t.Context(), gate.Gate{Account: "shop", Since: time.Now()}); err != nil {
			t.Fatal(err)
		}
		if open(t, b, message.ID{}) {
			t.Error("a message of the broken account passes")
		}
		if _, ok, err := b.Look(t.Context(), "club", api, message.ID{}, time.Now()); err != nil || !ok {
			t.Errorf("the other account: got %v, %v; want open", ok, err)
		}
	})

	t.Run("a broken API lets one probe pass a minute over all pods, and opens when it succeeds", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			s := newStore()
			pods := []*gate.Board{gate.NewBoard(s), gate.NewBoard(s)}
			broken := gate.Gate{Account: "shop", API: api, ErrCode: 48001, Since: time.Now()}
			if _, err := pods[0].Break(t.Context(), broken); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Minute)
			probes := 0
			for range 10 {
				for _, b := range pods {
					switch a, err := b.Admit(t.Context(), "shop", api, time.Now()); {
					case err != nil:
						t.Fatal(err)
					case a == gate.OneProbe:
						probes++
					case a == gate.Freely:
						t.Fatal("a broken gate is open to the releaser")
					}
				}
			}
			if probes != 1 {
				t.Errorf("got %d probes, want 1", probes)
			}
			probe := message.NewID(time.Now())
			if open(t, pods[1], probe) {
				t.Error("the probe passes before it is let pass")
			}
			if err := pods[0].LetPass(t.Context(), "shop", api, probe); err != nil {
				t.Fatal(err)
			}
			// At once: the other pod has read the gates a moment ago, without the probe.
			if !open(t, pods[1], probe) || open(t, pods[1], message.NewID(time.Now())) {
				t.Error("want the probe alone to pass")
			}
			if err := pods[1].Passed(t.Context(), "shop", api); err != nil {
				t.Fatal(err)
			}
			if !open(t, pods[1], message.NewID(time.Now())) {
				t.Error("the gate is shut after its probe passed")
			}
		})
	})

	t.Run("a broken account is asked for once a minute and opens when it answers", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			s := newStore()
			b := gate.NewBoard(s)
			ctx, stop := context.WithCancel(t.Context())
			defer synctest.Wait()
			defer stop()
			if _, err := b.Break(ctx, gate.Gate{Account: "shop", Since: time.Now()}); err != nil {
				t.Fatal(err)
			}
			var asked atomic.Int32
			var mended atomic.Bool
			go b.ProbeAccounts(ctx, func(context.Context, string) error {
				asked.Add(1)
				if mended.Load() {
					return nil
				}
				return errors.New("still refused")
			}, quiet)
			time.Sleep(150 * time.Second)
			if n := asked.Load(); n != 3 {
				t.Errorf("asked %d times in 150 s, want 3", n)
			}
			mended.Store(true)
			time.Sleep(time.Minute)
			if !open(t, b, message.ID{}) {
				t.Error("the gate is shut although WeChat answered")
			}
		})
	})

	t.Run("what a person closed no refusal breaks before its time, and no call opens", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			s := newStore()
			b := gate.NewBoard(s)
			byHand := gate.Gate{Account: "shop", API: api, Reason: gate.ByOperator, Until: time.Now().Add(time.Hour)}
			if err := b.Close(t.Context(), byHand); err != nil {
				t.Fatal(err)
			}
			refused := gate.Gate{Account: "shop", API: api, ErrCode: 48001, Since: time.Now()}
			if news, err := b.Break(t.Context(), refused); news || err != nil {
				t.Errorf("broken: %t, %v", news, err)
			}
			if err := b.Close(t.Context(), gate.Gate{Account: "shop", API: api, Reason: "pace", ErrCode: 42010, Until: time.Now().Add(time.Minute)}); err != nil {
				t.Fatal(err)
			}
			time.Sleep(2 * time.Minute)
			if err := b.Passed(t.Context(), "shop", api); err != nil {
				t.Fatal(err)
			}
			if g, shut := b.At("shop", api); !shut || g.State != gate.Closed || g.Reason != gate.ByOperator || s.writes != 1 {
				t.Errorf("after %d writes the gate is %+v", s.writes, g)
			}
			time.Sleep(time.Hour)
			refused.Since = time.Now()
			if news, err := b.Break(t.Context(), refused); !news || err != nil {
				t.Errorf("after its time it is not broken: %t, %v", news, err)
			}
		})
	})

	t.Run("a gate that is closed again after its time is closed since then", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			b := gate.NewBoard(newStore())
			for range 2 {
				now := time.Now()
				if err := b.Close(t.Context(), gate.Gate{Account: "shop", API: api, Reason: "pace", Since: now, Until: now.Add(time.Minute)}); err != nil {
					t.Fatal(err)
				}
				if g, _ := b.At("shop", api); !g.Since.Equal(now) {
					t.Errorf("closed since %v, want %v", g.Since, now)
				}
				time.Sleep(time.Hour)
			}
		})
	})

	t.Run("a store that is away is an error, not an open gate", func(t *testing.T) {
		s := newStore()
		s.err = errors.New("connection refused")
		if _, _, err := gate.NewBoard(s).Look(t.Context(), "shop", api, message.ID{}, time.Now()); err == nil {
			t.Error("got no error")
		}
	})
}
