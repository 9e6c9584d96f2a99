package postgres

import (
	"context"
	"fmt"

	"github.com/hongyan-dispatch/hongyan/message"
)

// A MassPart is a chunk of a mass send: one message to all of its recipients.
type MassPart struct {
	First int32
	List  []message.OpenID // empty for a tag or everybody
}

// MassPart reads what a queued chunk of a mass send goes to.
func (s *Store) MassPart(ctx context.Context, f OpenFiring, c QueuedChunk) (MassPart, error) {
	var p MassPart
	var last int32
	if err := s.pool.QueryRow(ctx, `SELECT first, last FROM chunk WHERE firing = $1 AND no = $2`, c.Firing, c.No).Scan(&p.First, &last); err != nil {
		return p, fmt.Errorf("read a part: %w", err)
	}
	if f.Of.Spec.Filtered() {
		return p, nil
	}
	list, err := s.Recipients(ctx, f.Audience, p.First-1, int(last-p.First+1))
	for _, r := range list {
		p.List = append(p.List, r.OpenID)
	}
	return p, err
}

// PartAccepted says that the message of a queued chunk is accepted: its outcome is that of the chunk.
func (s *Store) PartAccepted(ctx context.Context, c QueuedChunk) error {
	_, err := s.pool.Exec(ctx, `UPDATE chunk SET state = 'settling', fence = fence + 1 WHERE firing = $1 AND no = $2 AND fence = $3 AND state = 'queued'`,
		c.Firing, c.No, c.Run)
	if err != nil {
		return fmt.Errorf("note an accepted part: %w", err)
	}
	return nil
}

// FinishFiltered makes an audience ready that only WeChat can list.
func (s *Store) FinishFiltered(ctx context.Context, a *Audience) error {
	if _, err := s.pool.Exec(ctx, `UPDATE audience SET state = 'ready', total = 1 WHERE id = $1 AND state = 'importing'`, a.ID); err != nil {
		return fmt.Errorf("finish audience: %w", err)
	}
	a.State, a.Total = "ready", 1
	return nil
}
