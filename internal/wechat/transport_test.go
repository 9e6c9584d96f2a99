package wechat

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"log/slog"
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

const canary = "CANARY-75_r4q9-0xZ"

var canaryToken = Token{Value: NewSecret(canary), Gen: 1}

// newClient returns a client of a server that answers with h.
func newClient(t *testing.T, h http.HandlerFunc) *Client {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return clientOf(t, s.URL)
}

func clientOf(t *testing.T, baseURL string) *Client {
	t.Helper()
	transport := NewHTTP(HTTPConfig{MaxConns: 8})
	t.Cleanup(transport.Close)
	return New(Config{BaseURL: baseURL, Timeout: 2 * time.Second, Transport: transport})
}

func answering(status int, body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body)
	}
}

// rawServer accepts connections and counts the requests it reads whole. answer is asked with the number
// of the request, over all connections, and returns the bytes to write; after that, with hangUp, the
// connection is closed.
type rawServer struct {
	url      string
	requests atomic.Int64
}

func newRawServer(t *testing.T, answer func(n int64) (bytes string, hangUp bool)) *rawServer {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &rawServer{url: "http://" + l.Addr().String()}
	var conns sync.WaitGroup
	t.Cleanup(func() { _ = l.Close(); conns.Wait() })
	ctx := t.Context()
	conns.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			context.AfterFunc(ctx, func() { _ = c.Close() })
			conns.Go(func() { s.serve(c, answer) })
		}
	})
	return s
}

func (s *rawServer) serve(c net.Conn, answer func(int64) (string, bool)) {
	defer func() { _ = c.Close() }()
	in := bufio.NewReader(c)
	for {
		r, err := http.ReadRequest(in)
		if err != nil {
			return
		}
		if _, err := io.Copy(io.Discard, r.Body); err != nil {
			return
		}
		bytes, hangUp := answer(s.requests.Add(1))
		_, _ = io.WriteString(c, bytes)
		if hangUp {
			return
		}
	}
}

const goodReply = "HTTP/1.1 200 OK\r\nContent-Length: 38\r\n\r\n" + `{"errcode":0,"errmsg":"ok","msgid":17}`

func TestOneCallIsOneRequest(t *testing.T) {
	template := func(c *Client) (Class, error) {
		r := c.SendTemplate(t.Context(), canaryToken, "oUser", "0123", []byte(`{"template_id":"T","data":{}}`))
		return r.Class, r.Err
	}
	legacy := func(c *Client) (Class, error) {
		_, err := c.LegacyToken(t.Context(), "wx1", NewSecret(canary))
		return Ambiguous, err
	}
	for _, c := range []struct {
		name   string
		first  string // the reply that leaves a connection to be used again
		call   func(*Client) (Class, error)
		reply  string
		hangUp bool
	}{
		{"a POST whose kept-alive connection is dropped without an answer", goodReply, template, "", true},
		{"a POST whose answer breaks off", goodReply, template, goodReply[:60], true},
		{"a POST whose answer breaks off in the headers", goodReply, template, "HTTP/1.1 200", true},
		{"a GET whose kept-alive connection is dropped without an answer", goodReply, legacy, "", true},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newRawServer(t, func(n int64) (string, bool) {
				if n == 1 {
					return c.first, false
				}
				return c.reply, c.hangUp
			})
			client := clientOf(t, s.url)
			if class, err := template(client); class != Sent || err != nil {
				t.Fatalf("first call: %v, %v", class, err)
			}
			class, err := c.call(client)
			if class != Ambiguous || err == nil {
				t.Errorf("got %v, %v, want ambiguous and an error", class, err)
			}
			if n := s.requests.Load(); n != 2 {
				t.Errorf("the server read %d requests for 2 calls", n)
			}
		})
	}
}

func TestManyCallsOnDyingConnectionsAreNeverRepeated(t *testing.T) {
	s := newRawServer(t, func(n int64) (string, bool) { return goodReply, n%3 == 0 }) // closes right after every third answer
	client := clientOf(t, s.url)
	var calls, sent atomic.Int64
	var senders sync.WaitGroup
	for range 8 {
		senders.Go(func() {
			for range 100 {
				calls.Add(1)
				if r := client.SendCustom(t.Context(), canaryToken, "oUser", []byte(`{"msgtype":"text"}`)); r.Class == Sent {
					sent.Add(1)
				}
			}
		})
	}
	senders.Wait()
	if read := s.requests.Load(); read > calls.Load() || read < sent.Load() {
		t.Errorf("%d requests read, %d calls, %d sent", read, calls.Load(), sent.Load())
	}
}

