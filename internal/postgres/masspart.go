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

// RefusePart closes a queued chunk whose message cannot be accepted, and ends what cannot go on for that: the firing, where
// its campaign has a next tick, or else the campaign.
func (s *Store) RefusePart(ctx context.Context, f OpenFiring, c QueuedChunk, reason string) error {
	tally := Tally{TallyKey(outcome.Failed, outcome.Invalid): 1}
	err := s.inTx(ctx, func(tx pgx.Tx) error {
		state, err := lockCampaign(ctx, tx, f.Campaign)
		if err != nil {
			return err
		}
		tag, err := tx.Exec(ctx, `UPDATE chunk SET state = 'done', fence = fence + 1, tally = $4 WHERE firing = $1 AND no = $2 AND fence = $3 AND state = 'queued'`,
			c.Firing, c.No, c.Run, tally)
		if err != nil || tag.RowsAffected() == 0 || state.Ended() {
			return err
		}
		tag, err = tx.Exec(ctx, `UPDATE firing f SET refused = $2 FROM campaign c WHERE f.id = $1 AND c.id = f.campaign AND c.next_tick IS NOT NULL`,
			f.ID, fmt.Sprintf("its firing of %s ended: %s", f.Tick.UTC().Format(time.RFC3339), reason))
		if err != nil || tag.RowsAffected() > 0 {
			return err
		}
		return setCampaign(ctx, tx, f.Campaign, campaign.Failed, reason)
	})
	if err != nil {
		return fmt.Errorf("refuse a part: %w", err)
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
