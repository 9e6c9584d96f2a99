package callback

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// A notebook is a Recorder in memory.
type notebook struct {
	mu      sync.Mutex
	entries []Entry
	fails   error
	holds   chan struct{} // closed: go on
}

func (b *notebook) Record(ctx context.Context, e Entry) (bool, error) {
	if b.holds != nil {
		select {
		case <-b.holds:
		case <-ctx.Done():
			return false, ctx.Err()
		}
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

func TestSlowBodiesEnd(t *testing.T) {
	d := serve(t, Encrypted, func(_ *Endpoint, o *HandlerOptions) { o.Patience = 300 * time.Millisecond })
	u, _ := url.Parse(d.url)
	q, _ := weChat.push(says("hello"), time.Now())
	c, err := net.Dial("tcp", u.Host)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	fmt.Fprintf(c, "POST %s?%s HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n<", u.Path, q.Encode())
	answer, err := io.ReadAll(c) // ends when the server closes
	if err != nil || !bytes.HasPrefix(answer, []byte("HTTP/1.1 408")) {
		t.Errorf("got %q, %v", answer, err)
	}
}

func TestTooManyAtATimeAreSentAway(t *testing.T) {
	d := serve(t, Encrypted, func(_ *Endpoint, o *HandlerOptions) { o.MaxParallel = 20 })
	d.book.holds = make(chan struct{})
	const n = 200
	statuses := make(chan int, n)
	for range n {
		go func() {
			q, body := weChat.push(says("hello"), time.Now())
			status, _ := d.post(q, body)
			statuses <- status
		}()
	}
	got := map[int]int{}
	for range n - 20 { // those under way wait for the stores
		got[<-statuses]++
	}
	close(d.book.holds)
	for range 20 {
		got[<-statuses]++
	}
	if got[503] != n-20 || got[200] != 20 {
		t.Errorf("got %v, want 20 answered and the others sent away", got)
	}
}

// Who opens a POST, bears no signature, and sends its body slowly takes a part of the slots; WeChat gets the others.
func TestSlowStrangersKeepNobodyOut(t *testing.T) {
	d := serve(t, Encrypted, func(_ *Endpoint, o *HandlerOptions) { o.MaxParallel, o.Patience = 8, 20*time.Second })
	u, _ := url.Parse(d.url)
	answers := make(chan string, 50)
	for range 50 {
		c, err := net.Dial("tcp", u.Host)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		fmt.Fprintf(c, "POST %s?timestamp=%d&nonce=1&msg_signature=0 HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n<", u.Path, time.Now().Unix())
		go func() {
			head := make([]byte, len("HTTP/1.1 503"))
			_, _ = io.ReadFull(c, head)
			answers <- string(head)
		}()
	}
	for range 50 - 8/strangersShare { // the others hold their slots
		if got := <-answers; got != "HTTP/1.1 503" {
			t.Fatalf("a stranger over the share got %q", got)
		}
	}
	for range 20 {
		q, body := weChat.push(says("hello"), time.Now())
		if status, text := d.post(q, body); status != 200 || text != Success {
			t.Fatalf("WeChat got %d %q", status, text)
		}
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

func TestRulesReply(t *testing.T) {
	rules := Rules{
		{Keyword: "price", Contains: true, Reply: Text{"1 yuan"}},
		{Keyword: "hello", Reply: Text{"welcome"}},
		{Event: OnFollow, Reply: Text{"thank you"}},
		{Event: OnMenu, Key: "ABOUT", Reply: News{[]Article{{Title: "About"}}}},
		{Reply: Transfer{}},
	}
	d := serve(t, Encrypted, func(e *Endpoint, _ *HandlerOptions) { e.Replies = rules })
	for body, want := range map[string]string{
		says("What is the PRICE?"):                     "1 yuan",
		says(" Hello "):                                "welcome",
		says("hello there"):                            "transfer_customer_service",
		happens("subscribe", ""):                       "thank you",
		happens("CLICK", "<EventKey>ABOUT</EventKey>"): "About",
		happens("CLICK", "<EventKey>OTHER</EventKey>"): Success,
		happens("unsubscribe", ""):                     Success,
	} {
		q, sealed := weChat.push(body, time.Now())
		status, text := d.post(q, sealed)
		if status != 200 {
			t.Errorf("%s: got %d", body, status)
		}
		if want != Success {
			_, text = weChat.unseal(t, between(text, "<Encrypt><![CDATA[", "]]></Encrypt>"))
		}
		if !strings.Contains(text, want) {
			t.Errorf("%s: answered %q, want %q in it", body, text, want)
		}
	}
}

func between(text, before, after string) string {
	_, text, _ = strings.Cut(text, before)
	text, _, _ = strings.Cut(text, after)
	return text
}

// An upstream is the account's own server.
func upstream(t *testing.T, h http.HandlerFunc) *Forwarder {
	t.Helper()
	server := httptest.NewServer(h)
	t.Cleanup(server.Close)
	u, err := url.Parse(server.URL + "/callback?shop=1")
	if err != nil {
		t.Fatal(err)
	}
	return NewForwarder(ForwardOptions{Account: "shop", URL: u, Timeout: 300 * time.Millisecond, Log: slog.New(slog.DiscardHandler)})
}

func TestForwarding(t *testing.T) {
	t.Run("passes the request on and the answer back, byte for byte", func(t *testing.T) {
		var query, contentType string
		var body []byte
		f := upstream(t, func(w http.ResponseWriter, r *http.Request) {
			query, contentType = r.URL.RawQuery, r.Header.Get("Content-Type")
			body, _ = io.ReadAll(r.Body)
			w.Header().Set("Content-Type", "application/xml")
			_, _ = io.WriteString(w, "<xml><Encrypt>sealed</Encrypt></xml>")
		})
		d := serve(t, Encrypted, func(e *Endpoint, _ *HandlerOptions) { e.Upstream = f })
		q, sealed := weChat.push(says("hello"), time.Now())
		if status, text := d.post(q, sealed); status != 200 || text != "<xml><Encrypt>sealed</Encrypt></xml>" {
			t.Errorf("got %d %q", status, text)
		}
		if query != "shop=1&"+q.Encode() || !bytes.Equal(body, sealed) || contentType != "text/xml" || d.book.recorded() != 1 {
			t.Errorf("passed on %q, %q, %d bytes; recorded %d", query, contentType, len(body), d.book.recorded())
		}
	})
	for name, h := range map[string]http.HandlerFunc{
		"is slow":                func(_ http.ResponseWriter, r *http.Request) { _, _ = io.Copy(io.Discard, r.Body); <-r.Context().Done() },
		"fails":                  func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(500) },
		"answers without an end": func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(bytes.Repeat([]byte("x"), 300<<10)) },
		"redirects": func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "/elsewhere", http.StatusTemporaryRedirect)
		},
	} {
		t.Run("answers success where the server "+name, func(t *testing.T) {
			f := upstream(t, h)
			d := serve(t, Encrypted, func(e *Endpoint, _ *HandlerOptions) { e.Upstream = f })
			q, body := weChat.push(says("hello"), time.Now())
			if status, text := d.post(q, body); status != 200 || text != Success || d.book.recorded() != 1 {
				t.Errorf("got %d %q, recorded %d", status, text, d.book.recorded())
			}
			if len(f.waiting) != 0 {
				t.Error("a message of a user's is to be forwarded again: nobody would see the answer")
			}
			q, body = weChat.push(happens("CLICK", "<EventKey>A</EventKey>"), time.Now())
			if status, text := d.post(q, body); status != 200 || text != Success || len(f.waiting) != 1 {
				t.Errorf("got %d %q; %d events wait, want the one", status, text, len(f.waiting))
			}
		})
	}
	t.Run("does nothing about a replay", func(t *testing.T) {
		var passed atomic.Int64
		f := upstream(t, func(http.ResponseWriter, *http.Request) { passed.Add(1) })
		d := serve(t, Encrypted, func(e *Endpoint, _ *HandlerOptions) { e.Upstream = f })
		q, body := weChat.push(says("hello"), time.Now())
		d.post(q, body)
		if status, text := d.post(q, body); status != 200 || text != Success || passed.Load() != 1 {
			t.Errorf("got %d %q; passed on %d times, want once", status, text, passed.Load())
		}
	})
	t.Run("passes on what our stores could not keep", func(t *testing.T) {
		var passed atomic.Int64
		f := upstream(t, func(http.ResponseWriter, *http.Request) { passed.Add(1) })
		d := serve(t, Encrypted, func(e *Endpoint, _ *HandlerOptions) { e.Upstream = f })
		d.book.fails = errors.New("the stores are away")
		q, body := weChat.push(says("hello"), time.Now())
		if status, _ := d.post(q, body); status != 500 || passed.Load() != 1 {
			t.Errorf("got %d; passed on %d times, want once", status, passed.Load())
		}
	})
	t.Run("repeats events beside those that hang", func(t *testing.T) {
		hangs, taken := make(chan struct{}), make(chan struct{})
		f := upstream(t, func(w http.ResponseWriter, r *http.Request) {
			body, _ := io.ReadAll(r.Body)
			if bytes.Equal(body, []byte("good")) {
				close(taken)
				return
			}
			<-hangs
		})
		f.o.Timeout = time.Minute
		event := &Delivery{Push: &Push{MsgType: typeEvent}}
		for range forwardRepeats - 1 {
			f.waiting = append(f.waiting, &forward{Request: Request{Body: []byte("bad"), Delivery: event}})
		}
		f.waiting = append(f.waiting, &forward{Request: Request{Body: []byte("good"), Delivery: event}})
		ctx, stop := context.WithCancel(t.Context())
		ended := make(chan error)
		go func() { ended <- f.Run(ctx) }()
		select {
		case <-taken:
		case <-time.After(20 * time.Second):
			t.Error("an event waits behind others that hang")
		}
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		close(hangs)
	})
	t.Run("repeats an event until it is taken, once", func(t *testing.T) {
		var tries int
		var bodies []string
		f := upstream(t, func(w http.ResponseWriter, r *http.Request) {
			text, _ := io.ReadAll(r.Body)
			bodies = append(bodies, string(text))
			if tries++; tries < 3 {
				w.WriteHeader(502)
			}
		})
		d := serve(t, Encrypted, func(e *Endpoint, _ *HandlerOptions) { e.Upstream = f })
		q, body := weChat.push(happens("SCAN", "<EventKey>1</EventKey>"), time.Now())
		d.post(q, body)
		for now := time.Now(); tries < 10 && len(f.waiting) > 0; now = now.Add(time.Hour) {
			for _, w := range f.due(now) {
				f.repeat(t.Context(), w)
			}
		}
		if tries != 3 || len(f.waiting) != 0 || bodies[0] != bodies[2] || bodies[0] != string(body) {
			t.Errorf("%d tries, %d wait", tries, len(f.waiting))
		}
	})
	t.Run("gives an event up in the end", func(t *testing.T) {
		tries := 0
		f := upstream(t, func(w http.ResponseWriter, _ *http.Request) { tries++; w.WriteHeader(500) })
		d := serve(t, Encrypted, func(e *Endpoint, _ *HandlerOptions) { e.Upstream = f })
		q, body := weChat.push(happens("SCAN", "<EventKey>1</EventKey>"), time.Now())
		d.post(q, body)
		for now := time.Now(); tries < 20 && len(f.waiting) > 0; now = now.Add(time.Hour) {
			for _, w := range f.due(now) {
				f.repeat(t.Context(), w)
			}
		}
		if tries != 1+len(forwardAgain) || len(f.waiting) != 0 {
			t.Errorf("%d tries, %d wait", tries, len(f.waiting))
		}
	})
}

