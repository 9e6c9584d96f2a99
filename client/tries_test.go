package client

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hongyan-dispatch/hongyan/message"
	"github.com/hongyan-dispatch/hongyan/outcome"
)

// A batch that goes on may take as long as it needs; one that stands still ends with the patience.
func TestPatienceBeginsAnew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tries := newTries(t.Context())
		defer tries.end()
		for range 5 {
			time.Sleep(Patience - time.Second)
			if err := tries.ctx.Err(); err != nil {
				t.Fatal(err)
			}
			tries.goesOn()
		}
		time.Sleep(Patience - time.Second)
		if again, err := tries.again(&Problem{Status: 503, after: 2 * time.Second}); again || !errors.Is(err, ErrUnavailable) {
			t.Errorf("there was no time for another try: %v, %v", again, err)
		}
		time.Sleep(2 * time.Second)
		if cause := context.Cause(tries.ctx); cause != context.DeadlineExceeded {
			t.Errorf("the patience ended with %v", cause)
		}
	})
}

func TestRetryAfter(t *testing.T) {
	now := time.Date(2026, 12, 1, 12, 0, 0, 0, time.UTC)
	for text, want := range map[string]time.Duration{
		"": 0, "7": 7 * time.Second, "-3": 0, "soon": 0,
		"Tue, 01 Dec 2026 12:00:30 GMT": 30 * time.Second, "Tue, 01 Dec 2026 11:00:00 GMT": 0,
	} {
		if got := retryAfter(text, now); got != want {
			t.Errorf("%q: %v, want %v", text, got, want)
		}
	}
}

// Those who are told to come again in the same second do not come in the same moment, and nobody comes before.
func TestWaitsAreSpread(t *testing.T) {
	for name, c := range map[string]struct {
		err         error
		least, most time.Duration
	}{
		"as long as the server says": {&Problem{Status: 429, after: 2 * time.Second}, 2 * time.Second, 2500 * time.Millisecond},
		"a first try":                {errors.New("connection reset"), firstWait / 2, firstWait * 3 / 2},
	} {
		synctest.Test(t, func(t *testing.T) {
			seen := map[time.Duration]bool{}
			for range 50 {
				tries := newTries(t.Context())
				start := time.Now()
				if again, err := tries.again(c.err); !again {
					t.Fatal(err)
				}
				took := time.Since(start)
				tries.end()
				if seen[took] = true; took < c.least || took > c.most {
					t.Errorf("%s: waited %v, want %v to %v", name, took, c.least, c.most)
				}
			}
			if len(seen) < 25 {
				t.Errorf("%s: %d different waits of 50", name, len(seen))
			}
		})
	}
}

