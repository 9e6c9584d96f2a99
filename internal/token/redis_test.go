package token

import (
	"context"
	"errors"
	"sync"
	"testing"

	"github.com/hongyan-dispatch/hongyan/internal/wechat"
)

func TestRedisAway(t *testing.T) {
	t.Run("a token in memory is used to its end", func(t *testing.T) {
		b := setup(t, func(_ *Account, t *times) { t.look = 0 })
		first := must(t, b.pods[0])
		b.down.Store(true)
		if tok := must(t, b.pods[0]); tok.Gen != first.Gen {
			t.Errorf("generation %d after %d", tok.Gen, first.Gen)
		}
		b.wantCalls(t, 1)
	})
	t.Run("without one WeChat is asked directly, once in 30 s", func(t *testing.T) {
		b := setup(t, nil)
		b.down.Store(true)
		tok := must(t, b.pods[0])
		b.wechat.set(func(bool) string { return grant("two", 7200) })
		tok, err := b.pods[0].Refresh(t.Context(), app, tok)
		if !errors.Is(err, ErrBusy) {
			t.Errorf("got %v, %v, want busy", tok.Gen, err)
		}
		b.wantCalls(t, 1)
		t.Run("and what Redis says when it is back wins", func(t *testing.T) {
			b.down.Store(false)
			if tok := must(t, b.pods[1]); tok.Value.Reveal() != canary("two") {
				t.Fatal("not fetched")
			}
			b.wantCalls(t, 2)
		})
	})
	t.Run("the older call is not made without the fence", func(t *testing.T) {
		b := setup(t, func(a *Account, _ *times) { a.Legacy = true })
		b.down.Store(true)
		if _, err := b.pods[0].Token(t.Context(), app); !errors.Is(err, ErrBusy) {
			t.Errorf("got %v, want busy", err)
		}
		b.wantCalls(t, 0)
	})
	t.Run("a wiped Redis leaves generations growing", func(t *testing.T) {
		b := setup(t, nil)
		first := must(t, b.pods[0])
		if err := b.rdb.FlushDB(t.Context()).Err(); err != nil {
			t.Fatal(err)
		}
		b.wechat.set(func(bool) string { return grant("two", 7200) })
		tok, err := b.pods[0].Refresh(t.Context(), app, first)
		if err != nil || tok.Gen <= first.Gen {
			t.Errorf("generation %d after %d, %v", tok.Gen, first.Gen, err)
		}
	})
	t.Run("a wiped Redis and a refused token that comes back is forced", func(t *testing.T) {
		b := setup(t, nil)
		first := must(t, b.pods[0])
		if err := b.rdb.FlushDB(t.Context()).Err(); err != nil {
			t.Fatal(err)
		}
		must(t, b.pods[1]) // stores the same token under a new generation
		b.wechat.set(func(force bool) string {
			if force {
				return grant("forced", 7200)
			}
			return grant("one", 7200)
		})
		tok, err := b.pods[0].Refresh(t.Context(), app, first)
		if err != nil || tok.Value.Reveal() != canary("forced") {
			t.Errorf("got generation %d after %d, %v", tok.Gen, first.Gen, err)
		}
	})
}

func TestWhatLiesInRedisAndDoesNotOpenIsReplaced(t *testing.T) {
	b := setup(t, nil)
	must(t, b.pods[0])
	if err := b.rdb.HSet(t.Context(), b.keys().token, "sealed", "rubbish that is long enough for a nonce").Err(); err != nil {
		t.Fatal(err)
	}
	must(t, b.pods[1])
	b.wantCalls(t, 2)
}

func TestPodsWithAnotherSecretDoNotMeet(t *testing.T) {
	b := setup(t, nil)
	must(t, b.pods[0])
	other := connect(t, b.url)
	s := New(other, Options{Accounts: []Account{{
		AppID: app, Secret: wechat.NewSecret("another"), WeChat: wechat.New(wechat.Config{BaseURL: b.wechat.URL}),
	}}})
	must(t, s)
	b.wantCalls(t, 2)
}

func TestAnUnknownAccount(t *testing.T) {
	b := setup(t, nil)
	if _, err := b.pods[0].Token(t.Context(), "wx2"); !errors.Is(err, ErrUnknownAccount) {
		t.Errorf("got %v", err)
	}
	if _, err := b.pods[0].Refresh(t.Context(), "wx2", wechat.Token{}); !errors.Is(err, ErrUnknownAccount) {
		t.Errorf("got %v", err)
	}
}

func TestACallerMayLeaveBeforeTheTokenComes(t *testing.T) {
	b := setup(t, nil)
	entered, release := make(chan struct{}), make(chan struct{})
	b.wechat.set(func(bool) string { close(entered); <-release; return grant("one", 7200) })
	var all sync.WaitGroup
	all.Go(func() { _, _ = b.pods[0].Token(t.Context(), app) })
	<-entered
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := b.pods[0].Token(ctx, app); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	close(release)
	all.Wait()
}
