package tasks

import (
	"encoding/binary"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/hibiken/asynq"

	"github.com/hongyan-dispatch/hongyan/message"
)

// Encode makes a message:send task of a parcel, with its [Options]. The task is fresh: asynq writes into
// a task it enqueues, so one must not be shared. Times are kept to the microsecond, and as UTC.
func Encode(p *message.Parcel) (*asynq.Task, error) {
	payload, err := encode(p)
	if err != nil {
		return nil, fmt.Errorf("encode parcel %s: %w", p.ID, err)
	}
	if p.Traceparent != "" {
		return asynq.NewTaskWithHeaders(TypeSend, payload, map[string]string{headerTraceparent: p.Traceparent}, Options(p)...), nil
	}
	return asynq.NewTask(TypeSend, payload, Options(p)...), nil
}

// headerTraceparent is the task's header of W3C's trace context.
const headerTraceparent = "traceparent"

func encode(p *message.Parcel) ([]byte, error) {
	kind, lane := slices.Index(kindCodes, p.Kind), slices.Index(laneCodes, p.Lane)
	switch n := len(p.Messages); {
	case p.ID.IsZero():
		return nil, fmt.Errorf("it has no id")
	case kind <= 0:
		return nil, fmt.Errorf("unknown kind %q", p.Kind)
	case lane <= 0:
		return nil, fmt.Errorf("unknown lane %q", p.Lane)
	case n == 0 || n > message.MaxParcel:
		return nil, fmt.Errorf("%d messages, want 1 to %d", n, message.MaxParcel)
	}
	size := parcelBytes(p.Account)
	for _, m := range p.Messages {
		size += messageBytes(m)
	}
	w := writer{b: make([]byte, 0, size)}
	w.byte(version)
	w.id(p.ID)
	w.text(p.Account)
	w.byte(byte(kind))
	w.byte(byte(lane))
	w.count(len(p.Messages))
	for _, m := range p.Messages {
		if m.Account != p.Account || m.Kind != p.Kind || m.Lane != p.Lane {
			return nil, fmt.Errorf("message %s is of another account, kind or lane", m.ID)
		}
		if w.message(m); w.err != nil {
			return nil, fmt.Errorf("message %s: %w", m.ID, w.err)
		}
	}
	if limit := maxBytes(len(p.Messages)); len(w.b) > limit {
		return nil, fmt.Errorf("%d bytes, want at most %d", len(w.b), limit)
	}
	return w.b, w.err
}

func maxBytes(messages int) int {
	if messages > 1 {
		return maxParcelBytes
	}
	return maxTaskBytes
}

// parcelBytes and messageBytes are upper bounds of what stands on the wire.

func parcelBytes(account string) int { return 64 + len(account) }

func messageBytes(m *message.Message) int {
	n := 96 + len(m.To) + len(m.Key) + len(m.Body)
	for _, to := range m.List {
		n += binary.MaxVarintLen16 + len(to)
	}
	for name, value := range m.Labels {
		n += 2*binary.MaxVarintLen32 + len(name) + len(value)
	}
	if f := m.Fallback; f != nil {
		n += 16 + len(f.Account) + messageBytes(f)
	}
	return n
}

// A writer appends to b; err is the first thing that it could not write.
type writer struct {
	b   []byte
	err error
}

func (w *writer) fail(err error) {
	if w.err == nil {
		w.err = err
	}
}

func (w *writer) byte(c byte)      { w.b = append(w.b, c) }
func (w *writer) id(id message.ID) { w.b = append(w.b, id[:]...) }
func (w *writer) count(n int)      { w.b = binary.AppendUvarint(w.b, uint64(n)) }

func (w *writer) text(s string) {
	if err := checkText(s); err != nil {
		w.fail(err)
	}
	w.count(len(s))
	w.b = append(w.b, s...)
}

func (w *writer) time(t time.Time) {
	if err := checkTime(t); err != nil {
		w.fail(err)
	}
	w.b = binary.AppendVarint(w.b, t.UnixMicro())
}

func (w *writer) message(m *message.Message) {
	if m.ID.IsZero() {
		w.fail(fmt.Errorf("it has no id"))
	}
	w.messageOrFallback(m)
}

func (w *writer) messageOrFallback(m *message.Message) {
	fields := fieldsOf(m)
	w.id(m.ID)
	w.byte(fields)
	if fields&hasTo != 0 {
		w.text(string(m.To))
	}
	if fields&hasList != 0 {
		w.count(len(m.List))
		for _, to := range m.List {
			if to == "" {
				w.fail(fmt.Errorf("empty openid in list"))
			}
			w.text(string(to))
		}
	}
	if fields&hasKey != 0 {
		w.text(m.Key)
	}
	if fields&hasNotBefore != 0 {
		w.time(m.NotBefore)
	}
	if fields&hasExpiresAt != 0 {
		w.time(m.ExpiresAt)
	}
	if fields&hasParent != 0 {
		w.id(m.Parent)
	}
	if fields&hasLabels != 0 {
		w.labels(m.Labels)
	}
	if fields&hasFallback != 0 {
		w.fallback(m.Fallback)
	}
	if err := checkBody(m.Body); err != nil {
		w.fail(err)
	}
	w.count(len(m.Body))
	w.b = append(w.b, m.Body...)
}

func fieldsOf(m *message.Message) byte {
	var fields byte
	for bit, there := range [...]bool{
		m.To != "", len(m.List) > 0, m.Key != "", !m.NotBefore.IsZero(), !m.ExpiresAt.IsZero(),
		!m.Parent.IsZero(), len(m.Labels) > 0, m.Fallback != nil,
	} {
		if there {
			fields |= 1 << bit
		}
	}
	return fields
}

func (w *writer) labels(labels map[string]string) {
	if len(labels) > message.MaxLabels {
		w.fail(fmt.Errorf("%d labels, want at most %d", len(labels), message.MaxLabels))
	}
	w.count(len(labels))
	for _, name := range slices.Sorted(maps.Keys(labels)) { // one message, one payload
		w.text(name)
		w.text(labels[name])
	}
}

// fallback writes a fallback, whose id may be given later.
func (w *writer) fallback(f *message.Message) {
	kind, lane := slices.Index(kindCodes, f.Kind), slices.Index(laneCodes, f.Lane)
	switch {
	case kind <= 0:
		w.fail(fmt.Errorf("fallback: unknown kind %q", f.Kind))
	case lane < 0:
		w.fail(fmt.Errorf("fallback: unknown lane %q", f.Lane))
	case f.Fallback != nil:
		w.fail(fmt.Errorf("fallback: it has a fallback itself"))
	}
	if w.err != nil {
		return
	}
	w.byte(byte(kind))
	w.byte(byte(lane))
	w.text(f.Account)
	w.messageOrFallback(f)
}
