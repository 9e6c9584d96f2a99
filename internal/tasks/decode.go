package tasks

import (
	"encoding/binary"
	"fmt"
	"time"

	"github.com/hibiken/asynq"

	"github.com/hongyan-dispatch/hongyan/message"
)

// A Rejected is the error of a task that can never become rows of the ledger, however often it comes
// back. Its caller keeps the payload in rejected_task and gives the task up. The text says what is wrong
// and holds nothing of the payload.
type Rejected struct{ Reason string }

func (e *Rejected) Error() string { return "task rejected: " + e.Reason }

func rejected(format string, args ...any) error { return &Rejected{fmt.Sprintf(format, args...)} }

// Decode reads the parcel of a message:send task; its error wraps a *[Rejected]. The parcel shares the
// payload's memory, so the payload must not be changed. That ids are of a sensible time is for [Check].
func Decode(t *asynq.Task) (*message.Parcel, error) {
	if t.Type() != TypeSend {
		return nil, rejected("unknown type")
	}
	p, err := decode(t.Payload())
	if err != nil {
		return nil, err
	}
	// A task that a server hands out knows its id; one that was just made does not.
	if w := t.ResultWriter(); w != nil && w.TaskID() != p.ID.String() {
		return nil, rejected("the parcel's id is not the task's")
	}
	p.Traceparent = t.Headers()[headerTraceparent] // whoever links to it reads it with care
	return p, nil
}

// maxAhead is how far in the future an id may lie: clocks differ. Ids name the partitions of the ledger,
// and a row without a partition cannot be written.
const maxAhead = time.Hour

// Check refuses, with an error that wraps a *[Rejected], a parcel with ids for which the ledger has no partition: more than an
// hour ahead of now, or older than retention.
func Check(p *message.Parcel, now time.Time, retention time.Duration) error {
	first, last := now.Add(-retention), now.Add(maxAhead)
	check := func(what string, id message.ID) error {
		switch t := id.Time(); {
		case t.After(last):
			return rejected("%s id lies in the future, at %s", what, t.UTC().Format(time.RFC3339))
		case t.Before(first):
			return rejected("%s id is older than the ledger, of %s", what, t.UTC().Format(time.RFC3339))
		}
		return nil
	}
	if err := check("parcel", p.ID); err != nil {
		return err
	}
	for _, m := range p.Messages {
		if err := check("message", m.ID); err != nil {
			return err
		}
		if f := m.Fallback; f != nil && !f.ID.IsZero() {
			if err := check("fallback", f.ID); err != nil {
				return err
			}
		}
	}
	return nil
}

func decode(payload []byte) (*message.Parcel, error) {
	if len(payload) > maxTaskBytes {
		return nil, rejected("%d bytes, want at most %d", len(payload), maxTaskBytes)
	}
	// One copy serves all the texts. Every count is held against the bytes that are left before anything
	// is allocated for it.
	r := reader{b: payload, s: string(payload)}
	if v := r.byte(); v != version {
		return nil, rejected("version %d, want %d", v, version)
	}
	p := &message.Parcel{ID: r.id()}
	p.Account = r.text()
	p.Kind = r.kind()
	p.Lane = r.lane()
	n := r.count(minMessageBytes)
	switch {
	case r.err != nil:
		return nil, r.err
	case p.ID.IsZero():
		return nil, rejected("parcel without id")
	case p.Lane == "":
		return nil, rejected("parcel without lane")
	case n == 0 || n > message.MaxParcel:
		return nil, rejected("%d messages, want 1 to %d", n, message.MaxParcel)
	case len(payload) > maxBytes(n):
		return nil, rejected("%d bytes, want at most %d", len(payload), maxBytes(n))
	}
	messages := make([]message.Message, n)
	p.Messages = make([]*message.Message, n)
	for i := range messages {
		m := &messages[i]
		m.Account, m.Kind, m.Lane = p.Account, p.Kind, p.Lane
		if r.message(m, true); r.err != nil {
			return nil, fmt.Errorf("%w (message %d)", r.err, i)
		}
		if m.ID.IsZero() {
			return nil, rejected("message %d without id", i)
		}
		p.Messages[i] = m
	}
	if r.left() > 0 {
		return nil, rejected("%d bytes too many", r.left())
	}
	return p, nil
}

// A reader reads b from at; s is the same bytes. After its first error it reads zeros.
type reader struct {
	b   []byte
	s   string
	at  int
	err error
}

func (r *reader) left() int { return len(r.b) - r.at }

