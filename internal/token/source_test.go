package token

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hongyan-dispatch/hongyan/internal/wechat"
	"github.com/hongyan-dispatch/hongyan/message"
)

func TestAllPodsShareOneFetch(t *testing.T) {
	b := setup(t, nil)
	for _, err := range b.each(16, func(s *Source) error {
		tok, err := s.Token(t.Context(), app)
		if err == nil && tok.Value.Reveal() != canary("one") {
			err = errors.New("another token")
		}
		return err
	}) {
		t.Error(err)
	}
	b.wantCalls(t, 1)
	tok := must(t, b.pods[2])
	if left := time.Until(tok.ExpiresAt); left < 115*time.Minute || left > 119*time.Minute {
		t.Errorf("the token is used for %v, want 2 h less a minute", left)
	}
}

func TestATokenThatExpiresUnderLoadIsRefreshedOnce(t *testing.T) {
	b := setup(t, nil)
	var given atomic.Int64
	b.wechat.set(func(bool) string {
		if given.Add(1) == 1 {
			return grant("one", 1) // used for half of that
		}
		return grant("two", 7200)
	})
	for _, err := range b.each(16, func(s *Source) error {
		for {
			tok, err := s.Token(t.Context(), app)
			if err != nil || tok.Value.Reveal() == canary("two") {
				return err
			}
		}
	}) {
		t.Error(err)
	}
	b.wantCalls(t, 2)
}

func TestAStormOfRefusalsIsOneRefresh(t *testing.T) {
	b := setup(t, nil)
	old := must(t, b.pods[0])
	b.wechat.set(func(bool) string { return grant("two", 7200) })
	for _, err := range b.each(32, func(s *Source) error {
		tok, err := s.Refresh(t.Context(), app, old)
		if err == nil && (tok.Value.Reveal() != canary("two") || tok.Gen <= old.Gen) {
			err = fmt.Errorf("got generation %d after %d", tok.Gen, old.Gen)
		}
		return err
	}) {
		t.Error(err)
	}
	b.wantCalls(t, 2)
}

func TestWhoAsksDuringARefreshGetsTheNewToken(t *testing.T) {
	b := setup(t, nil)
	s := b.pods[0]
	old := must(t, s)
	entered, release := make(chan struct{}), make(chan struct{})
	b.wechat.set(func(bool) string { close(entered); <-release; return grant("two", 7200) })
	var all sync.WaitGroup
	all.Go(func() { _, _ = s.Refresh(t.Context(), app, old) })
	<-entered
	got := make(chan wechat.Token, 1)
	all.Go(func() { tok, _ := s.Token(t.Context(), app); got <- tok })
	close(release)
	all.Wait()
	if tok := <-got; tok.Value.Reveal() != canary("two") {
		t.Error("got the token that is being replaced")
	}
}

func TestTheRefusedTokenGivenAgainIsForcedOnce(t *testing.T) {
	b := setup(t, nil)
	old := must(t, b.pods[0])
	var forced atomic.Int64
	b.wechat.set(func(force bool) string {
		if force {
			return grant(fmt.Sprint("forced", forced.Add(1)), 7200)
		}
		if n := forced.Load(); n > 0 {
			return grant(fmt.Sprint("forced", n), 7200)
		}
		return grant("one", 7200)
	})
	for _, err := range b.each(16, func(s *Source) error { _, err := s.Refresh(t.Context(), app, old); return err }) {
		t.Error(err)
	}
	if n := forced.Load(); n != 1 {
		t.Fatalf("%d forced refreshes, want 1", n)
	}
	t.Run("and not again within 30 s", func(t *testing.T) {
		_, err := b.pods[1].Refresh(t.Context(), app, must(t, b.pods[1]))
		if !errors.Is(err, ErrBusy) || forced.Load() != 1 {
			t.Errorf("got %v after %d forced refreshes", err, forced.Load())
		}
	})
	t.Run("and not an 11th time on a day", func(t *testing.T) {
		if err := b.rdb.HSet(t.Context(), b.keys().forced, "count", 10, "last", 0).Err(); err != nil {
			t.Fatal(err)
		}
		if err := b.rdb.Del(t.Context(), b.keys().refusal).Err(); err != nil { // 5 s later
			t.Fatal(err)
		}
		_, err := b.pods[2].Refresh(t.Context(), app, must(t, b.pods[2]))
		if !errors.Is(err, ErrStuck) || forced.Load() != 1 {
			t.Errorf("got %v after %d forced refreshes", err, forced.Load())
		}
	})
}

