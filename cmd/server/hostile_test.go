package main

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hongyan-dispatch/hongyan/internal/window"
)

// state is all that the server keeps: rows, and keys of Redis.
func (h *house) state() string {
	h.Helper()
	var rows string
	err := h.db.QueryRow(h.Context(), `SELECT concat_ws(' ',
		(SELECT string_agg(l::text, ';' ORDER BY l::text) FROM inbound_last l), (SELECT string_agg(s::text, ';' ORDER BY s::text) FROM suppression s),
		(SELECT string_agg(r::text, ';' ORDER BY r::text) FROM receipt r))`).Scan(&rows)
	if err != nil {
		h.Fatal(err)
	}
	keys, err := h.rdb.Keys(h.Context(), "hongyan:*").Result()
	if err != nil {
		h.Fatal(err)
	}
	return fmt.Sprintf("%s, %d keys", rows, len(keys))
}

// Whatever strangers send, they get a short status and nothing changes.
func TestHostileRequestsChangeNothing(t *testing.T) {
	h := start(t, encrypted)
	we := counterpart{token, aesKey}
	h.eventually("push that is taken", func() bool { status, _ := h.push(we, says("oFRIEND")); return status == 200 })
	before := h.state()

	now := time.Now()
	query := func(at time.Time, encrypt string) url.Values {
		stamp, nonce := fmt.Sprint(at.Unix()), fmt.Sprint(next())
		return url.Values{
			"timestamp": {stamp}, "nonce": {nonce}, "signature": {we.sign(stamp, nonce)},
			"msg_signature": {we.sign(stamp, nonce, encrypt)}, "encrypt_type": {"aes"},
		}
	}
	changed := func(q url.Values, name, value string) url.Values { q.Set(name, value); return q }
	wrap := func(encrypt string) string {
		return "<xml><ToUserName>gh</ToUserName><Encrypt>" + encrypt + "</Encrypt></xml>"
	}
	body := says("oVICTIM")
	sealed := we.seal(body)
	forged := counterpart{"stranger", aesKey}
	left := happens("oFRIEND", "unsubscribe", "")
	for name, c := range map[string]struct {
		query  url.Values
		body   string
		status int
	}{
		"a forged msg_signature":                  {changed(query(now, sealed), "msg_signature", forged.sign("1")), wrap(sealed), 403},
		"another body under a seen signature":     {query(now, sealed), wrap(we.seal(says("oOTHER"))), 403},
		"another nonce":                           {changed(query(now, sealed), "nonce", "1"), wrap(sealed), 403},
		"a downgrade to plain":                    {query(now, sealed), body, 403},
		"a downgrade without encrypt_type":        {changed(query(now, ""), "encrypt_type", "raw"), left, 403},
		"a downgrade to an empty Encrypt":         {query(now, ""), strings.Replace(body, "<MsgType>", "<Encrypt></Encrypt><MsgType>", 1), 403},
		"plain nodes beside an Encrypt of nobody": {query(now, "AAAA"), strings.Replace(body, "<MsgType>", "<Encrypt>AAAA</Encrypt><MsgType>", 1), 403},
		"a request of eleven minutes ago":         {query(now.Add(-11*time.Minute), sealed), wrap(sealed), 403},
		"a request of eleven minutes hence":       {query(now.Add(11*time.Minute), sealed), wrap(sealed), 403},
		"another key":                             {query(now, counterpart{token, strings.Repeat("B", 43)}.seal(body)), wrap(counterpart{token, strings.Repeat("B", 43)}.seal(body)), 403},
		"a key that is right and no push":         {query(now, we.seal("<xml/>")), wrap(we.seal("<xml/>")), 403},
		"a DOCTYPE":                               {query(now, sealed), "<!DOCTYPE xml [<!ENTITY e SYSTEM 'file:///etc/passwd'>]>" + wrap(sealed), 400},
		"two Encrypts":                            {query(now, sealed), "<xml><Encrypt>" + sealed + "</Encrypt><Encrypt>" + sealed + "</Encrypt></xml>", 400},
		"a second document":                       {query(now, sealed), wrap(sealed) + wrap(sealed), 400},
		"no query":                                {nil, wrap(sealed), 400},
		"64 KiB and more":                         {query(now, sealed), wrap(sealed) + strings.Repeat(" ", 64<<10), 413},
	} {
		if status, text := h.post(c.query, c.body); status != c.status || text != "" {
			t.Errorf("%s: got %d %q, want a bare %d", name, status, text, c.status)
		}
	}

	// Replays, also of what would close a window, are acknowledged.
	for range 5 {
		again := says("oFRIEND")
		encrypt := we.seal(again)
		q := query(now, encrypt)
		h.eventually("push that is taken", func() bool { status, _ := h.post(q, wrap(encrypt)); return status == 200 })
		before = h.state()
		if status, text := h.post(q, wrap(encrypt)); status != 200 || text != "success" {
			t.Errorf("a replay got %d %q", status, text)
		}
	}
	if after := h.state(); after != before {
		t.Errorf("the state was\n%s\nand is\n%s", before, after)
	}
	if s := h.window("oVICTIM"); s != window.UnknownUser {
		t.Errorf("a stranger's push changed a window: %s", s)
	}
	for _, secret := range []string{token, aesKey, "oVICTIM", "oFRIEND", sealed} {
		if strings.Contains(h.stderr.String(), secret) {
			t.Errorf("the log tells %.20s:\n%s", secret, h.stderr)
		}
	}
}

