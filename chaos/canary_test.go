package main

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/hongyan-dispatch/hongyan/internal/wechattest"
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

// TestSecretsAreListedWhileWorkersCall: a scenario is judged while its workers run, and they call WeChat when they like.
func TestSecretsAreListedWhileWorkersCall(t *testing.T) {
	r := &rig{key: "hy_1_key", sim: wechattest.New(wechattest.Options{}), tokens: map[string]bool{}}
	defer r.sim.Close()
	var calls sync.WaitGroup
	calls.Go(func() {
		for n := range 100 {
			q := httptest.NewRequestWithContext(t.Context(), http.MethodPost, fmt.Sprintf("/cgi-bin/clear_quota?access_token=token-%d", n), nil)
			r.overhear(httptest.NewRecorder(), q)
		}
	})
	for range 100 {
		if _, err := r.secrets(t.Context()); err != nil {
			t.Error(err)
		}
	}
	calls.Wait()
	all, err := r.secrets(t.Context())
	for n := range 100 {
		if token := fmt.Sprintf("token-%d", n); err != nil || !slices.ContainsFunc(all["an access token"], func(form []byte) bool { return string(form) == token }) {
			t.Errorf("%s is not among them, %v", token, err)
		}
	}
}
