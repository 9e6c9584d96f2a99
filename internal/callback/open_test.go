package callback

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"strings"
	"testing"
	"time"
)

// status is that of a refusal, 0 of none, -1 of another error.
func status(err error) int {
	if err == nil {
		return 0
	}
	if r, ok := errors.AsType[*Refusal](err); ok {
		return r.Status
	}
	return -1
}

func with(q url.Values, key, value string) url.Values {
	changed := url.Values{}
	for k, v := range q {
		changed[k] = v
	}
	changed.Set(key, value)
	return changed
}

func without(q url.Values, keys ...string) url.Values {
	changed := url.Values{}
	for k, v := range q {
		changed[k] = v
	}
	for _, k := range keys {
		changed.Del(k)
	}
	return changed
}

func TestOnlyWeChatIsLetIn(t *testing.T) {
	plain := words("<Content>hi</Content><MsgId>1</MsgId>")
	sealedQuery, sealedBody := weChat.push(plain, noon)
	plainQuery := weChat.query(noon)
	both := strings.Replace(plain, "<MsgType>", string(sealedBody[bytes.Index(sealedBody, []byte("<Encrypt>")):bytes.Index(sealedBody, []byte("</xml>"))])+"<MsgType>", 1)
	forgedBoth := strings.Replace(both, "<Content>hi", "<Content>forged", 1)
	for _, c := range []struct {
		name                         string
		query                        url.Values
		body                         string
		plain, compatible, encrypted int
	}{
		{"encrypted", sealedQuery, string(sealedBody), 403, 0, 0},
		{"plain", plainQuery, plain, 0, 0, 403},
		{"plain nodes and Encrypt", sealedQuery, both, 0, 0, 0},
		{"Encrypt, and forged nodes", sealedQuery, forgedBoth, 0, 0, 0}, // the nodes count in plain mode only
		{"plain, the query says aes", with(plainQuery, "encrypt_type", "aes"), plain, 0, 403, 403},
		{"plain, Encrypt empty", plainQuery, strings.Replace(plain, "<MsgType>", "<Encrypt/><MsgType>", 1), 0, 403, 403},
		{"encrypted, wrong msg_signature but right signature", with(sealedQuery, "msg_signature", sealedQuery.Get("signature")), string(sealedBody), 403, 403, 403},
		{"encrypted, without msg_signature", without(sealedQuery, "msg_signature"), string(sealedBody), 403, 403, 403},
		{"encrypted, without encrypt_type", without(sealedQuery, "encrypt_type"), string(sealedBody), 403, 0, 0},
		{"both, wrong msg_signature", with(sealedQuery, "msg_signature", strings.Repeat("a", 40)), both, 0, 403, 403},
		{"plain, wrong signature", with(plainQuery, "signature", strings.Repeat("a", 40)), plain, 403, 403, 403},
		{"plain, without signature", without(plainQuery, "signature"), plain, 400, 400, 400},
		{"without timestamp", without(sealedQuery, "timestamp"), string(sealedBody), 400, 400, 400},
		{"without nonce", without(sealedQuery, "nonce"), string(sealedBody), 400, 400, 400},
		{"two signatures", func() url.Values {
			q := with(plainQuery, "x", "")
			q["signature"] = []string{q.Get("signature"), q.Get("signature")}
			return q
		}(), plain, 400, 400, 400},
		{"timestamp no number", with(plainQuery, "timestamp", "soon"), plain, 400, 400, 400},
		{"timestamp signed number", with(plainQuery, "timestamp", "+"+plainQuery.Get("timestamp")), plain, 400, 400, 400},
		{"unknown encrypt_type", with(plainQuery, "encrypt_type", "des"), plain, 400, 400, 400},
		{"raw encrypt_type", with(plainQuery, "encrypt_type", "raw"), plain, 0, 0, 403},
		{"huge nonce", with(plainQuery, "nonce", strings.Repeat("1", 129)), plain, 400, 400, 400},
		{"nothing", url.Values{}, "", 400, 400, 400},
		{"no body", plainQuery, "", 400, 400, 400},
		{"64 KiB and one", sealedQuery, strings.Repeat(" ", MaxBody+1), 413, 413, 413},
	} {
		for mode, want := range map[Mode]int{Plain: c.plain, Compatible: c.compatible, Encrypted: c.encrypted} {
			in, err := newDoor(t, mode).Open(c.query, []byte(c.body), noon)
			if status(err) != want {
				t.Errorf("%s, mode %s: got %v, want status %d", c.name, mode, err, want)
			}
			if (in == nil) != (err != nil) {
				t.Errorf("%s, mode %s: got %v and %v", c.name, mode, in, err)
			}
			if in != nil && mode != Plain && strings.Contains(c.body, "<Encrypt>") && (!in.Sealed || in.Push.Content != "hi") {
				t.Errorf("%s, mode %s: sealed %v, content %q", c.name, mode, in.Sealed, in.Push.Content)
			}
			if in != nil && mode == Plain && in.Sealed {
				t.Errorf("%s: mode plain believes it is sealed", c.name)
			}
		}
	}
}

