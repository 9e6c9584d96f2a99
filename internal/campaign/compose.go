package campaign

import (
	"errors"
	"fmt"
	"time"

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
	f := newFunctions(s.timezone())
	var err error
	if c.body, err = newFiller(string(s.Kind), s.Body, columns, f); err != nil {
		return c, err
	}
	if c.fallback, err = newFiller("fallback", s.Fallback, columns, f); err != nil {
		return c, err
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
	if err == nil && len(arena)-from > message.MaxBytes {
		err = errTooLong
	}
	if err != nil {
		return m, arena[:from], err
	}
	if len(c.fallback) > 0 {
		text, err := c.fallback.fill(nil, to, vars)
		if err != nil {
			return m, arena[:from], err
		}
		if m.Fallback, err = message.Parse(text); err != nil {
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
