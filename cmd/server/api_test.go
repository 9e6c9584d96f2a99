package main

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hongyan-dispatch/hongyan/internal/devstack"
	"github.com/hongyan-dispatch/hongyan/internal/postgres"
	"github.com/hongyan-dispatch/hongyan/message"
)

const twoAccounts = `redis: {url: %q}
postgres: {url: %q}
server: {listen: "127.0.0.1:0"}
accounts:
  - {name: shop, appid: wx00000000000000c1, secret: 0123456789abcdef0123456789abcdef, type: service, base_url: "http://127.0.0.1:1", policy: {mass_approval: true}}
  - {name: news, appid: wx00000000000000c2, secret: 0123456789abcdef0123456789abcdef, type: service, base_url: "http://127.0.0.1:1"}
`

func startAPI(t *testing.T) *house {
	t.Helper()
	t.Parallel()
	redis, database := devstack.Redis(t), devstack.Postgres(t, postgres.Migrate)
	return startConfigured(t, redis, database, fmt.Sprintf(twoAccounts, redis, database))
}

// key makes a key by the command, and waits until the server knows it.
func (h *house) key(name string, scopes ...string) string {
	h.Helper()
	args := []string{"key", "create", name, "--config", h.file}
	for _, s := range scopes {
		args = append(args, "--scope", s)
	}
	key := strings.TrimSpace(h.command(exitDone, args...))
	h.eventually("server that knows the key", func() bool {
		status, _, _ := h.do(key, "GET", "/v1/messages", "", "")
		return status != http.StatusUnauthorized
	})
	return key
}

// command runs the program and returns what it wrote to stdout.
func (h *house) command(code int, args ...string) string {
	h.Helper()
	var stdout, stderr bytes.Buffer
	if got := run(h.Context(), args, &stdout, &stderr); got != code {
		h.Fatalf("%v ended with %d, want %d: %s", args, got, code, &stderr)
	}
	return stdout.String()
}

const (
	jsonType  = "application/json"
	linesType = "application/x-ndjson"
)

// do makes a request, and holds it and its answer against the contract.
func (h *house) do(key, method, path, kind, body string, more ...string) (status int, header http.Header, text string) {
	h.Helper()
	r, err := http.NewRequestWithContext(h.Context(), method, h.url+path, strings.NewReader(body))
	if err != nil {
		h.Fatal(err)
	}
	if key != "" {
		r.Header.Set("Authorization", "Bearer "+key)
	}
	if kind != "" {
		r.Header.Set("Content-Type", kind)
	}
	for i := 0; i < len(more); i += 2 {
		r.Header.Set(more[i], more[i+1])
	}
	res, err := http.DefaultClient.Do(r)
	if err != nil {
		h.Fatal(err)
	}
	defer res.Body.Close()
	got, err := io.ReadAll(res.Body)
	if err != nil {
		h.Fatal(err)
	}
	theContract().exchange(h, method, r.URL.Path, kind, []byte(body), res.StatusCode, res.Header, got)
	return res.StatusCode, res.Header, string(got)
}

// want makes a request whose answer must have a status, and reads the answer.
func (h *house) want(status int, key, method, path, body string, into any) {
	h.Helper()
	kind := ""
	if body != "" {
		kind = jsonType
	}
	got, _, text := h.do(key, method, path, kind, body)
	if got != status {
		h.Fatalf("%s %s answered %d, want %d: %s", method, path, got, status, text)
	}
	if into != nil {
		if err := json.Unmarshal([]byte(text), into); err != nil {
			h.Fatal(err)
		}
	}
}

func posted(account, to, key string) string {
	return fmt.Sprintf(`{"account":%q,"kind":"template","to":%q,"key":%q,"template":{"template_id":"order_paid","data":{"thing2":{"value":"云南小粒咖啡豆"}}}}`, account, to, key)
}

// customTo is a customer-service message.
func customTo(account, to string) string {
	return fmt.Sprintf(`{"account":%q,"kind":"custom","to":%q,"custom":{"msgtype":"text","text":{"content":"您好"}}}`, account, to)
}

const massAll = `{"account":"shop","kind":"mass","key":"tonight","mass":{"filter":{"is_to_all":true},"msgtype":"text","text":{"content":"今晚上新"}}}`

type problemAnswer struct {
	Type, Detail, Remedy string
	Status               int
	Errors               []message.FieldError
}

