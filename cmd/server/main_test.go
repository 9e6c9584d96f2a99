package main

import (
	"bytes"
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/sha1"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/redis/go-redis/v9"

	"github.com/hongyan-dispatch/hongyan/internal/devstack"
	"github.com/hongyan-dispatch/hongyan/internal/postgres"
	"github.com/hongyan-dispatch/hongyan/internal/tasks"
	"github.com/hongyan-dispatch/hongyan/internal/window"
	"github.com/hongyan-dispatch/hongyan/message"
)

func TestMain(m *testing.M) {
	if os.Getenv(envServer) != "" {
		main()
		return
	}
	devstack.Main(m)
}

const (
	appID  = "wx00000000000000c1"
	token  = "canarytoken0001"
	aesKey = "abcdefghijklmnopqrstuvwxyz0123456789ABCDEFG"
)

// A house is a running server with stores of its own.
type house struct {
	*testing.T
	url    string
	db     *pgxpool.Pool
	rdb    redis.UniversalClient
	ledger *window.Ledger
	stderr *lines
	file   string     // the configuration
	stop   func() int // ends the server and says its exit code
}

// lines is a log that can be read while it is written.
type lines struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

var listening = regexp.MustCompile(`msg=listening address=(\S+)`)

func start(t *testing.T, callback string) *house {
	t.Helper()
	t.Parallel()
	return startOn(t, devstack.Redis(t), devstack.Postgres(t, postgres.Migrate), callback)
}

func startOn(t *testing.T, redisURL, databaseURL, callback string) *house {
	t.Helper()
	return startConfigured(t, redisURL, databaseURL, fmt.Sprintf(`redis: {url: %q}
postgres: {url: %q}
server: {listen: "127.0.0.1:0"}
accounts:
  - {name: shop, appid: %s, secret: 0123456789abcdef0123456789abcdef, type: service, base_url: "http://127.0.0.1:1", callback: {%s}}
`, redisURL, databaseURL, appID, callback))
}

func startConfigured(t *testing.T, redisURL, databaseURL, text string) *house {
	t.Helper()
	file := filepath.Join(t.TempDir(), "hongyan.yaml")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	h := &house{T: t, stderr: &lines{}, file: file}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan int, 1)
	go func() { ended <- run(ctx, []string{"--config", file}, io.Discard, h.stderr) }()
	h.stop = sync.OnceValue(func() int { cancel(); return <-ended })
	t.Cleanup(func() { h.stop() })
	h.eventually("a server that listens", func() bool {
		m := listening.FindStringSubmatch(h.stderr.String())
		if m != nil {
			h.url = "http://" + m[1]
		}
		return m != nil
	})
	var err error
	if h.db, err = pgxpool.New(t.Context(), databaseURL); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(h.db.Close)
	if h.rdb, err = tasks.Redis(redisURL); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { h.rdb.Close() })
	h.ledger = window.New(h.rdb, func(message.AppID) window.Rules { return window.DefaultRules() })
	return h
}

func (h *house) eventually(what string, holds func() bool) {
	h.Helper()
	deadline, tick := time.After(30*time.Second), time.NewTicker(20*time.Millisecond)
	defer tick.Stop()
	for !holds() {
		select {
		case <-deadline:
			h.Fatalf("after 30 s still no %s; the log:\n%s", what, h.stderr)
		case <-tick.C:
		}
	}
}

// A counterpart is WeChat's side, by WeChat's page and with the library's chaining of blocks.
type counterpart struct{ token, key string }

func (c counterpart) sign(parts ...string) string {
	parts = append(parts, c.token)
	slices.Sort(parts)
	return fmt.Sprintf("%x", sha1.Sum([]byte(strings.Join(parts, ""))))
}

func (c counterpart) cipher() (cipher.Block, []byte) {
	key, err := base64.StdEncoding.DecodeString(c.key + "=")
	if err != nil {
		panic(err)
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		panic(err)
	}
	return block, key[:16]
}

func (c counterpart) seal(body string) string {
	plain := append([]byte("0123456789abcdef"), binary.BigEndian.AppendUint32(nil, uint32(len(body)))...)
	plain = append(append(plain, body...), appID...)
	pad := 32 - len(plain)%32
	plain = append(plain, bytes.Repeat([]byte{byte(pad)}, pad)...)
	block, iv := c.cipher()
	cipher.NewCBCEncrypter(block, iv).CryptBlocks(plain, plain)
	return base64.StdEncoding.EncodeToString(plain)
}

