package callback

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"sync/atomic"
	"testing"
	"time"
)

// An upstream is the account's own server.
func upstream(t *testing.T, h http.HandlerFunc) *Forwarder {
	t.Helper()
	server := httptest.NewServer(h)
	t.Cleanup(server.Close)
	u, err := url.Parse(server.URL + "/callback?shop=1")
	if err != nil {
		t.Fatal(err)
	}
	return NewForwarder(ForwardOptions{Account: "shop", URL: u, Timeout: 20 * time.Second, Log: slog.New(slog.DiscardHandler)})
}

func TestForwarding(t *testing.T) {
	t.Run("passes the request on and the answer back, byte for byte", func(t *testing.T) {
		var query, contentType string
		var body []byte
		f := upstream(t, func(w http.ResponseWriter, r *http.Request) {
			query, contentType = r.URL.RawQuery, r.Header.Get("Content-Type")
			body, _ = io.ReadAll(r.Body)
			w.Header().Set("Content-Type", "application/xml")
			_, _ = io.WriteString(w, "<xml><Encrypt>sealed</Encrypt></xml>")
		})
		d := serve(t, Encrypted, func(e *Endpoint, _ *HandlerOptions) { e.Upstream = f })
		q, sealed := weChat.push(says("hello"), time.Now())
		if status, text := d.post(q, sealed); status != 200 || text != "<xml><Encrypt>sealed</Encrypt></xml>" {
			t.Errorf("got %d %q", status, text)
		}
		if query != "shop=1&"+q.Encode() || !bytes.Equal(body, sealed) || contentType != "text/xml" || d.book.recorded() != 1 {
			t.Errorf("passed on %q, %q, %d bytes; recorded %d", query, contentType, len(body), d.book.recorded())
		}
	})
	for name, h := range map[string]http.HandlerFunc{
		"is slow":                func(_ http.ResponseWriter, r *http.Request) { _, _ = io.Copy(io.Discard, r.Body); <-r.Context().Done() },
		"fails":                  func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(500) },
		"answers without an end": func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(bytes.Repeat([]byte("x"), 300<<10)) },
		"redirects": func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "/elsewhere", http.StatusTemporaryRedirect)
		},
	} {
		t.Run("answers success where the server "+name, func(t *testing.T) {
			f := upstream(t, h)
			f.o.Timeout = 300 * time.Millisecond
			d := serve(t, Encrypted, func(e *Endpoint, _ *HandlerOptions) { e.Upstream = f })
			q, body := weChat.push(says("hello"), time.Now())
			if status, text := d.post(q, body); status != 200 || text != Success || d.book.recorded() != 1 {
				t.Errorf("got %d %q, recorded %d", status, text, d.book.recorded())
			}
			if len(f.waiting) != 0 {
				t.Error("a message of a user's is to be forwarded again: nobody would see the answer")
			}
			q, body = weChat.push(happens("CLICK", "<EventKey>A</EventKey>"), time.Now())
			if status, text := d.post(q, body); status != 200 || text != Success || len(f.waiting) != 1 {
				t.Errorf("got %d %q; %d events wait, want the one", status, text, len(f.waiting))
			}
		})
	}
	t.Run("does nothing about a replay", func(t *testing.T) {
		var passed atomic.Int64
		f := upstream(t, func(http.ResponseWriter, *http.Request) { passed.Add(1) })
		d := serve(t, Encrypted, func(e *Endpoint, _ *HandlerOptions) { e.Upstream = f })
		q, body := weChat.push(says("hello"), time.Now())
		d.post(q, body)
		if status, text := d.post(q, body); status != 200 || text != Success || passed.Load() != 1 {
			t.Errorf("got %d %q; passed on %d times, want once", status, text, passed.Load())
		}
	})
	t.Run("passes on what our stores could not keep", func(t *testing.T) {
		var passed atomic.Int64
		f := upstream(t, func(http.ResponseWriter, *http.Request) { passed.Add(1) })
		d := serve(t, Encrypted, func(e *Endpoint, _ *HandlerOptions) { e.Upstream = f })
		d.book.fails = errors.New("the stores are away")
		q, body := weChat.push(says("hello"), time.Now())
		if status, _ := d.post(q, body); status != 500 || passed.Load() != 1 {
			t.Errorf("got %d; passed on %d times, want once", status, passed.Load())
		}
	})
	t.Run("repeats events beside those that hang", func(t *testing.T) {
		hangs, taken := make(chan struct{}), make(chan struct{})
		f := upstream(t, func(w http.ResponseWriter, r *http.Request) {
			body, _ := io.ReadAll(r.Body)
			if bytes.Equal(body, []byte("good")) {
				close(taken)
				return
			}
			<-hangs
		})
		f.o.Timeout = time.Minute
		event := &Delivery{Push: &Push{MsgType: typeEvent}}
		for range forwardRepeats - 1 {
			f.waiting = append(f.waiting, &forward{Request: Request{Body: []byte("bad"), Delivery: event}})
		}
		f.waiting = append(f.waiting, &forward{Request: Request{Body: []byte("good"), Delivery: event}})
		ctx, stop := context.WithCancel(t.Context())
		ended := make(chan error)
		go func() { ended <- f.Run(ctx) }()
		select {
		case <-taken:
		case <-time.After(20 * time.Second):
			t.Error("an event waits behind others that hang")
		}
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		close(hangs)
	})
	t.Run("repeats an event until it is taken, once", func(t *testing.T) {
		var tries int
		var bodies []string
		f := upstream(t, func(w http.ResponseWriter, r *http.Request) {
			text, _ := io.ReadAll(r.Body)
			bodies = append(bodies, string(text))
			if tries++; tries < 3 {
				w.WriteHeader(502)
			}
		})
		d := serve(t, Encrypted, func(e *Endpoint, _ *HandlerOptions) { e.Upstream = f })
		q, body := weChat.push(happens("SCAN", "<EventKey>1</EventKey>"), time.Now())
		d.post(q, body)
		for now := time.Now(); tries < 10 && len(f.waiting) > 0; now = now.Add(time.Hour) {
			for _, w := range f.due(now) {
				f.repeat(t.Context(), w)
			}
		}
		if tries != 3 || len(f.waiting) != 0 || bodies[0] != bodies[2] || bodies[0] != string(body) {
			t.Errorf("%d tries, %d wait", tries, len(f.waiting))
		}
	})
	t.Run("gives an event up in the end", func(t *testing.T) {
		tries := 0
		f := upstream(t, func(w http.ResponseWriter, _ *http.Request) { tries++; w.WriteHeader(500) })
		d := serve(t, Encrypted, func(e *Endpoint, _ *HandlerOptions) { e.Upstream = f })
		q, body := weChat.push(happens("SCAN", "<EventKey>1</EventKey>"), time.Now())
		d.post(q, body)
		for now := time.Now(); tries < 20 && len(f.waiting) > 0; now = now.Add(time.Hour) {
			for _, w := range f.due(now) {
				f.repeat(t.Context(), w)
			}
		}
		if tries != 1+len(forwardAgain) || len(f.waiting) != 0 {
			t.Errorf("%d tries, %d wait", tries, len(f.waiting))
		}
	})
}
