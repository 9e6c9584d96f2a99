package webhook

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// secretPrefix stands before every secret.
const secretPrefix = "whsec_"

// A Key signs what an endpoint is told. It prints as [secret].
type Key struct{ bytes func() []byte } // a func, because fmt prints what fields hold, but not what funcs do

// ParseKey reads a secret: whsec_ and then the base64 of 24 to 64 bytes. Its error quotes nothing.
func ParseKey(secret string) (Key, error) {
	text, ok := strings.CutPrefix(secret, secretPrefix)
	if !ok {
		return Key{}, errors.New("want whsec_ and then base64")
	}
	key, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		return Key{}, errors.New("want base64 after whsec_")
	}
	if len(key) < 24 || len(key) > 64 {
		return Key{}, fmt.Errorf("want 24 to 64 bytes in base64, got %d", len(key))
	}
	return Key{func() []byte { return key }}, nil
}

// Sign is the webhook-signature of a body: v1 and HMAC-SHA256 over the id, the time and the body.
func (k Key) Sign(id string, at time.Time, body []byte) string {
	mac := hmac.New(sha256.New, k.bytes())
	_, _ = mac.Write([]byte(id + "." + strconv.FormatInt(at.Unix(), 10) + "."))
	_, _ = mac.Write(body)
	return "v1," + base64.StdEncoding.EncodeToString(mac.Sum(nil))
}

// Format hides the key whatever the verb.
func (Key) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte("[secret]")) }