func TestAWrongSecretIsAskedThreeTimesAMinute(t *testing.T) {
	b := setup(t, nil)
	b.wechat.set(func(bool) string { return wrongSecret })
	ask := func() {
		t.Helper()
		for _, err := range b.each(16, func(s *Source) error { _, err := s.Token(t.Context(), app); return err }) {
			e, ok := errors.AsType[*wechat.Error](err)
			if !ok || e.Code != 40125 || e.Msg != "invalid appsecret" || e.RID == "" || e.Disposition() != wechat.Account {
				t.Errorf("got %v, want 40125 with its words", err)
			}
		}
	}
	began := time.Now()
	ask()
	ask()
	b.wantCalls(t, 1)
	left, err := b.rdb.PTTL(t.Context(), b.keys().refusal).Result()
	if err != nil || left < 19*time.Second-time.Since(began) || left > 20*time.Second {
		t.Errorf("the next call comes in %v, want 20 s: 3 a minute over all pods", left)
	}
}

func TestARefusalThatIsOverIsForgotten(t *testing.T) {
	b := setup(t, func(_ *Account, t *times) { t.refused, t.look = 50*time.Millisecond, 10*time.Millisecond })
	b.wechat.set(func(bool) string { return wrongSecret })
	if _, err := b.pods[0].Token(t.Context(), app); err == nil {
		t.Fatal("no refusal")
	}
	b.wechat.set(func(bool) string { return grant("one", 7200) })
	for {
		if _, err := b.pods[1].Token(t.Context(), app); err == nil {
			break
		}
	}
	if n := b.wechat.calls.Load(); n != 2 {
		t.Errorf("%d token calls, want 2", n)
	}
}

func TestARefusalThatAPersonForgivesIsForgotten(t *testing.T) {
	b := setup(t, func(_ *Account, t *times) { t.look = 10 * time.Millisecond }) // and 20 s between two refusals
	b.wechat.set(func(bool) string { return wrongSecret })
	start := time.Now()
	if _, err := b.pods[0].Token(t.Context(), app); err == nil {
		t.Fatal("no refusal")
	}
	b.wechat.set(func(bool) string { return grant("one", 7200) })
	if err := Forgive(t.Context(), b.rdb, app, wechat.NewSecret(secret)); err != nil {
		t.Fatal(err)
	}
	for _, pod := range b.pods {
		for {
			if _, err := pod.Token(t.Context(), app); err == nil {
				break
			}
		}
	}
	if took := time.Since(start); took > defaultTimes.refused/2 {
		t.Errorf("the pods have a token after %v, want it at once", took)
	}
}

func TestABusyWeChatBlamesNobody(t *testing.T) {
	for name, answer := range map[string]string{
		"-1": `{"errcode":-1,"errmsg":"system error"}`, "an unknown code": `{"errcode":12345}`, "HTML": "<html>502</html>",
	} {
		t.Run(name, func(t *testing.T) {
			b := setup(t, nil)
			b.wechat.set(func(bool) string { return answer })
			for _, err := range b.each(4, func(s *Source) error { _, err := s.Token(t.Context(), app); return err }) {
				if _, blamed := errors.AsType[*wechat.Error](err); blamed || !errors.Is(err, ErrBusy) {
					t.Errorf("got %v, want busy", err)
				}
			}
			b.wantCalls(t, 1)
		})
	}
}

func TestALockWhoseHolderIsGone(t *testing.T) {
	t.Run("is waited for, and then others are told to come again", func(t *testing.T) {
		b := setup(t, func(_ *Account, t *times) { t.patience = 100 * time.Millisecond })
		if err := b.rdb.Set(t.Context(), b.keys().lock, "dead pod", 10*time.Second).Err(); err != nil {
			t.Fatal(err)
		}
		for _, err := range b.each(4, func(s *Source) error { _, err := s.Token(t.Context(), app); return err }) {
			if !errors.Is(err, ErrBusy) {
				t.Errorf("got %v, want busy", err)
			}
		}
		b.wantCalls(t, 0)
	})
	t.Run("lapses, and one of the others takes it", func(t *testing.T) {
		b := setup(t, nil)
		if err := b.rdb.Set(t.Context(), b.keys().lock, "dead pod", 100*time.Millisecond).Err(); err != nil {
			t.Fatal(err)
		}
		for _, err := range b.each(4, func(s *Source) error { _, err := s.Token(t.Context(), app); return err }) {
			t.Error(err)
		}
		b.wantCalls(t, 1)
	})
}