// A server that takes a request and never answers costs one try, whatever was asked; one whose results come slowly does not.
func TestATryEnds(t *testing.T) {
	const try = time.Second
	accepted := `{"id":"0198c0de-0000-7000-8000-000000000001","duplicate":false,"durability":"postgres"}`
	result := `{"line":%d,"status":202,"id":"0198c0de-0000-7000-8000-000000000001"}` + "\n"
	for name, c := range map[string]struct {
		answer func(w http.ResponseWriter)
		call   func(*Remote) error
		tries  int
	}{
		"a message": {
			func(w http.ResponseWriter) { w.WriteHeader(202); fmt.Fprint(w, accepted) },
			func(r *Remote) error { _, err := r.Enqueue(t.Context(), one("")); return err }, 2,
		},
		"a batch": {
			func(w http.ResponseWriter) { fmt.Fprintf(w, result+`{"done":true,"lines":1,"accepted":1}`, 1) },
			func(r *Remote) error { return r.EnqueueBatch(t.Context(), []message.Message{one("k")})[0].Err }, 2,
		},
		"a replay": {
			func(w http.ResponseWriter) { fmt.Fprint(w, `{"done":true,"replayed":1,"spared":0,"counts":[]}`) },
			func(r *Remote) error {
				_, err := r.Replay(t.Context(), Replay{Statuses: []outcome.Status{outcome.Failed}, Since: time.Now()})
				return err
			}, 2,
		},
	} {
		t.Run(name, func(t *testing.T) {
			var mu sync.Mutex
			var bodies []string
			s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				body, _ := io.ReadAll(r.Body)
				mu.Lock()
				bodies = append(bodies, string(body))
				n := len(bodies)
				mu.Unlock()
				if n == 1 {
					<-r.Context().Done() // it was given up
					return
				}
				c.answer(w)
			}))
			defer s.Close()
			r, err := HTTP(s.URL, "hy_key")
			if err != nil {
				t.Fatal(err)
			}
			defer r.Close()
			r.try = try
			err = c.call(r)
			mu.Lock()
			defer mu.Unlock()
			if err != nil || len(bodies) != c.tries || bodies[0] != bodies[1] {
				t.Errorf("%v after %d tries, want %d of the same: %q", err, len(bodies), c.tries, bodies)
			}
		})
	}
	t.Run("a replay of replays, which a second try would find anew", func(t *testing.T) {
		for name, c := range map[string]struct {
			answer func(w http.ResponseWriter) // to the first try
			tries  int64
			fails  bool
		}{
			"no answer": {func(w http.ResponseWriter) { panic(http.ErrAbortHandler) }, 1, true},
			"in doubt": {func(w http.ResponseWriter) {
				w.WriteHeader(503)
				fmt.Fprint(w, `{"type":"/docs#problem-in-doubt"}`)
			}, 1, true},
			"broken off": {func(w http.ResponseWriter) { fmt.Fprint(w, `{"done":false,"replayed":1,"detail":"broken off"}`) }, 1, true},
			"a proxy's":  {func(w http.ResponseWriter) { w.WriteHeader(502) }, 1, true},
			"nothing done": {func(w http.ResponseWriter) {
				w.WriteHeader(503)
				fmt.Fprint(w, `{"type":"/docs#problem-unavailable"}`)
			}, 2, false},
		} {
			var n atomic.Int64
			s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				if n.Add(1) == 1 {
					c.answer(w)
					return
				}
				fmt.Fprint(w, `{"done":true,"replayed":1,"spared":0,"counts":[]}`)
			}))
			r, err := HTTP(s.URL, "hy_key")
			if err != nil {
				t.Fatal(err)
			}
			_, err = r.Replay(t.Context(), Replay{Statuses: []outcome.Status{outcome.Failed}, Since: time.Now(), Again: true})
			if n.Load() != c.tries || (err != nil) != c.fails {
				t.Errorf("%s: %d tries and %v, want %d", name, n.Load(), err, c.tries)
			}
			r.Close()
			s.Close()
		}
	})
	t.Run("results that come one by one", func(t *testing.T) {
		const patience, results = 4 * time.Second, 45
		var n atomic.Int64
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			n.Add(1)
			_, _ = io.Copy(io.Discard, r.Body)
			tick := time.NewTicker(patience / 40)
			defer tick.Stop()
			for i := range results { // for longer than a try may stand still
				<-tick.C
				fmt.Fprintf(w, result, i+1)
				w.(http.Flusher).Flush()
			}
			fmt.Fprintf(w, `{"done":true,"lines":%d,"accepted":%[1]d}`+"\n", results)
		}))
		defer s.Close()
		r, err := HTTP(s.URL, "hy_key")
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		r.try = patience
		batch := make([]message.Message, results)
		for i := range batch {
			batch[i] = one(fmt.Sprint(i))
		}
		for i, receipt := range r.EnqueueBatch(t.Context(), batch) {
			if receipt.Err != nil {
				t.Errorf("message %d: %v", i, receipt.Err)
			}
		}
		if n.Load() != 1 {
			t.Errorf("%d tries, want 1", n.Load())
		}
	})
}

func one(key string) message.Message {
	return message.Message{Account: "shop", Kind: message.Template, To: "oA", Key: key, Body: []byte(`{"template_id":"t","data":{"thing1":{"value":"x"}}}`)}
}
