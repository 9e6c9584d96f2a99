package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
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
	if ended.Status != "cancelled" || len(ended.Timeline) != 2 {
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
	for _, secret := range []string{all, strings.SplitN(all, "_", 3)[2], other, "oWRITES", "0123456789abcdef0123456789abcdef"} {
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
