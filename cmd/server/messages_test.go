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

// Whatever takes a small object takes it as strictly as a message, and does nothing of what it refuses.
func TestBadObjectsAreRefused(t *testing.T) {
	h := startAPI(t)
	key := h.key("all", "*:*:*")
	var campaign struct{ ID string }
	h.want(201, key, "POST", "/v1/campaigns", customCampaign, &campaign)
	var asked struct {
		ID string `json:"approval_id"`
	}
	h.want(202, key, "POST", "/v1/messages", massAll, &asked)
	for path, field := range map[string]string{ // of a string, but for the list of the last two
		"/v1/accounts/shop/gates/custom/close":           "reason",
		"/v1/approvals/" + asked.ID + "/refuse":          "note",
		"/v1/campaigns/" + campaign.ID + "/pause":        "reason",
		"/v1/campaigns/" + campaign.ID + "/cancel":       "reason",
		"/v1/campaigns/" + campaign.ID + "/retry-failed": "reasons",
		"/v1/campaigns/" + campaign.ID + "/check":        "test_to",
		"/v1/replay": "statuses",
	} {
		value := `"x"`
		if strings.HasSuffix(field, "s") || field == "test_to" {
			value = `["x"]`
		}
		for name, c := range map[string]struct{ body, path, rule string }{
			"no JSON":                  {"hello", "", "malformed JSON at byte 1"},
			"a body cut in the middle": {`{"` + field + `":`, "", "malformed JSON"},
			"something behind it":      {`{"` + field + `":` + value + `}x`, "", "malformed JSON"},
			"no object":                {`[]`, "", "want an object"},
			"nothing":                  {`null`, "", "want an object"},
			"an unknown field":         {`{"colour":"red"}`, "colour", "unknown field; want "},
			"another case":             {`{"` + strings.ToUpper(field) + `":` + value + `}`, strings.ToUpper(field), "unknown field"},
			"a key twice":              {`{"` + field + `":` + value + `,"` + field + `":` + value + `}`, field, "duplicate key"},
			"a wrong type":             {`{"` + field + `":7}`, field, "want a "},
			"null":                     {`{"` + field + `":null}`, field, "want a "},
			"invalid UTF-8":            {`{"` + field + `":` + strings.Replace(value, "x", "\xff", 1) + `}`, field, "UTF-8"},
			"half a character":         {`{"` + field + `":` + strings.Replace(value, "x", `\ud800`, 1) + `}`, field, "surrogate"},
			"a character of none":      {`{"` + field + `":` + strings.Replace(value, "x", `\u0000`, 1) + `}`, field, "U+0000"},
		} {
			status, _, text := h.do(key, "POST", path, jsonType, c.body)
			var p problemAnswer
			if err := json.Unmarshal([]byte(text), &p); err != nil || status != 400 || len(p.Errors) == 0 {
				t.Errorf("%s, %s: %d %s", path, name, status, text)
				continue
			}
			if got, _, _ := strings.Cut(p.Errors[len(p.Errors)-1].Path, "["); got != c.path || !strings.Contains(p.Errors[len(p.Errors)-1].Rule, c.rule) {
				t.Errorf("%s, %s: %s, want %s: %s", path, name, text, c.path, c.rule)
			}
		}
	}
	for name, c := range map[string]struct {
		body, path, rule string
	}{
		"a time that is none":     {`{"until":"tomorrow"}`, "until", "RFC 3339"},
		"a number for a time":     {`{"until":1764550000}`, "until", "want a string"},
		"a time long ago":         {`{"until":"1970-01-01T00:00:00Z"}`, "until", "in the future"},
		"a time of no year":       {`{"until":"0001-01-01T00:00:00Z"}`, "until", "RFC 3339"},
		"a time that never comes": {`{"until":"9999-12-31T23:59:59Z"}`, "until", "before the year 9999"},
	} {
		var p problemAnswer
		h.want(400, key, "POST", "/v1/accounts/shop/gates/custom/close", c.body, &p)
		if len(p.Errors) != 1 || p.Errors[0].Path != c.path || !strings.Contains(p.Errors[0].Rule, c.rule) {
			t.Errorf("%s: %+v", name, p)
		}
	}
	if n := h.number("SELECT count(*)::int FROM gate WHERE state <> 'open'"); n != 0 {
		t.Errorf("%d gates are shut", n)
	}
	if n := h.number("SELECT count(*)::int FROM api_audit WHERE action NOT IN ('key create', 'campaign create', 'ask approval')"); n != 0 {
		t.Errorf("%d doings are in the audit log", n)
	}
}

