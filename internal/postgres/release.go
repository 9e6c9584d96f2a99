package postgres

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/hongyan-dispatch/hongyan/message"
	"github.com/hongyan-dispatch/hongyan/outcome"
)

// A Budget is how many messages of one account and kind may be released now.
type Budget struct {
	Account string
	Kind    message.Kind
	N       int
}

// A Due is an account and kind with parked messages whose time has come.
type Due struct {
	Account string
	Kind    message.Kind
}

// Due lists whose parked messages are due, so that the releaser asks for those budgets only. It costs three index
// look-ups for each account and kind, however many are parked.
func (s *Store) Due(ctx context.Context, now time.Time) ([]Due, error) {
	rows, err := s.pool.Query(ctx, `
		SELECT a.name, k.kind::text
		FROM account a CROSS JOIN unnest(enum_range(NULL::message_kind)) AS k (kind)
		WHERE EXISTS (
			SELECT FROM unnest(enum_range(NULL::message_lane)) AS l (lane) CROSS JOIN LATERAL (
				SELECT FROM parked p WHERE p.account = a.id AND p.kind = k.kind AND p.lane = l.lane AND p.due_at <= $1 LIMIT 1) AS one)
		ORDER BY 1, 2`, now)
	if err != nil {
		return nil, fmt.Errorf("look for due messages: %w", err)
	}
	due, err := pgx.CollectRows(rows, pgx.RowToStructByPos[Due])
	if err != nil {
		return nil, fmt.Errorf("look for due messages: %w", err)
	}
	return due, nil
}