func TestALateWriteOfAnOlderTokenIsFencedOff(t *testing.T) {
	b := setup(t, func(a *Account, _ *times) { a.Legacy = true })
	entered, release := make(chan struct{}), make(chan struct{})
	var n atomic.Int64
	b.wechat.set(func(bool) string {
		if n.Add(1) == 1 {
			close(entered)
			<-release
			return grant("older", 7200)
		}
		return grant("newer", 7200)
	})
	var late wechat.Token
	var err error
	var slow sync.WaitGroup
	slow.Go(func() { late, err = b.pods[0].Token(t.Context(), app) })
	<-entered
	if err := b.rdb.Del(t.Context(), b.keys().lock).Err(); err != nil { // 10 s later
		t.Fatal(err)
	}
	newer := must(t, b.pods[1])
	close(release)
	slow.Wait()
	if err != nil || late.Value.Reveal() != canary("newer") || late.Gen != newer.Gen {
		t.Errorf("the late pod uses generation %d, %v; want %d", late.Gen, err, newer.Gen)
	}
	if tok := must(t, b.pods[2]); tok.Gen != newer.Gen || tok.Value.Reveal() != canary("newer") {
		t.Error("the late write won")
	}
}

func TestATokenIsRenewedBeforeItEnds(t *testing.T) {
	b := setup(t, nil)
	first := must(t, b.pods[0])
	b.wechat.set(func(bool) string { return grant("two", 7200) })
	if err := b.rdb.HSet(t.Context(), b.keys().token, "due", 0).Err(); err != nil { // two hours less 4 minutes later
		t.Fatal(err)
	}
	for _, err := range b.each(8, func(s *Source) error {
		_, err := s.accounts[app].obtain(t.Context(), want{ifDue: true})
		return err
	}) {
		t.Error(err)
	}
	b.wantCalls(t, 2)
	if tok := must(t, b.pods[1]); tok.Gen <= first.Gen || tok.Value.Reveal() != canary("two") {
		t.Errorf("generation %d after %d", tok.Gen, first.Gen)
	}
	t.Run("and keeps its generation where WeChat gives it again", func(t *testing.T) {
		before := must(t, b.pods[0])
		if err := b.rdb.HSet(t.Context(), b.keys().token, "due", 0).Err(); err != nil {
			t.Fatal(err)
		}
		tok, err := b.pods[0].accounts[app].obtain(t.Context(), want{ifDue: true})
		if err != nil || tok.Gen != before.Gen {
			t.Errorf("generation %d after %d, %v", tok.Gen, before.Gen, err)
		}
		b.wantCalls(t, 3)
	})
}

func TestRunRenewsInTime(t *testing.T) {
	b := setup(t, func(a *Account, t *times) { t.look = 10 * time.Millisecond })
	renewed := make(chan struct{})
	var n atomic.Int64
	b.wechat.set(func(bool) string {
		switch n.Add(1) {
		case 1:
			return grant("one", 2) // due after half a second
		case 2:
			close(renewed)
		}
		return grant("two", 7200)
	})
	ctx, stop := context.WithCancel(t.Context())
	var running sync.WaitGroup
	for _, s := range b.pods {
		running.Go(func() {
			if err := s.Run(ctx); err != nil {
				t.Error(err)
			}
		})
	}
	<-renewed
	stop()
	running.Wait()
	b.wantCalls(t, 2)
}

func TestWhenATokenIsDue(t *testing.T) {
	start := time.Unix(1_700_000_000, 0)
	a := account{Account: Account{RefreshMargin: defaultMargin}}
	for range 100 {
		tok, due := a.plan(wechat.Grant{ExpiresIn: 2 * time.Hour}, start)
		end := start.Add(2 * time.Hour)
		if left := end.Sub(due); left <= 240*time.Second || left > 270*time.Second {
			t.Fatalf("renewed %v before the end, want 240 to 270 s", left)
		}
		if tok.ExpiresAt != end.Add(-time.Minute) {
			t.Fatalf("used until %v before the end", end.Sub(tok.ExpiresAt))
		}
	}
	if tok, due := a.plan(wechat.Grant{ExpiresIn: 10 * time.Second}, start); due != start.Add(2500*time.Millisecond) || tok.ExpiresAt != start.Add(5*time.Second) {
		t.Errorf("a short life: used for %v, due after %v", tok.ExpiresAt.Sub(start), due.Sub(start))
	}
}

func BenchmarkToken(b *testing.B) {
	a := account{times: defaultTimes}
	a.suspect.Store(nobody)
	a.hold(wechat.Token{Value: wechat.NewSecret("x"), Gen: 1, ExpiresAt: time.Now().Add(time.Hour)}, time.Time{})
	a.held.Load().lookAt = time.Now().Add(time.Hour)
	s := Source{accounts: map[message.AppID]*account{app: &a}}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := s.Token(b.Context(), app); err != nil {
			b.Fatal(err)
		}
	}
}