func TestConnectionsAreKept(t *testing.T) {
	var conns atomic.Int64
	s := httptest.NewUnstartedServer(answering(200, `{"errcode":0}`))
	s.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateNew {
			conns.Add(1)
		}
	}
	s.Start()
	defer s.Close()
	client := clientOf(t, s.URL)
	for range 20 {
		if r := client.SendCustom(t.Context(), canaryToken, "oUser", []byte(`{}`)); r.Class != Sent {
			t.Fatal(r.Err)
		}
	}
	if n := conns.Load(); n != 1 {
		t.Errorf("%d connections for 20 calls in a row", n)
	}
}

// TestClasses holds the rule that everything else stands on: no connection, not sent; a whole answer,
// what it says; anything else, nobody knows. No error of any of them may show the token.
func TestClasses(t *testing.T) {
	hang := func(w http.ResponseWriter, r *http.Request) { <-r.Context().Done() }
	big := func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, `{"errcode":0,"errmsg":"`+strings.Repeat("x", MaxAnswer)+`"}`)
	}
	redirect := func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, "http://"+r.Host+"/elsewhere?"+r.URL.RawQuery, http.StatusTemporaryRedirect)
	}
	echo := func(w http.ResponseWriter, r *http.Request) {
		_, _ = fmt.Fprintf(w, `{"errcode":40001,"errmsg":"invalid credential %s rid: 5f2a1b3c-12345678-0a0b0c0d"}`, r.URL.RawQuery)
	}
	malformed := func(w http.ResponseWriter, r *http.Request) {
		c, _, _ := http.NewResponseController(w).Hijack()
		_, _ = fmt.Fprintf(c, "%s\r\n\r\n", r.URL.RawQuery) // net/http quotes such a line in its error
		_ = c.Close()
	}
	for _, c := range []struct {
		name      string
		serve     http.HandlerFunc
		connected bool
		want      Class
	}{
		{"errcode 0", answering(200, `{"errcode":0,"errmsg":"ok"}`), true, Sent},
		{"an id without errcode", answering(200, `{"msgid":5}`), true, Sent},
		{"text/plain of JSON", answering(200, "\n"+`{"errcode":0}`), true, Sent},
		{"a refusal", answering(200, `{"errcode":43004,"errmsg":"require subscribe"}`), true, NotSent},
		{"an unknown refusal", answering(200, `{"errcode":99999}`), true, NotSent},
		{"system busy", answering(200, `{"errcode":-1,"errmsg":"system error"}`), true, NotSent},
		{"a refusal that echoes the query", echo, true, NotSent},
		{"status 403 with an errcode", answering(403, `{"errcode":48001}`), true, NotSent},
		{"status 403 with errcode 0", answering(403, `{"errcode":0}`), true, Ambiguous},
		{"status 404 of a gateway", answering(404, `{}`), true, Ambiguous},
		{"an object of somebody else", answering(200, `{"message":"slow down"}`), true, Ambiguous},
		{"status 500 with errcode 0", answering(500, `{"errcode":0}`), true, Ambiguous},
		{"status 502 with an errcode", answering(502, `{"errcode":43004}`), true, Ambiguous},
		{"status 204", answering(204, ""), true, Ambiguous},
		{"HTML", answering(200, "<html>ok</html>"), true, Ambiguous},
		{"truncated JSON", answering(200, `{"errcode":0`), true, Ambiguous},
		{"an empty body", answering(200, ""), true, Ambiguous},
		{"more than 1 MiB", big, true, Ambiguous},
		{"a redirect", redirect, true, Ambiguous},
		{"no answer in time", hang, true, Ambiguous},
		{"an answer that is no HTTP and echoes the query", malformed, true, Ambiguous},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			var requests atomic.Int64
			client := newClient(t, func(w http.ResponseWriter, r *http.Request) {
				requests.Add(1)
				_, _ = io.Copy(io.Discard, r.Body) // only then does the server notice that we left
				if r.URL.Query().Get("access_token") != canary {
					t.Errorf("the token did not arrive: %s", r.URL.RawQuery)
				}
				c.serve(w, r)
			})
			if c.name == "no answer in time" {
				client.timeout = 300 * time.Millisecond
			}
			r := client.SendTemplate(t.Context(), canaryToken, "oUser", "00", []byte(`{"template_id":"T"}`))
			if r.Class != c.want || r.Connected != c.connected {
				t.Errorf("got %v, connected %v, want %v, %v (%v)", r.Class, r.Connected, c.want, c.connected, r.Err)
			}
			if n := requests.Load(); n != 1 {
				t.Errorf("%d requests", n)
			}
			mustHide(t, r)
		})
	}
}

