package postgres

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/hongyan-dispatch/hongyan/message"
)

// Triggers that are no allowance of the window. The others are those of package window.
const (
	TriggerLeft   = "unsubscribe"
	TriggerSeen   = "seen" // the user did something that opens nothing, such as following a link of the menu
	triggerFollow = "follow"
)

// An Inbound is an event of a user's, which opens a customer-service window, or closes it, and says whether the user
// wants messages.
type Inbound struct {
	Account string
	OpenID  message.OpenID
	Trigger string
	At      time.Time
}

// A Choice is a user's acceptance or refusal of one template of subscription notices.
type Choice struct {
	Account    string
	OpenID     message.OpenID
	TemplateID string
	Refused    bool
	At         time.Time
}

// Pushes is what a batch of WeChat's pushes says.
type Pushes struct {
	Inbound  []Inbound
	Choices  []Choice
	Receipts []Receipt
}

// RecordPushes keeps what pushes say, in one transaction: the latest event of each user and trigger, who wants no
// messages, and receipts. Pushes may come in any order and more than once: the end is the same.
func (s *Store) RecordPushes(ctx context.Context, p Pushes) error {
	err := s.inTx(ctx, func(tx pgx.Tx) error {
		users, err := s.recordInbound(ctx, tx, p.Inbound)
		if err != nil {
			return err
		}
		if err := s.recordChoices(ctx, tx, p.Choices); err != nil {
			return err
		}
		blocked, err := s.recordReceipts(ctx, tx, p.Receipts)
		if err != nil {
			return err
		}
		if err := refuse(ctx, tx, blocked); err != nil {
			return err
		}
		return suppress(ctx, tx, append(users, blocked.users...))
	})
	if err != nil {
		return fmt.Errorf("record pushes: %w", err)
	}
	return nil
}

// RecordInbound keeps the latest event of each user and trigger, with what it says of the user's being there.
func (s *Store) RecordInbound(ctx context.Context, list []Inbound) error {
	return s.RecordPushes(ctx, Pushes{Inbound: list})
}

// A user is one of an account's.
type user struct {
	account int32
	openid  string
}

func compareUsers(a, b user) int {
	return cmp.Or(cmp.Compare(a.account, b.account), strings.Compare(a.openid, b.openid))
}

func (s *Store) recordInbound(ctx context.Context, tx pgx.Tx, list []Inbound) ([]user, error) {
	if len(list) == 0 {
		return nil, nil
	}
	type row struct {
		user
		trigger string
		at      time.Time
	}
	rows := make([]row, 0, len(list))
	for _, in := range list {
		account, err := s.accountID(ctx, in.Account)
		if err != nil {
			return nil, err
		}
		rows = append(rows, row{user{account, clean(string(in.OpenID))}, clean(in.Trigger), in.At})
	}
	// In key order against deadlocks; of equal keys the latest alone, since a statement may not write a row twice.
	key := func(a, b row) int { return cmp.Or(compareUsers(a.user, b.user), strings.Compare(a.trigger, b.trigger)) }
	slices.SortFunc(rows, func(a, b row) int { return cmp.Or(key(a, b), b.at.Compare(a.at)) })
	rows = slices.CompactFunc(rows, func(a, b row) bool { return key(a, b) == 0 })
	var accounts []int32
	var openids, triggers []string
	var at []time.Time
	users := make([]user, len(rows))
	for i, r := range rows {
		accounts, openids, triggers, at = append(accounts, r.account), append(openids, r.openid), append(triggers, r.trigger), append(at, r.at)
		users[i] = r.user
	}
	_, err := tx.Exec(ctx, `
		INSERT INTO inbound_last AS l (account, openid, trigger, at)
		SELECT * FROM unnest($1::int4[], $2::text[], $3::text[], $4::timestamptz[])
		ON CONFLICT (account, openid, trigger) DO UPDATE SET at = greatest(l.at, excluded.at)`,
		accounts, openids, triggers, at)
	return slices.Compact(users), err
}