// What is wrong with a query, a header or a method is said, too.
func TestBadRequestsAreToldWhatIsWrong(t *testing.T) {
	h := startAPI(t)
	key := h.key("all", "*:*:*")
	for name, c := range map[string]struct {
		method, path, kind, body string
		headers                  []string
		status                   int
		want                     string
	}{
		"a semicolon":         {"GET", "/v1/messages?account=shop&key=a;b", "", "", nil, 400, "the query cannot be read"},
		"a key of no text":    {"GET", "/v1/messages?account=shop&key=%FF", "", "", nil, 400, "key: want text in UTF-8"},
		"a name with a null":  {"GET", "/v1/campaigns?name=%00", "", "", nil, 400, "name: want text in UTF-8"},
		"a name of no text":   {"GET", "/v1/campaigns?name=%FF", "", "", nil, 400, "name: want text in UTF-8"},
		"lines packed by br":  {"POST", "/v1/messages", linesType, "{}", []string{"Content-Encoding", "br"}, 415, "gzip"},
		"events packed by br": {"POST", "/v1/events", linesType, "{}", []string{"Content-Encoding", "br"}, 415, "gzip"},
		"two of them":         {"POST", "/v1/messages", linesType, "{}", []string{"Content-Encoding", "gzip, gzip"}, 415, "gzip"},
		"a packed message":    {"POST", "/v1/messages", jsonType, "{}", []string{"Content-Encoding", "gzip"}, 415, "JSON Lines may be packed"},
		"a wrong method":      {"DELETE", "/v1/messages", "", "", nil, 405, "use GET or HEAD or POST"},
		"another one":         {"GET", "/v1/replay", "", "", nil, 405, "use POST"},
		"until before since":  {"POST", "/v1/replay", jsonType, `{"statuses":["failed"],"since":"2026-11-28T00:00:00Z","until":"2026-11-27T00:00:00Z"}`, nil, 400, "until: want a time after since"},
	} {
		status, header, text := h.do(key, c.method, c.path, c.kind, c.body, c.headers...)
		if status != c.status || !strings.Contains(text, c.want) || header.Get("Content-Type") != "application/problem+json" {
			t.Errorf("%s: %d %s, want %d %s", name, status, text, c.status, c.want)
		}
		if want := map[string]string{"/v1/messages": "GET, HEAD, POST", "/v1/replay": "POST"}[c.path]; status == 405 && header.Get("Allow") != want {
			t.Errorf("%s: Allow is %q, want %q", name, header.Get("Allow"), want)
		}
	}
	r, err := http.NewRequestWithContext(t.Context(), "POST", h.url+"/v1/messages", strings.NewReader(posted("news", "oA", "")))
	if err != nil {
		t.Fatal(err)
	}
	r.Header = http.Header{"Authorization": {"Bearer " + key}, "Content-Type": {jsonType}, "Idempotency-Key": {"one", "two"}}
	res, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if text, _ := io.ReadAll(res.Body); res.StatusCode != 400 || !bytes.Contains(text, []byte("more than once")) {
		t.Errorf("two keys in the header: %d %s", res.StatusCode, text)
	}
	if n := h.number("SELECT count(*)::int FROM message"); n != 0 {
		t.Errorf("%d messages were accepted", n)
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