func TestEveryOperation(t *testing.T) {
	h := startAPI(t)
	all := h.key("all", "*:*:*")
	other := h.key("other", "shop:mass:admin")

	var first struct {
		ID        string
		Duplicate bool
	}
	h.want(202, all, "POST", "/v1/messages", posted("shop", "oA", "order-1"), &first)
	var again struct {
		ID        string
		Duplicate bool
	}
	h.want(202, all, "POST", "/v1/messages", posted("wx00000000000000c1", "oA", "order-1"), &again)
	if again.ID != first.ID || !again.Duplicate || first.Duplicate {
		t.Errorf("posted again: %+v, want %+v", again, first)
	}
	status, header, text := h.do(all, "POST", "/v1/messages", jsonType, posted("shop", "oB", ""), "Idempotency-Key", "order-2")
	if status != 202 || !strings.HasPrefix(header.Get("Location"), "/v1/messages/") {
		t.Errorf("%d %v %s", status, header, text)
	}
	var found struct{ ID, Key, Recipient, Status string }
	h.want(200, all, "GET", "/v1/messages?account=shop&key=order-2", "", &found)
	if found.Key != "order-2" || found.Recipient != "oB" || found.Status != "accepted" {
		t.Errorf("found %+v", found)
	}
	var explained struct{ Why string }
	h.want(200, all, "GET", "/v1/messages/"+first.ID+"?explain=true", "", &explained)
	if !strings.Contains(explained.Why, "no worker has ever run") {
		t.Errorf("why: %q", explained.Why)
	}
	h.want(200, all, "POST", "/v1/messages/"+first.ID+"/cancel", "", nil)
	h.want(200, all, "POST", "/v1/messages/"+first.ID+"/cancel", "", nil)
	var ended struct {
		Status   string
		Timeline []struct{ Status string }
	}
	h.want(200, all, "GET", "/v1/messages/"+first.ID, "", &ended)
	if ended.Status != "cancelled" || len(ended.Timeline) != 1 {
		t.Errorf("cancelled: %+v", ended)
	}
	if n := h.number(`UPDATE message SET state = 'sent' WHERE id = (SELECT id FROM message_body WHERE key = 'order-2') RETURNING 1`); n != 1 {
		t.Fatal("no such row")
	}
	h.want(409, all, "POST", "/v1/messages/"+found.ID+"/cancel", "", nil)

	var list struct{ Messages []struct{ ID string } }
	h.want(202, all, "POST", "/v1/messages", "["+posted("shop", "oC", "")+","+posted("news", "oD", "x")+"]", &list)
	if len(list.Messages) != 2 || list.Messages[0].ID == list.Messages[1].ID {
		t.Errorf("a list: %+v", list)
	}

	event := fmt.Sprintf(`{"account":"shop","openid":"oWRITES","type":"message","at":%q}`, time.Now().Format(time.RFC3339))
	h.want(200, all, "POST", "/v1/events", event, nil)
	h.want(200, all, "POST", "/v1/events", "["+event+","+event+"]", nil)
	if status, _, text := h.do(all, "POST", "/v1/events", linesType, event+"\n{}\n"); status != 200 || !strings.Contains(text, `"accepted":1,"duplicates":0,"refused":1`) {
		t.Errorf("events as lines: %d %s", status, text)
	}
	var window struct {
		State    string
		Triggers []struct{ Trigger string }
	}
	h.want(200, all, "GET", "/v1/accounts/shop/window/oWRITES", "", &window)
	if window.State != "open" || len(window.Triggers) != 1 {
		t.Errorf("window %+v", window)
	}
	h.want(200, all, "GET", "/v1/accounts/shop/quota", "", nil)
	h.want(200, all, "POST", "/v1/accounts/shop/gates/custom/close", `{"reason":"complaints"}`, nil)
	h.want(200, all, "POST", "/v1/accounts/shop/gates/all/close", "", nil)
	var gates struct {
		Gates []struct{ API, State, Detail string }
	}
	h.want(200, all, "GET", "/v1/accounts/shop/gates", "", &gates)
	if fmt.Sprint(gates.Gates) != "[{all closed by API} {custom closed complaints}]" {
		t.Errorf("gates %v", gates.Gates)
	}
	h.want(200, all, "POST", "/v1/accounts/shop/gates/all/open", "", nil)
	h.want(200, all, "POST", "/v1/accounts/shop/gates/custom/open", "", nil)

	var asked struct {
		ID     string `json:"approval_id"`
		Status string
	}
	h.want(202, all, "POST", "/v1/messages", massAll, &asked)
	h.want(200, all, "GET", "/v1/approvals/"+asked.ID, "", nil)
	h.want(403, all, "POST", "/v1/approvals/"+asked.ID+"/approve", "", nil)
	var approved struct {
		Status, AskedBy string
		DecidedBy       string `json:"decided_by"`
		Messages        []string
	}
	h.want(200, other, "POST", "/v1/approvals/"+asked.ID+"/approve", `{"note":"good"}`, &approved)
	if approved.Status != "approved" || approved.DecidedBy != "other" || len(approved.Messages) != 1 {
		t.Errorf("approved: %+v", approved)
	}
	h.want(200, other, "POST", "/v1/approvals/"+asked.ID+"/approve", "", nil) // the answer may have been lost
	h.want(409, h.key("third", "shop:mass:admin"), "POST", "/v1/approvals/"+asked.ID+"/approve", "", nil)
	h.want(200, all, "GET", "/v1/messages/"+approved.Messages[0], "", nil)
	h.want(202, all, "POST", "/v1/messages", strings.Replace(massAll, "tonight", "tomorrow", 1), &asked)
	var waiting struct{ Approvals []struct{ ID string } }
	h.want(200, all, "GET", "/v1/accounts/shop/approvals", "", &waiting)
	if len(waiting.Approvals) != 1 || waiting.Approvals[0].ID != asked.ID {
		t.Errorf("waiting: %+v", waiting)
	}
	h.want(200, all, "POST", "/v1/approvals/"+asked.ID+"/refuse", "", nil)
	h.want(409, other, "POST", "/v1/approvals/"+asked.ID+"/approve", "", nil)

	h.replay(all, `"statuses":["cancelled"]`)
	h.driveCampaigns(all)

	// A message whose key was taken meanwhile by another one cannot be approved, and can be refused.
	h.want(202, all, "POST", "/v1/messages", strings.Replace(massAll, "tonight", "clash", 1), &asked)
	h.want(202, all, "POST", "/v1/messages", posted("shop", "oA", "clash"), nil)
	h.want(409, other, "POST", "/v1/approvals/"+asked.ID+"/approve", "", nil)
	h.want(200, other, "POST", "/v1/approvals/"+asked.ID+"/refuse", "", nil)

	log := h.stderr.String()
	for _, secret := range []string{all, strings.Split(all, "_")[2], other, "oWRITES", "0123456789abcdef0123456789abcdef"} {
		if strings.Contains(log, secret) {
			t.Errorf("the log tells %s", secret)
		}
	}

	for _, o := range theContract().operations {
		driven := false
		theContract().mu.Lock()
		for _, success := range []string{" 200", " 201", " 202"} {
			driven = driven || theContract().driven[o.id+success]
		}
		theContract().mu.Unlock()
		if !driven {
			t.Errorf("%s was not driven", o.id)
		}
	}
	h.eventually("audit of it all", func() bool {
		return h.number(`SELECT count(DISTINCT action)::int FROM api_audit WHERE action IN
			('key create', 'enqueue', 'event', 'cancel', 'gate open', 'gate close', 'ask approval', 'approve', 'refuse')`) == 9
	})
}

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

