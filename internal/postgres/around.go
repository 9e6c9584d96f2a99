package postgres

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/hongyan-dispatch/hongyan/message"
)

// ManyBefore is how far the messages before another are counted.
const ManyBefore = 10_000

// Around is what stands around a message: why it may wait, or what it ended for, as far as its own row does not say.
type Around struct {
	Now         time.Time    // Postgres' clock
	Pod         string       // which claimed it last; empty: none
	PodSeen     time.Time    // the last heartbeat of that pod
	WorkerSeen  time.Time    // the last heartbeat of any worker; zero: there never was one
	Queued      time.Time    // when its parcel was put into the outbox; zero: it is not there
	Before      int          // parked and due: those that are released first, at most ManyBefore
	PartsBefore int          // earlier parts of its mass list that have not ended
	KeyHolder   message.ID   // the message that has its key; zero: none (any more)
	Instead     message.ID   // its fallback, if one was sent instead
	Refusal     *Suppression // the user refuses all messages, or this template; nil: no
}

// Around reads what stands around a message whose status was read before. It changes nothing.
func (s *Store) Around(ctx context.Context, st Status) (Around, error) {
	a, err := s.around(ctx, st.Message)
	if err == nil && st.Message.Kind != message.Mass {
		a.Refusal, err = s.refusal(ctx, st.Message)
	}
	if err != nil {
		return Around{}, fmt.Errorf("look around %s: %w", st.Message.ID, err)
	}
	return a, nil
}

func (s *Store) around(ctx context.Context, m *message.Message) (Around, error) {
	var a Around
	var holder, instead *[16]byte
	first := m.Parent
	if first.IsZero() {
		first = m.ID
	}
	// Within a lane those go first that were attempted before, as the releaser takes them.
	err := s.pool.QueryRow(ctx, `
		SELECT now(), coalesce(p.name, ''), coalesce(p.seen_at, 'epoch'), (SELECT coalesce(max(seen_at), 'epoch') FROM pod),
			coalesce((SELECT created_at FROM parcel WHERE id = m.parcel), 'epoch'),
			(SELECT count(*) FROM (
				SELECT FROM parked q
				WHERE q.account = k.account AND q.kind = k.kind AND q.due_at <= now() AND k.due_at <= now() AND (q.lane < k.lane OR q.lane = k.lane AND (
					q.reason = 'backoff' AND k.reason <> 'backoff' OR q.due_at < k.due_at AND (q.reason = 'backoff' OR k.reason <> 'backoff')))
				LIMIT @many) AS before),
			(SELECT count(*) FROM message_body o JOIN message om ON om.id = o.id
				WHERE m.kind = 'mass' AND o.id >= @first AND o.id < @id AND (o.id = @first OR o.parent = @first)
				AND om.kind = 'mass' AND om.state IN ('accepted', 'parked', 'sending')),
			(SELECT i.id FROM idempotency_key i WHERE i.account = m.account AND i.key = b.key),
			(SELECT f.id FROM message_body f WHERE m.kind <> 'mass' AND f.recipient = b.recipient AND f.parent = m.id LIMIT 1)
		FROM message m LEFT JOIN message_body b ON b.id = m.id LEFT JOIN parked k ON k.id = m.id LEFT JOIN pod p ON p.id = m.pod
		WHERE m.id = @id`, pgx.NamedArgs{"id": [16]byte(m.ID), "first": [16]byte(first), "many": ManyBefore}).
		Scan(&a.Now, &a.Pod, &a.PodSeen, &a.WorkerSeen, &a.Queued, &a.Before, &a.PartsBefore, &holder, &instead)
	if errors.Is(err, pgx.ErrNoRows) {
		return a, ErrNotFound
	}
	for _, t := range []*time.Time{&a.PodSeen, &a.WorkerSeen, &a.Queued} {
		if t.Unix() == 0 {
			*t = time.Time{}
		}
	}
	if holder != nil {
		a.KeyHolder = *holder
	}
	if instead != nil {
		a.Instead = *instead
	}
	return a, err
}

// refusal is why a message would not go to its user; that of all messages before that of its template.
func (s *Store) refusal(ctx context.Context, m *message.Message) (*Suppression, error) {
	var body struct {
		TemplateID string `json:"template_id"`
	}
	_ = json.Unmarshal(m.Body, &body) // a body without a template names none
	rows, err := s.pool.Query(ctx, `
		SELECT a.name, s.openid, s.template_id, s.errcode, s.active, greatest(s.since, s.left_at)
		FROM suppression s JOIN account a ON a.id = s.account
		WHERE a.name = $1 AND s.openid = $2 AND s.template_id IN ('', $3) AND s.active ORDER BY s.template_id LIMIT 1`,
		m.Account, string(m.To), clean(body.TemplateID))
	if err != nil {
		return nil, err
	}
	found, err := pgx.CollectRows(rows, pgx.RowToAddrOfStructByPos[Suppression])
	if err != nil || len(found) == 0 {
		return nil, err
	}
	return found[0], nil
}
