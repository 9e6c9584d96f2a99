package postgres

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/hongyan-dispatch/hongyan/internal/campaign"
	"github.com/hongyan-dispatch/hongyan/message"
	"github.com/hongyan-dispatch/hongyan/outcome"
)

// A Chunk is a run of a chunk: what a worker holds while it sends to recipients First to Last.
type Chunk struct {
	Firing, No  int32
	Fence       int32 // of this run; a later run has taken over where it differs
	First, Last int32
	Audience    int32
	StartedAt   time.Time // of the firing: the time in its ids
	Campaign    message.ID
	State       campaign.State // of the campaign, now
}

// A Recipient is a row of recipient.
type Recipient struct {
	N      int32
	OpenID message.OpenID
	Vars   []string
}

// TakeChunk begins a run of a queued chunk, under a lease. It answers nil where there is nothing to do: somebody else
// runs it, it went back to its feeder, or it is done.
func (s *Store) TakeChunk(ctx context.Context, firing, no, pod int32, lease time.Duration) (*Chunk, error) {
	c := &Chunk{Firing: firing, No: no}
	var id [16]byte
	err := s.pool.QueryRow(ctx, `
		UPDATE chunk AS k SET state = 'running', fence = k.fence + 1, owner = $3, until = now() + $4::interval
		FROM firing f JOIN campaign c ON c.id = f.campaign
		WHERE k.firing = $1 AND k.no = $2 AND f.id = k.firing AND (k.state = 'queued' OR k.state = 'running' AND k.until < now())
		RETURNING k.fence, k.first, k.last, f.audience, f.started_at, c.id, c.state`, firing, no, pod, lease).
		Scan(&c.Fence, &c.First, &c.Last, &c.Audience, &c.StartedAt, &id, &c.State)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("take chunk: %w", err)
	}
	c.Campaign = id
	return c, nil
}

// KeepChunk extends the run's lease and answers with the campaign's present state; empty: the run was taken over.
func (s *Store) KeepChunk(ctx context.Context, c *Chunk, lease time.Duration) (state campaign.State, err error) {
	err = s.pool.QueryRow(ctx, `
		UPDATE chunk AS k SET until = now() + $4::interval
		FROM firing f JOIN campaign c ON c.id = f.campaign
		WHERE k.firing = $1 AND k.no = $2 AND k.fence = $3 AND k.state = 'running' AND f.id = k.firing
		RETURNING c.state`, c.Firing, c.No, c.Fence, lease).Scan(&state)
	if errors.Is(err, pgx.ErrNoRows) {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("keep chunk: %w", err)
	}
	return state, nil
}

// GiveBackChunk ends the run with recipients left over: the chunk waits for its feeder again.
func (s *Store) GiveBackChunk(ctx context.Context, c *Chunk) error {
	_, err := s.pool.Exec(ctx, `UPDATE chunk SET state = 'waiting' WHERE firing = $1 AND no = $2 AND fence = $3 AND state = 'running'`, c.Firing, c.No, c.Fence)
	if err != nil {
		return fmt.Errorf("give chunk back: %w", err)
	}
	return nil
}

// A Tally counts messages by outcome: "sent", "failed refused_recipient", "parked backoff".
type Tally map[string]int

// TallyKey is the key under which a Tally counts an outcome.
func TallyKey(state outcome.Status, reason outcome.Reason) string {
	if reason == "" {
		return string(state)
	}
	return string(state) + " " + string(reason)
}

// EndChunk ends the run: every recipient is a message. A tally that counts them all, each ended, closes the chunk;
// with nil it is counted later ([Store.SettleChunks]).
func (s *Store) EndChunk(ctx context.Context, c *Chunk, tally Tally) error {
	state, text := "settling", []byte(nil)
	if tally != nil {
		state = "done"
		var err error
		if text, err = json.Marshal(tally); err != nil {
			return fmt.Errorf("end chunk: %w", err)
		}
	}
	_, err := s.pool.Exec(ctx, `UPDATE chunk SET state = $4, tally = $5 WHERE firing = $1 AND no = $2 AND fence = $3 AND state = 'running'`,
		c.Firing, c.No, c.Fence, state, text)
	if err != nil {
		return fmt.Errorf("end chunk: %w", err)
	}
	return nil
}

// ChunkRecipients reads the chunk's recipients that nobody has claimed or decided about. In its first run nobody can have.
func (s *Store) ChunkRecipients(ctx context.Context, c *Chunk) ([]Recipient, error) {
	there := map[int32]bool{}
	if c.Fence > 1 {
		from, to := campaign.IDRange(c.StartedAt, c.First, c.Last)
		// In one statement, and so at one instant: who is in flight is a message the next moment.
		rows, err := s.pool.Query(ctx, `SELECT n FROM message WHERE id >= $1 AND id <= $2 AND firing = $3
			UNION ALL SELECT u.n FROM in_flight f CROSS JOIN LATERAL unnest(f.firings, f.ns) AS u (firing, n) WHERE u.firing = $3 AND u.n BETWEEN $4 AND $5`,
			[16]byte(from), [16]byte(to), c.Firing, c.First, c.Last)
		if err != nil {
			return nil, fmt.Errorf("read recipients: %w", err)
		}
		var n int32
		if _, err := pgx.ForEachRow(rows, []any{&n}, func() error { there[n] = true; return nil }); err != nil {
			return nil, fmt.Errorf("read recipients: %w", err)
		}
	}
	rows, err := s.pool.Query(ctx, `SELECT n, openid, vars FROM recipient WHERE audience = $1 AND n BETWEEN $2 AND $3 ORDER BY n`, c.Audience, c.First, c.Last)
	if err != nil {
		return nil, fmt.Errorf("read recipients: %w", err)
	}
	list := make([]Recipient, 0, c.Last-c.First+1)
	var r Recipient
	_, err = pgx.ForEachRow(rows, []any{&r.N, &r.OpenID, &r.Vars}, func() error {
		if !there[r.N] {
			list = append(list, r)
		}
		r.Vars = nil // the next row gets an array of its own
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read recipients: %w", err)
	}
	return list, nil
}
