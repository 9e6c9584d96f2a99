package token

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/hongyan-dispatch/hongyan/internal/devstack"
	"github.com/hongyan-dispatch/hongyan/internal/wechat"
	"github.com/hongyan-dispatch/hongyan/message"
)

func TestMain(m *testing.M) { devstack.Main(m) }

const (
	app    = message.AppID("wx0000000000000001")
	secret = "CANARY0secret0of0the0account0001"
)

// A fakeWeChat answers token calls as set, and counts them.
type fakeWeChat struct {
	*httptest.Server
	calls, forced atomic.Int64
	mu            sync.Mutex
	answer        func(force bool) string
}

func (f *fakeWeChat) set(answer func(force bool) string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.answer = answer
}

func newFakeWeChat(t *testing.T) *fakeWeChat {
	t.Helper()
	f := &fakeWeChat{}
	f.set(func(bool) string { return grant("one", 7200) })
	f.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var body bytes.Buffer
		_, _ = body.ReadFrom(r.Body)
		force := strings.Contains(body.String(), `"force_refresh":true`)
		f.calls.Add(1)
		if force {
			f.forced.Add(1)
		}
		f.mu.Lock()
		answer := f.answer
		f.mu.Unlock()
		_, _ = w.Write([]byte(answer(force)))
	}))
	t.Cleanup(f.Close)
	return f
}

// grant is WeChat's answer with a token that the canary test can recognise.
func grant(name string, seconds int) string {
	return fmt.Sprintf(`{"access_token":"%s","expires_in":%d}`, canary(name), seconds)
}

func canary(name string) string { return "CANARY0token0" + name }

const wrongSecret = `{"errcode":40125,"errmsg":"invalid appsecret rid: 5f2a1b3c-12345678-0a0b0c0d"}`

// A bundle is what one test has: WeChat, Redis, and three pods.
type bundle struct {
	wechat *fakeWeChat
	url    string
	rdb    *redis.Client
	pods   []*Source
	logs   *safeBuffer
	down   *atomic.Bool // Redis is away for the pods
}

type safeBuffer struct {
	mu sync.Mutex
	bytes.Buffer
}

func (b *safeBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.Buffer.Write(p)
}

// quick are the times of most tests: what a person would wait for is short, the bounds that tests rely on are not.
func quick() times {
	t := defaultTimes
	t.pollMin, t.pollMax = time.Millisecond, 5*time.Millisecond
	return t
}

func setup(t *testing.T, change func(*Account, *times)) bundle {
	t.Helper()
	b := bundle{wechat: newFakeWeChat(t), url: devstack.Redis(t), logs: &safeBuffer{}, down: &atomic.Bool{}}
	b.rdb = connect(t, b.url)
	for i := range 3 {
		rdb := connect(t, b.url)
		rdb.AddHook(outage{b.down})
		transport := wechat.NewHTTP(wechat.HTTPConfig{})
		t.Cleanup(transport.Close)
		a := Account{AppID: app, Secret: wechat.NewSecret(secret), WeChat: wechat.New(wechat.Config{BaseURL: b.wechat.URL, Transport: transport})}
		times := quick()
		if change != nil {
			change(&a, &times)
		}
		b.pods = append(b.pods, newSource(rdb, Options{
			Pod: fmt.Sprint("pod-", i), Accounts: []Account{a},
			Log: slog.New(slog.NewTextHandler(b.logs, &slog.HandlerOptions{Level: slog.LevelDebug})),
		}, times))
	}
	return b
}

func connect(t *testing.T, url string) *redis.Client {
	t.Helper()
	o, err := redis.ParseURL(url)
	if err != nil {
		t.Fatal(err)
	}
	rdb := redis.NewClient(o)
	t.Cleanup(func() { _ = rdb.Close() })
	return rdb
}

// outage lets Redis be away while it is set.
type outage struct{ down *atomic.Bool }

func (o outage) DialHook(next redis.DialHook) redis.DialHook { return next }