func TestKeys(t *testing.T) {
	h := startAPI(t)
	var made struct{ ID, Key, State string }
	if err := json.Unmarshal([]byte(h.command(exitDone, "key", "create", "crm", "--scope", "wx00000000000000c1:*:enqueue", "--expires", "2s", "--json", "--config", h.file)), &made); err != nil {
		t.Fatal(err)
	}
	if !regexp.MustCompile(`^hy_[0-9a-f]{12}_[A-Za-z0-9_-]{43}$`).MatchString(made.Key) {
		t.Errorf("key %q", made.Key)
	}
	h.eventually("server that knows the key", func() bool {
		status, _, _ := h.do(made.Key, "POST", "/v1/messages", jsonType, posted("shop", "oA", "k"))
		return status == 202
	})
	h.eventually("key that is over", func() bool {
		status, _, _ := h.do(made.Key, "POST", "/v1/messages", jsonType, posted("shop", "oA", "k"))
		return status == 401
	})
	lasting := h.key("crm", "shop:*:enqueue")
	h.key("crm", "shop:*:enqueue") // the other one, while it is changed
	h.command(exitBadInput, "key", "create", "crm", "--scope", "shop:*:enqueue", "--config", h.file)
	if text := h.command(exitDone, "key", "list", "--config", h.file); strings.Count(text, "live") != 2 || strings.Contains(text, lasting) || strings.Contains(text, strings.Split(lasting, "_")[2]) {
		t.Errorf("list:\n%s", text)
	}
	h.command(exitDone, "key", "revoke", strings.Split(lasting, "_")[1], "--config", h.file)
	h.eventually("key that is revoked", func() bool {
		status, _, _ := h.do(lasting, "POST", "/v1/messages", jsonType, posted("shop", "oA", "k"))
		return status == 401
	})
	for _, bad := range [][]string{
		{"key", "create", "crm"},
		{"key", "create", "x y", "--scope", "shop:*:read"},
		{"key", "create", "crm", "--scope", "shop:read"},
		{"key", "create", "crm", "--scope", "shop:letter:read"},
		{"key", "create", "crm", "--scope", "strange:*:read"},
		{"key", "create", "crm", "--scope", "shop:*:read", "--expires", "-3d"},
		{"key", "revoke", "strange"},
	} {
		h.command(exitBadInput, append(bad, "--config", h.file)...)
	}
	for _, stranger := range []string{"", "hy", "hy_x_y", "hy_" + made.ID + "_" + strings.Repeat("A", 43), strings.ToUpper(lasting)} {
		status, header, _ := h.do(stranger, "GET", "/v1/accounts/shop/quota", "", "")
		if status != 401 || header.Get("WWW-Authenticate") == "" {
			t.Errorf("%q: %d", stranger, status)
		}
	}
	if log := h.stderr.String(); strings.Contains(log, strings.Split(lasting, "_")[2]) {
		t.Error("the log tells a key")
	}
}

