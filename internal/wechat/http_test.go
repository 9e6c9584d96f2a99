package wechat

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// countedServer is an HTTP server that counts connections. idle, if any, gets those that wait for a request.
func countedServer(t *testing.T, h http.HandlerFunc, secure bool, idle ...func(net.Conn)) (*httptest.Server, *atomic.Int64) {
	t.Helper()
	conns := new(atomic.Int64)
	s := httptest.NewUnstartedServer(h)
	s.Config.ConnState = func(c net.Conn, state http.ConnState) {
		switch state {
		case http.StateNew:
			conns.Add(1)
		case http.StateIdle:
			for _, f := range idle {
				f(c)
			}
		}
	}
	if secure {
		s.StartTLS()
	} else {
		s.Start()
	}
	t.Cleanup(s.Close)
	return s, conns
}

// trusting returns a transport that trusts s, with what its calls need.
func trusting(t *testing.T, s *httptest.Server) (*HTTP, Call) {
	t.Helper()
	c := HTTPConfig{MaxConns: 8}
	if s.TLS != nil {
		c.TLS = s.Client().Transport.(*http.Transport).TLSClientConfig
	}
	transport := NewHTTP(c)
	t.Cleanup(transport.Close)
	return transport, post(t, s.URL)
}

func post(t *testing.T, to string) Call {
	t.Helper()
	base, err := url.Parse(to)
	if err != nil {
		t.Fatal(err)
	}
	return Call{Method: http.MethodPost, Base: base, Path: "/send", Token: NewSecret(canary), Body: []byte(`{"a":1}`)}
}

func TestWhatGoesOverTheWire(t *testing.T) {
	for _, secure := range []bool{false, true} {
		var got string
		s, conns := countedServer(t, func(w http.ResponseWriter, r *http.Request) {
			body, _ := io.ReadAll(r.Body)
			got = fmt.Sprint(r.Method, " ", r.RequestURI, " ", r.ContentLength, " ", r.TransferEncoding, " ", r.Header, " ", string(body))
			_, _ = io.WriteString(w, `{}`)
		}, secure)
		transport, call := trusting(t, s)
		plain := func(c *Call) { c.Token, c.Body = Secret{}, nil }
		for _, c := range []struct {
			name   string
			change func(*Call)
			want   string
		}{
			{"a POST", func(*Call) {}, `POST /send?access_token=` + canary + ` 7 [] map[Content-Length:[7] Content-Type:[application/json] User-Agent:[hongyan]] {"a":1}`},
			{"a GET", func(c *Call) { plain(c); c.Method, c.Query = http.MethodGet, NewSecret("a=b%20c") }, `GET /send?a=b%20c 0 [] map[User-Agent:[hongyan]] `},
			{"a stream", func(c *Call) {
				plain(c)
				c.Stream, c.Length, c.ContentType = strings.NewReader("picture and more"), 7, "image/png"
			}, `POST /send 7 [] map[Content-Length:[7] Content-Type:[image/png] User-Agent:[hongyan]] picture`},
			{"a base with a path of its own", func(c *Call) {
				plain(c)
				c.Base = post(t, s.URL+"/a%20b").Base
			}, `POST /a%20b/send 0 [] map[Content-Length:[0] Content-Type:[application/json] User-Agent:[hongyan]] `},
		} {
			call := call
			c.change(&call)
			if reply, connected, err := transport.Do(t.Context(), call); err != nil || !connected || reply.Status != 200 {
				t.Errorf("%s: status %d %s, connected %v, %v", c.name, reply.Status, reply.Body, connected, err)
			}
			if got != c.want {
				t.Errorf("%s:\ngot  %s\nwant %s", c.name, got, c.want)
			}
		}
		if n := conns.Load(); n != 1 {
			t.Errorf("TLS %v: %d connections for calls one after the other", secure, n)
		}
	}
}