var serial = struct {
	sync.Mutex
	n int64
}{n: time.Now().UnixNano()}

func next() int64 {
	serial.Lock()
	defer serial.Unlock()
	serial.n++
	return serial.n
}

// push sends a body as WeChat does and answers with the status and the text that came back.
func (h *house) push(c counterpart, body string) (int, string) {
	h.Helper()
	sealed, at, nonce := c.seal(body), fmt.Sprint(time.Now().Unix()), fmt.Sprint(next())
	q := url.Values{
		"timestamp": {at}, "nonce": {nonce}, "signature": {c.sign(at, nonce)},
		"msg_signature": {c.sign(at, nonce, sealed)}, "encrypt_type": {"aes"},
	}
	return h.post(q, "<xml><ToUserName>gh</ToUserName><Encrypt>"+sealed+"</Encrypt></xml>")
}

func (h *house) post(q url.Values, body string) (int, string) {
	h.Helper()
	res, err := http.Post(h.url+"/wechat/shop?"+q.Encode(), "text/xml", strings.NewReader(body))
	if err != nil {
		h.Fatal(err)
	}
	defer res.Body.Close()
	text, _ := io.ReadAll(res.Body)
	return res.StatusCode, string(text)
}

func says(user string) string {
	return fmt.Sprintf("<xml><ToUserName>gh</ToUserName><FromUserName>%s</FromUserName><CreateTime>%d</CreateTime>"+
		"<MsgType>text</MsgType><Content>hi</Content><MsgId>%d</MsgId></xml>", user, time.Now().Unix(), next())
}

func happens(user, event, more string) string {
	return happensAt(time.Now(), user, event, more)
}

func happensAt(at time.Time, user, event, more string) string {
	return fmt.Sprintf("<xml><ToUserName>gh</ToUserName><FromUserName>%s</FromUserName><CreateTime>%d</CreateTime>"+
		"<MsgType>event</MsgType><Event>%s</Event>%s</xml>", user, at.Unix(), event, more)
}

func (h *house) window(user string) window.State {
	h.Helper()
	v, err := h.ledger.Look(h.Context(), appID, message.OpenID(user), time.Now())
	if err != nil {
		h.Fatal(err)
	}
	return v.State
}

func (h *house) number(sql string, args ...any) (n int) {
	h.Helper()
	if err := h.db.QueryRow(h.Context(), sql, args...).Scan(&n); err != nil {
		h.Fatal(err)
	}
	return n
}

const encrypted = "token: " + token + ", aes_key: " + aesKey

func TestEventsBecomeState(t *testing.T) {
	h := start(t, encrypted)
	we := counterpart{token, aesKey}
	ok := func(body string) {
		t.Helper()
		status, text := h.push(we, body)
		for range 4 { // WeChat repeats what a busy machine could not write within a second
			if status != 500 {
				break
			}
			status, text = h.push(we, body)
		}
		if status != 200 || text != "success" {
			t.Fatalf("got %d %q", status, text)
		}
	}
	ok(says("oWRITES"))
	if s := h.window("oWRITES"); s != window.Open {
		t.Errorf("the window of who wrote is %s", s)
	}
	left := time.Now()
	ok(happensAt(left, "oWRITES", "unsubscribe", ""))
	if s := h.window("oWRITES"); s != window.Closed {
		t.Errorf("the window of who left is %s", s)
	}
	const suppressed = "SELECT count(*)::int FROM suppression WHERE openid = $1 AND active"
	if n := h.number(suppressed, "oWRITES"); n != 1 {
		t.Error("who left is not suppressed")
	}
	ok(happensAt(left, "oWRITES", "subscribe", "<EventKey></EventKey>"))
	if n := h.number(suppressed, "oWRITES"); n != 1 { // of one second the leaving counts
		t.Error("an event of the same second lifted it")
	}
	ok(happens("oREFUSES", "subscribe_msg_popup_event", "<SubscribeMsgPopupEvent><List><TemplateId>T1</TemplateId><SubscribeStatusString>reject</SubscribeStatusString><PopupScene>1</PopupScene></List></SubscribeMsgPopupEvent>"))
	if n := h.number(suppressed+" AND template_id = 'T1'", "oREFUSES"); n != 1 {
		t.Error("the refused template is not suppressed")
	}
	ok(happens("oBLOCKS", "TEMPLATESENDJOBFINISH", "<MsgID>4711</MsgID><Status>failed:user block</Status>"))
	if n := h.number(suppressed, "oBLOCKS"); n != 1 {
		t.Error("who blocks is not suppressed")
	}
	ok(happens("gh_helper", "MASSSENDJOBFINISH", "<MsgID>12</MsgID><Status>sendsuccess</Status><TotalCount>100</TotalCount><FilterCount>80</FilterCount><SentCount>75</SentCount><ErrorCount>5</ErrorCount>"))
	if n := h.number("SELECT count(*)::int FROM receipt WHERE kind = 'mass' AND msgid = 12 AND delivered AND (job->>'sent')::int = 75"); n != 1 {
		t.Error("the mass send's receipt is not kept")
	}
	for path, want := range map[string]string{"/healthz": "ok", "/readyz": "ready", "/metrics": `hongyan_pushes_total{account="shop",tells="message"} `} {
		res, err := http.Get(h.url + path)
		if err != nil {
			t.Fatal(err)
		}
		text, _ := io.ReadAll(res.Body)
		res.Body.Close()
		if res.StatusCode != 200 || !strings.Contains(string(text), want) {
			t.Errorf("%s answers %d, want %q in it", path, res.StatusCode, want)
		}
	}
	if code := h.stop(); code != exitDone || !strings.Contains(h.stderr.String(), "msg=closed") {
		t.Errorf("ended with %d:\n%s", code, h.stderr)
	}
}