func (o outage) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		if o.down.Load() {
			err := errors.New("dial tcp: connection refused")
			cmd.SetErr(err)
			return err
		}
		return next(ctx, cmd)
	}
}

func (o outage) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}

// keys are the account's keys, for tests that reach into Redis.
func (b bundle) keys() keys { return b.pods[0].accounts[app].shelf.keys }

// each runs f n times at once in every pod and returns the errors.
func (b bundle) each(n int, f func(s *Source) error) []error {
	var all sync.WaitGroup
	errs := make(chan error, n*len(b.pods))
	for _, s := range b.pods {
		for range n {
			all.Go(func() { errs <- f(s) })
		}
	}
	all.Wait()
	close(errs)
	var failed []error
	for err := range errs {
		if err != nil {
			failed = append(failed, err)
		}
	}
	return failed
}

func must(t *testing.T, s *Source) wechat.Token {
	t.Helper()
	tok, err := s.Token(t.Context(), app)
	if err != nil {
		t.Fatal(err)
	}
	return tok
}

func (b bundle) wantCalls(t *testing.T, n int64) {
	t.Helper()
	if got := b.wechat.calls.Load(); got != n {
		t.Errorf("%d token calls, want %d", got, n)
	}
}

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
	ask()
	ask()
	b.wantCalls(t, 1)
	left, err := b.rdb.PTTL(t.Context(), b.keys().refusal).Result()
	if err != nil || left < 19*time.Second || left > 20*time.Second {
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

// TestNothingSecretLeaks goes through the good and the bad ways, and then reads all of Redis, the log
// and the errors.
func TestNothingSecretLeaks(t *testing.T) {
	b := setup(t, nil)
	old := must(t, b.pods[0])
	seen := []string{fmt.Sprintf("%v %+v %#v", old, old, b.pods[0])}
	b.wechat.set(func(force bool) string { return grant(fmt.Sprint("again", force), 7200) })
	if _, err := b.pods[1].Refresh(t.Context(), app, old); err != nil {
		t.Fatal(err)
	}
	b.wechat.set(func(bool) string {
		return `{"errcode":40001,"errmsg":"wrong ` + secret + ` or ` + url.QueryEscape(secret) + `"}`
	})
	_, err := b.pods[1].Refresh(t.Context(), app, must(t, b.pods[1]))
	seen = append(seen, fmt.Sprint(err))
	_, err = b.pods[2].Refresh(t.Context(), app, must(t, b.pods[2]))
	seen = append(seen, fmt.Sprint(err), dump(t, b.rdb), b.logs.String())
	for _, form := range []string{
		"CANARY", hex.EncodeToString([]byte("CANARY0")), base64.StdEncoding.EncodeToString([]byte("CANARY"))[:8],
	} {
		for _, text := range seen {
			if strings.Contains(text, form) {
				t.Errorf("%q shows in %q", form, text)
			}
		}
	}
	if len(seen[3]) < 100 || !strings.Contains(b.logs.String(), "token refreshed") {
		t.Error("the test looked at nothing")
	}
}

// dump is every key and value of Redis, and a complaint about each key that would stay for ever.
func dump(t *testing.T, rdb *redis.Client) string {
	t.Helper()
	var out strings.Builder
	ctx := t.Context()
	keys, err := rdb.Keys(ctx, "*").Result()
	if err != nil {
		t.Fatal(err)
	}
	for _, key := range keys {
		if ttl, err := rdb.TTL(ctx, key).Result(); err != nil || ttl <= 0 {
			t.Errorf("%s lives for ever (%v, %v)", key, ttl, err)
		}
		if !strings.Contains(key, "{"+string(app)+"}") {
			t.Errorf("%s has no {appid}", key)
		}
		switch kind, _ := rdb.Type(ctx, key).Result(); kind {
		case "hash":
			m, err := rdb.HGetAll(ctx, key).Result()
			_, _ = fmt.Fprintln(&out, key, m, err)
		default:
			v, err := rdb.Get(ctx, key).Result()
			_, _ = fmt.Fprintln(&out, key, v, err)
		}
	}
	return out.String()
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
