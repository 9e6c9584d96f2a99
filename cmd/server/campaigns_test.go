package main

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"

	"github.com/hongyan-dispatch/hongyan/internal/campaign"
	"github.com/hongyan-dispatch/hongyan/message"
)

const (
	csvType        = "text/csv"
	yamlType       = "application/yaml"
	customCampaign = `{"name":"greeting","account":"shop","kind":"custom","custom":{"msgtype":"text","text":{"content":"您好"}}}`
	saleCampaign   = `name: sale
account: shop
kind: template
template: {template_id: order_paid, data: {thing2: {value: "{{.name}}，您好"}}}
`
)

// driveCampaigns makes each operation of campaigns succeed, without a worker.
func (h *house) driveCampaigns(key string) {
	h.Helper()
	var made struct {
		ID, State string
		Duplicate bool
	}
	create := func(status int) {
		h.Helper()
		got, header, text := h.do(key, "POST", "/v1/campaigns", yamlType, saleCampaign)
		if got != status || !strings.HasPrefix(header.Get("Location"), "/v1/campaigns/") {
			h.Fatalf("create: %d %s", got, text)
		}
		h.read(text, &made)
	}
	create(201)
	id := made.ID
	create(200) // whoever lost the answer asks again
	if made.ID != id || !made.Duplicate || made.State != "draft" {
		h.Errorf("created again: %+v", made)
	}
	at := "/v1/campaigns/" + id
	h.want(409, key, "POST", at+"/start", "", nil)
	h.want(409, key, "POST", at+"/audience/rollback", "", nil)
	var imported struct {
		Recipients, Duplicates, Refused int
		State, Source                   string
		Rejects                         []struct {
			Line   int
			Reason string
		}
	}
	status, _, text := h.do(key, "POST", at+"/audience?name=people.csv", csvType, "openid,name\noA,甲\noB,乙\n?,丙\noA,丁\n")
	if status != 200 {
		h.Fatalf("import: %d %s", status, text)
	}
	h.read(text, &imported)
	if imported.Recipients != 2 || imported.Duplicates != 1 || imported.Refused != 1 || imported.State != "ready" || imported.Source != "file:people.csv" ||
		len(imported.Rejects) != 1 || imported.Rejects[0].Line != 4 {
		h.Errorf("imported %+v", imported)
	}
	if status, _, text := h.do(key, "POST", at+"/audience?name=people.csv", csvType, "openid,name\noA,甲\n"); status != 409 || !strings.Contains(text, "restart=true") {
		h.Errorf("imported again: %d %s", status, text)
	}
	var checked struct {
		Fits          bool
		Good          int
		Samples       []struct{ OpenID string }
		Notes         []string
		Tests         []struct{ ID string }
		ForecastGiven any `json:"forecast"`
	}
	h.want(200, key, "POST", at+"/check", `{"samples":1,"test_to":["oTESTER"]}`, &checked)
	if !checked.Fits || checked.Good != 2 || len(checked.Samples) != 1 || len(checked.Tests) != 1 || checked.Tests[0].ID == "" || len(checked.Notes) != 1 || checked.ForecastGiven == nil {
		h.Errorf("checked %+v", checked)
	}
	var list struct{ Campaigns []struct{ ID, Name string } }
	h.want(200, key, "GET", "/v1/campaigns?account=shop&state=draft,running&name=sale&limit=1", "", &list)
	if len(list.Campaigns) != 1 || list.Campaigns[0].ID != id {
		h.Errorf("list %+v", list)
	}
	h.want(200, key, "GET", "/v1/campaigns?before="+id, "", &list)
	if len(list.Campaigns) != 0 {
		h.Errorf("behind the oldest: %+v", list)
	}
	h.want(200, key, "POST", at+"/start", "", nil)
	h.want(409, key, "POST", at+"/start", "", nil)
	h.want(200, key, "POST", at+"/pause", `{"reason":"the price is wrong"}`, nil)
	var shown struct {
		State, Reason string
		Total         int
		Audience      struct{ Recipients int }
	}
	h.want(200, key, "GET", at, "", &shown)
	if shown.State != "paused" || shown.Reason != "the price is wrong" || shown.Total != 2 || shown.Audience.Recipients != 2 {
		h.Errorf("shown %+v", shown)
	}
	h.want(200, key, "POST", at+"/resume", "", nil)
	if status, header, text := h.do(key, "GET", at+"/outcomes", "", ""); status != 200 || !strings.HasPrefix(header.Get("Content-Type"), csvType) || !strings.HasPrefix(text, "firing,n,openid,") {
		h.Errorf("outcomes: %d %s", status, text)
	}
	h.want(409, key, "POST", at+"/retry-failed", "", nil)
	h.fails(id, 2)
	h.number(`UPDATE firing SET ended_at = now() WHERE campaign = $1 RETURNING 1`, id)
	h.want(409, key, "POST", at+"/retry-failed", `{"dry_run":true,"reasons":["retries_exhausted"]}`, nil)
	var retried struct {
		Recipients int
		Started    bool
	}
	h.want(200, key, "POST", at+"/retry-failed", `{"dry_run":true,"reasons":["refused_recipient"]}`, &retried)
	if retried.Recipients != 1 || retried.Started {
		h.Errorf("counted %+v", retried)
	}
	h.number(`UPDATE firing SET ended_at = NULL WHERE campaign = $1 RETURNING 1`, id)
	h.want(200, key, "POST", at+"/cancel", "", nil)
	h.rollBack(key)
	for _, action := range []string{"create", "import", "test", "start", "pause", "resume", "cancel", "rollback"} {
		if n := h.number(`SELECT count(*)::int FROM api_audit WHERE action = $1`, "campaign "+action); n == 0 {
			h.Errorf("the audit log does not tell of campaign %s", action)
		}
	}
}

