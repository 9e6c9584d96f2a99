package wechattest

import (
	"encoding/json"
	"encoding/xml"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// A listener is an account's own server, which keeps what it is told.
type listener struct {
	*httptest.Server
	answer func(w http.ResponseWriter, query url.Values, body []byte)

	mu   sync.Mutex
	told []told
}

type told struct {
	query url.Values
	body  string
}

// listening is a simulator whose shop pushes to a listener.
func listening(t *testing.T, change ...func(*Callback)) (*bundle, *listener) {
	t.Helper()
	t.Parallel()
	return newListening(t, change...)
}

// newListening is listening for a test that may not be parallel.
func newListening(t *testing.T, change ...func(*Callback)) (*bundle, *listener) {
	t.Helper()
	l := &listener{}
	l.Server = httptest.NewServer(http.HandlerFunc(l.serve))
	t.Cleanup(l.Close)
	c := Callback{URL: l.URL + "/wechat/shop?own=1", Token: "pamtest", AESKey: vectorKey, Gap: time.Millisecond}
	for _, f := range change {
		f(&c)
	}
	return newBundle(t, func(s *Settings) { s.Callback = &c }), l
}

func (l *listener) serve(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	l.mu.Lock()
	l.told = append(l.told, told{r.URL.Query(), string(body)})
	l.mu.Unlock()
	if l.answer != nil {
		l.answer(w, r.URL.Query(), body)
	}
}

func (l *listener) all() []told {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.told)
}

// settled is the log when every push has its fate.
func (b *bundle) settled() []Push {
	b.Helper()
	if err := b.sim.AwaitPushes(b.Context()); err != nil {
		b.Fatal(err)
	}
	return b.sim.Pushes(0)
}

func (b *bundle) do(d Deed) {
	b.Helper()
	if err := b.shop.Do(alice, d); err != nil {
		b.Fatal(err)
	}
}

func TestPushesAreSignedAndSealed(t *testing.T) {
	for name, c := range map[string]struct {
		mode   CallbackMode
		form   CallbackForm
		plain  bool // holds the plain nodes
		sealed bool
	}{
		"plain":             {PlainMode, XMLForm, true, false},
		"compatible":        {CompatibleMode, XMLForm, true, true},
		"encrypted":         {"", "", false, true},
		"encrypted JSON":    {EncryptedMode, JSONForm, false, true},
		"plain JSON":        {PlainMode, JSONForm, true, false},
		"a compatible JSON": {CompatibleMode, JSONForm, true, true},
	} {
		t.Run(name, func(t *testing.T) {
			b, l := listening(t, func(cb *Callback) { cb.Mode, cb.Form, cb.Name = c.mode, c.form, "gh_1" })
			b.do(Deed{Action: Message, Text: "1 < 2 ]]> 好"})
			b.settled()
			got := l.all()[0]
			q := got.query
			if q.Get("signature") != signatureOf("pamtest", q.Get("timestamp"), q.Get("nonce")) || q.Get("openid") != alice || q.Get("own") != "1" {
				t.Errorf("the query is %v", q)
			}
			type body struct{ ToUserName, Encrypt, Content, MsgType string }
			read := func(text string) (out body) {
				t.Helper()
				read := xml.Unmarshal
				if c.form == JSONForm {
					read = json.Unmarshal
				}
				if err := read([]byte(text), &out); err != nil {
					t.Fatalf("%v in %s", err, text)
				}
				return out
			}
			outer := read(got.body)
			if outer.ToUserName != "gh_1" || (outer.Content == "1 < 2 ]]> 好") != c.plain || (outer.Encrypt != "") != c.sealed {
				t.Errorf("the body is %s", got.body)
			}
			if !c.sealed {
				if q.Has("encrypt_type") || q.Has("msg_signature") {
					t.Errorf("the query is %v", q)
				}
				return
			}
			if q.Get("encrypt_type") != "aes" || q.Get("msg_signature") != signatureOf("pamtest", q.Get("timestamp"), q.Get("nonce"), outer.Encrypt) {
				t.Errorf("the query is %v", q)
			}
			inner, err := sealOf(t, vectorKey, appID).open(outer.Encrypt)
			if err != nil || read(string(inner)).Content != "1 < 2 ]]> 好" {
				t.Errorf("holds %s, %v", inner, err)
			}
		})
	}
}

