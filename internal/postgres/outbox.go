package postgres

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/hongyan-dispatch/hongyan/message"
)

// A Waiting parcel stands in the outbox: a queue should have it.
type Waiting struct {
	ID      message.ID
	Account string
	Kind    message.Kind
	Lane    message.Lane
}

// Outbox is a page of parcels, in the order of their ids, that lie after the one id and before the other and were
// written at least age ago. It changes nothing.
func (s *Store) Outbox(ctx context.Context, after, before message.ID, age time.Duration, limit int) ([]Waiting, error) {
	rows, err := s.pool.Query(ctx, `
		SELECT id, account, kind::text, lane::text FROM parcel
		WHERE id > $1 AND id < $2 AND created_at <= now() - make_interval(secs => $3) ORDER BY id LIMIT $4`,
		[16]byte(after), [16]byte(before), age.Seconds(), limit)
	if err != nil {
		return nil, fmt.Errorf("read the outbox: %w", err)
	}
	type row struct {
		id         [16]byte
		account    int32
		kind, lane string
	}
	list, err := pgx.CollectRows(rows, func(r pgx.CollectableRow) (row, error) {
		var v row
		return v, r.Scan(&v.id, &v.account, &v.kind, &v.lane)
	})
	if err != nil {
		return nil, fmt.Errorf("read the outbox: %w", err)
	}
	page := make([]Waiting, len(list))
	for i, v := range list {
		name, err := s.accountName(ctx, v.account)
		if err != nil {
			return nil, fmt.Errorf("read the outbox: %w", err)
		}
		page[i] = Waiting{ID: v.id, Account: name, Kind: message.Kind(v.kind), Lane: message.Lane(v.lane)}
	}
	return page, nil
}

// Rebuild makes parcels of the outbox anew out of their messages' rows, with those members that are still accepted
// in them. A parcel that has none is done, and its row is deleted.
//
// So a parcel may come back smaller, under its own id. That is safe in both directions: where a queue still has
// the whole one, the claim refuses the members that were decided; and nothing decided ever becomes accepted again
// in the same parcel, since a release makes a new one.
func (s *Store) Rebuild(ctx context.Context, list []Waiting) ([]*message.Parcel, error) {
	parcels, done, err := s.rebuild(ctx, list)
	if err == nil && len(done) > 0 {
		err = s.ParcelDone(ctx, done...)
	}
	if err != nil {
		return nil, fmt.Errorf("rebuild parcels: %w", err)
	}
	return parcels, nil
}

func (s *Store) rebuild(ctx context.Context, list []Waiting) (parcels []*message.Parcel, done []message.ID, err error) {
	ids := make([][16]byte, len(list))
	byID := make(map[message.ID]*message.Parcel, len(list))
	for i, w := range list {
		ids[i] = w.ID
		byID[w.ID] = &message.Parcel{ID: w.ID, Account: w.Account, Kind: w.Kind, Lane: w.Lane}
	}
	rows, err := s.pool.Query(ctx, `
		SELECT p.id, m.id, `+bodySelect+`
		FROM unnest($1::uuid[]) AS w (id) JOIN parcel p ON p.id = w.id
		CROSS JOIN LATERAL unnest(p.ids) WITH ORDINALITY AS i (id, n)
		JOIN message m ON m.id = i.id LEFT JOIN message_body b ON b.id = m.id
		WHERE m.state = 'accepted' AND m.parcel = p.id ORDER BY p.id, i.n`, ids)
	if err != nil {
		return nil, nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var parcel, id [16]byte
		var body bodyRow
		if err := rows.Scan(append([]any{&parcel, &id}, body.targets()...)...); err != nil {
			return nil, nil, err
		}
		p := byID[parcel]
		m := &message.Message{ID: id, Account: p.Account, Kind: p.Kind, Lane: p.Lane}
		if err := body.into(m); err != nil {
			return nil, nil, err
		}
		p.Messages = append(p.Messages, m)
	}
	if err := rows.Err(); err != nil {
		return nil, nil, err
	}
	for _, w := range list {
		if p := byID[w.ID]; len(p.Messages) > 0 {
			parcels = append(parcels, p)
		} else {
			done = append(done, w.ID)
		}
	}
	return parcels, done, nil
}
