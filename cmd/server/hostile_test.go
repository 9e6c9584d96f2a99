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
	"sync/atomic"
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

// A thousand strangers at a time send ten megabytes each, and a hundred send a byte a second: they end, memory stays, and
// WeChat is served meanwhile.
func TestLargeAndSlowStrangersAreBounded(t *testing.T) {
	h := start(t, encrypted)
	we := counterpart{token, aesKey}
	h.eventually("push that is taken", func() bool { status, _ := h.push(we, says("oFRIEND")); return status == 200 })
	before := h.state()
	u, err := url.Parse(h.url)
	if err != nil {
		t.Fatal(err)
	}

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
			fmt.Fprintf(c, "POST /wechat/shop?timestamp=%d&nonce=1&msg_signature=0 HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n", began.Unix())
			drip, ended := time.NewTicker(time.Second), make(chan []byte)
			defer drip.Stop()
			go func() { answer, _ := io.ReadAll(c); ended <- answer }()
			for {
				select {
				case <-drip.C:
					_, _ = c.Write([]byte("<"))
				case answer := <-ended:
					if !bytes.HasPrefix(answer, []byte("HTTP/1.1 408")) && !bytes.HasPrefix(answer, []byte("HTTP/1.1 503")) || time.Since(began) > 20*time.Second {
						t.Errorf("after %v got %q", time.Since(began), answer)
					}
					return
				}
			}
		})
	}

	var peak atomic.Uint64
	var large sync.WaitGroup
	statuses := make(chan int, 1000)
	client := &http.Client{Transport: &http.Transport{MaxConnsPerHost: 1000}}
	defer client.CloseIdleConnections()
	runtime.GC()
	var base runtime.MemStats
	runtime.ReadMemStats(&base)
	for i := range 1000 {
		large.Go(func() {
			res, err := client.Post(fmt.Sprintf("%s/wechat/shop?timestamp=%d&nonce=%d&msg_signature=0", h.url, time.Now().Unix(), i), "text/xml", endless(10<<20))
			if err != nil { // refused while the body was being written
				return
			}
			_ = res.Body.Close()
			statuses <- res.StatusCode
			var now runtime.MemStats
			runtime.ReadMemStats(&now)
			for {
				was := peak.Load()
				if now.HeapAlloc <= was || peak.CompareAndSwap(was, now.HeapAlloc) {
					break
				}
			}
		})
	}
	served := 0
	for range 20 {
		if status, _ := h.push(we, says("oFRIEND")); status == 200 {
			served++
		}
	}
	large.Wait()
	slow.Wait()
	close(statuses)
	got := map[int]int{}
	for s := range statuses {
		got[s]++
	}
	if got[413] == 0 || len(got) > 2 || len(got) == 2 && got[503] == 0 {
		t.Errorf("the large ones got %v, want 413, and 503 where they are too many", got)
	}
	if served == 0 {
		t.Error("none of WeChat's 20 pushes was taken meanwhile")
	}
	if grown := int64(peak.Load()) - int64(base.HeapAlloc); grown > 256<<20 {
		t.Errorf("memory has grown by %d MiB", grown>>20)
	}
	if n := h.number("SELECT count(DISTINCT openid)::int FROM inbound_last"); n != 1 || !strings.HasPrefix(before, "(1,oFRIEND,") {
		t.Errorf("%d users are noted, want 1", n)
	}
	t.Logf("large: %v; served %d of 20 meanwhile; memory at most %d MiB above", got, served, (int64(peak.Load())-int64(base.HeapAlloc))>>20)
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