func TestNothingGoesIntoTheHeadThatWouldEndIt(t *testing.T) {
	s := newRawServer(t, func(int64) (string, bool) { return goodReply, false })
	transport := NewHTTP(HTTPConfig{})
	defer transport.Close()
	for name, change := range map[string]func(*Call){
		"the path":         func(c *Call) { c.Path = "/a HTTP/1.1\r\nX: y" },
		"the query":        func(c *Call) { c.Token, c.Query = Secret{}, NewSecret("a=b\r\nX: y") },
		"the content type": func(c *Call) { c.ContentType = "text/plain\r\nX: y" },
	} {
		call := post(t, s.url)
		change(&call)
		if _, connected, err := transport.Do(t.Context(), call); !errors.Is(err, errControl) || connected {
			t.Errorf("a line break in %s: connected %v, %v", name, connected, err)
		}
	}
	if n := s.requests.Load(); n != 0 {
		t.Errorf("%d requests arrived", n)
	}
}

// A connection that was closed while it was idle is no message's bad luck: it is seen before anything is written.
func TestIdleConnectionsThatWereClosedAreNotUsed(t *testing.T) {
	for _, secure := range []bool{false, true} {
		closed := make(chan struct{}, 1)
		s, conns := countedServer(t, answering(200, `{}`), secure, func(c net.Conn) {
			_ = c.Close()
			closed <- struct{}{}
		})
		transport, call := trusting(t, s)
		for i := range 20 {
			if _, _, err := transport.Do(t.Context(), call); err != nil {
				t.Fatalf("TLS %v: call %d: %v", secure, i, err)
			}
			<-closed
		}
		if n := conns.Load(); n != 20 {
			t.Errorf("TLS %v: %d connections for 20 calls", secure, n)
		}
	}
}

// An answer that comes without a question would be taken for that of the next message.
func TestAConnectionThatSaysTooMuchIsNotUsedAgain(t *testing.T) {
	const stray = "HTTP/1.1 200 OK\r\nContent-Length: 11\r\n\r\n" + `{"msgid":1}`
	for _, c := range []struct{ name, answer string }{
		{"two answers to one request", goodReply + stray},
		{"a body longer than it says", strings.Replace(goodReply, "38", "36", 1)},
		{"a protocol that nobody asked for", "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n"},
		{"an answer that ends the connection", strings.Replace(goodReply, "Content", "Connection: close\r\nContent", 1)},
		{"an answer of HTTP/1.0", strings.Replace(goodReply, "HTTP/1.1", "HTTP/1.0", 1)},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newRawServer(t, func(n int64) (string, bool) {
				if n == 1 {
					return c.answer, false
				}
				return goodReply, false
			})
			transport := NewHTTP(HTTPConfig{})
			defer transport.Close()
			call := post(t, s.url)
			_, _, _ = transport.Do(t.Context(), call)
			if idle := len(transport.host(call.Base).idle); idle != 0 {
				t.Errorf("%d connections wait for the next call", idle)
			}
			reply, _, err := transport.Do(t.Context(), call)
			if err != nil || string(reply.Body) != goodReply[len(goodReply)-38:] {
				t.Errorf("the next call got %q, %v", reply.Body, err)
			}
		})
	}
	t.Run("what comes later", func(t *testing.T) {
		later := make(chan net.Conn, 1)
		var conns atomic.Int64
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			conns.Add(1)
			c, _, _ := http.NewResponseController(w).Hijack()
			_, _ = io.WriteString(c, goodReply)
			later <- c
		}))
		defer s.Close()
		transport, call := trusting(t, s)
		for range 2 {
			reply, _, err := transport.Do(t.Context(), call)
			if err != nil || len(reply.Body) != 38 {
				t.Fatalf("got %q, %v", reply.Body, err)
			}
			c := <-later
			_, _ = io.WriteString(c, stray)
			defer c.Close()
		}
		if n := conns.Load(); n != 2 {
			t.Errorf("%d connections", n)
		}
	})
}

