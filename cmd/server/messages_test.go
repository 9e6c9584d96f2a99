package main

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/hongyan-dispatch/hongyan/internal/devstack"
	"github.com/hongyan-dispatch/hongyan/internal/postgres"
	"github.com/hongyan-dispatch/hongyan/message"
)

func TestBadMessagesAreRefusedWhole(t *testing.T) {
	h := startAPI(t)
	key := h.key("all", "*:*:*")
	good := posted("news", "oA", "")
	long := `{"account":"news","kind":"template","to":"oA","template":{"template_id":"` + strings.Repeat("x", message.MaxBytes) + `"}}`
	for name, c := range map[string]struct {
		kind, body string
		status     int
		path, rule string // of the first finding
	}{
		"no JSON":                    {jsonType, "hello", 400, "", "malformed"},
		"nothing":                    {jsonType, "", 400, "", ""},
		"an unknown field":           {jsonType, strings.Replace(good, `"to"`, `"too":1,"to"`, 1), 400, "too", "unknown field"},
		"a key twice":                {jsonType, strings.Replace(good, `"to"`, `"kind":"template","to"`, 1), 400, "kind", "duplicate key"},
		"a key twice in the body":    {jsonType, strings.Replace(good, `"data"`, `"data":{},"data"`, 1), 400, "template.data", ""},
		"invalid UTF-8":              {jsonType, strings.Replace(good, "云", "\xff", 1), 400, "template.data.thing2.value", "UTF-8"},
		"a wrong type":               {jsonType, strings.Replace(good, `"oA"`, "7", 1), 400, "to", "want an openid"},
		"a body cut in the middle":   {jsonType, good[:60], 400, "", ""},
		"a list cut in the middle":   {jsonType, "[" + good + ",", 400, "", "ends too early"},
		"something behind it":        {jsonType, good + "x", 400, "", "something follows"},
		"something behind the list":  {jsonType, "[" + good + "]x", 400, "", "something follows"},
		"an empty list":              {jsonType, "[]", 400, "", "must not be empty"},
		"a list of nothing":          {jsonType, "[,]", 400, "[0]", ""},
		"a bad one in a list":        {jsonType, "[" + good + "," + strings.Replace(good, `"oA"`, `""`, 1) + "]", 400, "[1].to", "required"},
		"a time that is absurd":      {jsonType, strings.Replace(good, `"to"`, `"not_before":"9999-12-31T23:59:59Z","to"`, 1), 400, "not_before", "at most 30 days ahead"},
		"a time of another calendar": {jsonType, strings.Replace(good, `"to"`, `"not_before":"2026-02-30T00:00:00Z","to"`, 1), 400, "not_before", "want RFC 3339"},
		"a message over 64 KiB":      {jsonType, long, 413, "", ""},
		"a list over 8 MiB":          {jsonType, "[" + strings.Repeat(" ", 9<<20) + "]", 413, "", ""},
		"too long a list":            {jsonType, "[" + strings.Repeat(good+",", 1000) + good + "]", 400, "", "at most 1000"},
		"another type":               {"application/x-www-form-urlencoded", good, 415, "", ""},
		"a foreign account":          {jsonType, strings.Replace(good, "news", "strange", 1), 403, "account", "this key is for"},
		"lines of nothing":           {linesType, "\n\n", 400, "", "must not be empty"},
	} {
		status, _, text := h.do(key, "POST", "/v1/messages", c.kind, c.body)
		var p problemAnswer
		if err := json.Unmarshal([]byte(text), &p); err != nil || status != c.status || p.Status != status || p.Detail == "" {
			t.Errorf("%s: %d %s, want %d", name, status, text, c.status)
			continue
		}
		if c.path != "" || c.rule != "" {
			if len(p.Errors) == 0 || p.Errors[0].Path != c.path || !strings.Contains(p.Errors[0].Rule, c.rule) {
				t.Errorf("%s: %s, want %s: %s", name, text, c.path, c.rule)
			}
		}
	}
	h.want(202, key, "POST", "/v1/messages", posted("news", "oA", "k"), nil)
	var p problemAnswer
	h.want(409, key, "POST", "/v1/messages", posted("news", "oB", "k"), &p)
	h.want(409, key, "POST", "/v1/messages", "["+good+","+posted("news", "oB", "k")+"]", &p)
	if len(p.Errors) != 1 || p.Errors[0].Path != "[1].key" {
		t.Errorf("conflict in a list: %+v", p)
	}
	if status, _, text := h.do(key, "POST", "/v1/messages", jsonType, posted("news", "oA", "k"), "Idempotency-Key", "other"); status != 400 {
		t.Errorf("two keys: %d %s", status, text)
	}
	if n := h.number("SELECT count(*)::int FROM message"); n != 1 {
		t.Errorf("%d messages were accepted, want 1", n)
	}
}