func TestOldAndFutureRequestsAreRefused(t *testing.T) {
	for _, c := range []struct {
		off  time.Duration
		want int
	}{{0, 0}, {10 * time.Minute, 0}, {-10 * time.Minute, 0}, {10*time.Minute + time.Second, 403}, {-10*time.Minute - time.Second, 403}, {-1e5 * time.Hour, 403}} {
		q, body := weChat.push(words(""), noon)
		if _, err := newDoor(t, Encrypted).Open(q, body, noon.Add(c.off)); status(err) != c.want {
			t.Errorf("%v later: got %v, want status %d", c.off, err, c.want)
		}
		q = with(weChat.query(noon), "echostr", "1")
		if _, err := newDoor(t, Encrypted).Verify(q, noon.Add(c.off)); status(err) != c.want {
			t.Errorf("verify %v later: got %v, want status %d", c.off, err, c.want)
		}
	}
}

func TestPushesFromTheFutureAreRefused(t *testing.T) {
	late := strings.Replace(words(""), fmt.Sprint(noon.Unix()-60), fmt.Sprint(noon.Unix()+601), 1)
	q, body := weChat.push(late, noon)
	if _, err := newDoor(t, Encrypted).Open(q, body, noon); status(err) != 403 {
		t.Errorf("got %v, want status 403", err)
	}
}

func TestTheConsoleIsAnswered(t *testing.T) {
	// The example of developers.weixin.qq.com/doc/oplatform/developers/dev/push/.
	d, err := New(Config{Mode: Plain, Tokens: []string{"AAAAA"}})
	if err != nil {
		t.Fatal(err)
	}
	q := url.Values{
		"signature": {"f464b24fc39322e44b38aa78f5edd27bd1441696"}, "timestamp": {"1714036504"}, "nonce": {"1514711492"},
		"echostr": {"4375120948345356249"},
	}
	now := time.Unix(1714036510, 0)
	if got, err := d.Verify(q, now); err != nil || got != "4375120948345356249" {
		t.Errorf("got %q, %v", got, err)
	}
	for name, c := range map[string]struct {
		q    url.Values
		want int
	}{
		"forged":       {with(q, "nonce", "1514711493"), 403},
		"no echostr":   {without(q, "echostr"), 400},
		"markup":       {with(q, "echostr", "<script>"), 400},
		"long":         {with(q, "echostr", strings.Repeat("1", 257)), 400},
		"two echostrs": {func() url.Values { w := with(q, "x", ""); w["echostr"] = []string{"1", "2"}; return w }(), 400},
		"no signature": {without(q, "signature"), 400},
	} {
		if got, err := d.Verify(c.q, now); status(err) != c.want || got != "" {
			t.Errorf("%s: got %q, %v, want status %d", name, got, err, c.want)
		}
	}
}

