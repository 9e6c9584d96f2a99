package message

import (
	"maps"
	"slices"
	"time"
)

// MarshalJSON writes the message as its producer would: the object that [Parse] reads. The id and the
// parent, which Hongyan gives, are not part of it.
func (m *Message) MarshalJSON() ([]byte, error) { return m.AppendJSON(nil), nil }

// AppendJSON appends what [Message.MarshalJSON] writes, without the HTML escapes that json.Marshal adds.
func (m *Message) AppendJSON(dst []byte) []byte {
	dst = append(dst, '{')
	first := len(dst)
	field := func(name string) {
		if len(dst) > first {
			dst = append(dst, ',')
		}
		dst = appendQuoted(dst, name)
		dst = append(dst, ':')
	}
	text := func(name, value string) {
		if value != "" {
			field(name)
			dst = appendQuoted(dst, validText(value))
		}
	}
	instant := func(name string, t time.Time) {
		if !t.IsZero() {
			text(name, t.Format(time.RFC3339Nano))
		}
	}

	text("account", m.Account)
	text("kind", string(m.Kind))
	text("to", string(m.To))
	if m.List != nil {
		field("to")
		dst = appendList(dst, m.List)
	}
	text("key", m.Key)
	text("lane", string(m.Lane))
	if m.Body != nil {
		field(string(m.Kind))
		dst = append(dst, m.Body...)
	}
	instant("not_before", m.NotBefore)
	instant("expires_at", m.ExpiresAt)
	if m.Fallback != nil {
		field("fallback")
		dst = m.Fallback.AppendJSON(dst)
	}
	if len(m.Labels) > 0 {
		field("labels")
		dst = appendLabels(dst, m.Labels)
	}
	return append(dst, '}')
}

func appendList(dst []byte, list []OpenID) []byte {
	dst = append(dst, '[')
	for i, openid := range list {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = appendQuoted(dst, validText(string(openid)))
	}
	return append(dst, ']')
}

func appendLabels(dst []byte, labels map[string]string) []byte {
	dst = append(dst, '{')
	for i, name := range slices.Sorted(maps.Keys(labels)) {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = appendQuoted(dst, validText(name))
		dst = append(dst, ':')
		dst = appendQuoted(dst, validText(labels[name]))
	}
	return append(dst, '}')
}