// Release takes due messages off the parked list, within the budgets, urgent lanes first and the longest due first,
// and returns them in new parcels for the caller to enqueue; should it die before, the reconciler does, for the
// parcels stand in the outbox. What has expired meanwhile ends as expired. All in one transaction; several
// processes may release at once and share what is there.
func (s *Store) Release(ctx context.Context, budgets []Budget, now time.Time) ([]*message.Parcel, error) {
	var parcels []*message.Parcel
	err := s.inTx(ctx, func(tx pgx.Tx) error {
		parcels = nil
		for _, b := range budgets {
			r := release{store: s, tx: tx, budget: b, now: now}
			if err := r.run(ctx); err != nil {
				return err
			}
			parcels = append(parcels, r.parcels...)
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("release: %w", err)
	}
	return parcels, nil
}

// A release is one budget of one call.
type release struct {
	store   *Store
	tx      pgx.Tx
	budget  Budget
	now     time.Time
	account int32
	parcels []*message.Parcel
}

// A due message, off the list.
type dueMessage struct {
	m     *message.Message
	alone bool
}

func (r *release) run(ctx context.Context) (err error) {
	if r.account, err = r.store.accountID(ctx, r.budget.Account); err != nil {
		return err
	}
	left := r.budget.N
	for _, lane := range message.Lanes() {
		for _, sql := range []string{sqlUnparkAttempted, sqlUnpark} {
			if left <= 0 {
				return nil
			}
			alone, err := r.unpark(ctx, sql, lane, left)
			if err != nil {
				return err
			}
			left -= len(alone)
			if len(alone) == 0 {
				continue
			}
			if err := r.lane(ctx, lane, alone); err != nil {
				return err
			}
		}
	}
	return nil
}

const (
	sqlUnpark = `
		WITH due AS (
			SELECT id FROM parked
			WHERE account = $1 AND kind = $2 AND lane = $3 AND due_at <= $4
			ORDER BY due_at LIMIT $5 FOR UPDATE SKIP LOCKED)
		DELETE FROM parked p USING due WHERE p.id = due.id RETURNING p.id, p.alone`
	// unparkAttempted takes those that were attempted before: WeChat's window for their repetition is running, so they
	// do not wait behind a backlog that has never gone.
	sqlUnparkAttempted = `
		WITH due AS (
			SELECT id FROM parked
			WHERE account = $1 AND kind = $2 AND lane = $3 AND due_at <= $4 AND reason = 'backoff'
			ORDER BY due_at LIMIT $5 FOR UPDATE SKIP LOCKED)
		DELETE FROM parked p USING due WHERE p.id = due.id RETURNING p.id, p.alone`
)

// unpark takes due rows off the list. The answer says of each whether it travels alone.
func (r *release) unpark(ctx context.Context, sql string, lane message.Lane, limit int) (map[message.ID]bool, error) {
	rows, err := r.tx.Query(ctx, sql, r.account, string(r.budget.Kind), string(lane), r.now, limit)
	if err != nil {
		return nil, err
	}
	var id [16]byte
	var alone bool
	out := map[message.ID]bool{}
	_, err = pgx.ForEachRow(rows, []any{&id, &alone}, func() error { out[id] = alone; return nil })
	return out, err
}

func (r *release) lane(ctx context.Context, lane message.Lane, alone map[message.ID]bool) error {
	ids := make([][16]byte, 0, len(alone))
	for id := range alone {
		ids = append(ids, id)
	}
	slices.SortFunc(ids, func(a, b [16]byte) int { return bytes.Compare(a[:], b[:]) })
	messages, err := r.read(ctx, lane, ids)
	if err != nil {
		return err
	}
	var expired [][16]byte
	var going []dueMessage
	for _, m := range messages {
		if !m.ExpiresAt.IsZero() && !m.ExpiresAt.After(r.now) {
			expired = append(expired, m.ID)
			continue
		}
		going = append(going, dueMessage{m, alone[m.ID]})
	}
	if err := r.expire(ctx, expired); err != nil {
		return err
	}
	return r.send(ctx, r.pack(lane, going))
}

// read rebuilds the messages that are still parked (cancel may have been quicker), in id order.
func (r *release) read(ctx context.Context, lane message.Lane, ids [][16]byte) ([]*message.Message, error) {
	rows, err := r.tx.Query(ctx, `
		SELECT m.id, `+bodySelect+`
		FROM unnest($1::uuid[]) WITH ORDINALITY AS i (id, n)
		JOIN message m ON m.id = i.id LEFT JOIN message_body b ON b.id = m.id
		WHERE i.id >= $2 AND i.id <= $3 AND m.state = 'parked' AND m.id >= ALL (ARRAY[$2::uuid]) AND m.id <= ALL (ARRAY[$3::uuid]) ORDER BY i.n`, ids, ids[0], ids[len(ids)-1])
	if err != nil {
		return nil, err
	}
	name, err := r.store.accountName(ctx, r.account)
	if err != nil {
		rows.Close()
		return nil, err
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (*message.Message, error) {
		var id [16]byte
		var body bodyRow
		if err := row.Scan(append([]any{&id}, body.targets()...)...); err != nil {
			return nil, err
		}
		m := &message.Message{ID: id, Account: name, Kind: r.budget.Kind, Lane: lane}
		return m, body.into(m)
	})
}

// parcelBytes keeps a parcel under the queue's limit for a task, framing included.
const parcelBytes = 48 << 10

// pack makes parcels, in order: at most message.MaxParcel messages and about parcelBytes each; one that travels
// alone gets its own.
func (r *release) pack(lane message.Lane, list []dueMessage) []*message.Parcel {
	var parcels []*message.Parcel
	var open *message.Parcel
	size := 0
	for _, d := range list {
		n := len(d.m.Body) + 28*len(d.m.List) + 256
		if d.m.Fallback != nil {
			n += len(d.m.Fallback.Body)
		}
		if open == nil || d.alone || len(open.Messages) == message.MaxParcel || size+n > parcelBytes {
			open = &message.Parcel{ID: message.NewID(r.now), Account: d.m.Account, Kind: d.m.Kind, Lane: lane}
			parcels, size = append(parcels, open), 0
		}
		open.Messages, size = append(open.Messages, d.m), size+n
		if d.alone {
			open = nil
		}
	}
	return parcels
}

// send makes the messages accepted, in their new parcels, and writes the outbox.
func (r *release) send(ctx context.Context, parcels []*message.Parcel) error {
	var ids, of [][16]byte
	for _, p := range parcels {
		for _, m := range p.Messages {
			ids, of = append(ids, m.ID), append(of, p.ID)
		}
	}
	if len(ids) == 0 {
		return nil
	}
	tag, err := r.tx.Exec(ctx, `
		UPDATE message AS m SET state = 'accepted', reason = 'none', parcel = i.parcel
		FROM unnest($1::uuid[], $2::uuid[]) AS i (id, parcel)
		WHERE i.id >= $3 AND i.id <= $4 AND m.id = i.id AND m.id >= ALL (ARRAY[$3::uuid]) AND m.id <= ALL (ARRAY[$4::uuid]) AND m.state = 'parked'`, ids, of, ids[0], ids[len(ids)-1])
	if err != nil {
		return err
	}
	if int(tag.RowsAffected()) != len(ids) { // whoever changes a parked message takes it off the list first
		return fmt.Errorf("%d of %d parked messages changed hands", len(ids)-int(tag.RowsAffected()), len(ids))
	}
	var rows values
	beginCopy(&rows)
	for _, p := range parcels {
		members := make([]message.ID, len(p.Messages))
		for i, m := range p.Messages {
			members[i] = m.ID
		}
		copyParcel(&rows, p, r.account, members)
	}
	if err := copyInto(ctx, r.tx.Conn().PgConn(), "parcel", parcelColumns, rows, false); err != nil {
		return err
	}
	r.parcels = append(r.parcels, parcels...)
	return nil
}

// expire ends the messages whose time was over before their turn came.
func (r *release) expire(ctx context.Context, ids [][16]byte) error {
	if len(ids) == 0 {
		return nil
	}
	_, err := r.tx.Exec(ctx, `
		WITH ended AS (
			UPDATE message AS m SET finished_at = now(),
				state = CASE WHEN m.doubt THEN 'unknown' ELSE @state::text::message_state END,
				reason = CASE WHEN m.doubt THEN 'in_doubt' ELSE @reason::text::message_reason END
			FROM unnest(@ids::uuid[]) AS i (id)
			WHERE i.id >= @first AND i.id <= @last AND m.id = i.id AND m.id >= ALL (ARRAY[@first::uuid]) AND m.id <= ALL (ARRAY[@last::uuid]) AND m.state = 'parked'
			RETURNING m.id, m.claim, m.state, m.reason)
		INSERT INTO event (message_id, claim, state, reason, note)
		SELECT id, claim, state, reason, 'while it was parked' FROM ended`, pgx.NamedArgs{
		"state": string(outcome.Expired), "reason": string(outcome.ReasonExpired),
		"ids": ids, "first": ids[0], "last": ids[len(ids)-1],
	})
	return err
}

// ParcelDone deletes outbox rows: every message of these parcels is terminal or parked. Workers use
// [Committer.ParcelDone].
func (s *Store) ParcelDone(ctx context.Context, ids ...message.ID) error {
	list := make([][16]byte, len(ids))
	for i, id := range ids {
		list[i] = id
	}
	if _, err := s.pool.Exec(ctx, `DELETE FROM parcel WHERE id = ANY ($1::uuid[])`, list); err != nil {
		return fmt.Errorf("parcel done: %w", err)
	}
	return nil
}
