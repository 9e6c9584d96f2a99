package main

import (
	"fmt"
	"io"
	"net/http"
	"testing"
	"time"

	"github.com/hongyan-dispatch/hongyan/internal/devstack"
	"github.com/hongyan-dispatch/hongyan/internal/postgres"
)

// TestSaysThatItGoesBeforeItGoes: whoever sends requests to servers that are ready must hear that one is not while it
// still takes what comes.
func TestSaysThatItGoesBeforeItGoes(t *testing.T) {
	t.Parallel()
	redis, database := devstack.Redis(t), devstack.Postgres(t, postgres.Migrate)
	h := startConfigured(t, redis, database, fmt.Sprintf(`redis: {url: %q}
postgres: {url: %q}
server: {listen: "127.0.0.1:0", linger: 8s}
accounts:
  - {name: shop, appid: %s, secret: 0123456789abcdef0123456789abcdef, type: service, base_url: "http://127.0.0.1:1", callback: {%s}}
`, redis, database, appID, encrypted))
	status := func(path string) int {
		res, err := http.Get(h.url + path)
		if err != nil {
			return 0
		}
		_, _ = io.Copy(io.Discard, res.Body)
		res.Body.Close()
		return res.StatusCode
	}
	if got := status("/readyz"); got != 200 {
		t.Fatalf("ready: %d", got)
	}
	ended := make(chan int, 1)
	began := time.Now()
	go func() { ended <- h.stop() }()
	h.eventually("word that it is not ready", func() bool { return status("/readyz") == 503 })
	h.eventually("push that is taken after that", func() bool { // where the stores are slow it is asked for again
		got, _ := h.push(counterpart{token, aesKey}, says("oLASTCALL"))
		return got == 200
	})
	if code := <-ended; code != exitDone {
		t.Errorf("ended with %d:\n%s", code, h.stderr)
	}
	if took := time.Since(began); took < 8*time.Second {
		t.Errorf("it stopped to listen after %v, want 8 s", took)
	}
	if got := status("/readyz"); got != 0 {
		t.Errorf("it still answers: %d", got)
	}
}

func TestGoesAtOnceWhereNobodyAsks(t *testing.T) {
	h := start(t, encrypted)
	began := time.Now()
	if code := h.stop(); code != exitDone {
		t.Errorf("ended with %d:\n%s", code, h.stderr)
	}
	if took := time.Since(began); took > 4*time.Second {
		t.Errorf("it went after %v although nobody waits for its word", took)
	}
}
