package postgres

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/hongyan-dispatch/hongyan/message"
)

// An Inbound is an event of a user's, which opens a customer-service window.
type Inbound struct {
	Account string
	OpenID  message.OpenID
	Trigger string
	At      time.Time
}

// RecordInbound keeps the latest event of each user and trigger. Events may come in any order and more than once.
func (s *Store) RecordInbound(ctx context.Context, list []Inbound) error {
	type row struct {
		account int32
		Inbound
	}
	rows := make([]row, 0, len(list))
	for _, in := range list {
		account, err := s.accountID(ctx, in.Account)
		if err != nil {
			return fmt.Errorf("record inbound events: %w", err)
		}
		rows = append(rows, row{account, in})
	}
	// In key order against deadlocks; of equal keys the latest alone, since a statement may not write a row twice.
	key := func(a, b row) int {
		return cmp.Or(cmp.Compare(a.account, b.account), strings.Compare(string(a.OpenID), string(b.OpenID)), strings.Compare(a.Trigger, b.Trigger))
	}
	slices.SortFunc(rows, func(a, b row) int { return cmp.Or(key(a, b), b.At.Compare(a.At)) })
	rows = slices.CompactFunc(rows, func(a, b row) bool { return key(a, b) == 0 })
	var accounts []int32
	var openids, triggers []string
	var at []time.Time
	for _, r := range rows {
		accounts, openids, triggers, at = append(accounts, r.account), append(openids, clean(string(r.OpenID))), append(triggers, clean(r.Trigger)), append(at, r.At)
	}
	_, err := s.pool.Exec(ctx, `
		INSERT INTO inbound_last AS l (account, openid, trigger, at)
		SELECT * FROM unnest($1::int4[], $2::text[], $3::text[], $4::timestamptz[])
		ON CONFLICT (account, openid, trigger) DO UPDATE SET at = excluded.at WHERE l.at < excluded.at`,
		accounts, openids, triggers, at)
	if err != nil {
		return fmt.Errorf("record inbound events: %w", err)
	}
	return nil
}

// LastInbound reads the latest event of each trigger of a user.
func (s *Store) LastInbound(ctx context.Context, account string, to message.OpenID) ([]Inbound, error) {
	id, err := s.accountID(ctx, account)
	if err != nil {
		return nil, fmt.Errorf("read inbound events: %w", err)
	}
	rows, err := s.pool.Query(ctx, `SELECT trigger, at FROM inbound_last WHERE account = $1 AND openid = $2 ORDER BY trigger`, id, string(to))
	if err != nil {
		return nil, fmt.Errorf("read inbound events: %w", err)
	}
	defer rows.Close()
	var list []Inbound
	for rows.Next() {
		in := Inbound{Account: account, OpenID: to}
		if err := rows.Scan(&in.Trigger, &in.At); err != nil {
			return nil, fmt.Errorf("read inbound events: %w", err)
		}
		list = append(list, in)
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("read inbound events: %w", err)
	}
	return list, nil
}