// recordChoices keeps the last refusal and the last acceptance of each template; of two at one instant the refusal
// counts.
func (s *Store) recordChoices(ctx context.Context, tx pgx.Tx, list []Choice) error {
	if len(list) == 0 {
		return nil
	}
	type row struct {
		user
		template         string
		refused, granted time.Time
	}
	epoch := time.Unix(0, 0)
	var rows []row
	for _, c := range list {
		account, err := s.accountID(ctx, c.Account)
		if err != nil {
			return err
		}
		r := row{user{account, clean(string(c.OpenID))}, clean(c.TemplateID), epoch, epoch}
		if c.Refused {
			r.refused = c.At
		} else {
			r.granted = c.At
		}
		rows = append(rows, r)
	}
	key := func(a, b row) int {
		return cmp.Or(compareUsers(a.user, b.user), strings.Compare(a.template, b.template))
	}
	slices.SortStableFunc(rows, key)
	merged := rows[:0]
	for _, r := range rows {
		if n := len(merged); n > 0 && key(merged[n-1], r) == 0 {
			merged[n-1].refused, merged[n-1].granted = later(merged[n-1].refused, r.refused), later(merged[n-1].granted, r.granted)
			continue
		}
		merged = append(merged, r)
	}
	var accounts []int32
	var openids, templates []string
	var refused, granted []time.Time
	for _, r := range merged {
		accounts, openids, templates = append(accounts, r.account), append(openids, r.openid), append(templates, r.template)
		refused, granted = append(refused, r.refused), append(granted, r.granted)
	}
	_, err := tx.Exec(ctx, `
		INSERT INTO suppression AS s (account, openid, template_id, active, reason, errcode, since, lifted_at)
		SELECT account, openid, template_id, since > 'epoch' AND since >= lifted_at, 'refused_recipient', 0, since, lifted_at
		FROM unnest($1::int4[], $2::text[], $3::text[], $4::timestamptz[], $5::timestamptz[]) AS i (account, openid, template_id, since, lifted_at)
		ON CONFLICT (account, openid, template_id) DO UPDATE SET
			since = greatest(s.since, excluded.since), lifted_at = greatest(s.lifted_at, excluded.lifted_at),
			errcode = CASE WHEN excluded.since > s.since THEN 0 ELSE s.errcode END, changed_at = now(),
			active = greatest(s.since, excluded.since) > 'epoch' AND greatest(s.since, excluded.since) >= greatest(s.lifted_at, excluded.lifted_at)`,
		accounts, openids, templates, refused, granted)
	return err
}

func later(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}

// A refusal is that of users who blocked the account, as receipts tell.
type refusal struct {
	users []user
	at    []time.Time
}

// refuse keeps the last refusal of each user.
func refuse(ctx context.Context, tx pgx.Tx, r refusal) error {
	latest := map[user]time.Time{}
	for i, u := range r.users {
		latest[u] = later(latest[u], r.at[i])
	}
	order := slices.SortedFunc(maps.Keys(latest), compareUsers)
	var accounts []int32
	var openids []string
	var at []time.Time
	for _, u := range order {
		accounts, openids, at = append(accounts, u.account), append(openids, u.openid), append(at, latest[u])
	}
	if len(order) == 0 {
		return nil
	}
	_, err := tx.Exec(ctx, `
		INSERT INTO suppression AS s (account, openid, template_id, active, reason, errcode, since)
		SELECT account, openid, '', true, 'refused_recipient', 0, at FROM unnest($1::int4[], $2::text[], $3::timestamptz[]) AS i (account, openid, at)
		ON CONFLICT (account, openid, template_id) DO UPDATE SET since = greatest(s.since, excluded.since), changed_at = now()`, accounts, openids, at)
	return err
}

