package api

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/time/rate"

	"github.com/hongyan-dispatch/hongyan/message"
)

func TestScopes(t *testing.T) {
	for _, bad := range []string{"", "shop", "shop:template", "shop:template:read:x", ":template:read", "shop::read", "shop:letter:read", "shop:mass:send"} {
		if s, err := ParseScope(bad); err == nil {
			t.Errorf("%q is read as %v", bad, s)
		}
	}
	k := Key{}
	for _, text := range []string{"shop:template:enqueue", "news:*:read"} {
		s, err := ParseScope(text)
		if err != nil || s.String() != text {
			t.Fatalf("%q: %v, %v", text, s, err)
		}
		k.Scopes = append(k.Scopes, s)
	}
	for _, c := range []struct {
		account string
		kind    message.Kind
		action  Action
		want    bool
	}{
		{"shop", message.Template, Enqueue, true},
		{"shop", message.Custom, Enqueue, false},
		{"shop", message.Template, Read, false},
		{"news", message.Mass, Read, true},
		{"news", message.Mass, Admin, false},
		{"other", message.Template, Enqueue, false},
	} {
		if got := k.May(c.account, c.kind, c.action); got != c.want {
			t.Errorf("%s:%s:%s: %v", c.account, c.kind, c.action, got)
		}
	}
}

func TestStoresThatAreAway(t *testing.T) {
	b := setup(t, Options{})
	for _, down := range []struct {
		err  error
		want string
	}{{errAway, "problem-unavailable"}, {errors.Join(ErrInDoubt), "problem-in-doubt"}} {
		b.down = down.err
		for kind, body := range map[string]string{typeJSON: good, typeLines: good + "\n" + good} {
			if status, text := b.post(t, "/v1/messages", kind, strings.NewReader(body)); status != 503 || !strings.Contains(text, down.want) {
				t.Errorf("%s: %d %s", kind, status, text)
			}
		}
	}
	if b.accepted != 0 {
		t.Errorf("%d accepted", b.accepted)
	}
}

// A stream whose store goes away in its middle ends with where to go on.
func TestAStreamThatIsStopped(t *testing.T) {
	b := setup(t, Options{})
	out, in := io.Pipe()
	go func() {
		_, _ = io.WriteString(in, good+"\n")
		for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); {
			b.mu.Lock()
			took := b.accepted
			if took > 0 {
				b.down = errAway
			}
			b.mu.Unlock()
			if took > 0 {
				break
			}
		}
		_, _ = io.WriteString(in, good+"\n")
		_ = in.Close()
	}()
	status, text := b.post(t, "/v1/messages", typeLines, out)
	results := linesIn(text)
	if status != 200 || len(results) != 3 || !strings.Contains(results[1], `"status":503`) ||
		!strings.HasPrefix(results[2], `{"done":false,"lines":2,"accepted":1,"duplicates":0,"refused":0,"from_line":2,"retry_after":1`) {
		t.Errorf("%d %s", status, text)
	}
}

// A body that does not come holds nobody up for longer than the door's patience.
func TestSlowBodies(t *testing.T) {
	b := setup(t, Options{Patience: 100 * time.Millisecond})
	for kind, want := range map[string]int{typeJSON: http.StatusRequestTimeout, typeLines: http.StatusRequestTimeout} {
		out, in := io.Pipe()
		go func() { _, _ = io.WriteString(in, good[:20]) }()
		if status, text := b.post(t, "/v1/messages", kind, out); status != want {
			t.Errorf("%s: %d %s", kind, status, text)
		}
		in.Close()
	}
}

