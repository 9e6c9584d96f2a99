package wechat

import (
	"crypto/subtle"
	"fmt"
	"log/slog"
	"time"
)

// A Secret is an access token or an appsecret. Whatever prints it prints "[secret]", also from inside
// other values; only [Secret.Reveal] gives it away. The zero Secret is none.
type Secret struct{ value *string } // a pointer: fmt shows an address where it may not call methods

const redacted = "[secret]"

// NewSecret wraps value.
func NewSecret(value string) Secret {
	if value == "" {
		return Secret{}
	}
	return Secret{&value}
}

// Reveal is the value itself: for the wire and for sealing, and nothing else.
func (s Secret) Reveal() string {
	if s.value == nil {
		return ""
	}
	return *s.value
}

// IsZero says whether there is no secret.
func (s Secret) IsZero() bool { return s.value == nil }

// Equal compares in constant time.
func (s Secret) Equal(other Secret) bool {
	return subtle.ConstantTimeCompare([]byte(s.Reveal()), []byte(other.Reveal())) == 1
}

// String, Format, GoString, LogValue, MarshalText and MarshalJSON all print "[secret]".
func (s Secret) String() string { return redacted }

// Format prints "[secret]" for every verb.
func (s Secret) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte(redacted)) }

// GoString prints "[secret]".
func (s Secret) GoString() string { return redacted }

// LogValue prints "[secret]".
func (s Secret) LogValue() slog.Value { return slog.StringValue(redacted) }

// MarshalText prints "[secret]".
func (s Secret) MarshalText() ([]byte, error) { return []byte(redacted), nil }

// MarshalJSON prints "[secret]".
func (s Secret) MarshalJSON() ([]byte, error) { return []byte(`"` + redacted + `"`), nil }

// A Token is an access token of one account.
type Token struct {
	Value     Secret
	Gen       int64     // grows with each new token of the account, over all pods
	ExpiresAt time.Time // not to be used after; a margin before WeChat's own time
}