// An Inbox writes what waits together, and every caller gets its own answer.
type pile struct {
	mu     sync.Mutex
	writes [][]Entry
	fails  error
}

func (p *pile) Write(_ context.Context, entries []Entry, _ time.Time) ([]bool, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.writes = append(p.writes, entries)
	again := make([]bool, len(entries))
	for i, e := range entries {
		again[i] = strings.HasPrefix(e.Request, "again")
	}
	return again, p.fails
}

func TestInbox(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &pile{}
		b := NewInbox(p)
		ctx, stop := context.WithCancel(t.Context())
		for i := range 1000 {
			go func() {
				want := i%3 == 0
				request := fmt.Sprint("first", i)
				if want {
					request = fmt.Sprint("again", i)
				}
				if again, err := b.Record(t.Context(), Entry{Request: request}); err != nil || again != want {
					t.Errorf("%s: %t, %v", request, again, err)
				}
			}()
		}
		synctest.Wait() // all stand in line
		ended := make(chan error)
		go func() { ended <- b.Run(ctx) }()
		synctest.Wait()
		total := 0
		for _, w := range p.writes {
			total += len(w)
		}
		if total != 1000 || len(p.writes) != 4 || len(p.writes[0]) != inboxBatch {
			t.Errorf("%d entries in %d writes", total, len(p.writes))
		}
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		if _, err := b.Record(t.Context(), Entry{}); !errors.Is(err, errClosed) {
			t.Errorf("after the end: %v", err)
		}
	})
}
