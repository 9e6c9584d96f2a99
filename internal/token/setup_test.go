package token

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
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
