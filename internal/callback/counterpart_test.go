package callback

import (
	"crypto/aes"
	"crypto/sha1"
	"encoding/base64"
	"fmt"
	"io"
	"net/url"
	"sort"
	"strings"
	"testing"
	"time"
)

// A counterpart is WeChat's side of an account, written from WeChat's pages alone and by other means than the code
// under test: the chaining of blocks by hand, the padding by arithmetic, the bodies as text.
type counterpart struct {
	appid, token, key string
}

const (
	appID  = "wxb11529c136998cb6"
	token  = "pamtest"
	aesKey = "abcdefghijklmnopqrstuvwxyz0123456789ABCDEFG"
)

var (
	weChat = counterpart{appID, token, aesKey}
	noon   = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
)

func (c counterpart) signature(parts ...string) string {
	parts = append([]string{c.token}, parts...)
	sort.Strings(parts)
	h := sha1.New()
	for _, p := range parts {
		_, _ = io.WriteString(h, p)
	}
	return fmt.Sprintf("%040x", h.Sum(nil))
}

func (c counterpart) rawKey() []byte {
	key, err := base64.RawStdEncoding.DecodeString(c.key) // without the "=": 43 characters are 32 bytes
	if err != nil || len(key) != 32 {
		panic("bad key of a test")
	}
	return key
}

// seal encrypts block by block: each is first mixed with the one before.
func (c counterpart) seal(random string, msg []byte) string {
	n := len(msg)
	plain := random + string([]byte{byte(n >> 24), byte(n >> 16), byte(n >> 8), byte(n)}) + string(msg) + c.appid
	pad := 32*(len(plain)/32+1) - len(plain)
	return c.chain([]byte(plain + strings.Repeat(string(rune(pad)), pad)))
}

func (c counterpart) chain(plain []byte) string {
	key := c.rawKey()
	block, _ := aes.NewCipher(key)
	before := key[:16]
	var sealed []byte
	for at := 0; at < len(plain); at += 16 {
		var one [16]byte
		for i := range one {
			one[i] = plain[at+i] ^ before[i]
		}
		block.Encrypt(one[:], one[:])
		sealed = append(sealed, one[:]...)
		before = sealed[at : at+16]
	}
	return base64.StdEncoding.EncodeToString(sealed)
}

// opens says whether a text is what WeChat encrypts for the account, by the words of its page alone.
func (c counterpart) opens(text string) bool {
	sealed, err := base64.StdEncoding.DecodeString(text)
	if err != nil || len(sealed) < 32 || len(sealed)%32 != 0 {
		return false
	}
	plain := c.unchain(sealed)
	pad := int(plain[len(plain)-1])
	if pad < 1 || pad > 32 || !strings.HasSuffix(plain, strings.Repeat(plain[len(plain)-1:], pad)) {
		return false
	}
	plain = plain[:len(plain)-pad]
	if len(plain) < 20 {
		return false
	}
	n := int(plain[16])<<24 | int(plain[17])<<16 | int(plain[18])<<8 | int(plain[19])
	return 20+n <= len(plain) && plain[20+n:] == c.appid
}

// unchain decrypts block by block.
func (c counterpart) unchain(sealed []byte) string {
	key := c.rawKey()
	block, _ := aes.NewCipher(key)
	plain := make([]byte, len(sealed))
	for at := len(sealed) - 16; at >= 0; at -= 16 {
		block.Decrypt(plain[at:at+16], sealed[at:at+16])
		before := key[:16]
		if at > 0 {
			before = sealed[at-16 : at]
		}
		for i := range 16 {
			plain[at+i] ^= before[i]
		}
	}
	return string(plain)
}

// unseal decrypts block by block and returns what stands behind the random head, or fails the test.
func (c counterpart) unseal(t testing.TB, text string) (random, msg string) {
	t.Helper()
	sealed, err := base64.StdEncoding.DecodeString(text)
	if err != nil || len(sealed)%32 != 0 {
		t.Fatalf("encrypted text of %d bytes: %v", len(sealed), err)
	}
	s := c.unchain(sealed)
	pad := s[len(s)-1]
	s = strings.TrimSuffix(s, strings.Repeat(string(rune(pad)), int(pad)))
	n := int(s[16])<<24 | int(s[17])<<16 | int(s[18])<<8 | int(s[19])
	if pad > 32 || len(s)%32 != (32-int(pad))%32 || s[20+n:] != c.appid {
		t.Fatalf("pad %d, length %d of %d, appid %q", pad, n, len(s), s[min(20+n, len(s)):])
	}
	return s[:16], s[20 : 20+n]
}

// push is an encrypted request with a body of either form.
func (c counterpart) push(body string, at time.Time) (url.Values, []byte) {
	encrypt := c.seal("0123456789abcdef", []byte(body))
	q := c.query(at)
	q.Set("encrypt_type", "aes")
	q.Set("msg_signature", c.signature(q.Get("timestamp"), q.Get("nonce"), encrypt))
	if strings.HasPrefix(body, "{") {
		return q, fmt.Appendf(nil, `{"ToUserName":"gh_1","Encrypt":"%s"}`, encrypt)
	}
	return q, fmt.Appendf(nil, "<xml><ToUserName><![CDATA[gh_1]]></ToUserName><Encrypt><![CDATA[%s]]></Encrypt></xml>", encrypt)
}

// query is that of a plain request.
func (c counterpart) query(at time.Time) url.Values {
	timestamp := fmt.Sprint(at.Unix())
	return url.Values{
		"signature": {c.signature(timestamp, "260774613")}, "timestamp": {timestamp}, "nonce": {"260774613"}, "openid": {"oABC"},
	}
}

// event is an event's body, of a minute before noon.
func event(name, rest string) string {
	return fmt.Sprintf("<xml><ToUserName><![CDATA[gh_1]]></ToUserName><FromUserName><![CDATA[oABC]]></FromUserName>"+
		"<CreateTime>%d</CreateTime><MsgType><![CDATA[event]]></MsgType><Event><![CDATA[%s]]></Event>%s</xml>", noon.Unix()-60, name, rest)
}

// words is a text message's body.
func words(rest string) string {
	return fmt.Sprintf("<xml><ToUserName>gh_1</ToUserName><FromUserName>oABC</FromUserName><CreateTime>%d</CreateTime>"+
		"<MsgType>text</MsgType>%s</xml>", noon.Unix()-60, rest)
}

func newDoor(t testing.TB, mode Mode) *Door {
	t.Helper()
	d, err := New(Config{AppID: appID, Mode: mode, Tokens: []string{token}, AESKeys: []string{aesKey}})
	if err != nil {
		t.Fatal(err)
	}
	return d
}
