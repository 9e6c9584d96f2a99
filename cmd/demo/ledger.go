package main

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/hongyan-dispatch/hongyan/client"
	"github.com/hongyan-dispatch/hongyan/message"
	"github.com/hongyan-dispatch/hongyan/outcome"
)

// A row is one message as the ledger tells of it.
type row struct {
	ID       message.ID
	Parent   message.ID // of a fallback: the message that it stands for
	Account  string
	Kind     message.Kind
	To       string // an openid; for mass list:N, tag:ID or all
	Act      string
	Status   outcome.Status
	Reason   outcome.Reason
	ErrCode  int
	ErrMsg   string
	MsgID    string
	Attempts int
	Receipt  string // delivered, undelivered: why, or none yet
	Accepted time.Time
	Finished time.Time // zero: not yet
	Body     string    // as sent, without the recipient
}

// rows reads all messages but those of campaigns, whose bodies stand in no row.
func (s *servers) rows(ctx context.Context) ([]row, error) {
	found, err := s.db.Query(ctx, `
		SELECT o.id, coalesce(o.parent_id, '00000000-0000-0000-0000-000000000000'), o.account, o.kind, o.recipient,
			coalesce(o.labels->>'act', ''), o.status, coalesce(o.reason, ''), coalesce(o.errcode, 0), coalesce(o.errmsg, ''),
			coalesce(o.wechat_msgid, ''), o.attempts, o.accepted_at, coalesce(o.finished_at, 'epoch'), coalesce(o.receipt, ''), b.content
		FROM outcomes o JOIN message_body b USING (id) WHERE o.campaign_id IS NULL ORDER BY o.id`)
	if err != nil {
		return nil, fmt.Errorf("read outcomes: %w", err)
	}
	all, err := pgx.CollectRows(found, func(r pgx.CollectableRow) (row, error) {
		var one row
		var id, parent [16]byte
		err := r.Scan(&id, &parent, &one.Account, &one.Kind, &one.To, &one.Act, &one.Status, &one.Reason, &one.ErrCode,
			&one.ErrMsg, &one.MsgID, &one.Attempts, &one.Accepted, &one.Finished, &one.Receipt, &one.Body)
		one.ID, one.Parent = id, parent
		if one.Finished.Unix() == 0 {
			one.Finished = time.Time{}
		}
		return one, err
	})
	if err != nil {
		return nil, fmt.Errorf("read outcomes: %w", err)
	}
	return all, nil
}

// patience is how long a parked message is waited for.
const patience = 70 * time.Second

// decided says whether every message of the acts has its outcome, or is parked for longer than our patience.
func (s *servers) decided(ctx context.Context, acts []string) (ok bool, err error) {
	err = s.db.QueryRow(ctx, `
		SELECT count(*) > 0 AND count(*) FILTER (WHERE o.status IN ('accepted', 'sending') OR p.due_at < now() + $2::interval) = 0
		FROM outcomes o LEFT JOIN parked p USING (id) WHERE o.labels->>'act' = ANY($1)`, acts, patience).Scan(&ok)
	return ok, err
}

// settled says whether all of n messages are in the ledger and nothing will happen to them soon.
func (s *servers) settled(ctx context.Context, n int) (ok bool, err error) {
	err = s.db.QueryRow(ctx, `
		SELECT NOT EXISTS (SELECT FROM message WHERE state IN ('accepted', 'sending'))
			AND NOT EXISTS (SELECT FROM parked WHERE due_at < now() + $1::interval)
			AND (SELECT count(*) FROM message_body WHERE parent IS NULL) >= $2`, patience, n).Scan(&ok)
	return ok, err
}

// joined is how many receipts have found their messages.
func (s *servers) joined(ctx context.Context) (n int, err error) {
	err = s.db.QueryRow(ctx, `SELECT count(*) FROM receipt WHERE message IS NOT NULL`).Scan(&n)
	return n, err
}

// A picture is what the progress display shows.
type picture struct {
	rows     map[outcome.Status]int
	instead  int // of the rows, fallbacks
	accepted int // by the simulator
	campaign *client.CampaignProgress
}

// follow puts a campaign into the pictures.
func (s *servers) follow(id message.ID) { s.campaignID.Store(&id) }

// look takes a picture.
func (s *servers) look(ctx context.Context) (picture, error) {
	p := picture{rows: map[outcome.Status]int{}, accepted: s.sim.AcceptedTotal()}
	if id := s.campaignID.Load(); id != nil {
		seen, err := s.producer.CampaignProgress(ctx, id.String())
		if err != nil {
			return p, err
		}
		p.campaign = &seen
	}
	found, err := s.db.Query(ctx, `
		SELECT m.state::text, count(*), count(*) FILTER (WHERE b.parent IS NOT NULL)
		FROM message m JOIN message_body b USING (id) WHERE m.firing = 0 GROUP BY m.state`)
	if err != nil {
		return p, err
	}
	var (
		status     outcome.Status
		n, instead int
	)
	_, err = pgx.ForEachRow(found, []any{&status, &n, &instead}, func() error {
		p.rows[status] += n
		p.instead += instead
		return nil
	})
	return p, err
}