func TestWhatUsersDoIsPushed(t *testing.T) {
	for _, c := range []struct {
		deed Deed
		want string
		code int // of an answer afterwards
	}{
		{Deed{Action: Message}, "<MsgType><![CDATA[text]]></MsgType><Content><![CDATA[你好]]></Content><MsgId>", 0},
		{Deed{Action: Message, Type: "image"}, "<MsgType><![CDATA[image]]></MsgType><PicUrl>", 0},
		{Deed{Action: Menu, Key: "K"}, "<Event><![CDATA[CLICK]]></Event><EventKey><![CDATA[K]]></EventKey>", 0},
		{Deed{Action: View}, "<Event><![CDATA[VIEW]]></Event>", outOfTime},
		{Deed{Action: Tap, Key: "7"}, "<bizmsgmenuid><![CDATA[7]]></bizmsgmenuid>", 0},
		{Deed{Action: Follow}, "<Event><![CDATA[subscribe]]></Event><EventKey><![CDATA[]]></EventKey>", 0},
		{Deed{Action: Follow, Key: "9"}, "<EventKey><![CDATA[qrscene_9]]></EventKey><Ticket>", 0},
		{Deed{Action: Scan, Key: "9"}, "<Event><![CDATA[SCAN]]></Event><EventKey><![CDATA[9]]></EventKey><Ticket>", 0},
		{Deed{Action: Unsubscribe}, "<Event><![CDATA[unsubscribe]]></Event>", outOfTime},
		{Deed{Action: Agree, Templates: []string{"a", "b"}}, "<SubscribeMsgPopupEvent><List><TemplateId><![CDATA[a]]></TemplateId>" +
			"<SubscribeStatusString><![CDATA[accept]]></SubscribeStatusString><PopupScene>1</PopupScene></List><List><TemplateId><![CDATA[b]]>", outOfTime},
		{Deed{Action: SwitchOff, Templates: []string{"a"}}, "<SubscribeMsgChangeEvent><List><TemplateId><![CDATA[a]]></TemplateId>" +
			"<SubscribeStatusString><![CDATA[reject]]></SubscribeStatusString></List></SubscribeMsgChangeEvent>", outOfTime},
	} {
		t.Run(string(c.deed.Action)+c.deed.Key+c.deed.Type, func(t *testing.T) {
			b, l := listening(t, func(c *Callback) { c.Mode = PlainMode })
			b.do(c.deed)
			b.settled()
			if got := l.all()[0].body; !strings.Contains(got, c.want) || !strings.Contains(got, "<CreateTime>1795320000</CreateTime>") {
				t.Errorf("pushed %s", got)
			}
			b.want(b.post(PathCustom, textTo(alice)), c.code)
		})
	}
	t.Run("of paying and of the account's own doing nobody is told", func(t *testing.T) {
		b, l := listening(t)
		for _, a := range []Action{Pay, Refuse, Allow, Block, Unblock, Blacklist, Unblacklist} {
			b.do(Deed{Action: a})
		}
		b.settled()
		if n := len(l.all()); n > 0 {
			t.Errorf("%d pushes", n)
		}
	})
}

