package postgres

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/hongyan-dispatch/hongyan/internal/campaign"
	"github.com/hongyan-dispatch/hongyan/message"
	"github.com/hongyan-dispatch/hongyan/outcome"
)

// An OpenFiring is a firing that has not ended, as its feeder sees it.
type OpenFiring struct {
	Firing
	Of     Campaign // failed, too, where this firing alone cannot go on
	Busy   int      // chunks that are queued or running; of a mass send, those whose message has not ended
	Canary bool     // only its first chunk may go
}

// OpenFirings lists the firings that have not ended, the oldest first.
func (s *Store) OpenFirings(ctx context.Context) ([]OpenFiring, error) {
	rows, err := s.pool.Query(ctx, `
		SELECT `+campaignColumns+`, f.id, f.tick, f.audience, f.started_at, f.total, f.canary,
			(SELECT count(*) FROM chunk k WHERE k.firing = f.id AND k.state IN ('queued', 'running', 'settling') AND (k.state <> 'settling' OR c.kind = 'mass')),
			f.refused <> ''
		FROM firing f JOIN campaign c ON c.id = f.campaign WHERE f.ended_at IS NULL ORDER BY f.id`)
	if err != nil {
		return nil, fmt.Errorf("read open firings: %w", err)
	}
	of := s.scanCampaign(ctx)
	list, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (o OpenFiring, err error) {
		var refused bool
		if o.Of, err = of(leading{row, []any{&o.ID, &o.Tick, &o.Audience, &o.StartedAt, &o.Total, &o.Canary, &o.Busy, &refused}}); err != nil {
			return o, err
		}
		if refused && !o.Of.State.Ended() {
			o.Of.State = campaign.Failed
		}
		o.Campaign = o.Of.ID
		o.Canary = o.Canary && !o.Of.State.Ended() // to be settled, all of it
		return o, nil
	})
	if err != nil {
		return nil, fmt.Errorf("read open firings: %w", err)
	}
	return list, nil
}

// leading is a row whose last columns go to more.
type leading struct {
	pgx.CollectableRow
	more []any
}

// Scan reads the row into dest, and what is left into more.
func (l leading) Scan(dest ...any) error { return l.CollectableRow.Scan(append(dest, l.more...)...) }

// A QueuedChunk is one that its queue should have.
type QueuedChunk struct {
	Firing, No int32
	Run        int32 // grows with each time that it is queued
	Account    string
	Kind       message.Kind
}

// QueueChunks marks up to n waiting chunks of a firing as queued, in order, and returns them for the caller to
// enqueue; of one with a canary, that alone. Where the queue loses one it is found again after look.
func (s *Store) QueueChunks(ctx context.Context, f OpenFiring, n int, look time.Duration) ([]QueuedChunk, error) {
	rows, err := s.pool.Query(ctx, `
		WITH next AS (SELECT firing, no FROM chunk WHERE firing = $1 AND state = 'waiting' AND (no = 0 OR NOT $4) ORDER BY no LIMIT $2 FOR UPDATE SKIP LOCKED)
		UPDATE chunk AS k SET state = 'queued', fence = k.fence + (k.fence > 0)::int4, until = now() + $3::interval
		FROM next WHERE k.firing = next.firing AND k.no = next.no
		RETURNING k.firing, k.no, k.fence`, f.ID, n, look, f.Canary)
	if err != nil {
		return nil, fmt.Errorf("queue chunks: %w", err)
	}
	list, err := collectQueued(rows, f.Of.Account, f.Of.Kind)
	if err != nil {
		return nil, fmt.Errorf("queue chunks: %w", err)
	}
	return list, nil
}

func collectQueued(rows pgx.Rows, account string, kind message.Kind) ([]QueuedChunk, error) {
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (QueuedChunk, error) {
		c := QueuedChunk{Account: account, Kind: kind}
		return c, row.Scan(&c.Firing, &c.No, &c.Run)
	})
}

// LongQueued lists queued chunks of a firing that no worker has taken in time: their queue may have lost them.
func (s *Store) LongQueued(ctx context.Context, f OpenFiring) ([]QueuedChunk, error) {
	rows, err := s.pool.Query(ctx, `SELECT firing, no, fence FROM chunk
		WHERE firing = $1 AND state IN ('queued', 'running', 'settling') AND state = 'queued' AND until < now() ORDER BY no`, f.ID)
	if err == nil {
		var list []QueuedChunk
		if list, err = collectQueued(rows, f.Of.Account, f.Of.Kind); err == nil {
			return list, nil
		}
	}
	return nil, fmt.Errorf("look for lost chunks: %w", err)
}