// fails settles the message to a recipient of the campaign's firing as a worker does whom WeChat refuses.
func (h *house) fails(id string, n int32) {
	h.Helper()
	var firing int32
	var start time.Time
	if err := h.db.QueryRow(h.Context(), `SELECT id, started_at FROM firing WHERE campaign = $1`, id).Scan(&firing, &start); err != nil {
		h.Fatal(err)
	}
	_, err := h.db.Exec(h.Context(), `
		INSERT INTO message (id, parcel, msgid, finished_at, account, kind, lane, state, reason, claim, pod, errcode, firing, n, attempt, doubt)
		SELECT $1, '00000000-0000-0000-0000-000000000000', 0, now(), account, 'template', 'bulk', 'failed', 'refused_recipient', 1, 0, 43004, $2, $3, 1, false
		FROM campaign WHERE id = $4`, [16]byte(campaign.MessageID(start, firing, n)), firing, n, id)
	if err != nil {
		h.Fatal(err)
	}
}

// draft makes a campaign, and returns its path.
func (h *house) draft(key, name string) string {
	h.Helper()
	var made struct{ ID string }
	h.want(201, key, "POST", "/v1/campaigns", strings.Replace(customCampaign, "greeting", name, 1), &made)
	return "/v1/campaigns/" + made.ID
}

// ready makes a campaign that may start.
func (h *house) ready(key, name string) string {
	h.Helper()
	at := h.draft(key, name)
	if status, _, text := h.do(key, "POST", at+"/audience", csvType, "openid\noA\n"); status != 200 {
		h.Fatalf("import: %d %s", status, text)
	}
	return at
}

// breaksOff leaves a campaign with an import that is not whole.
func (h *house) breaksOff(id string) {
	h.Helper()
	if n := h.number(`WITH a AS (INSERT INTO audience (campaign, source, columns, state, total, lines) VALUES ($1, 'file:upload', '{}', 'importing', 1, 2) RETURNING id)
		INSERT INTO recipient (audience, n, openid, vars) SELECT id, 1, 'oA', '{}' FROM a RETURNING 1`, id); n != 1 {
		h.Fatal("no import was begun")
	}
}

// rollBack breaks an import off, and rolls it back.
func (h *house) rollBack(key string) {
	h.Helper()
	var made struct{ ID string }
	h.want(201, key, "POST", "/v1/campaigns", customCampaign, &made)
	at := "/v1/campaigns/" + made.ID
	h.breaksOff(made.ID)
	var gone struct {
		RolledBack int `json:"rolled_back"`
	}
	h.want(409, key, "POST", at+"/start", "", nil)
	h.want(200, key, "POST", at+"/audience/rollback", "", &gone)
	if n := h.number(`SELECT count(*)::int FROM recipient r JOIN audience a ON a.id = r.audience WHERE a.campaign = $1`, made.ID); n != 0 || gone.RolledBack != 1 {
		h.Errorf("%d recipients are left, %d are said to be gone", n, gone.RolledBack)
	}
}

