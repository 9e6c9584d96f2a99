package main

import (
	"context"
	"encoding/json"
	"errors"
	"time"

	"github.com/hongyan-dispatch/hongyan/client"
	"github.com/hongyan-dispatch/hongyan/message"
)

// An envelope is what every kind of message has.
type envelope struct {
	Account   string  `help:"The account's name in the configuration, or its appid. May be left out where there is one." placeholder:"NAME"`
	Key       string  `help:"Idempotency key: enqueued again with the same key, the message is sent once." placeholder:"KEY"`
	Lane      string  `help:"urgent, normal or bulk." enum:"urgent,normal,bulk" default:"normal" placeholder:"LANE"`
	NotBefore instant `help:"Not before then: RFC 3339, or from now such as +10m. With a key, give a fixed time." placeholder:"TIME"`
	ExpiresAt instant `help:"Not after then: RFC 3339, or from now such as +2h." placeholder:"TIME"`
	Label     []pair  `help:"Label for reports; may be repeated." sep:"none" placeholder:"NAME=VALUE"`
}

func (e envelope) message(kind message.Kind, body json.RawMessage, now time.Time) (message.Message, error) {
	m := message.Message{
		Account: e.Account, Kind: kind, Key: e.Key, Lane: message.Lane(e.Lane), Body: body,
		NotBefore: e.NotBefore.after(now), ExpiresAt: e.ExpiresAt.after(now),
	}
	for _, l := range e.Label {
		if m.Labels == nil {
			m.Labels = map[string]string{}
		}
		m.Labels[l.name] = l.value
	}
	return m, twice("--label", e.Label)
}

// A receipt is what --json writes about one message.
type receipt struct {
	ID         message.ID        `json:"id"`
	Duplicate  bool              `json:"duplicate"`
	Durability client.Durability `json:"durability"`
	Parts      []message.ID      `json:"parts,omitempty"`
}

// enqueue enqueues one message and prints its receipt.
func (s *session) enqueue(ctx context.Context, m message.Message) error {
	c, cfg, err := s.enqueuer(ctx)
	if err != nil {
		return err
	}
	defer c.Close()
	if m.Account == "" && len(cfg.Accounts) == 1 {
		m.Account = cfg.Accounts[0].Name
	}
	r, err := c.Enqueue(ctx, m)
	if err != nil {
		return remedy(err, m)
	}
	out := receipt{ID: r.ID, Duplicate: r.Duplicate, Durability: r.Durability, Parts: r.Parts}
	word := "accepted"
	if r.Duplicate {
		word = "accepted before under this key:"
	}
	parts := ""
	for _, id := range r.Parts {
		parts += "\n  part " + id.String()
	}
	return s.print(out, "%s %s (durability: %s)%s", word, r.ID, r.Durability, parts)
}

// remedy says what to do where the error itself cannot know.
func remedy(err error, m message.Message) error {
	if errors.Is(err, client.ErrInDoubt) && m.Key == "" {
		return errors.Join(err, errors.New("enqueue: it has no --key: enqueued again it might be sent twice; --key avoids that the next time"))
	}
	return err
}

// WeChat's own JSON, from a file.
func (s *session) body(name string) (json.RawMessage, error) {
	text, err := s.readAll("--body", name, message.MaxMassBytes)
	if err != nil {
		return nil, err
	}
	if err := syntax(text); err != nil {
		return nil, refuse("--body: %s: %w", name, err)
	}
	return text, nil
}

// syntax says where text is no JSON.
func syntax(text []byte) error {
	var any json.RawMessage
	return json.Unmarshal(text, &any)
}

// fallback reads the message that goes instead where the window is closed.
func (s *session) fallback(name string) (*message.Message, error) {
	if name == "" {
		return nil, nil
	}
	text, err := s.readAll("--fallback", name, message.MaxBytes)
	if err != nil {
		return nil, err
	}
	if err := syntax(text); err != nil {
		return nil, refuse("--fallback: %s: %w", name, err)
	}
	// Parse knows a fallback inside its message only.
	line := append([]byte(`{"kind":"custom","custom":{},"fallback":`), text...)
	m, err := message.Parse(append(line, '}'))
	if err != nil {
		return nil, err
	}
	return m.Fallback, nil
}

// alone refuses a flag beside those whose work it does.
func alone(flag string, given map[string]bool) error {
	for other, is := range given {
		if is {
			return refuse("%s and %s: give one of them", flag, other)
		}
	}
	return nil
}