// endless is a body of n bytes that takes no room and does not tell its length.
func endless(n int64) io.Reader { return struct{ io.Reader }{io.LimitReader(zeros{}, n)} }

type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = ' '
	}
	return len(p), nil
}

// A hundred strangers send a byte a second: each ends long before its body would, and WeChat is served meanwhile.
func TestSlowStrangersEnd(t *testing.T) {
	h := start(t, encrypted)
	we := counterpart{token, aesKey}
	u, err := url.Parse(h.url)
	if err != nil {
		t.Fatal(err)
	}
	const body = 1000 // seconds
	var slow sync.WaitGroup
	for range 100 {
		slow.Go(func() {
			began := time.Now()
			c, err := net.Dial("tcp", u.Host)
			if err != nil {
				t.Error(err)
				return
			}
			defer c.Close()
			fmt.Fprintf(c, "POST /wechat/shop?timestamp=%d&nonce=1&msg_signature=0 HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n", began.Unix(), body)
			drip, ended := time.NewTicker(time.Second), make(chan []byte)
			defer drip.Stop()
			go func() { answer, _ := io.ReadAll(c); ended <- answer }()
			for {
				select {
				case <-drip.C:
					_, _ = c.Write([]byte("<"))
				case answer := <-ended: // none where a byte crossed the end of the connection
					if len(answer) > 0 && !bytes.HasPrefix(answer, []byte("HTTP/1.1 408")) && !bytes.HasPrefix(answer, []byte("HTTP/1.1 503")) {
						t.Errorf("got %q", answer)
					}
					if took := time.Since(began); took > body/10*time.Second {
						t.Errorf("ended after %v", took)
					}
					return
				}
			}
		})
	}
	for i := range 20 {
		h.eventually("push that is taken beside slow strangers", func() bool { status, _ := h.push(we, says(fmt.Sprintf("oFRIEND%d", i))); return status == 200 })
	}
	slow.Wait()
	if n := h.number("SELECT count(*)::int FROM inbound_last"); n != 20 {
		t.Errorf("%d users are noted, want 20", n)
	}
}

// Two hundred strangers at a time send ten megabytes each, without saying so before: no more is read than a push may have.
func TestLargeStrangersAreBounded(t *testing.T) {
	h := start(t, encrypted)
	const strangers = 200
	var peak uint64
	statuses := make(chan int, strangers)
	client := &http.Client{Transport: &http.Transport{MaxConnsPerHost: strangers}}
	defer client.CloseIdleConnections()
	var all sync.WaitGroup
	for i := range strangers {
		all.Go(func() {
			res, err := client.Post(fmt.Sprintf("%s/wechat/shop?timestamp=%d&nonce=%d&msg_signature=0", h.url, time.Now().Unix(), i), "text/xml", endless(10<<20))
			if err != nil { // the connection ended while the body was being written
				return
			}
			_ = res.Body.Close()
			statuses <- res.StatusCode
		})
	}
	ended := make(chan struct{})
	go func() { all.Wait(); close(ended) }()
	for watching, tick := true, time.Tick(50*time.Millisecond); watching; {
		var now runtime.MemStats
		runtime.ReadMemStats(&now)
		peak = max(peak, now.HeapAlloc)
		select {
		case <-ended:
			watching = false
		case <-tick:
		}
	}
	close(statuses)
	got := map[int]int{}
	for s := range statuses {
		if got[s]++; s != 413 && s != 503 && s != 408 {
			t.Errorf("a stranger got %d", s)
		}
	}
	if got[413] == 0 {
		t.Errorf("got %v, want 413", got)
	}
	if peak > 256<<20 {
		t.Errorf("the heap was up to %d MiB", peak>>20)
	}
	if n := h.number("SELECT count(*)::int FROM inbound_last"); n != 0 {
		t.Errorf("%d users are noted", n)
	}
	t.Logf("%v; heap at most %d MiB", got, peak>>20)
}

// A push that the database refuses takes none of those down with it that came at the same time.
func TestAPushThatCannotBeKept(t *testing.T) {
	h := start(t, encrypted)
	if _, err := h.db.Exec(t.Context(), `
		CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE data_exception USING MESSAGE = 'no room'; END $$;
		CREATE TRIGGER refuse BEFORE INSERT ON inbound_last FOR EACH ROW WHEN (NEW.openid = 'oBAD') EXECUTE FUNCTION refuse()`); err != nil {
		t.Fatal(err)
	}
	we := counterpart{token, aesKey}
	var wg sync.WaitGroup
	for i := range 200 {
		wg.Go(func() {
			user := fmt.Sprintf("oGOOD%d", i)
			if i%50 == 7 {
				user = "oBAD"
			}
			for range 5 { // a busy machine needs more than a second now and then
				if status, _ := h.push(we, says(user)); status == 200 {
					return
				}
			}
			t.Errorf("the push of %s is not taken", user)
		})
	}
	wg.Wait()
	if n := h.number("SELECT count(*)::int FROM inbound_last"); n != 196 {
		t.Errorf("%d users are noted, want 196", n)
	}
	if log := h.stderr.String(); !strings.Contains(log, "cannot be kept") || !strings.Contains(log, "no room") {
		t.Errorf("the log does not say why:\n%s", log)
	}
}