func TestPushesAreRepeatedUntilTheyAreAnswered(t *testing.T) {
	t.Run("three times", func(t *testing.T) {
		b, l := listening(t)
		l.answer = func(w http.ResponseWriter, _ url.Values, _ []byte) { w.WriteHeader(http.StatusInternalServerError) }
		b.do(Deed{Action: Message})
		got := b.settled()[0]
		if got.Fate != GivenUp || got.Tries != 3 || len(l.all()) != 3 || got.Problem != "HTTP 500" || got.Shown != OutOfOrder {
			t.Errorf("got %+v", got)
		}
		if l.all()[0].query.Get("nonce") == l.all()[1].query.Get("nonce") {
			t.Error("the second try has the nonce of the first")
		}
	})
	t.Run("when the answer takes too long", func(t *testing.T) {
		b, l := listening(t, func(c *Callback) { c.Timeout, c.Tries = 20*time.Millisecond, 2 })
		gone := make(chan struct{})
		defer close(gone)
		l.answer = func(http.ResponseWriter, url.Values, []byte) { <-gone }
		b.do(Deed{Action: Message})
		if got := b.settled()[0]; got.Fate != GivenUp || got.Tries != 2 {
			t.Errorf("got %+v", got)
		}
	})
	t.Run("and once more by chance", func(t *testing.T) {
		b, l := listening(t, func(c *Callback) { c.Actions.Twice = 1 })
		b.do(Deed{Action: Message})
		if got := b.settled()[0]; got.Fate != Delivered || !got.Twice || got.Answered != 2 || len(l.all()) != 2 {
			t.Errorf("got %+v", got)
		}
	})
	t.Run("or never", func(t *testing.T) {
		b, l := listening(t, func(c *Callback) { c.Actions.Lost = 1 })
		b.do(Deed{Action: Message})
		if got := b.settled()[0]; got.Fate != Lost || len(l.all()) != 0 {
			t.Errorf("got %+v", got)
		}
	})
	t.Run("a held one is overtaken", func(t *testing.T) {
		b, l := listening(t, func(c *Callback) { c.Mode, c.Actions.Reorder = PlainMode, 1 })
		b.do(Deed{Action: Message, Text: "first"})
		_ = b.shop.Change(func(s *Settings) { s.Callback.Actions.Reorder = 0 })
		b.do(Deed{Action: Message, Text: "second"})
		b.settled()
		if got := l.all(); !strings.Contains(got[0].body, "second") {
			t.Errorf("first came %s", got[0].body)
		}
	})
	t.Run("Close waits for what is on its way and lets the rest be", func(t *testing.T) {
		b, l := listening(t)
		here, gone := make(chan struct{}), make(chan struct{})
		l.answer = func(http.ResponseWriter, url.Values, []byte) { close(here); <-gone }
		b.do(Deed{Action: Message})
		<-here
		close(gone)
		b.sim.Close()
		b.do(Deed{Action: Message})
		if n := len(l.all()); n != 1 {
			t.Errorf("%d pushes, want 1", n)
		}
	})
}

func TestPassiveReplies(t *testing.T) {
	s := sealOf(t, vectorKey, appID)
	reply := func(c *callback, to string) string {
		return "<xml><ToUserName>" + to + "</ToUserName><FromUserName>" + c.Name + "</FromUserName><CreateTime>1</CreateTime>" +
			"<MsgType><![CDATA[text]]></MsgType><Content>好的</Content></xml>"
	}
	sealed := func(s *seal, token, text string) string {
		e := s.close([16]byte{1}, []byte(text))
		return "<xml><Encrypt>" + e + "</Encrypt><MsgSignature>" + signatureOf(token, "12", "34", e) + "</MsgSignature><TimeStamp>12</TimeStamp><Nonce>34</Nonce></xml>"
	}
	for name, c := range map[string]struct {
		mode   CallbackMode
		answer func(c *callback) string
		shown  bool
		says   string
	}{
		"nothing":                {"", func(*callback) string { return "" }, false, ""},
		"success":                {"", func(*callback) string { return "success" }, false, ""},
		"an encrypted one":       {"", func(c *callback) string { return sealed(s, "pamtest", reply(c, alice)) }, true, ""},
		"a plain one":            {PlainMode, func(c *callback) string { return reply(c, alice) }, true, ""},
		"a plain one, encrypted": {"", func(c *callback) string { return reply(c, alice) }, false, "not encrypted"},
		"the wrong token":        {"", func(c *callback) string { return sealed(s, "pam", reply(c, alice)) }, false, "MsgSignature"},
		"the wrong appid": {
			"", func(c *callback) string { return sealed(sealOf(t, vectorKey, "wx9"), "pamtest", reply(c, alice)) },
			false, "cannot be decrypted",
		},
		"to somebody else": {PlainMode, func(c *callback) string { return reply(c, bob) }, false, "want from"},
		"no XML":           {"", func(*callback) string { return "ok" }, false, "neither empty nor success"},
	} {
		t.Run(name, func(t *testing.T) {
			b, l := listening(t, func(cb *Callback) { cb.Mode = c.mode })
			text := c.answer(b.shop.set.Load().callback)
			l.answer = func(w http.ResponseWriter, _ url.Values, _ []byte) { _, _ = io.WriteString(w, text) }
			b.do(Deed{Action: Message})
			got := b.settled()[0]
			if got.Fate != Delivered || got.Tries != 1 || !strings.Contains(got.Problem, c.says) || (c.says == "") != (got.Problem == "") {
				t.Errorf("got %+v", got)
			}
			if c.shown != strings.Contains(got.Shown, "好的") || (c.says != "") != (got.Shown == OutOfOrder) {
				t.Errorf("shown %q", got.Shown)
			}
		})
	}
}

