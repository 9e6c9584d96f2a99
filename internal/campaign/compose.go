package campaign

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/hongyan-dispatch/hongyan/message"
)

// A Composer writes a firing's messages. It may be used by several goroutines.
type Composer struct {
	spec           *Spec
	start          time.Time
	firing         int32
	body, fallback filler
}

// NewComposer readies the spec's texts for an audience with these columns. With an error, which says that a
// placeholder has no column, the composer still makes blanks.
func NewComposer(s *Spec, start time.Time, firing int32, columns []string) (*Composer, error) {
	c := &Composer{spec: s, start: start, firing: firing}
	if s.Kind == message.Mass {
		return c, errors.New("mass: one call goes to many; a message to each recipient is of another kind")
	}
	var err error
	if c.body, err = newFiller(string(s.Body), columns); err != nil {
		return c, fmt.Errorf("%s: %w", s.Kind, err)
	}
	if c.fallback, err = newFiller(string(s.Fallback), columns); err != nil {
		return c, fmt.Errorf("fallback: %w", err)
	}
	return c, nil
}

// Message is the message to recipient n. Body memory is taken from the end of arena, if it has room, and the arena is
// returned behind it. The error says why there is none; the message then has no body, and names whom it was for.
func (c *Composer) Message(arena []byte, n int32, to message.OpenID, vars []string) (*message.Message, []byte, error) {
	s := c.spec
	m := &message.Message{
		ID: MessageID(c.start, c.firing, n), Account: s.Account, Kind: s.Kind, To: to, Lane: s.Lane,
		Body: []byte("{}"), Labels: s.Labels, Firing: c.firing, N: n,
	}
	if m.Lane == "" {
		m.Lane = message.Bulk
	}
	if s.Expires > 0 {
		m.ExpiresAt = c.start.Add(s.Expires)
	}
	from := len(arena)
	arena, err := c.body.fill(arena, to, vars)
	if err != nil {
		return m, arena[:from], err
	}
	if len(c.fallback) > 0 {
		text, err := c.fallback.fill(nil, to, vars)
		if err == nil {
			m.Fallback, err = message.Parse(text)
		}
		if err != nil {
			return m, arena[:from], fmt.Errorf("fallback: %w", err)
		}
	}
	m.Body = arena[from:len(arena):len(arena)]
	return m, arena, nil
}

// Blank is the message to recipient n that will not be sent.
func (c *Composer) Blank(n int32, to message.OpenID) *message.Message {
	return &message.Message{
		ID: MessageID(c.start, c.firing, n), Account: c.spec.Account, Kind: c.spec.Kind, To: to, Lane: message.Bulk,
		Body: []byte("{}"), Labels: c.spec.Labels, Firing: c.firing, N: n,
	}
}

// A filler is a text with places to be filled in.
type filler []piece

// A piece is text, and then the value of a column; openID stands for the recipient, none for the end.
type piece struct {
	text   string
	column int
}

const (
	none   = -1
	openID = -2
)

func newFiller(text string, columns []string) (filler, error) {
	var f filler
	for text != "" {
		before, rest, found := strings.Cut(text, "{{")
		if !found {
			return append(f, piece{text, none}), nil
		}
		inside, after, closed := strings.Cut(rest, "}}")
		name, isField := strings.CutPrefix(strings.TrimSpace(inside), ".")
		if !closed || !isField {
			return nil, fmt.Errorf("{{%s: want {{.column}}", inside)
		}
		column := openID
		if name != "openid" {
			if column = slices.Index(columns, name); column < 0 {
				return nil, fmt.Errorf("{{.%s}}: the audience has no column %q; it has %s", name, name, strings.Join(columns, ", "))
			}
		}
		f = append(f, piece{before, column})
		text = after
	}
	return f, nil
}

// fill appends the text with its values, which stand inside JSON strings.
func (f filler) fill(dst []byte, to message.OpenID, vars []string) ([]byte, error) {
	for _, p := range f {
		dst = append(dst, p.text...)
		switch {
		case p.column == none:
		case p.column == openID:
			dst = append(dst, to...)
		case p.column >= len(vars):
			return dst, fmt.Errorf("the recipient has %d values, and value %d is asked for", len(vars), p.column+1)
		default:
			if !utf8.ValidString(vars[p.column]) {
				return dst, fmt.Errorf("value %d is not UTF-8", p.column+1)
			}
			dst = appendEscaped(dst, vars[p.column])
		}
	}
	return dst, nil
}

// appendEscaped writes text as it stands inside a JSON string, with no more escapes than JSON demands: WeChat counts
// characters as it reads them.
func appendEscaped(dst []byte, text string) []byte {
	const digits = "0123456789abcdef"
	from := 0
	for i := range len(text) {
		c := text[i]
		if c >= ' ' && c != '"' && c != '\\' {
			continue
		}
		dst = append(dst, text[from:i]...)
		from = i + 1
		switch c {
		case '"', '\\':
			dst = append(dst, '\\', c)
		case '\n':
			dst = append(dst, '\\', 'n')
		default:
			dst = append(dst, '\\', 'u', '0', '0', digits[c>>4], digits[c&15])
		}
	}
	return append(dst, text[from:]...)
}
