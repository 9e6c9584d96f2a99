package config

import (
	"fmt"
	"io"
	"log/slog"
	"strings"
)

const masked = "[secret]"

// A Secret is text that no log, error or page may show: in every form of printing and marshalling it is
// "[secret]". The zero Secret is empty. The text lies behind a pointer, so that fmt cannot reach it even
// inside an unexported field, where it calls no methods.
type Secret struct{ text *string }

// NewSecret hides text.
func NewSecret(text string) Secret {
	if text == "" {
		return Secret{}
	}
	return Secret{&text}
}

// Reveal is the text itself, for the one call that needs it.
func (s Secret) Reveal() string {
	if s.text == nil {
		return ""
	}
	return *s.text
}

// IsZero says whether there is no text.
func (s Secret) IsZero() bool { return s.text == nil }

// String is "[secret]", or nothing for the zero Secret, so that a missing secret can be told.
func (s Secret) String() string {
	if s.IsZero() {
		return ""
	}
	return masked
}

// Format writes String, whatever the verb.
func (s Secret) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, s.String()) }

// LogValue is String.
func (s Secret) LogValue() slog.Value { return slog.StringValue(s.String()) }

// MarshalText is String; encoding/json, encoding/xml and their like use it.
func (s Secret) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// MarshalJSON is String in quotes.
func (s Secret) MarshalJSON() ([]byte, error) { return []byte(`"` + s.String() + `"`), nil }

// MarshalYAML is String.
func (s Secret) MarshalYAML() (any, error) { return s.String(), nil }

// Where is the part of a store's URL that may be shown: scheme, host and path, without user, password
// and parameters. It is "[secret]" where the parts cannot be told apart for sure.
func Where(url Secret) string {
	scheme, rest, ok := strings.Cut(url.Reveal(), "://")
	if !ok {
		return url.String()
	}
	at, query := strings.LastIndexByte(rest, '@'), strings.IndexAny(rest, "?#")
	if query >= 0 && at > query { // an @ in the parameters, or a ? in an unescaped password
		return scheme + "://" + masked
	}
	if query >= 0 {
		rest = rest[:query]
	}
	return scheme + "://" + rest[at+1:]
}