func TestAnswersOfAllShapesAreRead(t *testing.T) {
	const body = `{"errcode":0}`
	for _, c := range []struct {
		name, answer string
		reused       bool
	}{
		{"in chunks", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n6\r\n" + body[:6] + "\r\n7;x=y\r\n" + body[6:] + "\r\n0\r\nTrailer: x\r\n\r\n", true},
		{"after 100 Continue", "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 13\r\n\r\n" + body, true},
		{"with a date", "HTTP/1.1 200 OK\r\nDate: Sun, 22 Nov 2026 09:00:00 GMT\r\nContent-Length: 13\r\n\r\n" + body, true},
		{"until the connection ends", "HTTP/1.1 200 OK\r\n\r\n" + body, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newRawServer(t, func(int64) (string, bool) { return c.answer, !c.reused })
			transport := NewHTTP(HTTPConfig{})
			defer transport.Close()
			for range 2 {
				reply, _, err := transport.Do(t.Context(), post(t, s.url))
				if err != nil || reply.Status != 200 || string(reply.Body) != body {
					t.Fatalf("got %d %q, %v", reply.Status, reply.Body, err)
				}
				if want := time.Date(2026, 11, 22, 9, 0, 0, 0, time.UTC); strings.Contains(c.answer, "Date") && !reply.Date.Equal(want) {
					t.Errorf("WeChat's clock: %s, want %s", reply.Date, want)
				}
				if idle := len(transport.host(post(t, s.url).Base).idle); idle > 1 || (idle == 1) != c.reused {
					t.Errorf("%d connections wait for the next call", idle)
				}
			}
		})
	}
}

func TestAnswersThatAreTooLongOrNoneAreNoAnswers(t *testing.T) {
	for name, answer := range map[string]string{
		"a long header":              "HTTP/1.1 200 OK\r\nX: " + strings.Repeat("x", maxAnswerBytes) + "\r\n\r\n",
		"a long body of a length":    "HTTP/1.1 200 OK\r\nContent-Length: 1048577\r\n\r\n" + strings.Repeat("x", MaxAnswer+1),
		"a length that is no number": "HTTP/1.1 200 OK\r\nContent-Length: 1x\r\n\r\n{}",
		"two lengths":                "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n{}",
		"a chunk that is none":       "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n{}\r\n0\r\n\r\n",
		"announcements without end":  strings.Repeat("HTTP/1.1 100 Continue\r\n\r\n", 1<<16),
	} {
		t.Run(name, func(t *testing.T) {
			s := newRawServer(t, func(int64) (string, bool) { return answer, false })
			transport := NewHTTP(HTTPConfig{})
			defer transport.Close()
			if reply, connected, err := transport.Do(t.Context(), post(t, s.url)); err == nil || !connected {
				t.Errorf("got %d bytes, connected %v, %v", len(reply.Body), connected, err)
			}
		})
	}
}

func TestADeadlineOfLastTimeIsForgotten(t *testing.T) {
	s, conns := countedServer(t, answering(200, `{}`), false)
	transport, call := trusting(t, s)
	for range 2 {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		if _, _, err := transport.Do(ctx, call); err != nil {
			t.Error(err)
		}
		cancel()
		for _, n := range transport.host(call.Base).idle {
			_ = n.SetDeadline(time.Unix(1, 0)) // it has passed by the next call
		}
	}
	if n := conns.Load(); n != 1 {
		t.Errorf("%d connections for 2 calls", n)
	}
}

func TestACallEndsWithItsContext(t *testing.T) {
	arrived := make(chan struct{})
	s, _ := countedServer(t, func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		arrived <- struct{}{}
		<-r.Context().Done()
	}, false)
	transport, call := trusting(t, s)
	ctx, cancel := context.WithCancel(t.Context())
	go func() { <-arrived; cancel() }()
	_, connected, err := transport.Do(ctx, call)
	if !connected || !errors.Is(err, context.Canceled) {
		t.Errorf("connected %v, %v, want that a cancelled call had a connection", connected, err)
	}
	if n := len(transport.host(call.Base).idle); n != 0 {
		t.Errorf("%d connections wait for the next call", n)
	}
}

