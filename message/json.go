package message

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Parse reads one message in the house's JSON. It is strict: a field that we do not know, a key given
// twice, a value of the wrong type, invalid UTF-8, or anything behind the object is an error of type
// [Invalid] with the field's path. What the fields say is judged by [Message.Validate].
//
// The body is kept as [Compact] writes it. Times are kept to the millisecond. The message holds
// nothing of line, which may be used again.
func Parse(line []byte) (*Message, error) {
	if len(line) > MaxMassBytes {
		return nil, tooLong(len(line), MaxMassBytes)
	}
	p := parser{newCompactor(line)}
	defer p.free()
	if bytes.HasPrefix(line, []byte("\xef\xbb\xbf")) {
		p.refuse("begins with a byte order mark; save the file as UTF-8 without one")
	}
	m := p.message(false)
	if !p.failed {
		p.end()
	}
	if err := p.err(); err != nil {
		return nil, err
	}
	if m.Kind != Mass && len(line) > MaxBytes {
		return nil, tooLong(len(line), MaxBytes)
	}
	return m, nil
}

func tooLong(n, limit int) error {
	return Invalid{{Rule: fmt.Sprintf("at most %d KiB", limit>>10), Got: fmt.Sprintf("%d bytes", n)}}
}

// UnmarshalJSON reads what [Parse] reads.
func (m *Message) UnmarshalJSON(data []byte) error {
	parsed, err := Parse(data)
	if err != nil {
		return err
	}
	*m = *parsed
	return nil
}

// The fields of the envelope, in the order in which we write them.
var envelope = []string{
	"account", "kind", "to", "key", "lane",
	string(Template), string(Subscribe), string(Custom), string(Mass),
	"not_before", "expires_at", "fallback", "labels",
}

// A parser makes messages of what its scanner walks over.
type parser struct{ *compactor }

// message reads one message; inside says that it is the fallback of another.
func (p parser) message(inside bool) *Message {
	m := &Message{}
	if !p.expect('{', "an object") {
		return m
	}
	var seen uint64
	var bodies [4]json.RawMessage // by the place of their kind in Kinds
	p.open()
	for p.next('}') {
		key := p.key()
		i := slices.Index(envelope, string(key))
		switch {
		case p.failed:
		case i < 0:
			p.find(unknownField(key, envelope), "")
			p.skip()
		case seen&(1<<i) != 0:
			p.refuse("duplicate key")
		case inside && notInFallback(string(key)):
			p.find("leave it out of a fallback", "")
			p.skip()
		default:
			seen |= 1 << i
			p.field(m, envelope[i], &bodies)
		}
		p.endMember()
	}
	if !p.failed {
		if seen&(1<<slices.Index(envelope, "kind")) == 0 {
			p.findIn("kind", "required: one of "+join(Kinds()), "")
		}
		p.body(m, bodies)
	}
	return m
}

// notInFallback names the fields that a fallback takes from its message, or cannot have.
func notInFallback(name string) bool { return name == "account" || name == "to" || name == "fallback" }

func (p parser) field(m *Message, name string, bodies *[4]json.RawMessage) {
	switch name {
	case "account":
		m.Account = p.textField()
	case "kind":
		m.Kind = oneOf(p, Kinds())
	case "to":
		p.to(m)
	case "key":
		m.Key = p.textField()
	case "lane":
		m.Lane = oneOf(p, Lanes())
	case "not_before":
		m.NotBefore = p.timeField()
	case "expires_at":
		m.ExpiresAt = p.timeField()
	case "fallback":
		m.Fallback = p.message(true)
	case "labels":
		m.Labels = p.labels()
	default:
		bodies[slices.Index(Kinds(), Kind(name))] = p.bodyField()
	}
}

func (p parser) textField() string {
	if !p.expect('"', "a string") {
		return ""
	}
	text, _ := p.text()
	return string(text)
}

// oneOf reads a name of a closed list.
func oneOf[T ~string](p parser, names []T) T {
	if !p.expect('"', "a string") {
		return ""
	}
	text, _ := p.text()
	for _, name := range names {
		if string(text) == string(name) {
			return name
		}
	}
	p.find("want one of "+join(names), quoted(text))
	return ""
}

func join[T ~string](names []T) string {
	words := make([]string, len(names))
	for i, name := range names {
		words[i] = string(name)
	}
	return strings.Join(words, ", ")
}

func (p parser) to(m *Message) {
	if p.peek() != '[' {
		if p.expect('"', "an openid, or a list of openids for mass") {
			text, _ := p.text()
			m.To = OpenID(text)
		}
		return
	}
	m.List = []OpenID{}
	p.open()
	for i := 0; p.next(']'); i++ {
		p.path.pushIndex(i)
		m.List = append(m.List, OpenID(p.textField()))
		p.path.pop()
	}
}

func (p parser) timeField() time.Time {
	const want = "want RFC 3339 with a time zone, such as 2026-12-01T09:00:00+08:00"
	if !p.expect('"', "a string") {
		return time.Time{}
	}
	text, _ := p.text()
	var t time.Time
	if err := t.UnmarshalText(text); err != nil || t.IsZero() {
		p.find(want, quoted(text))
	}
	return t.Truncate(time.Millisecond)
}

func (p parser) labels() map[string]string {
	if !p.expect('{', "an object of strings") {
		return nil
	}
	var labels map[string]string
	p.open()
	for p.next('}') {
		if labels == nil {
			labels = map[string]string{}
		}
		name := string(p.key())
		if _, twice := labels[name]; twice {
			p.refuse("duplicate key")
		}
		labels[name] = p.textField()
		p.endMember()
	}
	return labels
}

func (p parser) bodyField() json.RawMessage {
	if !p.expect('{', "an object") {
		return json.RawMessage{}
	}
	p.out = p.out[:0]
	p.value()
	return bytes.Clone(p.out)
}

// body picks the one body that stands under the kind's name.
func (p parser) body(m *Message, bodies [4]json.RawMessage) {
	for i, kind := range Kinds() {
		switch given := bodies[i] != nil; {
		case kind == m.Kind && given:
			m.Body = bodies[i]
		case kind == m.Kind:
			p.findIn(string(kind), "required: WeChat's own JSON for the call, without touser", "")
		case given && m.Kind != "":
			p.findIn(string(kind), fmt.Sprintf("leave it out: kind is %s", m.Kind), "")
		}
	}
}

// unknownField is the rule about a field that is not among names.
func unknownField(key []byte, names []string) string {
	if remedy := remedies[string(key)]; remedy != "" {
		return remedy
	}
	return "unknown field; want " + strings.Join(names, ", ")
}

// remedies answers fields that people bring along from WeChat's documentation, or from other tools.
var remedies = map[string]string{
	"id":            "leave it out: ids are given at enqueue; your own reference is the key",
	"touser":        "leave it out: the recipient stands in the message's to",
	"towxname":      "leave it out: a preview is asked for by command, not by a message",
	"client_msg_id": "leave it out: the message's id is sent as client_msg_id; your own reference is the key",
	"clientmsgid":   "leave it out: the message's id is sent as clientmsgid; your own reference is the key",
	"access_token":  "leave it out, and treat it as leaked: Hongyan holds the account's token itself",
	"color":         "leave it out: WeChat has ignored colours since 2023-03-30",
	"topcolor":      "leave it out: WeChat has ignored colours since 2023-03-30",
}
