package postgres

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/hongyan-dispatch/hongyan/message"
)

// A CampaignSend is a campaign's message that a user got, or may get still.
type CampaignSend struct {
	To      message.OpenID
	At      time.Time // of its last claim
	Content string    // where it was asked for
}

// cappedFor is more than the longest time over which a frequency cap counts, a week. So long the messages of a firing
// that has ended are kept, whatever the retention.
const cappedFor = 8 * 24 * time.Hour

// CampaignSends lists what campaigns have sent to these users of an account since a time. What was claimed and may
// still be sent counts.
func (s *Store) CampaignSends(ctx context.Context, account string, users []message.OpenID, since time.Time, content bool) ([]CampaignSend, error) {
	id, err := s.accountID(ctx, account)
	if err != nil {
		return nil, err
	}
	// A message's id is of its firing's start, however much later it is sent.
	var first time.Time
	err = s.pool.QueryRow(ctx, `
		SELECT least(min(f.started_at), now()) FROM firing f JOIN campaign c ON c.id = f.campaign
		WHERE c.account = $1 AND (f.ended_at IS NULL OR f.ended_at >= $2)`, id, since).Scan(&first)
	if err != nil {
		return nil, fmt.Errorf("read what users got: %w", err)
	}
	rows, err := s.pool.Query(ctx, `
		SELECT b.recipient, m.intent_at, CASE WHEN @content::bool THEN b.content END, m.firing, m.n
		FROM addressed b JOIN message m ON m.id = b.id
		WHERE b.recipient = ANY (@users::text[]) AND b.id >= @from::uuid AND m.id >= @from::uuid
			AND m.account = @account AND m.firing > 0 AND m.claim > 0 AND m.intent_at >= @since
			AND m.state IN ('accepted', 'parked', 'sending', 'sent', 'unknown')
		UNION ALL
		SELECT recipient, at, NULL, firing, n FROM claimed WHERE recipient = ANY (@users::text[]) AND account = @account AND at >= @since`, pgx.NamedArgs{
		"content": content, "users": users, "from": [16]byte(message.FirstID(first)), "account": id, "since": since,
	})
	if err != nil {
		return nil, fmt.Errorf("read what users got: %w", err)
	}
	var bare []*message.Message // those without a body,
	var at []int                // and where they stand in the list
	var list []CampaignSend
	var one CampaignSend
	var said *string
	var firing, n int32
	_, err = pgx.ForEachRow(rows, []any{&one.To, &one.At, &said, &firing, &n}, func() error {
		one.Content = ""
		if said != nil {
			one.Content = *said
		} else if content {
			bare, at = append(bare, &message.Message{Firing: firing, N: n}), append(at, len(list))
		}
		list = append(list, one)
		return nil
	})
	if err == nil {
		err = s.recompose(ctx, s.pool, bare)
	}
	if err != nil {
		return nil, fmt.Errorf("read what users got: %w", err)
	}
	for i, m := range bare {
		list[at[i]].Content = string(m.Body)
	}
	return list, nil
}

// PutOffParked keeps what a paused campaign has parked from being released: what is due soon is due later.
func (s *Store) PutOffParked(ctx context.Context, f OpenFiring, soon, later time.Duration) error {
	id, err := s.accountID(ctx, f.Of.Account)
	if err != nil {
		return err
	}
	_, err = s.pool.Exec(ctx, `
		UPDATE parked p SET due_at = now() + @later::interval
		WHERE p.account = @account AND p.kind = @kind::text::message_kind AND p.lane IN ('urgent', 'normal', 'bulk') AND p.due_at <= now() + @soon::interval
			AND EXISTS (SELECT FROM message m WHERE m.id = p.id AND m.firing = @firing)`, pgx.NamedArgs{
		"account": id, "kind": string(f.Of.Kind), "soon": soon, "later": later, "firing": f.ID,
	})
	if err != nil {
		return fmt.Errorf("put off parked messages: %w", err)
	}
	return nil
}