func TestAStreamThatBreaksOffIsAnErrorWithAConnection(t *testing.T) {
	s, _ := countedServer(t, answering(200, `{}`), false)
	transport, call := trusting(t, s)
	call.Body, call.Stream, call.Length = nil, strings.NewReader("short"), 100
	if _, connected, err := transport.Do(t.Context(), call); !connected || !errors.Is(err, io.EOF) {
		t.Errorf("connected %v, %v", connected, err)
	}
}

func TestIdleConnectionsAreClosedInTheEnd(t *testing.T) {
	s, conns := countedServer(t, answering(200, `{}`), false)
	transport, call := trusting(t, s)
	var calls sync.WaitGroup
	for range 4 {
		calls.Go(func() { _, _, _ = transport.Do(t.Context(), call) })
	}
	calls.Wait()
	h := transport.host(call.Base)
	some := len(h.idle)
	if int64(some) != conns.Load() {
		t.Errorf("%d connections wait of %d", some, conns.Load())
	}
	h.idle[0].since = time.Now().Add(-idleTimeout)
	h.closeIdle(idleTimeout)
	if len(h.idle) != some-1 {
		t.Errorf("%d connections wait, want %d", len(h.idle), some-1)
	}
	transport.Close()
	if len(h.idle) != 0 {
		t.Errorf("%d connections wait after Close", len(h.idle))
	}
}

func TestIdleConnectionsAreClosedByThemselves(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	closed := make(chan error, 1)
	go func() {
		c, err := l.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		in := bufio.NewReader(c)
		r, _ := http.ReadRequest(in)
		_, _ = io.Copy(io.Discard, r.Body)
		_, _ = io.WriteString(c, goodReply)
		_, err = in.ReadByte()
		closed <- err
	}()
	transport := NewHTTP(HTTPConfig{})
	transport.idle = time.Millisecond
	if _, _, err := transport.Do(t.Context(), post(t, "http://"+l.Addr().String())); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-closed:
		if !errors.Is(err, io.EOF) {
			t.Error(err)
		}
	case <-time.After(10 * time.Second):
		t.Error("a connection that nobody uses stays open")
	}
}

func TestACallThatComesTooLateClosesNoGoodConnection(t *testing.T) {
	s, conns := countedServer(t, answering(200, `{}`), false)
	transport, call := trusting(t, s)
	for range 2 {
		if _, _, err := transport.Do(t.Context(), call); err != nil {
			t.Fatal(err)
		}
		if _, err := transport.host(call.Base).get(t.Context(), time.Now()); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v, want that the time is over", err)
		}
	}
	if n := conns.Load(); n != 1 {
		t.Errorf("%d connections for 2 calls", n)
	}
}

func TestCallsThatAreCancelledDoNotHurtOthers(t *testing.T) {
	s, _ := countedServer(t, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		_, _ = w.Write(body)
	}, false)
	transport, call := trusting(t, s)
	var senders sync.WaitGroup
	for i := range 16 {
		senders.Go(func() {
			for j := range 200 {
				ctx, cancel := context.WithCancel(t.Context())
				if i%2 == 0 {
					go cancel()
				}
				call := call
				call.Body = fmt.Appendf(nil, "%d-%d", i, j)
				reply, _, err := transport.Do(ctx, call)
				cancel()
				if err == nil && string(reply.Body) != string(call.Body) {
					t.Errorf("%s got the answer of %s", call.Body, reply.Body)
				}
				if i%2 == 1 && err != nil {
					t.Errorf("a call beside one that was cancelled: %v", err)
				}
			}
		})
	}
	senders.Wait()
}
