package postgres

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/hongyan-dispatch/hongyan/message"
)

// A Receipt is WeChat's report on a message that it had accepted.
type Receipt struct {
	Account    string
	Key        string // equal for repetitions of one report, unique within the account
	Kind       message.Kind
	MsgID      int64          // as the send was answered; 0 where WeChat forgot it
	OpenID     message.OpenID // empty for mass sends
	TemplateID string         // of subscription notices
	At         time.Time
	Delivered  bool
	Reason     string // why not
	Code       int
	Blocked    bool   // the user refuses the account's messages
	Sealed     bool   // surely WeChat's; others are kept, and change nothing
	Job        []byte // mass sends: JSON of totals, copyright checks and articles
}

// recordReceipts keeps reports, each once, and says which users block the account. What is surely WeChat's takes the place
// of a hint of the same key: whoever has seen a URL can make hints.
func (s *Store) recordReceipts(ctx context.Context, tx pgx.Tx, list []Receipt) (blocked refusal, err error) {
	if len(list) == 0 {
		return refusal{}, nil
	}
	list = slices.Clone(list)
	slices.SortFunc(list, func(a, b Receipt) int {
		return cmp.Or(strings.Compare(a.Account, b.Account), strings.Compare(a.Key, b.Key))
	})
	b := &pgx.Batch{}
	for _, r := range list {
		account, err := s.accountID(ctx, r.Account)
		if err != nil {
			return refusal{}, err
		}
		if r.Blocked && r.Sealed && r.OpenID != "" {
			blocked.users, blocked.at = append(blocked.users, user{account, clean(string(r.OpenID))}), append(blocked.at, r.At)
		}
		var job any
		if r.Job != nil {
			job = string(r.Job)
		}
		b.Queue(`
			INSERT INTO receipt (account, key, kind, msgid, openid, template_id, at, delivered, reason, code, sealed, job, look_at)
			SELECT $1::int4, $2::text, $3::message_kind, $4::int8, $5::text, $6::text, $7::timestamptz, $8::bool, $9::text, $10::int4, $11::bool, $12::jsonb,
				CASE WHEN $11::bool THEN now() END
			WHERE NOT EXISTS (SELECT FROM receipt WHERE account = $1 AND key = $2 AND sealed) -- a repetition must not wait for who joins the first
			ON CONFLICT (account, key) DO UPDATE SET
				kind = excluded.kind, msgid = excluded.msgid, openid = excluded.openid, template_id = excluded.template_id, at = excluded.at,
				delivered = excluded.delivered, reason = excluded.reason, code = excluded.code, sealed = true, job = excluded.job,
				received_at = now(), look_at = excluded.look_at
			WHERE excluded.sealed AND NOT receipt.sealed`,
			account, clean(r.Key), string(r.Kind), r.MsgID, clean(string(r.OpenID)), clean(r.TemplateID), r.At, r.Delivered, clean(r.Reason), r.Code, r.Sealed, job)
	}
	return blocked, tx.SendBatch(ctx, b).Close()
}

// A SilentMass is a mass send that WeChat has accepted, and reported nothing of.
type SilentMass struct {
	ID      message.ID
	Account string
	MsgID   int64
	Sent    time.Time
}

// SilentMass picks, to be asked about, at most limit mass sends that were accepted longer than after ago, at most two days,
// and have no receipt. Each comes up again after every, over all callers.
func (s *Store) SilentMass(ctx context.Context, after, every time.Duration, limit int) ([]SilentMass, error) {
	rows, err := s.pool.Query(ctx, `
		UPDATE mass_call c SET asked_at = now()
		FROM message m, account a
		WHERE c.id IN (
			SELECT c.id FROM mass_call c JOIN message m ON m.id = c.id
			WHERE c.msg_id <> 0 AND c.asked_at < now() - $2::interval AND m.state = 'sent'
				AND m.finished_at < now() - $1::interval AND m.finished_at > now() - interval '2 days'
				AND NOT EXISTS (SELECT FROM receipt r WHERE r.message = c.id)
			ORDER BY c.id LIMIT $3 FOR UPDATE OF c SKIP LOCKED)
			AND m.id = c.id AND a.id = c.account
		RETURNING c.id, a.name, c.msg_id, m.finished_at`, after, every, limit)
	if err != nil {
		return nil, fmt.Errorf("look for mass sends without a receipt: %w", err)
	}
	list, err := pgx.CollectRows(rows, pgx.RowToStructByPos[SilentMass])
	if err != nil {
		return nil, fmt.Errorf("look for mass sends without a receipt: %w", err)
	}
	return list, nil
}