// A body whose connection ends before it: nothing of it is accepted.
func TestABodyThatBreaksOff(t *testing.T) {
	h := startAPI(t)
	key := h.key("all", "*:*:*")
	body := "[" + posted("news", "oA", "") + "]"
	conn, err := net.Dial("tcp", strings.TrimPrefix(h.url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	fmt.Fprintf(conn, "POST /v1/messages HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", key, len(body)+10, body)
	if err := conn.(*net.TCPConn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	answer, _ := io.ReadAll(conn)
	if !bytes.HasPrefix(answer, []byte("HTTP/1.1 400 ")) || !bytes.Contains(answer, []byte("it broke off after")) {
		t.Errorf("got %s", answer)
	}
	if n := h.number("SELECT count(*)::int FROM message"); n != 0 {
		t.Errorf("%d messages", n)
	}
}

func TestLines(t *testing.T) {
	h := startAPI(t)
	key := h.key("shop", "shop:*:enqueue", "shop:*:read")
	var body strings.Builder
	const n = 5000
	for i := range n {
		body.WriteString(posted("shop", fmt.Sprintf("oL%d", i), fmt.Sprintf("l%d", i)) + "\n")
	}
	body.WriteString("\n{\"bad\":1}\n" + posted("news", "oA", "") + "\n" + posted("shop", "oL1", "l0") + "\n" + massAll)
	var packed bytes.Buffer
	z := gzip.NewWriter(&packed)
	_, _ = io.WriteString(z, body.String())
	_ = z.Close()
	for round, text := range []string{body.String(), packed.String()} {
		status, header, got := h.do(key, "POST", "/v1/messages", linesType, text)
		if status != 200 || header.Get("Content-Type") != linesType {
			t.Fatalf("%d %s", status, got)
		}
		results := strings.Split(strings.TrimSpace(got), "\n")
		if len(results) != n+5 {
			t.Fatalf("%d results, want %d", len(results), n+5)
		}
		for i, want := range []string{`{"line":5002,"status":400,`, `{"line":5003,"status":403,`, `{"line":5004,"status":409,`, `{"line":5005,"status":400,`} {
			if !strings.HasPrefix(results[n+i], want) {
				t.Errorf("got %s, want %s", results[n+i], want)
			}
		}
		want := fmt.Sprintf(`{"done":true,"lines":%d,"accepted":%d,"duplicates":%d,"refused":4}`, n+4, n*(1-round), n*round)
		if results[n+4] != want {
			t.Errorf("got %s, want %s", results[n+4], want)
		}
	}
	if got := h.number("SELECT count(*)::int FROM message"); got != n {
		t.Errorf("%d messages, want %d", got, n)
	}
}

func TestManyPostsOfOneKeyAreOneMessage(t *testing.T) {
	h := startAPI(t)
	key := h.key("all", "*:*:*")
	ids := make(chan string, 100)
	var wg sync.WaitGroup
	for range 100 {
		wg.Go(func() {
			var a struct{ ID string }
			status, _, text := h.do(key, "POST", "/v1/messages", jsonType, posted("news", "oA", "same"))
			if status != 202 || json.Unmarshal([]byte(text), &a) != nil {
				t.Errorf("%d %s", status, text)
			}
			ids <- a.ID
		})
	}
	wg.Wait()
	close(ids)
	first := <-ids
	for id := range ids {
		if id != first {
			t.Errorf("ids %s and %s", first, id)
		}
	}
	if n := h.number("SELECT count(*)::int FROM message"); n != 1 {
		t.Errorf("%d messages", n)
	}
}

// What is over the backlog is told to come back when what waits has gone: depth ÷ rate.
func TestTooMuchWaits(t *testing.T) {
	t.Parallel()
	redis, database := devstack.Redis(t), devstack.Postgres(t, postgres.Migrate)
	text := strings.Replace(fmt.Sprintf(twoAccounts, redis, database), `"127.0.0.1:0"`, `"127.0.0.1:0", max_backlog: 500`, 1)
	h := startConfigured(t, redis, database, text)
	key := h.key("all", "*:*:*")
	var list strings.Builder
	for i := range 600 {
		list.WriteString("," + posted("shop", fmt.Sprint("oA", i), ""))
	}
	h.want(202, key, "POST", "/v1/messages", "["+list.String()[1:]+"]", nil)
	var header http.Header
	h.eventually("answer to wait", func() bool {
		status, got, _ := h.do(key, "POST", "/v1/messages", jsonType, strings.Replace(posted("shop", "oZ", "z"), `"to"`, `"lane":"bulk","to"`, 1))
		header = got
		return status == 429
	})
	if got := header.Get("Retry-After"); got != "7" && got != "6" { // 600 and what was posted meanwhile, at 100 a second
		t.Errorf("Retry-After: %s", got)
	}
	if status, _, got := h.do(key, "POST", "/v1/messages", linesType, strings.Replace(posted("shop", "oZ", "z2"), `"to"`, `"lane":"bulk","to"`, 1)); status != 429 {
		t.Errorf("lines: %d %s", status, got)
	}
	h.want(202, key, "POST", "/v1/messages", strings.Replace(posted("shop", "oZ", "z3"), `"to"`, `"lane":"urgent","to"`, 1), nil)
	h.want(202, key, "POST", "/v1/messages", customTo("shop", "oZ"), nil)
}

// With a store away nothing is accepted, and the answer says so; when it is back, the same request is.
func TestAStoreIsAway(t *testing.T) {
	t.Parallel()
	stack, err := devstack.Start(t.Context(), devstack.Options{Redis: true, Postgres: true, Private: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { stack.Close() })
	if err := postgres.Migrate(t.Context(), stack.DatabaseURL()); err != nil {
		t.Fatal(err)
	}
	h := startConfigured(t, stack.RedisURL(), stack.DatabaseURL(), fmt.Sprintf(twoAccounts, stack.RedisURL(), stack.DatabaseURL()))
	key := h.key("all", "*:*:*")
	check := func(store string, stop, start func() error) {
		t.Helper()
		if err := stop(); err != nil {
			t.Fatal(err)
		}
		body := posted("shop", "oA", "while "+store+" is away")
		for _, c := range [][2]string{{jsonType, body}, {jsonType, "[" + body + "," + posted("shop", "oB", "") + "]"}, {linesType, body + "\n"}} {
			status, header, text := h.do(key, "POST", "/v1/messages", c[0], c[1])
			if status != 503 || header.Get("Retry-After") == "" || !strings.Contains(text, "problem-unavailable") {
				t.Errorf("without %s: %d %s", store, status, text)
			}
		}
		if err := start(); err != nil {
			t.Fatal(err)
		}
		h.eventually("message that is accepted with "+store+" back", func() bool {
			status, _, text := h.do(key, "POST", "/v1/messages", jsonType, body)
			return status == 202 && strings.Contains(text, `"duplicate":false`)
		})
	}
	check("redis", stack.Redis().Kill, func() error { return stack.Redis().Restart(t.Context()) })
	check("postgres", stack.Postgres().Kill, func() error { return stack.Postgres().Restart(t.Context()) })
	if n := h.number("SELECT count(*)::int FROM message"); n != 2 {
		t.Errorf("%d messages, want 2", n)
	}
}
