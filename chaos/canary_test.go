package main

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"net/url"
	"slices"
	"strings"
	"testing"
)

func TestASecretIsFoundInWhateverForm(t *testing.T) {
	for _, secret := range []string{"s", "ab", "a secret/of+some=length", "0123456789abcdef0123456789abcdef"} {
		for _, around := range [][2]string{{"", ""}, {"x", ""}, {"", "y"}, {"xy", "z"}, {"xyz", "zzz"}, {"{\"secret\":\"", "\"}"}} {
			text := around[0] + secret + around[1]
			for _, written := range []string{
				text, url.QueryEscape(text), hex.EncodeToString([]byte(text)), base64.StdEncoding.EncodeToString([]byte(text)), base64.URLEncoding.EncodeToString([]byte(text)), base64.RawURLEncoding.EncodeToString([]byte(text)),
			} {
				if !slices.ContainsFunc(forms(secret), func(form []byte) bool { return strings.Contains(written, string(form)) }) {
					t.Errorf("%q is not found in %q", secret, written)
				}
			}
		}
	}
	for _, form := range forms("0123456789abcdef0123456789abcdef") {
		if len(form) < 32 || bytes.Contains([]byte("nothing of the kind"), form) {
			t.Errorf("%q is found everywhere", form)
		}
	}
}
