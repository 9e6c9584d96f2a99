package callback

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// A notebook is a Recorder in memory.
type notebook struct {
	mu      sync.Mutex
	entries []Entry
	fails   error
	holds   chan struct{} // closed: go on
}

func (b *notebook) Record(_ context.Context, e Entry) (bool, error) {
	if b.holds != nil {
		<-b.holds
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.fails != nil {
		return false, b.fails
	}
	again := slices.ContainsFunc(b.entries, func(old Entry) bool { return old.Request == e.Request })
	if !again {
		b.entries = append(b.entries, e)
	}
	return again, nil
}

func (b *notebook) recorded() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.entries)
}

// A desk is a served door.
type desk struct {
	*testing.T
	book *notebook
	url  string
	log  *bytes.Buffer
}

func serve(t *testing.T, mode Mode, change func(*Endpoint, *HandlerOptions)) *desk {
	t.Helper()
	d := &desk{T: t, book: &notebook{}, log: &bytes.Buffer{}}
	e := Endpoint{Name: "shop", AppID: appID, Door: newDoor(t, mode)}
	o := HandlerOptions{Log: slog.New(slog.NewTextHandler(&locked{w: d.log}, nil))}
	if change != nil {
		change(&e, &o)
	}
	mux := http.NewServeMux()
	mux.Handle("/wechat/{account}", NewHandler([]Endpoint{e}, d.book, o))
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	d.url = server.URL + "/wechat/shop"
	return d
}

// locked makes a buffer fit for many writers.
type locked struct {
	mu sync.Mutex
	w  io.Writer
}

func (l *locked) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.w.Write(p)
}