func TestBadCampaignsAreRefusedWhole(t *testing.T) {
	h := startAPI(t)
	key := h.key("shop", "shop:*:enqueue", "shop:*:read")
	custom := h.key("custom", "shop:custom:enqueue")
	for name, c := range map[string]struct {
		key, kind, body string
		status          int
		path, rule      string
	}{
		"no spec":            {key, jsonType, "", 400, "", ""},
		"no YAML":            {key, yamlType, "a: [", 400, "", ""},
		"an unknown key":     {key, yamlType, saleCampaign + "colour: red\n", 400, "colour", "(line 5)"},
		"a wrong number":     {key, jsonType, strings.Replace(customCampaign, `"kind"`, `"pace":{"per_second":"fast"},"kind"`, 1), 400, "pace.per_second", ""},
		"an unknown kind":    {key, jsonType, strings.Replace(customCampaign, `"kind":"custom"`, `"kind":"telegram"`, 1), 400, "kind", ""},
		"invalid UTF-8":      {key, jsonType, strings.Replace(customCampaign, "您", "\xff", 1), 400, "custom.text.content", "UTF-8"},
		"a number as a name": {key, jsonType, strings.Replace(customCampaign, `"name":"greeting"`, `"name":7`, 1), 400, "name", "want a string"},
		"two mistakes":       {key, yamlType, "name: x\nkind: template\npace: {per_second: -1}\n", 400, "template", "required"},
		"over 1 MiB":         {key, jsonType, `{"name":"` + strings.Repeat("x", 1<<20) + `"}`, 413, "", ""},
		"another type":       {key, csvType, saleCampaign, 415, "", ""},
		"a foreign account":  {key, jsonType, strings.Replace(customCampaign, "shop", "news", 1), 403, "account", "this key is for"},
		"a strange account":  {key, jsonType, strings.Replace(customCampaign, "shop", "strange", 1), 403, "account", "this key is for"},
		"a kind of no scope": {custom, yamlType, saleCampaign, 403, "kind", "may not enqueue template"},
		"a fallback of no scope": {
			custom, jsonType, strings.Replace(customCampaign, `"kind"`, `"fallback":{"kind":"template","template":{"template_id":"t","data":{"thing1":{"value":"x"}}}},"kind"`, 1),
			403, "fallback.kind", "may not enqueue template",
		},
		"a query without admin": {key, yamlType, saleCampaign + "audience: {sql: \"SELECT openid, name FROM secrets\"}\n", 403, "audience.sql", "admin"},
	} {
		status, _, text := h.do(c.key, "POST", "/v1/campaigns", c.kind, c.body)
		var p problemAnswer
		h.read(text, &p)
		if status != c.status || p.Detail == "" {
			t.Errorf("%s: %d %s, want %d", name, status, text, c.status)
		}
		if c.path != "" && (len(p.Errors) == 0 || p.Errors[0].Path != c.path || !strings.Contains(p.Errors[0].Rule, c.rule)) {
			t.Errorf("%s: %s, want %s: %s", name, text, c.path, c.rule)
		}
	}
	if n := h.number("SELECT count(*)::int FROM campaign"); n != 0 {
		t.Errorf("%d campaigns were written", n)
	}

	var made struct{ ID string }
	h.want(201, key, "POST", "/v1/campaigns", customCampaign, &made)
	var p problemAnswer
	h.want(400, key, "POST", "/v1/campaigns", strings.Replace(customCampaign, "您好", "再见", 1), &p) // another spec of that name
	if len(p.Errors) != 1 || p.Errors[0].Path != "name" {
		t.Errorf("%+v", p)
	}
	at := "/v1/campaigns/" + made.ID
	for name, c := range map[string]struct {
		method, path, kind, body string
		status                   int
	}{
		"no audience":              {"POST", at + "/audience", csvType, "", 400},
		"no openid":                {"POST", at + "/audience", csvType, "name\n甲\n", 400},
		"a form":                   {"POST", at + "/audience", "multipart/form-data; boundary=x", "--x--", 415},
		"a bad format":             {"POST", at + "/audience?format=doc", csvType, "openid\noA\n", 400},
		"resume and restart":       {"POST", at + "/audience?resume=true&restart=true", csvType, "openid\noA\n", 400},
		"an old Excel file":        {"POST", at + "/audience", "application/octet-stream", "\xd0\xcf\x11\xe0", 400},
		"no Excel file":            {"POST", at + "/audience?format=xlsx", csvType, "openid\noA\n", 400},
		"a campaign of nobody":     {"GET", "/v1/campaigns/" + message.NewID(time.Now()).String(), "", "", 404},
		"no id":                    {"GET", "/v1/campaigns/greeting", "", "", 400},
		"too many samples":         {"POST", at + "/check", jsonType, `{"samples":1000}`, 400},
		"a tester of no openid":    {"POST", at + "/check", jsonType, `{"test_to":["o?"]}`, 400},
		"an unknown field":         {"POST", at + "/pause", jsonType, `{"why":"x"}`, 400},
		"an unknown reason":        {"POST", at + "/retry-failed", jsonType, `{"reasons":["bored"]}`, 403},
		"a state that is none":     {"GET", "/v1/campaigns?state=sleeping", "", "", 400},
		"a limit of none":          {"GET", "/v1/campaigns?limit=0", "", "", 400},
		"a foreign account's list": {"GET", "/v1/campaigns?account=news", "", "", 404},
	} {
		if status, _, text := h.do(key, c.method, c.path, c.kind, c.body); status != c.status {
			t.Errorf("%s: %d %s, want %d", name, status, text, c.status)
		}
	}
	if n := h.number("SELECT count(*)::int FROM recipient"); n != 0 {
		t.Errorf("%d recipients", n)
	}

	// A packed file that is cut off would only end there again: it is not to be resumed.
	var whole bytes.Buffer
	z := gzip.NewWriter(&whole)
	for i := range 20_000 {
		fmt.Fprintf(z, "%s\n", map[bool]string{true: "openid", false: fmt.Sprintf("oA%d", i*i)}[i == 0])
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	status, _, text := h.do(key, "POST", at+"/audience?name=users.csv.gz", csvType, whole.String()[:whole.Len()/2])
	p = problemAnswer{}
	if h.read(text, &p); status != 400 {
		t.Errorf("%d %s, want 400", status, text)
	}
	if !strings.Contains(p.Detail, "ends in its middle") || !strings.Contains(p.Detail, "are committed") || !strings.Contains(p.Remedy, "restart=true") {
		t.Errorf("%+v", p)
	}
}

// packs are the ways in which an audience is packed.
var packs = map[string]func(io.Writer) io.WriteCloser{
	"plain": func(w io.Writer) io.WriteCloser { return nopCloser{w} },
	"gzip":  func(w io.Writer) io.WriteCloser { return gzip.NewWriter(w) },
	"zstd": func(w io.Writer) io.WriteCloser {
		z, err := zstd.NewWriter(w)
		if err != nil {
			panic(err)
		}
		return z
	},
}

// A mass campaign does not pass by the second key that the account's mass sends want.
func TestAMassCampaignTakesASecondKey(t *testing.T) {
	h := startAPI(t)
	author, boss, clerk := h.key("author", "shop:mass:*"), h.key("boss", "shop:mass:*"), h.key("clerk", "shop:mass:enqueue")
	helper := h.key("helper", "shop:mass:*")
	var made struct{ ID string }
	h.want(201, author, "POST", "/v1/campaigns", `{"name":"news","account":"shop","kind":"mass","mass":{"msgtype":"text","text":{"content":"今晚上新"}}}`, &made)
	at := "/v1/campaigns/" + made.ID
	if status, _, text := h.do(helper, "POST", at+"/audience", csvType, "openid\noA\noB\n"); status != 200 {
		t.Fatalf("%d %s", status, text)
	}
	for name, key := range map[string]string{"who created it": author, "who imported its audience": helper, "who may not decide": clerk} {
		if status, _, text := h.do(key, "POST", at+"/start", "", ""); status != 403 {
			t.Errorf("%s: %d %s", name, status, text)
		}
	}
	h.want(200, boss, "POST", at+"/start", "", nil)
}

const simulated = `redis: {url: %q}
postgres: {url: %q}
server: {listen: "127.0.0.1:0"}
worker: {senders: 16}
accounts:
  - name: shop
    appid: wx00000000000000f1
    secret: canary-secret-of-the-shop-0000001
    type: service
    base_url: %q
    callback: {token: a-token-of-the-simulator, aes_key: abcdefghijklmnopqrstuvwxyz0123456789ABCDEFG}
`