func TestBothKeysOpenWhileTheyAreChanged(t *testing.T) {
	const newKey = "GFEDCBA9876543210zyxwvutsrqponmlkjihgfedcba"
	h := start(t, "token: newtoken, aes_key: "+newKey+", token_previous: "+token+", aes_key_previous: "+aesKey)
	for name, we := range map[string]counterpart{"the old": {token, aesKey}, "the new": {"newtoken", newKey}, "a new token with the old key": {"newtoken", aesKey}} {
		if status, text := h.push(we, says("oROTATES")); status != 200 && status != 500 || status == 200 && text != "success" {
			t.Errorf("%s: got %d %q", name, status, text)
		}
	}
	if status, _ := h.push(counterpart{"stranger", aesKey}, says("oSTRANGER")); status != 403 {
		t.Errorf("a stranger got %d", status)
	}
	if s := h.window("oSTRANGER"); s != window.UnknownUser {
		t.Errorf("a stranger's push changed a window: %s", s)
	}
	log := h.stderr.String()
	for _, secret := range []string{token, aesKey, "newtoken", newKey, "oSTRANGER", "oROTATES"} {
		if strings.Contains(log, secret) {
			t.Errorf("the log tells %s:\n%s", secret, log)
		}
	}
}

func TestAThousandStrangersChangeNothing(t *testing.T) {
	h := start(t, encrypted)
	var wg sync.WaitGroup
	statuses := make(chan int, 1000)
	for range 1000 {
		wg.Go(func() {
			status, _ := h.push(counterpart{"stranger", aesKey}, says("oSTRANGER"))
			statuses <- status
		})
	}
	wg.Wait()
	close(statuses)
	for s := range statuses {
		if s != 403 && s != 503 {
			t.Fatalf("a stranger got %d", s)
		}
	}
	h.eventually("push of WeChat's that is taken", func() bool {
		status, _ := h.push(counterpart{token, aesKey}, says("oFRIEND"))
		return status == 200
	})
	if n := h.number("SELECT count(DISTINCT openid)::int FROM inbound_last"); n != 1 {
		t.Errorf("%d users are noted, want 1", n)
	}
}

