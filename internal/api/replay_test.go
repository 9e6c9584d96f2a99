package api

import (
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hongyan-dispatch/hongyan/client"
)

// A replayer does as the test says.
type replayer func(ctx context.Context, r client.Replay) (client.ReplayResult, error)

func (f replayer) Replay(ctx context.Context, r client.Replay) (client.ReplayResult, error) {
	return f(ctx, r)
}

const replayAll = `{"statuses":["failed"],"since":"2026-12-01T00:00:00Z"}`

// A replay that breaks off says how far it came, or is answered with a problem where it has not begun.
func TestAReplayThatBreaksOff(t *testing.T) {
	went := client.ReplayResult{Replayed: 7, Counts: []client.ReplayCount{{Account: "shop", Messages: 7}}}
	for name, c := range map[string]struct {
		result client.ReplayResult
		err    error
		status int
		want   string
	}{
		"before anything went":      {client.ReplayResult{}, errAway, 503, "problem-unavailable"},
		"in the moment of a commit": {client.ReplayResult{}, ErrInDoubt, 503, "problem-in-doubt"},
		"in its midst":              {went, errAway, 200, `{"done":false,"dry_run":false,"replayed":7,"spared":0,"counts":[{"account":"shop","messages":7}],"retry_after":1,"detail":"broken off`},
		"not at all":                {went, nil, 200, `{"done":true,"dry_run":false,"replayed":7,`},
	} {
		b := setup(t, Options{Replays: replayer(func(context.Context, client.Replay) (client.ReplayResult, error) { return c.result, c.err })})
		if status, text := b.post(t, "/v1/replay", typeJSON, strings.NewReader(replayAll)); status != c.status || !strings.Contains(text, c.want) {
			t.Errorf("%s: %d %s", name, status, text)
		}
	}
}

// A server that closes ends a replay between two transactions.
func TestDrainOfAReplay(t *testing.T) {
	for n, want := range map[int]string{0: `"detail":"the server is closing"`, 3: `"replayed":3,"spared":0,"counts":[],"retry_after":1,"detail":"broken off, and goes on when the same request is made again: the server is closing"`} {
		began := make(chan bool)
		b := setup(t, Options{Replays: replayer(func(ctx context.Context, _ client.Replay) (client.ReplayResult, error) {
			close(began)
			<-ctx.Done()
			return client.ReplayResult{Replayed: n}, ctx.Err()
		})})
		go func() { <-began; b.handler.Drain() }()
		if status, text := b.post(t, "/v1/replay", typeJSON, strings.NewReader(replayAll)); !strings.Contains(text, want) {
			t.Errorf("%d went: %d %s", n, status, text)
		}
	}
}

// Whoever waits for a long replay hears of it each second.
func TestALongReplayTells(t *testing.T) {
	w := httptest.NewRecorder()
	out := &replayed{h: &Handler{}, c: &call{w: &recorder{ResponseWriter: w}, rc: http.NewResponseController(w)}, last: time.Now()}
	out.tell(client.ReplayResult{Replayed: 1})
	out.last = out.last.Add(-replayTells)
	out.tell(client.ReplayResult{Replayed: 2})
	out.tell(client.ReplayResult{Replayed: 3})
	if err := out.end(client.ReplayResult{Replayed: 4}, nil); err != nil {
		t.Fatal(err)
	}
	got := linesIn(w.Body.String())
	if len(got) != 2 || !strings.HasPrefix(got[0], `{"done":false,"dry_run":false,"replayed":2,`) || !strings.HasPrefix(got[1], `{"done":true,"dry_run":false,"replayed":4,`) {
		t.Errorf("got %q", got)
	}
}

// Not parallel: the offset is the process's.
func TestAReplayTellsWhateverTheClock(t *testing.T) {
	replays := replayer(func(_ context.Context, wanted client.Replay) (client.ReplayResult, error) {
		time.Sleep(replayTells)
		wanted.Progress(client.ReplayResult{Replayed: 1})
		return client.ReplayResult{Replayed: 2}, nil
	})
	for _, d := range []time.Duration{10 * time.Minute, -10 * time.Minute} {
		synctest.Test(t, func(t *testing.T) {
			behind(t, d)
			b := unserved(Options{Replays: replays})
			w, r := httptest.NewRecorder(), httptest.NewRequest(http.MethodPost, "/v1/replay", strings.NewReader(replayAll))
			r.Header.Set("Authorization", "Bearer "+b.key)
			r.Header.Set("Content-Type", typeJSON)
			b.handler.ServeHTTP(w, r)
			if got := linesIn(w.Body.String()); len(got) != 2 || !strings.HasPrefix(got[0], `{"done":false,"dry_run":false,"replayed":1,`) {
				t.Errorf("%v behind: %q", d, got)
			}
		})
	}
}
