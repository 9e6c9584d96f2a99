package postgres

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/hongyan-dispatch/hongyan/internal/campaign"
	"github.com/hongyan-dispatch/hongyan/message"
)

// recompose fills in what campaigns' messages said that have no body. Each names its Firing and N;
// the texts of a firing never change, and its recipients are kept as long as its messages ([Store.DropExpired]). One that
// cannot be composed nevertheless stays as it is.
func (s *Store) recompose(ctx context.Context, q querier, list []*message.Message) error {
	of := map[int32]map[int32]*message.Message{}
	for _, m := range list {
		if of[m.Firing] == nil {
			of[m.Firing] = map[int32]*message.Message{}
		}
		of[m.Firing][m.N] = m
	}
	for firing, byN := range of {
		if err := s.recomposeFiring(ctx, q, firing, byN); err != nil {
			return fmt.Errorf("compose messages again: %w", err)
		}
	}
	return nil
}

func (s *Store) recomposeFiring(ctx context.Context, q querier, firing int32, byN map[int32]*message.Message) error {
	f, c, columns, err := s.firingOf(ctx, q, firing)
	if err != nil {
		return err
	}
	composer, err := campaign.NewComposer(c.Spec, f.StartedAt, firing, columns)
	if err != nil {
		return nil
	}
	ns := make([]int32, 0, len(byN))
	for n := range byN {
		ns = append(ns, n)
	}
	rows, err := q.Query(ctx, `SELECT n, openid, vars FROM recipient WHERE audience = $1 AND n = ANY ($2)`, f.Audience, ns)
	if err != nil {
		return err
	}
	recipients, err := pgx.CollectRows(rows, pgx.RowToStructByPos[Recipient])
	if err != nil {
		return err
	}
	for _, r := range recipients {
		if said, _, err := composer.Message(nil, r.N, r.OpenID, r.Vars); err == nil {
			m := byN[r.N]
			m.To, m.Body, m.Labels, m.ExpiresAt, m.Fallback = said.To, said.Body, said.Labels, said.ExpiresAt, said.Fallback
		}
	}
	return nil
}
