package wechattest

import (
	"encoding/base64"
	"strings"
	"testing"
)

// The vectors are those of WeChat's pages and of public implementations, each recomputed.
func TestSignaturesOfVectors(t *testing.T) {
	for _, c := range []struct {
		parts []string
		want  string
	}{
		{[]string{"AAAAA", "1714036504", "1514711492"}, "f464b24fc39322e44b38aa78f5edd27bd1441696"},
		{[]string{"AAAAA", "1714037059", "486452656"}, "899cf89e464efb63f54ddac96b0a0a235f53aa78"},
		{[]string{"test", "1410685589", "test"}, "f21891de399b4e33a1a93c9a7b8a8fffb5a443ff"},
		{[]string{"token1234567890", "1458864389", "2066297436"}, "f9c725922f6844701ba71e98031978e40023c09f"},
		{[]string{"a", "b", "c"}, "a9993e364706816aba3e25717850c26c9cd0d89d"},
		{[]string{"RMNlACHlV5ThzfRlVS4D4", "timestamp", "nonce", "encrypt"}, "8edac0945683c119ee71c9f6256d76c48aa08a96"},
	} {
		if got := signatureOf(c.parts...); got != c.want {
			t.Errorf("%q: got %s, want %s", c.parts, got, c.want)
		}
	}
}

const (
	vectorKey = "abcdefghijklmnopqrstuvwxyz0123456789ABCDEFG"
	zeroKey   = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
)

func sealOf(t *testing.T, key, appID string) *seal {
	t.Helper()
	s, err := newSeal(key, appID)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestSealOfVectors(t *testing.T) {
	for name, c := range map[string]struct{ key, random, text, appID, want string }{
		"a pad of 7": {
			vectorKey, "aaaabbbbccccdddd", "我是中文abcd123", "wxb11529c136998cb6",
			"jn1L23DB+6ELqJ+6bruv21Y6MD7KeIfP82D6gU39rmkgczbWwt5+3bnyg5K55bgVtVzd832WzZGMhkP72vVOfg==",
		},
		"a pad of 1": {
			zeroKey, "707722b803182950", `{"demo_resp":"good luck"}`, "wxba5fad812f8e6fb9",
			"ELGduP2YcVatjqIS+eZbp80MNLoAUWvzzyJxgGzxZO/5sAvd070Bs6qrLARC9nVHm48Y4hyRbtzve1L32tmxSQ==",
		},
		"XML": {
			zeroKey, "999951349e8ee746", "<xml><demo_resp>[CDATA[good luck]]</demo_resp></xml>", "wx134c8103faa5a59e",
			"hE8R6mGXHkJJjU72KxzKUd1GEkKJaEZq7vRL8XgK3o+00k8JGq6+pZJUIlTSyhsX+bxIBQ72g3GyvDdIZcr6+3HAZbSvPT9t/o11MI7d6WELwqrGd7jMnV0zv3Zc9Nq7",
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := sealOf(t, c.key, c.appID)
			if got := s.close([16]byte([]byte(c.random)), []byte(c.text)); got != c.want {
				t.Errorf("encrypted to %s", got)
			}
			if got, err := s.open(c.want); err != nil || string(got) != c.text {
				t.Errorf("decrypted to %q, %v", got, err)
			}
		})
	}
	sealed := "+qdx1OKCy+5JPCBFWw70tm0fJGb2Jmeia4FCB7kao+/Q5c/ohsOzQHi8khUOb05JCpj0JB4RvQMkUyus8TPxLKJGQqcvZqzDpVzazhZv6JsXUnnR8XGT740XgXZUXQ7vJVnAG+tE8NUd4yFyjPy7GgiaviNrlCTj+l5kdfMuFUPpRSrfMZuMcp3Fn2Pede2IuQrKEYwKSqFIZoNqJ4M8EajAsjLY2km32IIjdf8YL/P50F7mStwntrA2cPDrM1kb6mOcfBgRtWygb3VIYnSeOBrebufAlr7F9mFUPAJGj04="
	got, err := sealOf(t, zeroKey, "wxba5fad812f8e6fb9").open(sealed)
	if err != nil || !strings.Contains(string(got), `"debug_str":"hello world"`) {
		t.Errorf("decrypted to %q, %v", got, err)
	}
	if got := signatureOf("AAAAA", "1714112445", "415670741", sealed); got != "046e02f8204d34f8ba5fa3b1db94908f3df2e9b3" {
		t.Errorf("msg_signature %s", got)
	}
	short := "4ByGGj+sVCYcvGeQYhaKIk1o0pQRNbRjxybjTGblXrBaXlTXeOo1+bXFXDQQb1o6co6Yh9Bv41n7hOchLF6p+Q=="
	got, err = sealOf(t, "kWxPEV2UEDyxWpmPdKC3F4dgPDmOvfKX1HGnEUDS1aR", "wx49f0ab532d5d035a").open(short)
	if err != nil || string(got) != "5927782489442352469" {
		t.Errorf("decrypted to %q, %v", got, err)
	}
}

func TestSealOpensNothingElse(t *testing.T) {
	s := sealOf(t, vectorKey, appID)
	good := s.close([16]byte{}, []byte("hello"))
	raw, _ := base64.StdEncoding.DecodeString(good)
	encode := base64.StdEncoding.EncodeToString
	damaged := append([]byte(nil), raw...)
	damaged[len(damaged)-17] ^= 0x55 // the pad's last byte
	for name, sealed := range map[string]string{
		"no base64":          "?",
		"nothing":            "",
		"half a block":       encode(raw[:24]),
		"a pad that is none": encode(damaged),
		"another appid":      sealOf(t, vectorKey, "wx9").close([16]byte{}, []byte("hello")),
		"another key":        sealOf(t, zeroKey, appID).close([16]byte{}, []byte("hello")),
	} {
		if got, err := s.open(sealed); err == nil {
			t.Errorf("%s: opened %q", name, got)
		}
	}
	for _, key := range []string{"", vectorKey[1:], vectorKey[1:] + "?"} {
		if _, err := newSeal(key, appID); err == nil {
			t.Errorf("the key %q is good", key)
		}
	}
}
