package wechattest

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

// noon is a moment in the middle of a Beijing day.
var noon = time.Date(2026, 11, 22, 12, 0, 0, 0, Beijing)

const (
	appID  = "wx0000000000000001"
	secret = "0123456789abcdef0123456789abcdef"
	alice  = "oAlice"
	bob    = "oBob"
)

// bundle is a simulator with one service account, its clock frozen at noon.
type bundle struct {
	*testing.T
	sim  *Sim
	shop *Account
	from string // the caller's address
}

func shop() Settings {
	return Settings{
		AppID: appID, Secret: secret, AnyMedia: true,
		Templates: []Template{
			{ID: "paid", Title: "Order paid", Content: "Order {{character_string1.DATA}}\nItem {{thing2.DATA}}"},
			{ID: "free", Keys: []string{"first", "keyword1"}},
		},
	}
}

func setup(t *testing.T, change ...func(*Settings)) *bundle {
	t.Helper()
	t.Parallel()
	return newBundle(t, change...)
}

// newBundle is setup for a test that may not be parallel.
func newBundle(t *testing.T, change ...func(*Settings)) *bundle {
	t.Helper()
	set := shop()
	for _, f := range change {
		f(&set)
	}
	s := New(Options{Seed: 1})
	t.Cleanup(s.Close)
	s.Clock.Freeze(noon)
	b := &bundle{T: t, sim: s, from: "192.0.2.1:1234"}
	b.shop = s.MustAddAccount(set)
	b.shop.AddFollowers(alice, bob)
	return b
}

// reply is an answer of the API, whichever it was.
type reply struct {
	HTTP        int    `json:"-"`
	Raw         string `json:"-"`
	Errcode     int    `json:"errcode"`
	Errmsg      string `json:"errmsg"`
	MsgID       int64  `json:"msgid"`
	MassID      int64  `json:"msg_id"`
	DataID      int64  `json:"msg_data_id"`
	AccessToken string `json:"access_token"`
	ExpiresIn   int    `json:"expires_in"`
	Status      string `json:"msg_status"`
	Quota       struct {
		Limit  int64 `json:"daily_limit"`
		Used   int64 `json:"used"`
		Remain int64 `json:"remain"`
	} `json:"quota"`
}

func (b *bundle) request(method, target, body string) reply {
	b.Helper()
	r := httptest.NewRequest(method, target, strings.NewReader(body))
	r.RemoteAddr = b.from
	w := httptest.NewRecorder()
	b.sim.ServeHTTP(w, r)
	out := reply{HTTP: w.Code, Raw: w.Body.String()}
	if err := json.Unmarshal(w.Body.Bytes(), &out); err != nil && w.Code == http.StatusOK {
		b.Fatalf("%s: the answer is not JSON: %s", target, w.Body)
	}
	return out
}

// post calls an API with a good token.
func (b *bundle) post(path, body string) reply {
	b.Helper()
	return b.request("POST", path+"?access_token="+b.shop.Token(), body)
}

func (b *bundle) get(path string) reply {
	b.Helper()
	sep := "?"
	if strings.Contains(path, "?") {
		sep = "&"
	}
	return b.request("GET", path+sep+"access_token="+b.shop.Token(), "")
}

func (b *bundle) want(r reply, code int) {
	b.Helper()
	if r.Errcode != code {
		b.Errorf("got %s, want errcode %d", r.Raw, code)
	}
}

func (b *bundle) accepted(n int) {
	b.Helper()
	if got := len(b.sim.AllAccepts()); got != n {
		b.Errorf("the log holds %d sends, want %d", got, n)
	}
}

func template(to, id string) string {
	s := `{"touser":"` + to + `","template_id":"paid",`
	if id != "" {
		s += `"client_msg_id":"` + id + `",`
	}
	return s + `"data":{"character_string1":{"value":"A-1001"},"thing2":{"value":"绿茶两盒"}}}`
}

func textTo(to string) string {
	return `{"touser":"` + to + `","msgtype":"text","text":{"content":"您好"}}`
}

func TestOrderOfErrors(t *testing.T) {
	b := setup(t, func(s *Settings) { s.Limits = map[string]Limit{"template/send": {PerDay: 3}} })
	good := PathTemplate + "?access_token=" + b.shop.Token()
	b.want(b.request("POST", "/cgi-bin/message/template/sent", ""), badURL)
	b.want(b.request("GET", PathTemplate, ""), postNeeded)
	b.want(b.request("POST", PathTemplates, ""), getNeeded)
	b.want(b.request("POST", PathTemplate, "{"), tokenMissing)
	b.want(b.request("POST", PathTemplate+"?access_token=x", "{"), badToken)
	b.want(b.request("POST", PathTemplate+"?access_token=10_"+strings.Repeat("x", 130), "{"), badCredential)
	b.want(b.request("POST", good, ""), bodyEmpty)
	b.want(b.request("POST", good, "{"), notJSON)
	b.want(b.request("POST", good, `{"template_id":"none"}`), openIDMissing)
	b.want(b.request("POST", good, "{"), dayQuotaReached) // before the body is read
	b.accepted(0)
}

func TestAnErrorCarriesARID(t *testing.T) {
	b := setup(t)
	r := b.post(PathTemplate, `{"touser":"oNobody"}`)
	b.want(r, badOpenID)
	_, rid, ok := strings.Cut(r.Errmsg, " rid: ")
	if !ok || len(rid) != 26 || strings.Count(rid, "-") != 2 {
		t.Fatalf("errmsg %q ends with no rid", r.Errmsg)
	}
	found := b.post(PathRID, `{"rid":"`+rid+`"}`)
	b.want(found, 0)
	if !strings.Contains(found.Raw, "oNobody") {
		t.Errorf("the record of the rid does not hold the request: %s", found.Raw)
	}
	b.want(b.post(PathRID, `{"rid":"00000000-00000000-00000000"}`), ridUnknown)
}

func TestPermissions(t *testing.T) {
	for _, c := range []struct {
		name string
		set  func(*Settings)
		path string
		code int
	}{
		{"a subscription account sends no templates", func(s *Settings) { s.Type = Subscription }, PathTemplate, unauthorized},
		{"a subscription account sends no notices", func(s *Settings) { s.Type = Subscription }, PathSubscribe, unauthorized},
		{"an unverified account sends nothing", func(s *Settings) { s.Unverified = true }, PathCustom, unauthorized},
		{"a closed API answers its code", func(s *Settings) { s.Closed = map[string]int{"custom/send": 45087} }, PathCustom, 45087},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := setup(t, c.set)
			b.want(b.post(c.path, template(alice, "")), c.code)
			if used := b.shop.Used(c.path); used != 0 {
				t.Errorf("the refusal used up %d of the quota", used)
			}
		})
	}
}

func TestDateHeaderFollowsTheClock(t *testing.T) {
	b := setup(t)
	w := httptest.NewRecorder()
	b.sim.ServeHTTP(w, httptest.NewRequest("GET", PathToken, nil))
	if got := w.Header().Get("Date"); got != "Sun, 22 Nov 2026 04:00:00 GMT" {
		t.Errorf("Date is %q", got)
	}
}