// Requeue makes the next runs of queued chunks that their queue has lost. They come under another run, so that what is
// left of the last is not taken for them; should it still come, one of the two finds nothing to do.
func (s *Store) Requeue(ctx context.Context, f OpenFiring, lost []QueuedChunk, look time.Duration) ([]QueuedChunk, error) {
	if len(lost) == 0 {
		return nil, nil
	}
	var no, run []int32
	for _, c := range lost {
		no, run = append(no, c.No), append(run, c.Run)
	}
	rows, err := s.pool.Query(ctx, `
		UPDATE chunk k SET fence = k.fence + 1, until = now() + $4::interval
		FROM unnest($2::int4[], $3::int4[]) AS l (no, run)
		WHERE k.firing = $1 AND k.no = l.no AND k.fence = l.run AND k.state = 'queued'
		RETURNING k.firing, k.no, k.fence`, f.ID, no, run, look)
	if err == nil {
		var list []QueuedChunk
		if list, err = collectQueued(rows, f.Of.Account, f.Of.Kind); err == nil {
			return list, nil
		}
	}
	return nil, fmt.Errorf("queue lost chunks: %w", err)
}

// MaxLost is how many runs of a chunk may end with their worker's death before its campaign pauses.
const MaxLost = 5

// FreeChunks gives chunks of a firing back to their feeder whose worker is dead: their leases have lapsed. A chunk that
// has outlived MaxLost workers pauses its campaign.
func (s *Store) FreeChunks(ctx context.Context, f OpenFiring) (freed int, err error) {
	var worst int
	err = s.pool.QueryRow(ctx, `
		WITH freed AS (
			UPDATE chunk SET state = 'waiting', lost = lost + 1
			WHERE firing = $1 AND state IN ('queued', 'running', 'settling') AND state = 'running' AND until < now()
			RETURNING lost)
		SELECT count(*), coalesce(max(lost), 0) FROM freed`, f.ID).Scan(&freed, &worst)
	if err != nil {
		return 0, fmt.Errorf("free chunks of dead workers: %w", err)
	}
	if worst < MaxLost {
		return freed, nil
	}
	if _, err = s.pool.Exec(ctx, `UPDATE chunk SET lost = 0 WHERE firing = $1 AND lost >= $2`, f.ID, MaxLost); err != nil {
		return freed, fmt.Errorf("free chunks of dead workers: %w", err)
	}
	_, err = s.setFrom(ctx, f.Campaign, campaign.Pause.From(), campaign.Paused,
		fmt.Sprintf("a chunk has lost its worker %d times", worst), time.Time{})
	return freed, err
}

// SettleChunks closes chunks of a firing, at most limit, whose recipients are all messages that have ended, and
// counts them. Where the campaign was cancelled, what nobody has claimed ends so. It says how many chunks it closed.
func (s *Store) SettleChunks(ctx context.Context, f OpenFiring, limit int) (closed int, err error) {
	rows, err := s.pool.Query(ctx, `SELECT no, fence, first, last FROM chunk
		WHERE firing = $1 AND state IN ('queued', 'running', 'settling') AND state = 'settling' ORDER BY until LIMIT $2`, f.ID, limit)
	if err != nil {
		return 0, fmt.Errorf("settle chunks: %w", err)
	}
	chunks, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (Chunk, error) {
		c := Chunk{Firing: f.ID, StartedAt: f.StartedAt}
		return c, row.Scan(&c.No, &c.Fence, &c.First, &c.Last)
	})
	if err != nil {
		return 0, fmt.Errorf("settle chunks: %w", err)
	}
	for _, c := range chunks {
		done, err := s.settleChunk(ctx, c, f.Of.State.Ended())
		if err != nil {
			return closed, fmt.Errorf("settle chunk %d of firing %d: %w", c.No, c.Firing, err)
		}
		if done {
			closed++
		}
	}
	return closed, nil
}

func (s *Store) settleChunk(ctx context.Context, c Chunk, cancelled bool) (done bool, err error) {
	if cancelled {
		if err := s.cancelUnclaimed(ctx, c); err != nil {
			return false, err
		}
	}
	tally, live, err := s.tally(ctx, c)
	if err != nil {
		return false, err
	}
	if live > 0 { // to the end of the line
		_, err = s.pool.Exec(ctx, `UPDATE chunk SET until = now(), tally = $3 WHERE firing = $1 AND no = $2 AND state = 'settling'`, c.Firing, c.No, tally)
		return false, err
	}
	_, err = s.pool.Exec(ctx, `UPDATE chunk SET state = 'done', tally = $3 WHERE firing = $1 AND no = $2 AND state = 'settling'`, c.Firing, c.No, tally)
	return err == nil, err
}