func TestTheRateOfAKey(t *testing.T) {
	h := startAPI(t)
	key := strings.TrimSpace(h.command(exitDone, "key", "create", "slow", "--scope", "*:*:*", "--per-second", "0.01", "--config", h.file))
	h.eventually("server that knows the key", func() bool {
		status, _, _ := h.do(key, "GET", "/v1/accounts/shop/gates", "", "")
		return status == 200
	})
	var list strings.Builder
	for i := range 990 {
		list.WriteString("," + posted("shop", "oA", fmt.Sprint(i)))
	}
	h.want(202, key, "POST", "/v1/messages", "["+list.String()[1:]+"]", nil)
	status, header, text := h.do(key, "POST", "/v1/messages", jsonType, "["+list.String()[1:]+"]")
	if status != 429 || header.Get("Retry-After") == "" {
		t.Errorf("%d %v %s", status, header, text)
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

func TestThePageLoadsNothing(t *testing.T) {
	h := startAPI(t)
	for path, want := range map[string]string{"/docs": "<h1>Hongyan", "/docs/style.css": "body", "/openapi.json": `"openapi": "3.1.`} {
		res, err := http.Get(h.url + path)
		if err != nil {
			t.Fatal(err)
		}
		text, _ := io.ReadAll(res.Body)
		res.Body.Close()
		if policy := res.Header.Get("Content-Security-Policy"); res.StatusCode != 200 || !strings.Contains(string(text), want) || !strings.HasPrefix(policy, "default-src 'none'") {
			t.Errorf("%s: %d, %s", path, res.StatusCode, policy)
		}
		if path == "/docs" {
			for _, bad := range []string{"<script", "style=", "http://", "https://", "<style"} {
				if strings.Contains(string(text), bad) {
					t.Errorf("the page has %s", bad)
				}
			}
			for _, o := range theContract().operations {
				if !strings.Contains(string(text), `id="`+o.id+`"`) {
					t.Errorf("the page lacks %s", o.id)
				}
			}
		}
	}
	served, err := os.ReadFile(contractFile)
	if err != nil || len(served) == 0 {
		t.Fatal(err)
	}
	for method, path := range map[string]string{"DELETE": "/v1/messages", "GET": "/v1/nothing"} {
		if status, _, text := h.do("", method, path, "", ""); status != 405 && status != 404 {
			t.Errorf("%s %s: %d %s", method, path, status, text)
		}
	}
}