func TestVerifyAsksForTheEchostr(t *testing.T) {
	b, l := listening(t)
	l.answer = func(w http.ResponseWriter, q url.Values, _ []byte) {
		if q.Get("signature") == signatureOf("pamtest", q.Get("timestamp"), q.Get("nonce")) {
			_, _ = io.WriteString(w, q.Get("echostr"))
		}
	}
	if code, out := b.admin("POST", "/_sim/accounts/"+appID+"/verify", "{}"); code != http.StatusOK || out != `{"ok":true}` {
		t.Errorf("got %d %s", code, out)
	}
	l.answer = nil
	if err := b.shop.Verify(t.Context()); err == nil {
		t.Error("an answer without the echostr is good")
	}
}

func TestPushesThroughTheAdministration(t *testing.T) {
	b, l := listening(t)
	const account = "/_sim/accounts/" + appID
	for _, body := range []string{
		`{"openid":"oAlice","action":"menu","key":"K"}`, `{"openids":["oAlice","oBob"],"action":"message","type":"voice"}`,
	} {
		if code, out := b.admin("POST", account+"/act", body); code != http.StatusOK {
			t.Fatalf("%s: %d %s", body, code, out)
		}
	}
	b.settled()
	if n := len(l.all()); n != 3 {
		t.Errorf("%d pushes", n)
	}
	_, out := b.admin("GET", "/_sim/pushes?after=2", "")
	var last Push
	if err := json.Unmarshal([]byte(out), &last); err != nil || last.OpenID != bob || last.What != "voice" || last.Fate != Delivered {
		t.Errorf("got %s, %v", out, err)
	}
	for body, says := range map[string]string{
		`{"openid":"oAlice","action":"dance"}`:                     "is none of",
		`{"action":"menu"}`:                                        "openid is missing",
		`{"openid":"oAlice","action":"agree"}`:                     "templates are missing",
		`{"openid":"oAlice","action":"message","type":"telegram"}`: "is none of text",
	} {
		if code, out := b.admin("POST", account+"/act", body); code != http.StatusBadRequest || !strings.Contains(out, says) {
			t.Errorf("%s: %d %s", body, code, out)
		}
	}
	for change, says := range map[string]string{
		`{"callback":{"url":"nowhere"}}`:             "no http or https address",
		`{"callback":{"aes_key":"short"}}`:           "43 characters",
		`{"callback":{"receipts":{"lost":2}}}`:       "share from 0 to 1",
		`{"callback":{"mode":"secret"}}`:             "is none of plain",
		`{"callback":{"receipts":{"delay":"soon"}}}`: "soon",
	} {
		if code, out := b.admin("POST", account, change); code != http.StatusBadRequest || !strings.Contains(out, says) {
			t.Errorf("%s: %d %s", change, code, out)
		}
	}
	if code, out := b.admin("POST", account, `{"callback":{"receipts":{"delay":"1s-2s"}}}`); code != http.StatusOK {
		t.Errorf("%d %s", code, out)
	}
	if c := b.shop.Settings().Callback; c.Receipts.Delay.Max != 2*time.Second || c.Token != "pamtest" {
		t.Errorf("the callback is %+v", c)
	}
}