func (d *desk) post(q url.Values, body []byte) (int, string) {
	d.Helper()
	res, err := http.Post(d.url+"?"+q.Encode(), "text/xml", bytes.NewReader(body))
	if err != nil {
		d.Fatal(err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		d.Fatal(err)
	}
	return res.StatusCode, string(text)
}

// says is a text message of a user's, written now.
func says(words string) string {
	return fmt.Sprintf("<xml><ToUserName>gh_1</ToUserName><FromUserName>oABC</FromUserName><CreateTime>%d</CreateTime>"+
		"<MsgType>text</MsgType><Content>%s</Content><MsgId>%d</MsgId></xml>", time.Now().Unix(), words, time.Now().UnixNano())
}

func happens(name, more string) string {
	return fmt.Sprintf("<xml><ToUserName>gh_1</ToUserName><FromUserName>oABC</FromUserName><CreateTime>%d</CreateTime>"+
		"<MsgType>event</MsgType><Event>%s</Event>%s</xml>", time.Now().Unix(), name, more)
}

func TestDoorAnswersAfterTheStateIsWritten(t *testing.T) {
	d := serve(t, Encrypted, nil)
	q, body := weChat.push(says("hello"), time.Now())
	if status, text := d.post(q, body); status != 200 || text != Success {
		t.Fatalf("got %d %q", status, text)
	}
	if n := d.book.recorded(); n != 1 || d.book.entries[0].Meaning.Trigger != MessageTrigger || !d.book.entries[0].Sealed {
		t.Fatalf("recorded %+v", d.book.entries)
	}
	if status, text := d.post(q, body); status != 200 || text != Success || d.book.recorded() != 1 {
		t.Errorf("a replay got %d %q, %d are recorded", status, text, d.book.recorded())
	}
	d.book.fails = errors.New("the stores are away")
	q, body = weChat.push(says("again"), time.Now())
	if status, text := d.post(q, body); status != 500 || text != "" {
		t.Errorf("without stores: %d %q, want a bare 500: WeChat repeats the push", status, text)
	}
	d.book.fails = nil
	if status, text := d.post(q, body); status != 200 || text != Success || d.book.recorded() != 2 {
		t.Errorf("the repetition got %d %q, %d are recorded", status, text, d.book.recorded())
	}
}

func TestDoorRefuses(t *testing.T) {
	d := serve(t, Encrypted, nil)
	now := time.Now()
	q, body := weChat.push(says("hello"), now)
	forged := url.Values{"signature": q["signature"], "timestamp": q["timestamp"], "nonce": q["nonce"], "msg_signature": {strings.Repeat("0", 40)}, "encrypt_type": {"aes"}}
	plain := url.Values{"signature": q["signature"], "timestamp": q["timestamp"], "nonce": q["nonce"]}
	old, oldBody := weChat.push(says("hello"), now.Add(-time.Hour))
	for name, c := range map[string]struct {
		query  url.Values
		body   []byte
		status int
	}{
		"a forged signature":       {forged, body, 403},
		"a body without its seal":  {plain, []byte(says("hello")), 403},
		"a request of an hour ago": {old, oldBody, 403},
		"a body of 10 MB":          {q, bytes.Repeat([]byte("x"), 10<<20), 413},
		"no query":                 {nil, body, 400},
		"no XML":                   {q, []byte("hello"), 400},
	} {
		if status, text := d.post(c.query, c.body); status != c.status || text != "" {
			t.Errorf("%s: got %d %q, want a bare %d", name, status, text, c.status)
		}
	}
	for method, want := range map[string]int{http.MethodPut: 405, http.MethodDelete: 405} {
		req, _ := http.NewRequest(method, d.url+"?"+q.Encode(), nil)
		res, err := http.DefaultClient.Do(req)
		if err != nil || res.StatusCode != want {
			t.Errorf("%s: got %v, %v", method, res, err)
		}
	}
	if res, err := http.Get(strings.TrimSuffix(d.url, "shop") + "nobody?" + q.Encode()); err != nil || res.StatusCode != 404 {
		t.Errorf("an unknown account: %v, %v", res, err)
	}
	if d.book.recorded() != 0 {
		t.Errorf("recorded %+v", d.book.entries)
	}
	log := d.log.String()
	if !strings.Contains(log, "compare the token") || strings.Contains(log, token) || strings.Contains(log, aesKey) {
		t.Errorf("the log does not help, or tells a secret:\n%s", log)
	}
}

func TestDoorVerifiesTheURL(t *testing.T) {
	d := serve(t, Encrypted, nil)
	at := fmt.Sprint(time.Now().Unix())
	q := url.Values{"signature": {weChat.signature(at, "n1")}, "timestamp": {at}, "nonce": {"n1"}, "echostr": {"1234567890"}}
	res, err := http.Get(d.url + "?" + q.Encode())
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if text, _ := io.ReadAll(res.Body); res.StatusCode != 200 || string(text) != "1234567890" {
		t.Errorf("got %d %q", res.StatusCode, text)
	}
}

// What decrypts under the account's key and is no push looks, to its sender, like what does not decrypt.
func TestRefusedPlaintextsLookAlike(t *testing.T) {
	d := serve(t, Encrypted, nil)
	for name, plain := range map[string]string{
		"no XML":      "hello",
		"a DOCTYPE":   "<!DOCTYPE x><xml/>",
		"no MsgType":  "<xml><CreateTime>1</CreateTime></xml>",
		"no number":   strings.Replace(says("x"), "<MsgId>", "<MsgId>x", 1),
		"long future": strings.Replace(says("x"), fmt.Sprint(time.Now().Unix()), "7000000000", 1),
	} {
		q, body := weChat.push(plain, time.Now())
		if status, text := d.post(q, body); status != 403 || text != "" {
			t.Errorf("%s: got %d %q, want a bare 403", name, status, text)
		}
	}
	q, body := counterpart{"wx1", token, aesKey}.push(says("hello"), time.Now())
	if status, text := d.post(q, body); status != 403 || text != "" {
		t.Errorf("another's appid: got %d %q, want a bare 403", status, text)
	}
	if d.book.recorded() != 0 {
		t.Errorf("recorded %+v", d.book.entries)
	}
}