func (r *reader) fail(format string, args ...any) {
	if r.err == nil {
		r.err = rejected(format, args...)
	}
}

// take steps over n bytes and returns where they begin.
func (r *reader) take(n int) (from int, ok bool) {
	if r.err != nil || n > r.left() {
		r.fail("cut short at byte %d", len(r.b))
		return 0, false
	}
	r.at += n
	return r.at - n, true
}

func (r *reader) byte() byte {
	at, ok := r.take(1)
	if !ok {
		return 0
	}
	return r.b[at]
}

func (r *reader) id() (id message.ID) {
	if at, ok := r.take(len(id)); ok {
		copy(id[:], r.b[at:])
	}
	return id
}

// count reads a number of things that take at least size bytes each.
func (r *reader) count(size int) int {
	if r.err != nil {
		return 0
	}
	n, width := binary.Uvarint(r.b[r.at:])
	if width <= 0 || n > uint64((r.left()-width)/size) {
		r.fail("a count at byte %d is more than follows", r.at)
		return 0
	}
	r.at += width
	return int(n)
}

func (r *reader) text() string {
	n := r.count(1)
	at, ok := r.take(n)
	if !ok {
		return ""
	}
	s := r.s[at : at+n]
	if err := checkText(s); err != nil {
		r.fail("%v at byte %d", err, at)
	}
	return s
}

func (r *reader) time() time.Time {
	if r.err != nil {
		return time.Time{}
	}
	v, width := binary.Varint(r.b[r.at:])
	if width <= 0 {
		r.fail("no time at byte %d", r.at)
		return time.Time{}
	}
	r.at += width
	t := time.UnixMicro(v).UTC()
	if err := checkTime(t); err != nil {
		r.fail("%v at byte %d", err, r.at)
	}
	return t
}

func (r *reader) kind() message.Kind {
	c := int(r.byte())
	if c == 0 || c >= len(kindCodes) {
		r.fail("unknown kind %d", c)
		return ""
	}
	return kindCodes[c]
}

func (r *reader) lane() message.Lane {
	c := int(r.byte())
	if c >= len(laneCodes) {
		r.fail("unknown lane %d", c)
		return ""
	}
	return laneCodes[c]
}

func (r *reader) message(m *message.Message, mayFallBack bool) {
	m.ID = r.id()
	fields := r.byte()
	if fields&hasTo != 0 {
		m.To = message.OpenID(r.text())
	}
	if fields&hasList != 0 {
		m.List = r.list()
	}
	if fields&hasKey != 0 {
		m.Key = r.text()
	}
	if fields&hasNotBefore != 0 {
		m.NotBefore = r.time()
	}
	if fields&hasExpiresAt != 0 {
		m.ExpiresAt = r.time()
	}
	if fields&hasParent != 0 {
		m.Parent = r.id()
	}
	if fields&hasLabels != 0 {
		m.Labels = r.labels()
	}
	if fields&hasFallback != 0 {
		m.Fallback = r.fallback(mayFallBack)
	}
	m.Body = r.body()
}

// usualList is the longest list that is allocated before it is read: a part of a mass message.
const usualList = 10_000

func (r *reader) list() []message.OpenID {
	n := r.count(2) // a length and at least one byte
	if n == 0 {
		return nil
	}
	list := make([]message.OpenID, 0, min(n, usualList))
	for range n {
		to := r.text()
		if to == "" {
			r.fail("empty openid in list")
			return nil
		}
		list = append(list, message.OpenID(to))
	}
	return list
}

func (r *reader) labels() map[string]string {
	n := r.count(2) // two lengths
	if n > message.MaxLabels {
		r.fail("%d labels, want at most %d", n, message.MaxLabels)
	}
	if n == 0 || r.err != nil {
		return nil
	}
	labels := make(map[string]string, n)
	for range n {
		name := r.text()
		labels[name] = r.text()
	}
	if len(labels) != n {
		r.fail("a label stands twice")
	}
	return labels
}

func (r *reader) fallback(may bool) *message.Message {
	if !may {
		r.fail("a fallback has a fallback")
		return nil
	}
	f := &message.Message{Kind: r.kind(), Lane: r.lane(), Account: r.text()}
	r.message(f, false)
	return f
}

func (r *reader) body() []byte {
	n := r.count(1)
	at, ok := r.take(n)
	if !ok {
		return nil
	}
	body := r.b[at : at+n : at+n] // nobody's append may reach the next message
	if err := checkBody(body); err != nil {
		r.fail("%v at byte %d", err, at)
	}
	return body
}
