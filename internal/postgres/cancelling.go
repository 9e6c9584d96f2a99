package postgres

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/hongyan-dispatch/hongyan/internal/campaign"
	"github.com/hongyan-dispatch/hongyan/message"
)

// cancelRows is how many recipients one statement cancels: larger ones are no cheaper, and others wait for its locks.
const cancelRows = 2000

// CancelWaiting closes up to limit waiting chunks of a firing whose campaign has ended: each recipient that is no message
// yet becomes one that is cancelled. No worker has a hand in it. It says how many chunks it was.
func (s *Store) CancelWaiting(ctx context.Context, f OpenFiring, limit int) (n int, err error) {
	account, err := s.accountID(ctx, f.Of.Account)
	if err != nil {
		return 0, err
	}
	labels, err := marshalLabels(f.Of.Spec.Labels)
	if err != nil {
		return 0, fmt.Errorf("cancel waiting chunks: %w", err)
	}
	rows, err := s.pool.Query(ctx, `SELECT no, fence, first, last FROM chunk WHERE firing = $1 AND state = 'waiting' ORDER BY no LIMIT $2`, f.ID, limit)
	if err != nil {
		return 0, fmt.Errorf("cancel waiting chunks: %w", err)
	}
	chunks, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (c Chunk, err error) {
		return c, row.Scan(&c.No, &c.Fence, &c.First, &c.Last)
	})
	if err != nil {
		return 0, fmt.Errorf("cancel waiting chunks: %w", err)
	}
	for n < len(chunks) {
		k := n + 1 // neighbours go together
		for k < len(chunks) && chunks[k].First == chunks[k-1].Last+1 && chunks[k].Last-chunks[n].First < cancelRows {
			k++
		}
		if err := s.cancelChunks(ctx, f, account, labels, chunks[n:k]); err != nil {
			return n, fmt.Errorf("cancel waiting chunks: %w", err)
		}
		n = k
	}
	return n, nil
}

// cancelChunks writes the messages and closes the chunks in one statement. A chunk that had a run before is counted
// later ([Store.SettleChunks]): what that run has left may be on its way still.
func (s *Store) cancelChunks(ctx context.Context, f OpenFiring, account int32, labels []byte, chunks []Chunk) error {
	var ids [][16]byte
	var ns, of, no, fence []int32
	for _, c := range chunks {
		no, fence = append(no, c.No), append(fence, c.Fence)
		for n := c.First; n <= c.Last; n++ {
			ids, ns, of = append(ids, campaign.MessageID(f.StartedAt, f.ID, n)), append(ns, n), append(of, c.No)
		}
	}
	_, err := s.pool.Exec(ctx, `
		WITH letter AS (
			SELECT i.id, i.n, i.no, r.openid FROM unnest(@ids::uuid[], @ns::int4[], @of::int4[]) AS i (id, n, no)
			JOIN recipient r ON r.audience = @audience AND r.n BETWEEN @first AND @last AND r.n = i.n),
		made AS (
			INSERT INTO message (id, parcel, msgid, first_intent_at, intent_at, finished_at, account, kind, lane, state, reason, claim, pod, errcode, firing, n, attempt, doubt)
			SELECT id, '00000000-0000-0000-0000-000000000000', 0, 'epoch', 'epoch', now(), @account, @kind::text::message_kind, @lane::text::message_lane,
				'cancelled', 'cancelled', 0, 0, 0, @firing, n, 0, false FROM letter
			ON CONFLICT (id) DO NOTHING RETURNING id),
		body AS (
			INSERT INTO message_body (id, recipient, content, labels) SELECT id, openid, '{}', @labels::text::jsonb FROM made JOIN letter USING (id)
			ON CONFLICT (id) DO NOTHING),
		told AS (
			INSERT INTO event (message_id, claim, state, reason, note) SELECT id, 0, 'cancelled', 'cancelled', 'its campaign was cancelled' FROM made),
		counted AS (SELECT no, count(*) AS n FROM made JOIN letter USING (id) GROUP BY no)
		UPDATE chunk k SET fence = k.fence + 1,
			state = CASE WHEN c.n = k.last - k.first + 1 THEN 'done' ELSE 'settling' END,
			tally = CASE WHEN c.n = k.last - k.first + 1 THEN jsonb_build_object('cancelled cancelled', c.n) ELSE k.tally END
		FROM unnest(@no::int4[], @fence::int4[]) AS w (no, fence) LEFT JOIN counted c USING (no)
		WHERE k.firing = @firing AND k.no = w.no AND k.fence = w.fence AND k.state = 'waiting'`, pgx.NamedArgs{
		"ids": ids, "ns": ns, "of": of, "no": no, "fence": fence, "audience": f.Audience, "first": ns[0], "last": ns[len(ns)-1],
		"account": account, "kind": string(f.Of.Kind), "lane": string(message.Bulk), "firing": f.ID, "labels": labels,
	})
	return err
}
