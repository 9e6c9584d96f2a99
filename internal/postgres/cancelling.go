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
// yet becomes one that is cancelled. No worker has a hand in it. It says how many chunks it was, and how many messages.
func (s *Store) CancelWaiting(ctx context.Context, f OpenFiring, limit int) (n, messages int, err error) {
	account, err := s.accountID(ctx, f.Of.Account)
	if err != nil {
		return 0, 0, err
	}
	labels, err := marshalLabels(f.Of.Spec.Labels)
	if err != nil {
		return 0, 0, fmt.Errorf("cancel waiting chunks: %w", err)
	}
	rows, err := s.pool.Query(ctx, `SELECT no, fence, first, last FROM chunk WHERE firing = $1 AND state = 'waiting' ORDER BY no LIMIT $2`, f.ID, limit)
	if err != nil {
		return 0, 0, fmt.Errorf("cancel waiting chunks: %w", err)
	}
	chunks, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (c Chunk, err error) {
		return c, row.Scan(&c.No, &c.Fence, &c.First, &c.Last)
	})
	if err != nil {
		return 0, 0, fmt.Errorf("cancel waiting chunks: %w", err)
	}
	for n < len(chunks) {
		k := n + 1 // neighbours go together
		for k < len(chunks) && chunks[k].First == chunks[k-1].Last+1 && chunks[k].Last-chunks[n].First < cancelRows {
			k++
		}
		made, err := s.cancelChunks(ctx, f, account, labels, chunks[n:k])
		if err != nil {
			return n, messages, fmt.Errorf("cancel waiting chunks: %w", err)
		}
		n, messages = k, messages+made
	}
	return n, messages, nil
}

// cancelChunks holds the chunks, so that nobody begins with them, writes the messages, and closes the chunks. One that had a
// run before is counted later ([Store.SettleChunks]): what that run has left, or claimed, may be on its way still.
func (s *Store) cancelChunks(ctx context.Context, f OpenFiring, account int32, labels []byte, chunks []Chunk) (made int, err error) {
	var ids [][16]byte
	var no, fence, first, last []int32
	for _, c := range chunks {
		no, fence, first, last = append(no, c.No), append(fence, c.Fence), append(first, c.First), append(last, c.Last)
		for n := c.First; n <= c.Last; n++ {
			ids = append(ids, campaign.MessageID(f.StartedAt, f.ID, n))
		}
	}
	err = s.inTx(ctx, func(tx pgx.Tx) error {
		made = 0
		held, err := tx.Exec(ctx, `SELECT FROM chunk k JOIN unnest($2::int4[], $3::int4[]) AS w (no, fence) ON k.no = w.no
			WHERE k.firing = $1 AND k.fence = w.fence AND k.state = 'waiting' ORDER BY k.no FOR UPDATE OF k`, f.ID, no, fence)
		if err != nil || held.RowsAffected() < int64(len(chunks)) { // somebody has begun with one: the next look finds the others
			return err
		}
		return tx.QueryRow(ctx, sqlCancelChunks, pgx.NamedArgs{
			"ids": ids, "no": no, "first": first, "last": last, "from": first[0], "to": last[len(last)-1],
			"audience": f.Audience, "account": account, "kind": string(f.Of.Kind), "lane": string(message.Bulk), "firing": f.ID, "labels": labels,
		}).Scan(&made)
	})
	return made, err
}

// sqlCancelChunks does it for neighbours that are held. Postgres does not know how many rows a WITH gives: a join of two of
// them would compare each with each.
const sqlCancelChunks = `
	WITH made AS (
		INSERT INTO message (id, parcel, msgid, first_intent_at, intent_at, finished_at, account, kind, lane, state, reason, claim, pod, errcode, firing, n, attempt, doubt)
		SELECT (@ids::uuid[])[n - @from::int4 + 1], '00000000-0000-0000-0000-000000000000', 0, 'epoch', 'epoch', now(), @account, @kind::text::message_kind,
			@lane::text::message_lane, 'cancelled', 'cancelled', 0, 0, 0, @firing, n, 0, false
		FROM recipient WHERE audience = @audience AND n BETWEEN @from::int4 AND @to::int4
			AND n <> ALL (ARRAY(SELECT u.n FROM in_flight f CROSS JOIN LATERAL unnest(f.firings, f.ns) AS u (firing, n) WHERE u.firing = @firing))
		ON CONFLICT (id) DO NOTHING RETURNING id, n),
	body AS (
		INSERT INTO message_body (id, recipient, content, labels)
		SELECT m.id, r.openid, '{}', @labels::text::jsonb FROM made m JOIN recipient r ON r.audience = @audience AND r.n = m.n
		ON CONFLICT (id) DO NOTHING),
	told AS (
		INSERT INTO event (message_id, claim, state, reason, note) SELECT id, 0, 'cancelled', 'cancelled', 'its campaign was cancelled' FROM made),
	closed AS (
		UPDATE chunk k SET fence = k.fence + 1,
			state = CASE WHEN w.made = k.last - k.first + 1 THEN 'done' ELSE 'settling' END,
			tally = CASE WHEN w.made = k.last - k.first + 1 THEN jsonb_build_object('cancelled cancelled', w.made) ELSE k.tally END
		FROM (
			SELECT no, (SELECT count(*) FROM made WHERE n BETWEEN first AND last) AS made
			FROM unnest(@no::int4[], @first::int4[], @last::int4[]) AS w (no, first, last)) AS w
		WHERE k.firing = @firing AND k.no = ANY (@no::int4[]) AND k.no = w.no)
	SELECT count(*) FROM made`