// What is committed and cannot be told to Redis is told when Redis is back, without another push.
func TestStoresThatAreAway(t *testing.T) {
	t.Parallel()
	stack, err := devstack.Start(t.Context(), devstack.Options{Redis: true, Private: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { stack.Close() })
	h := startOn(t, stack.RedisURL(), devstack.Postgres(t, postgres.Migrate), encrypted)
	we := counterpart{token, aesKey}
	if err := stack.Redis().Kill(); err != nil {
		t.Fatal(err)
	}
	if status, _ := h.push(we, says("oLATE")); status != 500 {
		t.Errorf("without Redis: %d, want 500", status)
	}
	if res, err := http.Get(h.url + "/readyz"); err != nil || res.StatusCode != 503 {
		t.Errorf("readyz without Redis: %v, %v", res, err)
	}
	if err := stack.Redis().Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	h.eventually("window of who wrote while Redis was away", func() bool {
		v, err := h.ledger.Look(t.Context(), appID, "oLATE", time.Now())
		return err == nil && v.State == window.Open
	})
	h.eventually("push that is taken", func() bool { status, _ := h.push(we, says("oSOON")); return status == 200 })
}

func TestBadInput(t *testing.T) {
	for name, c := range map[string]struct{ yaml, want string }{
		"a short key":       {"token: t, aes_key: short", "accounts[0].callback.aes_key: want 43 letters and digits, got 5 bytes"},
		"two replies":       {encrypted + ", replies: [{keyword: a, text: b, image: c}]", "replies[0]: want exactly one of text, image"},
		"rules and forward": {encrypted + ", forward_url: 'https://x.example.com/', replies: [{text: b}]", "replies: given together with forward_url"},
		"a slow upstream":   {encrypted + ", forward_url: 'https://x.example.com/', forward_timeout: 9s", "forward_timeout: want more than 0 and at most 4s"},
	} {
		t.Run(name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "hongyan.yaml")
			text := fmt.Sprintf("redis: {url: 'redis://127.0.0.1:1/0'}\npostgres: {url: 'postgres://127.0.0.1:1/x'}\naccounts:\n  - {name: shop, appid: %s, secret: s, type: service, callback: {%s}}\n", appID, c.yaml)
			if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			var stderr bytes.Buffer
			if code := run(t.Context(), []string{"--config", file}, io.Discard, &stderr); code != exitBadInput || !strings.Contains(stderr.String(), c.want) {
				t.Errorf("ended with %d: %s; want %q", code, stderr.String(), c.want)
			}
		})
	}
}

// Replies stand in the configuration and go out in the request's own mode and form.
func TestRepliesOfTheConfiguration(t *testing.T) {
	const replies = ", replies: [{event: follow, text: 谢谢关注}, {keyword: 订单, contains: true, text: 请点菜单}, {transfer: {enabled: true}}]"
	we := counterpart{token, aesKey}
	asks := func(words string) string { return strings.Replace(says("oASKS"), "hi", words, 1) }
	for name, c := range map[string]struct{ callback, mode string }{
		"encrypted":  {encrypted, "encrypted"},
		"compatible": {encrypted + ", mode: compatible", "compatible"},
		"plain":      {"token: " + token + ", mode: plain", "plain"},
	} {
		t.Run(name, func(t *testing.T) {
			h := start(t, c.callback+replies)
			for body, want := range map[string]string{
				asks("查订单"): "请点菜单", happens("oASKS", "subscribe", ""): "谢谢关注", asks("别的"): "transfer_customer_service",
			} {
				var text string
				h.eventually("an answer of 200", func() bool {
					var status int
					if c.mode == "plain" {
						at, nonce := fmt.Sprint(time.Now().Unix()), fmt.Sprint(next())
						status, text = h.post(url.Values{"timestamp": {at}, "nonce": {nonce}, "signature": {we.sign(at, nonce)}}, body)
					} else {
						status, text = h.push(we, body)
					}
					return status == 200
				})
				if strings.Contains(text, want) != (c.mode == "plain") {
					t.Errorf("answered %q", text)
				}
				if c.mode != "plain" {
					text = we.unseal(t, text)
				}
				if !strings.Contains(text, want) || !strings.Contains(text, "<ToUserName><![CDATA[oASKS]]>") {
					t.Errorf("answered %q, want %q to the user", text, want)
				}
			}
			if warned := strings.Contains(h.stderr.String(), "takes bodies that are not encrypted"); warned == (c.mode == "encrypted") {
				t.Errorf("mode %s: warned %t", c.mode, warned)
			}
		})
	}
}

// unseal reads an encrypted answer, whose signature must be WeChat's kind.
func (c counterpart) unseal(t *testing.T, answer string) string {
	t.Helper()
	m := regexp.MustCompile(`^<xml><Encrypt><!\[CDATA\[(.+)\]\]></Encrypt><MsgSignature><!\[CDATA\[(.+)\]\]></MsgSignature><TimeStamp>(\d+)</TimeStamp><Nonce><!\[CDATA\[(\d+)\]\]></Nonce></xml>$`).FindStringSubmatch(answer)
	if m == nil || c.sign(m[3], m[4], m[1]) != m[2] {
		t.Fatalf("answered %q", answer)
	}
	data, err := base64.StdEncoding.DecodeString(m[1])
	if err != nil {
		t.Fatal(err)
	}
	block, iv := c.cipher()
	cipher.NewCBCDecrypter(block, iv).CryptBlocks(data, data)
	length := int(binary.BigEndian.Uint32(data[16:]))
	return string(data[20 : 20+length])
}