func TestWithoutAConnectionNothingWasSent(t *testing.T) {
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	refusing := "http://" + free.Addr().String()
	_ = free.Close()
	plain := httptest.NewServer(answering(200, `{"errcode":0}`))
	defer plain.Close()
	strange := httptest.NewTLSServer(answering(200, `{"errcode":0}`))
	strange.Config.ErrorLog = log.New(io.Discard, "", 0) // of the handshake that fails
	defer strange.Close()
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	for _, c := range []struct {
		name, url string
		ctx       context.Context
		tok       Token
	}{
		{"connection refused", refusing, t.Context(), canaryToken},
		{"TLS to a server without", strings.Replace(plain.URL, "http:", "https:", 1), t.Context(), canaryToken},
		{"a certificate that nobody vouches for", strange.URL, t.Context(), canaryToken},
		{"a name that does not resolve", "http://nowhere.invalid", t.Context(), canaryToken},
		{"cancelled before", plain.URL, cancelled, canaryToken},
		{"no token", plain.URL, t.Context(), Token{}},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := clientOf(t, c.url).SendCustom(c.ctx, c.tok, "oUser", []byte(`{"msgtype":"text"}`))
			if r.Class != NotSent || r.Connected || r.Err == nil {
				t.Errorf("got %v, connected %v, %v", r.Class, r.Connected, r.Err)
			}
			mustHide(t, r)
		})
	}
	t.Run("a full pool", func(t *testing.T) {
		release := make(chan struct{})
		entered := make(chan struct{})
		client := newClient(t, func(w http.ResponseWriter, _ *http.Request) { close(entered); <-release })
		client.transport = NewHTTP(HTTPConfig{MaxConns: 1})
		var first sync.WaitGroup
		first.Go(func() { client.SendCustom(t.Context(), canaryToken, "oUser", []byte(`{}`)) })
		<-entered
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
		defer cancel()
		r := client.SendCustom(ctx, canaryToken, "oUser", []byte(`{}`))
		if r.Class != NotSent || r.Connected || !errors.Is(r.Err, context.DeadlineExceeded) {
			t.Errorf("got %v, connected %v, %v", r.Class, r.Connected, r.Err)
		}
		close(release)
		first.Wait()
	})
}

// A leakyTransport fails as http.Client would: with the whole URL in its error.
type leakyTransport struct{ err error }

func (l leakyTransport) Do(context.Context, Call) (Reply, bool, error) {
	leak := &url.Error{Op: "Post", URL: "https://api.weixin.qq.com/x?access_token=" + canary, Err: l.err}
	return Reply{}, true, fmt.Errorf("through %s: %w", canary, leak)
}

func TestAnErrorWithAURLLosesIt(t *testing.T) {
	for _, cause := range []error{io.EOF, context.DeadlineExceeded, errors.New("parse " + canary)} {
		client := New(Config{BaseURL: "https://api.weixin.qq.com", Transport: leakyTransport{cause}})
		r := client.SendCustom(t.Context(), canaryToken, "oUser", []byte(`{}`))
		mustHide(t, r)
		if cause == context.DeadlineExceeded && !errors.Is(r.Err, cause) {
			t.Errorf("got %v, want a deadline", r.Err)
		}
		if !strings.Contains(r.Err.Error(), PathCustom+": api.weixin.qq.com: ") {
			t.Errorf("got %q, want the API and the host", r.Err)
		}
		_, err := client.StableToken(t.Context(), "wx1", NewSecret(canary), false)
		mustHide(t, err)
		_, err = client.LegacyToken(t.Context(), "wx1", NewSecret(canary))
		mustHide(t, err)
	}
}

// mustHide fails if v, printed in any way, shows the canary.
func mustHide(t *testing.T, v any) {
	t.Helper()
	var out strings.Builder
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d"} {
		_, _ = fmt.Fprintf(&out, verb+"\n", v)
	}
	slog.New(slog.NewTextHandler(&out, nil)).Info("x", "v", v)
	slog.New(slog.NewJSONHandler(&out, nil)).Info("x", "v", v)
	if b, err := json.Marshal(v); err == nil {
		out.Write(b)
	}
	for _, form := range []string{canary, fmt.Sprintf("%x", canary), fmt.Sprintf("%X", canary)} {
		if strings.Contains(out.String(), form) {
			t.Errorf("%q shows in %s", form, out.String())
		}
	}
}

func TestSecretsDoNotPrint(t *testing.T) {
	s := NewSecret(canary)
	nested := struct {
		Token   Token
		private []Secret
		pointer *Secret
	}{canaryToken, []Secret{s}, &s}
	for _, v := range []any{
		s, &s, canaryToken, nested, &nested,
		map[string]Secret{"a": s},
		[]Secret{s},
		Call{Path: "/x", Token: s, Query: s, Body: []byte(canary)},
	} {
		if c, ok := v.(Call); ok { // its body is the caller's; only fmt is kept from it
			if text := fmt.Sprintf("%v %+v %#v %s", c, c, c, c); strings.Contains(text, canary) {
				t.Errorf("shows in %s", text)
			}
			continue
		}
		mustHide(t, v)
	}
	if s.Reveal() != canary || !s.Equal(NewSecret(canary)) || s.Equal(NewSecret("x")) || !NewSecret("").IsZero() || (Secret{}).Reveal() != "" {
		t.Error("a secret is not what it was")
	}
}
