package postgres

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/hongyan-dispatch/hongyan/message"
)

// recipient is the view's column: the openid, or for mass whom the body or the list names.
func recipient(m *message.Message) string {
	if m.Kind != message.Mass {
		return string(m.To)
	}
	if len(m.List) > 0 {
		return "list:" + strconv.Itoa(len(m.List))
	}
	var body struct {
		Filter struct {
			TagID json.RawMessage `json:"tag_id"`
			ToAll bool            `json:"is_to_all"`
		} `json:"filter"`
	}
	if err := json.Unmarshal(m.Body, &body); err == nil && !body.Filter.ToAll && len(body.Filter.TagID) > 0 {
		return "tag:" + string(bytes.Trim(body.Filter.TagID, `"`)) // a number or a string, says WeChat's page
	}
	return "all"
}

// A fallbackRow is how message_body keeps a fallback: it has neither account, nor recipient, nor a fallback.
type fallbackRow struct {
	ID        message.ID        `json:"id,omitzero"`
	Kind      message.Kind      `json:"kind"`
	Key       string            `json:"key,omitempty"`
	Lane      message.Lane      `json:"lane,omitempty"`
	Body      json.RawMessage   `json:"body"`
	NotBefore time.Time         `json:"not_before,omitzero"`
	ExpiresAt time.Time         `json:"expires_at,omitzero"`
	Labels    map[string]string `json:"labels,omitempty"`
}

func marshalFallback(f *message.Message) (string, error) {
	if f == nil {
		return "", nil
	}
	b, err := json.Marshal(fallbackRow{f.ID, f.Kind, f.Key, f.Lane, f.Body, f.NotBefore, f.ExpiresAt, f.Labels})
	if err != nil {
		return "", fmt.Errorf("write fallback: %w", err)
	}
	return string(b), nil
}

func unmarshalFallback(s string) (*message.Message, error) {
	if s == "" {
		return nil, nil
	}
	var f fallbackRow
	if err := json.Unmarshal([]byte(s), &f); err != nil {
		return nil, fmt.Errorf("read fallback: %w", err)
	}
	return &message.Message{
		ID: f.ID, Kind: f.Kind, Key: f.Key, Lane: f.Lane, Body: f.Body,
		NotBefore: f.NotBefore, ExpiresAt: f.ExpiresAt, Labels: f.Labels,
	}, nil
}

func marshalLabels(labels map[string]string) ([]byte, error) {
	if len(labels) == 0 {
		return nil, nil
	}
	b, err := json.Marshal(labels)
	if err != nil {
		return nil, fmt.Errorf("write labels: %w", err)
	}
	return b, nil
}

// storable says whether Postgres can hold the message: its text knows neither a NUL byte nor bytes that are not
// UTF-8, and its jsonb no \u0000.
func storable(m *message.Message) error {
	if m.ID.IsZero() {
		return fmt.Errorf("%w: no id", ErrUnstorable)
	}
	check := func(field, s string) error {
		if strings.IndexByte(s, 0) >= 0 || !utf8.ValidString(s) {
			return fmt.Errorf("%w: %s holds a NUL byte or is not UTF-8", ErrUnstorable, field)
		}
		return nil
	}
	if bytes.IndexByte(m.Body, 0) >= 0 || !utf8.Valid(m.Body) {
		return check("body", "\x00")
	}
	if err := check("to", string(m.To)); err != nil {
		return err
	}
	if err := check("key", m.Key); err != nil {
		return err
	}
	for _, to := range m.List {
		if err := check("to", string(to)); err != nil {
			return err
		}
	}
	for k, v := range m.Labels {
		if err := check("labels", k+v); err != nil {
			return err
		}
	}
	if f := m.Fallback; f != nil {
		if !json.Valid(f.Body) {
			return fmt.Errorf("%w: fallback's body is not JSON", ErrUnstorable)
		}
		if err := check("fallback", string(f.Body)+f.Key); err != nil {
			return err
		}
	}
	return nil
}

// bodyColumns are message_body's, in the order of [copyBody] and [scanBody].
const bodyColumns = `id, parent, not_before, expires_at, recipient, key, content, labels, recipients, fallback`

// copyBody writes a row of message_body in COPY's format.
func copyBody(v *values, m *message.Message) error {
	labels, err := marshalLabels(m.Labels)
	if err != nil {
		return err
	}
	fallback, err := marshalFallback(m.Fallback)
	if err != nil {
		return err
	}
	*v = append(*v, 0, 10)
	v.uuid(m.ID)
	v.uuidOrNull(m.Parent)
	v.timeOrNull(m.NotBefore)
	v.timeOrNull(m.ExpiresAt)
	v.text(recipient(m))
	v.textOrNull(m.Key)
	v.bytes(m.Body)
	v.jsonbOrNull(labels)
	v.textsOrNull(len(m.List), func(i int) string { return string(m.List[i]) })
	v.textOrNull(fallback)
	return nil
}

// A bodyRow is a row of message_body as read.
type bodyRow struct {
	parent                *[16]byte
	notBefore, expiresAt  *time.Time
	recipient, content    *string // NULL where a message has no body row
	key, labels, fallback *string
	recipients            []string
}

func (b *bodyRow) targets() []any {
	return []any{&b.parent, &b.notBefore, &b.expiresAt, &b.recipient, &b.key, &b.content, &b.labels, &b.recipients, &b.fallback}
}

// bodySelect are the columns that targets reads, of alias b.
const bodySelect = `b.parent, b.not_before, b.expires_at, b.recipient, b.key, b.content, b.labels::text, b.recipients, b.fallback`

// into fills in the message what its body row holds, if there is one.
func (b *bodyRow) into(m *message.Message) error {
	if b.content == nil {
		return nil
	}
	m.Body = json.RawMessage(*b.content)
	if m.Kind != message.Mass {
		m.To = message.OpenID(*b.recipient)
	}
	for _, to := range b.recipients {
		m.List = append(m.List, message.OpenID(to))
	}
	if b.parent != nil {
		m.Parent = *b.parent
	}
	if b.notBefore != nil {
		m.NotBefore = *b.notBefore
	}
	if b.expiresAt != nil {
		m.ExpiresAt = *b.expiresAt
	}
	if b.key != nil {
		m.Key = *b.key
	}
	if b.labels != nil {
		if err := json.Unmarshal([]byte(*b.labels), &m.Labels); err != nil {
			return fmt.Errorf("read labels of %s: %w", m.ID, err)
		}
	}
	if b.fallback != nil {
		f, err := unmarshalFallback(*b.fallback)
		if err != nil {
			return fmt.Errorf("message %s: %w", m.ID, err)
		}
		m.Fallback = f
	}
	return nil
}
