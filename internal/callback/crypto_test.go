package callback

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"net/url"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/hongyan-dispatch/hongyan/message"
)

// A vector is a worked example of WeChat's pages or of a known library's tests: testdata/vectors.json names them.
type vector struct {
	ID, Src                 string
	Parts                   []string
	Key                     string
	KeyHex                  string `json:"key_hex"`
	Random, Msg, AppID      string
	Want                    string
	Token, Timestamp, Nonce string
	WantSig                 string `json:"want_sig"`
	Signature               string
	MsgSignature            string `json:"msg_signature"`
	Encrypt                 string
}

func vectors(t testing.TB) (all struct{ Sig, Enc, Dec []vector }) {
	t.Helper()
	data, err := os.ReadFile("testdata/vectors.json")
	if err == nil {
		err = json.Unmarshal(data, &all)
	}
	if err != nil || len(all.Sig) != 6 || len(all.Enc) != 3 || len(all.Dec) != 3 {
		t.Fatalf("vectors: %v, %d %d %d", err, len(all.Sig), len(all.Enc), len(all.Dec))
	}
	return all
}

func mustSealer(t testing.TB, key, appid string) *sealer {
	t.Helper()
	s, err := newSealer(key, message.AppID(appid))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestKnownSignatures(t *testing.T) {
	for _, v := range vectors(t).Sig {
		if got := sign(v.Parts...); got != v.Want {
			t.Errorf("%s: got %s, want %s", v.ID, got, v.Want)
		}
	}
}

func TestKnownEncryptions(t *testing.T) {
	for _, v := range vectors(t).Enc {
		s := mustSealer(t, v.Key, v.AppID)
		if key := hex.EncodeToString(weChatOf(v).rawKey()); v.KeyHex != "" && key != v.KeyHex {
			t.Errorf("%s: counterpart's key %s, want %s", v.ID, key, v.KeyHex)
		}
		got := s.encrypt([randomHead]byte([]byte(v.Random)), []byte(v.Msg))
		if got != v.Want {
			t.Errorf("%s: got %s, want %s", v.ID, got, v.Want)
		}
		if other := weChatOf(v).seal(v.Random, []byte(v.Msg)); other != v.Want {
			t.Errorf("%s: counterpart got %s, want %s", v.ID, other, v.Want)
		}
		if v.WantSig != "" && sign(v.Token, v.Timestamp, v.Nonce, got) != v.WantSig {
			t.Errorf("%s: signature got %s, want %s", v.ID, sign(v.Token, v.Timestamp, v.Nonce, got), v.WantSig)
		}
		if back, err := s.decrypt(v.Want); err != nil || string(back) != v.Msg {
			t.Errorf("%s: back got %q, %v", v.ID, back, err)
		}
	}
}

func weChatOf(v vector) counterpart { return counterpart{v.AppID, v.Token, v.Key} }

func TestKnownDecryptions(t *testing.T) {
	for _, v := range vectors(t).Dec {
		if !signed(v.MsgSignature, v.Token, v.Timestamp, v.Nonce, v.Encrypt) {
			t.Errorf("%s: msg_signature does not match", v.ID)
		}
		if v.Signature != "" && !signed(v.Signature, v.Token, v.Timestamp, v.Nonce) {
			t.Errorf("%s: signature does not match", v.ID)
		}
		got, err := mustSealer(t, v.Key, v.AppID).decrypt(v.Encrypt)
		if err != nil || string(got) != v.Msg {
			t.Errorf("%s: got %q, %v, want %q", v.ID, got, err, v.Msg)
		}
		if random, msg := weChatOf(v).unseal(t, v.Encrypt); random != v.Random || msg != v.Msg {
			t.Errorf("%s: counterpart got %q, %q", v.ID, random, msg)
		}
	}
}

func TestKnownPushesOpen(t *testing.T) {
	for _, v := range vectors(t).Dec[:2] {
		seconds, _ := strconv.ParseInt(v.Timestamp, 10, 64)
		now := time.Unix(seconds, 0)
		d, err := New(Config{AppID: message.AppID(v.AppID), Tokens: []string{v.Token}, AESKeys: []string{v.Key}})
		if err != nil {
			t.Fatal(err)
		}
		body := `<xml><ToUserName>x</ToUserName><Encrypt>` + v.Encrypt + `</Encrypt></xml>`
		q := url.Values{"timestamp": {v.Timestamp}, "nonce": {v.Nonce}, "msg_signature": {v.MsgSignature}, "encrypt_type": {"aes"}}
		in, err := d.Open(q, []byte(body), now)
		if err != nil {
			t.Fatalf("%s: %v", v.ID, err)
		}
		if !in.Sealed || in.Push.FromUserName == "" || string(in.Plain) != v.Msg {
			t.Errorf("%s: got %+v", v.ID, in.Push)
		}
		for what, change := range map[string]func(url.Values){
			"one character of the nonce": func(q url.Values) { q.Set("nonce", v.Nonce[:len(v.Nonce)-1]+"x") },
			"the timestamp":              func(q url.Values) { q.Set("timestamp", strconv.FormatInt(seconds+1, 10)) },
			"the signature":              func(q url.Values) { q.Set("msg_signature", strings.Repeat("0", 40)) },
			"its case":                   func(q url.Values) { q.Set("msg_signature", strings.ToUpper(v.MsgSignature)) },
			"its length":                 func(q url.Values) { q.Set("msg_signature", v.MsgSignature[:39]) },
		} {
			forged := url.Values{}
			for k := range q {
				forged.Set(k, q.Get(k))
			}
			change(forged)
			if _, err := d.Open(forged, []byte(body), now); status(err) != 403 {
				t.Errorf("%s with %s changed: got %v, want 403", v.ID, what, err)
			}
		}
	}
}

func TestForgedNonceOfTheKnownFailure(t *testing.T) {
	v := vectors(t).Dec[2]
	if signed(v.MsgSignature, v.Token, v.Timestamp, "437374424", v.Encrypt) {
		t.Error("the nonce of wechatpy's failing case is accepted")
	}
	if signed(v.MsgSignature, "other", v.Timestamp, v.Nonce, v.Encrypt) {
		t.Error("another token is accepted")
	}
}

// TestBrokenCiphertextsFailAlike has each check of decryption fail by itself; the errors are one.
func TestBrokenCiphertextsFailAlike(t *testing.T) {
	s := mustSealer(t, aesKey, appID)
	head := "0123456789abcdef"
	length := func(n int) string { return string([]byte{byte(n >> 24), byte(n >> 16), byte(n >> 8), byte(n)}) }
	pad := func(body string, n int) string { // 32-byte blocks whose last byte is n
		fill := 32 - len(body)%32
		return body + strings.Repeat(string([]byte{byte(n)}), fill)
	}
	whole := head + length(5) + "hello" + appID // 43 bytes: 21 are missing
	if got, err := s.decrypt(weChat.chain([]byte(pad(whole, 21)))); err != nil || string(got) != "hello" {
		t.Fatalf("the unbroken one: got %q, %v", got, err)
	}
	for name, text := range map[string]string{
		"no base64":                "!!!!",
		"empty":                    "",
		"not a multiple of 16":     weChat.chain([]byte(pad(whole, 21)))[:20],
		"not a multiple of 32":     weChat.chain([]byte(pad(whole, 21)[:48])),
		"pad byte 0":               weChat.chain([]byte(pad(whole, 0))),
		"pad byte 33":              weChat.chain([]byte(pad(whole, 33))),
		"pad byte 255":             weChat.chain([]byte(pad(whole, 255))),
		"pad bytes of two numbers": weChat.chain([]byte(whole + strings.Repeat("\x14", 20) + "\x15")),
		"pad longer than the rest": weChat.chain([]byte(strings.Repeat("\x20", 32))),
		"no room for a length":     weChat.chain([]byte(head + strings.Repeat("\x10", 16))),
		"length beyond the end":    weChat.chain([]byte(pad(head+length(1000)+"hello"+appID, 21))),
		"length of 4 GiB":          weChat.chain([]byte(pad(head+length(-1)+"hello"+appID, 21))),
		"length one too small":     weChat.chain([]byte(pad(head+length(4)+"hello"+appID, 21))),
		"length one too large":     weChat.chain([]byte(pad(head+length(6)+"hello"+appID, 21))),
		"another appid":            counterpart{"wxb11529c136998cb7", token, aesKey}.seal(head, []byte("hello")),
		"the appid and more":       counterpart{appID + "x", token, aesKey}.seal(head, []byte("hello")),
		"no appid":                 counterpart{"", token, aesKey}.seal(head, []byte("hello")),
		"another key":              counterpart{appID, token, "AAAA" + aesKey[4:]}.seal(head, []byte("hello")),
	} {
		if got, err := s.decrypt(text); !errors.Is(err, errDecrypt) || got != nil {
			t.Errorf("%s: got %q, %v", name, got, err)
		}
	}
}

func TestEncryptionMeetsItsCounterpart(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		other := counterpart{
			appid: rapid.StringMatching(`wx[0-9a-f]{1,40}`).Draw(rt, "appid"),
			token: token,
			key:   rapid.StringMatching(`[0-9a-zA-Z]{43}`).Draw(rt, "key"),
		}
		msg := rapid.SliceOfN(rapid.Byte(), 0, 200).Draw(rt, "message")
		random := string(rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(rt, "random"))
		s := mustSealer(t, other.key, other.appid)
		if got, err := s.decrypt(other.seal(random, msg)); err != nil || string(got) != string(msg) {
			rt.Fatalf("what WeChat encrypted: got %q, %v, want %q", got, err, msg)
		}
		sealed := s.encrypt([randomHead]byte([]byte(random)), msg)
		if gotRandom, got := other.unseal(t, sealed); got != string(msg) || gotRandom != random {
			rt.Fatalf("what we encrypted: got %q, want %q", got, msg)
		}
		if sealed != other.seal(random, msg) {
			rt.Fatal("both encrypt differently")
		}
	})
}

func TestKeysThatAreNoneAreRefusedUnquoted(t *testing.T) {
	for _, key := range []string{"", aesKey[:42], aesKey + "H", strings.Repeat("!", 43), "\n" + aesKey[:42], strings.Repeat("\n", 43)} {
		_, err := newSealer(key, appID)
		if err == nil || key != "" && strings.Contains(err.Error(), key) {
			t.Errorf("key %q: got %v", key, err)
		}
	}
}