// suppress decides anew about users from whom something was heard. Who left is suppressed until they follow again; who
// refused, by an answer of WeChat's or a receipt, until they are heard of again; what a user chose for a template, only
// another choice changes.
func suppress(ctx context.Context, tx pgx.Tx, users []user) error {
	slices.SortFunc(users, compareUsers)
	users = slices.Compact(users)
	if len(users) == 0 {
		return nil
	}
	var accounts []int32
	var openids []string
	for _, u := range users {
		accounts, openids = append(accounts, u.account), append(openids, u.openid)
	}
	const heard = `
		WITH heard AS (
			SELECT u.account, u.openid,
				coalesce(max(l.at) FILTER (WHERE l.trigger = '` + TriggerLeft + `'), 'epoch') AS left_at,
				coalesce(max(l.at) FILTER (WHERE l.trigger = '` + triggerFollow + `'), 'epoch') AS followed,
				coalesce(max(l.at) FILTER (WHERE l.trigger <> '` + TriggerLeft + `'), 'epoch') AS seen
			FROM unnest($1::int4[], $2::text[]) AS u (account, openid)
			LEFT JOIN inbound_last l ON l.account = u.account AND l.openid = u.openid
			GROUP BY u.account, u.openid)`
	if _, err := tx.Exec(ctx, heard+`
		INSERT INTO suppression AS s (account, openid, template_id, active, reason, errcode, since, left_at)
		SELECT account, openid, '', true, 'suppressed', 0, 'epoch', left_at FROM heard WHERE left_at > 'epoch' AND left_at >= followed
		ORDER BY account, openid
		ON CONFLICT (account, openid, template_id) DO UPDATE SET left_at = excluded.left_at
		WHERE s.left_at < excluded.left_at`, accounts, openids); err != nil {
		return err
	}
	_, err := tx.Exec(ctx, heard+`
		UPDATE suppression s SET active = i.active, changed_at = now()
		FROM (
			SELECT s.account, s.openid, s.template_id,
				s.template_id = '' AND h.left_at > 'epoch' AND h.left_at >= h.followed OR s.since > 'epoch' AND s.since >= h.seen AND s.since >= s.lifted_at AS active
			FROM suppression s JOIN heard h ON h.account = s.account AND h.openid = s.openid
			WHERE s.template_id = '' OR s.errcode <> 0
			ORDER BY s.account, s.openid, s.template_id FOR UPDATE OF s) AS i
		WHERE s.account = i.account AND s.openid = i.openid AND s.template_id = i.template_id AND s.active <> i.active`, accounts, openids)
	return err
}

// LastInbound reads the latest event of each trigger of a user.
func (s *Store) LastInbound(ctx context.Context, account string, to message.OpenID) ([]Inbound, error) {
	id, err := s.accountID(ctx, account)
	if err != nil {
		return nil, fmt.Errorf("read inbound events: %w", err)
	}
	rows, err := s.pool.Query(ctx, `SELECT trigger, at FROM inbound_last WHERE account = $1 AND openid = $2 ORDER BY trigger`, id, string(to))
	if err != nil {
		return nil, fmt.Errorf("read inbound events: %w", err)
	}
	list, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (Inbound, error) {
		in := Inbound{Account: account, OpenID: to}
		err := row.Scan(&in.Trigger, &in.At)
		return in, err
	})
	if err != nil {
		return nil, fmt.Errorf("read inbound events: %w", err)
	}
	return list, nil
}

// An Answered is a customer-service message that its user got, or may have got.
type Answered struct {
	ID message.ID
	At time.Time // of its last call
}

// maxAnswers bounds what is read of a user: more than any window allows.
const maxAnswers = 500

// AnsweredSince lists the customer-service messages to a user whose last call was at since or later, the latest first.
func (s *Store) AnsweredSince(ctx context.Context, account string, to message.OpenID, since time.Time) ([]Answered, error) {
	id, err := s.accountID(ctx, account)
	if err != nil {
		return nil, fmt.Errorf("read answers: %w", err)
	}
	rows, err := s.pool.Query(ctx, `
		SELECT m.id, m.intent_at FROM addressed b JOIN message m ON m.id = b.id
		WHERE b.recipient = $2 AND m.account = $1 AND m.kind = 'custom' AND m.intent_at >= $3
			AND (m.state IN ('sending', 'sent', 'unknown') OR m.doubt)
		UNION ALL
		SELECT id, at FROM claimed WHERE account = $1 AND kind = 'custom' AND recipient = $2 AND at >= $3
		ORDER BY 2 DESC LIMIT $4`, id, string(to), since, maxAnswers)
	if err != nil {
		return nil, fmt.Errorf("read answers: %w", err)
	}
	list, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (Answered, error) {
		var a Answered
		err := row.Scan((*[16]byte)(&a.ID), &a.At)
		return a, err
	})
	if err != nil {
		return nil, fmt.Errorf("read answers: %w", err)
	}
	return list, nil
}