// Who has no key, and who sends a body that nobody reads, is left as soon.
func TestSlowStrangers(t *testing.T) {
	b := setup(t, Options{Patience: 400 * time.Millisecond})
	for name, request := range map[string]string{
		"no key":               "POST /v1/messages HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n",
		"no such path":         "POST /v1/letters HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n",
		"a question of a body": "GET /v1/messages HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer " + b.key + "\r\nContent-Length: 1000\r\n\r\n",
	} {
		c, err := net.Dial("tcp", strings.TrimPrefix(b.url, "http://"))
		if err != nil {
			t.Fatal(err)
		}
		_ = c.SetDeadline(time.Now().Add(10 * time.Second))
		_, _ = io.WriteString(c, request)
		if answer, err := io.ReadAll(c); err != nil || !strings.HasPrefix(string(answer), "HTTP/1.1 4") {
			t.Errorf("%s: %v, %.80q", name, err, answer)
		}
		c.Close()
	}
}

// slowed has the bundle's key wait for its next message.
func (b *bundle) slowed(t *testing.T, perSecond rate.Limit) {
	t.Helper()
	keys, err := b.handler.keys.keys(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, k := range keys {
		k.limiter = rate.NewLimiter(perSecond, 1)
		k.limiter.Allow()
	}
}

// A body that came whole may wait for its key's rate longer than the door's patience.
func TestAStreamThatWaitsForItsRate(t *testing.T) {
	b := setup(t, Options{Patience: 100 * time.Millisecond})
	b.slowed(t, 2)
	if status, text := b.post(t, "/v1/messages", typeLines, strings.NewReader(good)); status != 200 || !strings.Contains(text, `"done":true`) {
		t.Errorf("%d %s", status, text)
	}
}

// A server that closes does not wait for a key's rate, and what did not pass costs the key nothing.
func TestDrainOfAStreamThatWaitsForItsRate(t *testing.T) {
	b := setup(t, Options{})
	b.slowed(t, 0.001)
	time.AfterFunc(50*time.Millisecond, b.handler.Drain)
	if status, text := b.post(t, "/v1/messages", typeLines, strings.NewReader(good)); status != 503 || !strings.Contains(text, "closing") || b.accepted != 0 {
		t.Errorf("%d %s", status, text)
	}
}

// What is over a list's bound is counted, and takes no memory.
func TestAListWithoutEnd(t *testing.T) {
	body := []byte("[" + strings.Repeat(",", maxBody-2) + "]")
	allocated := testing.AllocsPerRun(1, func() {
		list, err := elements(body, MaxArray)
		if found, ok := errors.AsType[message.Invalid](err); list != nil || !ok || found[0].Got != strconv.Itoa(maxBody-1) {
			t.Errorf("%d elements, %v", len(list), err)
		}
	})
	if allocated > 100 {
		t.Errorf("%v allocations for a list that is refused", allocated)
	}
}

// Bodies wait for room, and are told so: what is held is bounded.
func TestBodiesAreBounded(t *testing.T) {
	b := setup(t, Options{Memory: streamMemory + 1000})
	out, in := io.Pipe()
	first := make(chan string, 1)
	go func() {
		_, text := b.post(t, "/v1/messages", typeLines, out)
		first <- text
	}()
	if _, err := io.WriteString(in, good+"\n"); err != nil {
		t.Fatal(err)
	}
	for took := 0; took == 0; {
		b.mu.Lock()
		took = b.accepted
		b.mu.Unlock()
	}
	if status, text := b.post(t, "/v1/messages", typeLines, strings.NewReader(good)); status != 503 {
		t.Errorf("a second stream: %d %s", status, text)
	}
	if status, text := b.post(t, "/v1/messages", typeJSON, strings.NewReader(good)); status != 202 {
		t.Errorf("a small body: %d %s", status, text)
	}
	in.Close()
	if text := <-first; !strings.Contains(text, `"done":true`) {
		t.Errorf("the first stream: %s", text)
	}
	if status, text := b.post(t, "/v1/messages", typeLines, strings.NewReader(good)); status != 200 {
		t.Errorf("after it: %d %s", status, text)
	}
}

// Streams end with what they have in hand when the server closes.
func TestDrain(t *testing.T) {
	b := setup(t, Options{})
	h := b.handler
	out, in := io.Pipe()
	go func() {
		_, _ = io.WriteString(in, good+"\n")
		for took := 0; took == 0; {
			b.mu.Lock()
			took = b.accepted
			b.mu.Unlock()
		}
		h.Drain()
	}()
	status, text := b.post(t, "/v1/messages", typeLines, out)
	in.Close()
	if status != 200 || !strings.Contains(text, `{"done":false,"lines":1,"accepted":1,"duplicates":0,"refused":0,"from_line":2,`) {
		t.Errorf("%d %s", status, text)
	}
}

// Who writes a large body whole before reading anything sees why it is refused, and no reset of the connection.
func TestLargeBodiesThatAreRefused(t *testing.T) {
	b := setup(t, Options{})
	const length = 20 << 20
	for name, c := range map[string]struct {
		key, path, kind string
		want            string
	}{
		"without a key":       {"hy_none", "/v1/messages", typeJSON, "HTTP/1.1 401 "},
		"too large":           {b.key, "/v1/messages", typeJSON, "HTTP/1.1 413 "},
		"of another type":     {b.key, "/v1/messages", "text/html", "HTTP/1.1 415 "},
		"of a stranger's":     {"", "/v1/campaigns/0198c0de-0000-7000-8000-000000000001/audience", "text/csv", "HTTP/1.1 401 "},
		"of lines but no one": {b.key, "/v1/messages", typeLines, "HTTP/1.1 400 "},
	} {
		for _, chunked := range []bool{false, true} {
			conn, err := net.Dial("tcp", strings.TrimPrefix(b.url, "http://"))
			if err != nil {
				t.Fatal(err)
			}
			_ = conn.SetDeadline(time.Now().Add(20 * time.Second))
			header := "Content-Length: " + strconv.Itoa(length)
			if chunked {
				header = "Transfer-Encoding: chunked"
			}
			fmt.Fprintf(conn, "POST %s HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\nContent-Type: %s\r\n%s\r\n\r\n", c.path, c.key, c.kind, header)
			piece := bytes.Repeat([]byte(" "), 1<<20)
			for range length / len(piece) {
				if chunked {
					fmt.Fprintf(conn, "%x\r\n", len(piece))
				}
				if _, err = conn.Write(piece); err != nil {
					break
				}
				if chunked {
					_, _ = io.WriteString(conn, "\r\n")
				}
			}
			if chunked {
				_, _ = io.WriteString(conn, "0\r\n\r\n")
			}
			answer, readErr := io.ReadAll(conn)
			if err != nil || readErr != nil || !strings.HasPrefix(string(answer), c.want) || !strings.Contains(string(answer), "problem-") {
				t.Errorf("%s, chunked %v: written with %v, read with %v: %.60q", name, chunked, err, readErr, answer)
			}
			conn.Close()
		}
	}
}

// How much is read of a body that is refused has a bound, in bytes and in time.
func TestWhatIsReadOfARefusedBodyIsBounded(t *testing.T) {
	b := setup(t, Options{Patience: 200 * time.Millisecond})
	for name, body := range map[string]func(net.Conn){
		"without end": func(c net.Conn) {
			for piece := bytes.Repeat([]byte(" "), 1<<20); ; {
				if _, err := c.Write(piece); err != nil {
					return
				}
			}
		},
		"that does not come": func(net.Conn) {},
	} {
		conn, err := net.Dial("tcp", strings.TrimPrefix(b.url, "http://"))
		if err != nil {
			t.Fatal(err)
		}
		_ = conn.SetDeadline(time.Now().Add(20 * time.Second))
		fmt.Fprintf(conn, "POST /v1/messages HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n", int64(1)<<40)
		written := make(chan bool)
		go func() { body(conn); close(written) }()
		if _, err := io.ReadAll(conn); errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("a body %s is read to no end", name)
		}
		conn.Close()
		<-written
	}
}
