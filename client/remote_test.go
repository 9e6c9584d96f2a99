package client_test

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hongyan-dispatch/hongyan/client"
	"github.com/hongyan-dispatch/hongyan/message"
)

// A moody server answers as the test wants, and remembers what it was sent.
type moody struct {
	mu     sync.Mutex
	bodies []string
	answer func(n int, w http.ResponseWriter, r *http.Request) // n from 1
}

func (m *moody) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	m.mu.Lock()
	m.bodies = append(m.bodies, string(body))
	n := len(m.bodies)
	m.mu.Unlock()
	m.answer(n, w, r)
}

func remote(t *testing.T, answer func(n int, w http.ResponseWriter, r *http.Request)) (*client.Remote, *moody) {
	t.Helper()
	m := &moody{answer: answer}
	s := httptest.NewServer(m)
	t.Cleanup(s.Close)
	c, err := client.HTTP(s.URL, "hy_key")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c, m
}

func problem(w http.ResponseWriter, status int, kind string, errs string) {
	w.Header().Set("Content-Type", "application/problem+json")
	w.WriteHeader(status)
	fmt.Fprintf(w, `{"type":"/docs#problem-%s","title":"x","status":%d,"errors":%s}`, kind, status, errs)
}

const someID = "0198c0de-0000-7000-8000-000000000001"

func TestEveryTryHasTheSameKey(t *testing.T) {
	t.Parallel()
	c, server := remote(t, func(n int, w http.ResponseWriter, r *http.Request) {
		switch n {
		case 1: // the answer is lost
			conn, _, _ := w.(http.Hijacker).Hijack()
			conn.Close()
		case 2:
			problem(w, 503, "in-doubt", "[]")
		case 3:
			w.Header().Set("Retry-After", "1")
			problem(w, 429, "too-many", "[]")
		default:
			w.WriteHeader(202)
			fmt.Fprintf(w, `{"id":"%s","duplicate":true,"durability":"postgres"}`, someID)
		}
		if got := r.Header.Get("Authorization"); got != "Bearer hy_key" {
			t.Errorf("Authorization %q", got)
		}
	})
	start := time.Now()
	r, err := c.Enqueue(t.Context(), template("oA", ""))
	if err != nil || r.ID.String() != someID || r.Durability != client.InPostgres {
		t.Fatalf("%+v, %v", r, err)
	}
	if took := time.Since(start); took < time.Second {
		t.Errorf("Retry-After was not heeded: %v", took)
	}
	for _, body := range server.bodies {
		if body != server.bodies[0] || !strings.Contains(body, `"key":"auto-`) {
			t.Errorf("sent %s and %s", server.bodies[0], body)
		}
	}
}

func TestProblemsAreOurErrors(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		status     int
		kind, errs string
		want       error
	}{
		{401, "no-key", "null", client.ErrForbidden},
		{403, "forbidden", "null", client.ErrForbidden},
		{404, "not-found", "null", client.ErrNotFound},
		{409, "conflict", `[{"path":"key","rule":"used before"}]`, client.ErrKeyConflict},
	} {
		remote, _ := remote(t, func(_ int, w http.ResponseWriter, _ *http.Request) { problem(w, c.status, c.kind, c.errs) })
		if _, err := remote.Enqueue(t.Context(), template("oA", "k")); !errors.Is(err, c.want) {
			t.Errorf("%d: got %v, want %v", c.status, err, c.want)
		}
	}
	remote, server := remote(t, func(_ int, w http.ResponseWriter, _ *http.Request) {
		problem(w, 400, "invalid", `[{"path":"to","rule":"odd","got":"1"}]`)
	})
	_, err := remote.Enqueue(t.Context(), template("oA", "k"))
	if invalid, ok := errors.AsType[message.Invalid](err); !ok || len(invalid) != 1 || invalid[0].Path != "to" {
		t.Errorf("got %v", err)
	}
	if _, err := remote.Enqueue(t.Context(), template("", "k")); err == nil || len(server.bodies) != 1 {
		t.Errorf("a bad message was sent: %v", err)
	}
}

func TestABatchGoesOnWhereItBrokeOff(t *testing.T) {
	t.Parallel()
	c, server := remote(t, func(n int, w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/x-ndjson")
		result := func(line int, rest string) { fmt.Fprintf(w, `{"line":%d,%s}`+"\n", line, rest) }
		accepted := `"status":202,"id":"` + someID + `"`
		switch n {
		case 1:
			result(1, accepted)
			result(2, `"status":400,"errors":[{"path":"to","rule":"odd"}]`)
			result(3, `"status":503`)
			fmt.Fprintln(w, `{"done":false,"lines":3,"accepted":1,"duplicates":0,"refused":1,"from_line":3}`)
		case 2:
			result(1, accepted+`,"duplicate":true`)
			w.(http.Flusher).Flush()
			conn, _, _ := w.(http.Hijacker).Hijack()
			conn.Close()
		default:
			result(1, accepted)
			fmt.Fprintln(w, `{"done":true,"lines":1,"accepted":1,"duplicates":0,"refused":0}`)
		}
	})
	batch := []message.Message{template("oA", "1"), template("oB", "2"), template("oC", "3"), template("oD", "4"), template("", "5")}
	receipts := c.EnqueueBatch(t.Context(), batch)
	for i, r := range receipts {
		if bad := r.Err != nil; bad != (i == 1 || i == 4) {
			t.Errorf("receipt %d: %+v", i, r)
		}
	}
	if !receipts[2].Duplicate || receipts[3].Duplicate {
		t.Errorf("receipts %+v", receipts)
	}
	var counts []int
	for _, body := range server.bodies {
		lines := bufio.NewScanner(strings.NewReader(body))
		n := 0
		for lines.Scan() {
			if !json.Valid(lines.Bytes()) {
				t.Errorf("a line that is no JSON: %s", lines.Text())
			}
			n++
		}
		counts = append(counts, n)
	}
	if fmt.Sprint(counts) != "[4 2 1]" {
		t.Errorf("sent %v lines", counts)
	}
}

func TestRemoteArguments(t *testing.T) {
	for _, bad := range [][2]string{{"hongyan.example.com", "k"}, {"ftp://x", "k"}, {"https://x?y=z", "k"}, {"https://x", ""}, {"https://x", "a b"}} {
		if _, err := client.HTTP(bad[0], bad[1]); err == nil {
			t.Errorf("%q and %q are taken", bad[0], bad[1])
		}
	}
}