// cancelUnclaimed ends those of the chunk's messages that nobody has claimed: what is parked, and what was released and
// is on its way to a worker, whose claim is refused then. One that may have been sent ends unknown.
func (s *Store) cancelUnclaimed(ctx context.Context, c Chunk) error {
	from, to := campaign.IDRange(c.StartedAt, c.First, c.Last)
	return s.inTx(ctx, func(tx pgx.Tx) error {
		// The list first, then the messages: the order in which the releaser locks them.
		_, err := tx.Exec(ctx, `DELETE FROM parked p USING message m
			WHERE p.id >= $1 AND p.id <= $2 AND m.id = p.id AND m.firing = $3`, [16]byte(from), [16]byte(to), c.Firing)
		if err != nil {
			return err
		}
		_, err = tx.Exec(ctx, `
			WITH ended AS (
				UPDATE message SET finished_at = now(),
					state = CASE WHEN doubt THEN 'unknown' ELSE 'cancelled'::message_state END,
					reason = CASE WHEN doubt THEN 'in_doubt' ELSE 'cancelled'::message_reason END
				WHERE id >= $1 AND id <= $2 AND firing = $3 AND state IN ('accepted', 'parked') RETURNING id, claim, state, reason)
			INSERT INTO event (message_id, claim, state, reason, note) SELECT id, claim, state, reason, 'its campaign was cancelled' FROM ended`,
			[16]byte(from), [16]byte(to), c.Firing)
		return err
	})
}

// tally counts the chunk's messages, and how many of them have not ended.
func (s *Store) tally(ctx context.Context, c Chunk) (t Tally, live int, err error) {
	from, to := campaign.IDRange(c.StartedAt, c.First, c.Last)
	rows, err := s.pool.Query(ctx, `
		SELECT state::text, coalesce(nullif(reason, 'none')::text, ''), count(*) FROM message
		WHERE id >= $1 AND id <= $2 AND firing = $3 GROUP BY 1, 2
		UNION ALL
		SELECT 'sending', '', count(*) FROM claimed WHERE firing = $3 AND n BETWEEN $4 AND $5 HAVING count(*) > 0`, [16]byte(from), [16]byte(to), c.Firing, c.First, c.Last)
	if err != nil {
		return nil, 0, err
	}
	t = Tally{}
	var state outcome.Status
	var reason outcome.Reason
	var n int
	_, err = pgx.ForEachRow(rows, []any{&state, &reason, &n}, func() error {
		t[TallyKey(state, reason)] += n
		if !state.Terminal() {
			live += n
		}
		return nil
	})
	return t, live, err
}

// EndFiring ends a firing whose chunks are all done, and with its last one its campaign, unless that has a next tick.
func (s *Store) EndFiring(ctx context.Context, f OpenFiring) (ended bool, err error) {
	err = s.inTx(ctx, func(tx pgx.Tx) error {
		ended = false
		state, err := lockCampaign(ctx, tx, f.Campaign)
		if err != nil {
			return err
		}
		tag, err := tx.Exec(ctx, `UPDATE firing SET ended_at = now() WHERE id = $1 AND ended_at IS NULL
			AND NOT EXISTS (SELECT FROM chunk WHERE firing = $1 AND state = 'waiting')
			AND NOT EXISTS (SELECT FROM chunk WHERE firing = $1 AND state IN ('queued', 'running', 'settling'))`, f.ID)
		if err != nil || tag.RowsAffected() == 0 {
			return err
		}
		ended = true
		if state.Ended() {
			return nil
		}
		var open, again bool
		var refused string
		err = tx.QueryRow(ctx, `
			SELECT EXISTS (SELECT FROM firing WHERE campaign = c.id AND ended_at IS NULL), c.next_tick IS NOT NULL, f.refused
			FROM firing f JOIN campaign c ON c.id = f.campaign WHERE f.id = $1`, f.ID).Scan(&open, &again, &refused)
		switch {
		case err != nil || open:
			return err
		case again && state == campaign.Paused:
			return nil
		case again:
			return setCampaign(ctx, tx, f.Campaign, campaign.Scheduled, refused)
		}
		return setCampaign(ctx, tx, f.Campaign, campaign.Done, refused)
	})
	if err != nil {
		return false, fmt.Errorf("end firing %d: %w", f.ID, err)
	}
	return ended, nil
}

// CanaryDone pauses the campaign where the firing's first chunk has been sent, for somebody to look; it says whether.
func (s *Store) CanaryDone(ctx context.Context, f OpenFiring) (bool, error) {
	var done bool
	sent := []string{"settling", "done"}
	if f.Of.Kind == message.Mass { // its message is only on its way
		sent = []string{"done"}
	}
	err := s.pool.QueryRow(ctx, `SELECT state = ANY ($2) FROM chunk WHERE firing = $1 AND no = 0`, f.ID, sent).Scan(&done)
	if err != nil {
		return false, fmt.Errorf("look after canary: %w", err)
	}
	if !done {
		return false, nil
	}
	return s.setFrom(ctx, f.Campaign, []campaign.State{campaign.Running, campaign.Throttled, campaign.Parked}, campaign.Paused,
		"the canary was sent; resume when it is well", time.Time{})
}