func TestBothTokensAndKeysOfARotationOpen(t *testing.T) {
	next := counterpart{appID, "nexttoken", strings.Repeat("B", 43)}
	d, err := New(Config{AppID: appID, Tokens: []string{token, next.token}, AESKeys: []string{aesKey, next.key}})
	if err != nil {
		t.Fatal(err)
	}
	for _, side := range []counterpart{weChat, next, {appID, next.token, aesKey}, {appID, token, next.key}} {
		q, body := side.push(words("<Content>hi</Content>"), noon)
		in, err := d.Open(q, body, noon)
		if err != nil {
			t.Fatalf("%+v: %v", side, err)
		}
		answer, err := in.Answer(Text{"yes"}, noon)
		if err != nil {
			t.Fatal(err)
		}
		if got := side.readAnswer(t, answer); !strings.Contains(got, "<![CDATA[yes]]>") {
			t.Errorf("%+v reads the answer as %q", side, got)
		}
		if _, err := d.Verify(with(side.query(noon), "echostr", "1"), noon); err != nil {
			t.Errorf("%+v: %v", side, err)
		}
	}
	for _, stranger := range []counterpart{{appID, "x", aesKey}, {appID, token, strings.Repeat("C", 43)}, {"wx1", token, aesKey}} {
		q, body := stranger.push(words(""), noon)
		if _, err := d.Open(q, body, noon); status(err) != 403 {
			t.Errorf("%+v: got %v", stranger, err)
		}
	}
}

func TestSettingsAreChecked(t *testing.T) {
	for name, c := range map[string]Config{
		"no token":      {AppID: appID, AESKeys: []string{aesKey}},
		"empty token":   {AppID: appID, Tokens: []string{token, ""}, AESKeys: []string{aesKey}},
		"no key":        {AppID: appID, Tokens: []string{token}},
		"no appid":      {Tokens: []string{token}, AESKeys: []string{aesKey}},
		"unknown mode":  {AppID: appID, Mode: "safe", Tokens: []string{token}, AESKeys: []string{aesKey}},
		"unusable keys": {AppID: appID, Tokens: []string{token}, AESKeys: []string{aesKey, "short"}},
	} {
		if d, err := New(c); err == nil || d != nil {
			t.Errorf("%s: got %v, %v", name, d, err)
		}
	}
}

func TestSecretsDoNotPrint(t *testing.T) {
	c := Config{AppID: appID, Tokens: []string{token}, AESKeys: []string{aesKey}}
	d, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	q, body := weChat.push(words(""), noon)
	in, err := d.Open(q, body, noon)
	if err != nil {
		t.Fatal(err)
	}
	var printed bytes.Buffer
	for _, v := range []any{c, &c, d, *in, in, struct{ C Config }{c}, struct{ d *Door }{d}, struct{ d Door }{*d}, struct{ in *Delivery }{in}} {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
			fmt.Fprintf(&printed, verb, v)
		}
		slog.New(slog.NewTextHandler(&printed, nil)).Info("x", "v", v)
		slog.New(slog.NewJSONHandler(&printed, nil)).Info("x", "v", v)
		_ = json.NewEncoder(&printed).Encode(v)
	}
	for _, secret := range []string{token, aesKey, fmt.Sprintf("%x", token), fmt.Sprintf("%x", aesKey)} {
		if strings.Contains(printed.String(), secret) {
			at := strings.Index(printed.String(), secret)
			t.Errorf("%q is printed: …%s…", secret, printed.String()[max(0, at-80):at])
		}
	}
}

func TestRefusalsQuoteNothing(t *testing.T) {
	q, body := weChat.push(words("<Content>private words</Content>"), noon)
	for _, broken := range [][]byte{body[:len(body)-3], bytes.Replace(body, []byte("<xml>"), []byte("<!DOCTYPE secret><xml>"), 1)} {
		_, err := newDoor(t, Encrypted).Open(q, broken, noon)
		if err == nil || strings.Contains(err.Error(), "secret") {
			t.Errorf("got %v", err)
		}
	}
	_, err := newDoor(t, Encrypted).Open(with(q, "msg_signature", "0"), body, noon)
	for _, s := range []string{token, aesKey, appID, q.Get("msg_signature")} {
		if err == nil || strings.Contains(err.Error(), s) {
			t.Errorf("%v holds %q", err, s)
		}
	}
}
