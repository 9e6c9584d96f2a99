package postgres

import (
	"cmp"
	"context"
	"errors"
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

// Times of the search for a receipt's message.
const (
	receiptFor    = 30 * time.Minute   // how long a message is looked for: a send may hang, an answer may come late
	receiptAround = 10 * time.Minute   // between a send and the receipt that names no msgid
	receiptEarly  = 2 * time.Second    // a receipt has whole seconds, and a clock of its own
	receiptRecent = 3 * 24 * time.Hour // most messages are younger: looked at first
	receiptOldest = 31 * 24 * time.Hour
)

// A Joined receipt has found its message.
type Joined struct {
	Account   string
	Kind      message.Kind
	Message   message.ID
	OpenID    message.OpenID
	Delivered bool
	Reason    string
	Inferred  bool          // by user and time
	Upgraded  bool          // the message was unknown, and is sent
	Lag       time.Duration // between the send and the coming of the receipt
	Refunded  bool          // a mass send that reached nobody: its caps are given back
}

// JoinReceipts looks for the messages of at most limit receipts, and says which it found and how many receipts it looked
// at. A receipt whose message is still on its way is looked at again; one that finds none in half an hour stays by itself.
// A receipt proves that WeChat took the message: an unknown one becomes sent. Several processes may call it at once.
// Receipts that the database refuses to join are put off, and hold up no others: an error may come with an answer.
func (s *Store) JoinReceipts(ctx context.Context, now time.Time, limit int) (joined []Joined, looked int, err error) {
	var refused error
	join := func(apart bool) error {
		return s.inTx(ctx, func(tx pgx.Tx) error {
			j := joiner{store: s, tx: tx, now: now, apart: apart}
			err := j.run(ctx, limit)
			joined, looked, refused = j.joined, len(j.open), errors.Join(j.refused...)
			return err
		})
	}
	if err = join(false); failureOf(err) == failureRow {
		err = join(true)
	}
	if err != nil {
		return nil, 0, fmt.Errorf("join receipts: %w", err)
	}
	if refused != nil {
		return joined, looked, fmt.Errorf("join receipts: %w", refused)
	}
	return joined, looked, nil
}

// An openReceipt has no message yet.
type openReceipt struct {
	account    int32
	key        string
	kind       message.Kind
	msgid      int64
	openid     string
	templateID string
	at         time.Time
	receivedAt time.Time
	delivered  bool
	reason     string
	code       int
	total      int64 // mass: whom the job was for
}

// A joiner is one transaction.
type joiner struct {
	store  *Store
	tx     pgx.Tx
	now    time.Time
	apart  bool // each user by itself: what fails for one is undone for that one
	open   []openReceipt
	joined []Joined

	refused []error // why users' receipts could not be joined
}

func (j *joiner) run(ctx context.Context, limit int) error {
	rows, err := j.tx.Query(ctx, `
		SELECT account, key, kind::text, msgid, openid, template_id, at, received_at, delivered, reason, code, coalesce((job->>'total')::int8, 0)
		FROM receipt WHERE look_at <= $1 ORDER BY look_at LIMIT $2 FOR UPDATE SKIP LOCKED`, j.now, limit)
	if err != nil {
		return err
	}
	j.open, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (openReceipt, error) {
		var r openReceipt
		err := row.Scan(&r.account, &r.key, &r.kind, &r.msgid, &r.openid, &r.templateID, &r.at, &r.receivedAt, &r.delivered, &r.reason, &r.code, &r.total)
		return r, err
	})
	if err != nil {
		return err
	}
	// One user's receipts are decided together, in the order of their sending.
	slices.SortStableFunc(j.open, func(a, b openReceipt) int {
		return cmp.Or(cmp.Compare(a.account, b.account), strings.Compare(a.openid, b.openid), a.at.Compare(b.at), cmp.Compare(a.msgid, b.msgid))
	})
	for from := 0; from < len(j.open); {
		to := from + 1
		for to < len(j.open) && j.open[to].account == j.open[from].account && j.open[to].openid == j.open[from].openid {
			to++
		}
		if err := j.userOrPutOff(ctx, j.open[from:to]); err != nil {
			return err
		}
		from = to
	}
	return nil
}

// userOrPutOff joins the receipts of one user; where it works on users apart and the database refuses that, it puts them off.
func (j *joiner) userOrPutOff(ctx context.Context, open []openReceipt) error {
	if !j.apart {
		return j.user(ctx, open)
	}
	whole, before := j.tx, len(j.joined)
	err := pgx.BeginFunc(ctx, whole, func(part pgx.Tx) error {
		j.tx = part
		return j.user(ctx, open)
	})
	j.tx = whole
	if failureOf(err) != failureRow {
		return err
	}
	j.joined = j.joined[:before]
	j.refused = append(j.refused, err)
	for _, r := range open {
		if err := j.lookAgain(ctx, r); err != nil {
			return err
		}
	}
	return nil
}

// user joins the receipts of one user, or of one account's mass sends.
func (j *joiner) user(ctx context.Context, open []openReceipt) error {
	sends, err := j.sends(ctx, open, receiptRecent)
	if err != nil {
		return err
	}
	pairs := match(open, sends)
	if slices.ContainsFunc(pairs, func(p pair) bool { return p.send < 0 || p.inferred }) {
		// A message may have waited for weeks: what is inferred must have seen it.
		if sends, err = j.sends(ctx, open, receiptOldest); err != nil {
			return err
		}
		pairs = match(open, sends)
	}
	for _, m := range pairs {
		if m.send < 0 {
			if err := j.lookAgain(ctx, open[m.receipt]); err != nil {
				return err
			}
			continue
		}
		if err := j.join(ctx, open[m.receipt], sends[m.send], m.inferred); err != nil {
			return err
		}
	}
	return nil
}

// sends are the messages that the receipts may be about, accepted at most the given time before them; oldest first.
func (j *joiner) sends(ctx context.Context, open []openReceipt, back time.Duration) ([]sentMessage, error) {
	oldest, newest := open[0].at, open[0].at
	for _, r := range open {
		if r.at.Before(oldest) {
			oldest = r.at
		}
		newest = later(newest, r.at)
	}
	bounds := []any{open[0].account, [16]byte(message.FirstID(oldest.Add(-back))), [16]byte(message.FirstID(newest.Add(time.Minute)))}
	query, args := `
		SELECT m.id, m.kind::text, m.state::text, m.msgid, m.first_intent_at, m.intent_at, m.doubt, m.claim, coalesce(b.content::json->>'template_id', ''), 0, EXISTS (SELECT FROM receipt r WHERE r.message = m.id)
		FROM message_body b JOIN message m ON m.id = b.id
		WHERE b.recipient = $4 AND b.id >= $2 AND b.id < $3 AND m.account = $1 AND m.kind IN ('template', 'subscribe') AND m.intent_at > 'epoch'
			AND (m.state IN ('sent', 'unknown', 'sending') OR m.doubt)
		ORDER BY m.intent_at, m.id`, append(bounds, open[0].openid)
	if open[0].kind == message.Mass {
		query, args = `
			SELECT m.id, m.kind::text, m.state::text, greatest(m.msgid, c.msg_id), m.first_intent_at, m.intent_at, m.doubt, m.claim, '', c.n, EXISTS (SELECT FROM receipt r WHERE r.message = m.id)
			FROM mass_call c JOIN message m ON m.id = c.id
			WHERE c.account = $1 AND c.id >= $2 AND c.id < $3 AND m.intent_at > 'epoch'
				AND (m.state IN ('sent', 'unknown', 'sending') OR m.doubt)
			ORDER BY m.intent_at, m.id`, bounds
	}
	rows, err := j.tx.Query(ctx, query, args...)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (sentMessage, error) {
		var m sentMessage
		err := row.Scan(&m.id, &m.kind, &m.state, &m.msgid, &m.first, &m.intent, &m.doubt, &m.claim, &m.templateID, &m.users, &m.reported)
		return m, err
	})
}

// lookAgain sets the time of the next look, which come more and more seldom, or gives the search up.
func (j *joiner) lookAgain(ctx context.Context, r openReceipt) error {
	age := j.now.Sub(r.receivedAt)
	var next *time.Time
	if age < receiptFor {
		at := j.now.Add(max(time.Second, age)) // a dozen looks: some receipts are of messages that others sent
		next = &at
	}
	_, err := j.tx.Exec(ctx, `UPDATE receipt SET look_at = $3 WHERE account = $1 AND key = $2`, r.account, r.key, next)
	return err
}

func (j *joiner) join(ctx context.Context, r openReceipt, m sentMessage, inferred bool) error {
	if _, err := j.tx.Exec(ctx, `UPDATE receipt SET message = $3, inferred = $4, look_at = NULL WHERE account = $1 AND key = $2`,
		r.account, r.key, [16]byte(m.id), inferred); err != nil {
		return err
	}
	refunded := false
	if r.kind == message.Mass && !r.delivered { // the whole job: nobody got it
		if err := lockAccount(ctx, j.tx, r.account); err != nil {
			return err
		}
		var err error
		if refunded, err = refund(ctx, j.tx, r.account, m.id); err != nil {
			return err
		}
	}
	upgraded, err := j.upgrade(ctx, r, m)
	if err != nil {
		return err
	}
	name, err := j.store.accountName(ctx, r.account)
	if err != nil {
		return err
	}
	j.joined = append(j.joined, Joined{
		Account: name, Kind: r.kind, Message: m.id, OpenID: message.OpenID(r.openid), Delivered: r.delivered, Reason: r.reason,
		Inferred: inferred, Upgraded: upgraded, Lag: max(0, r.receivedAt.Sub(m.intent)), Refunded: refunded,
	})
	return nil
}

// upgrade makes of an unknown message what its receipt proves: WeChat took it.
func (j *joiner) upgrade(ctx context.Context, r openReceipt, m sentMessage) (bool, error) {
	tag, err := j.tx.Exec(ctx, `
		UPDATE message SET state = 'sent', reason = 'none', errcode = 0, msgid = CASE WHEN $2::int8 = 0 THEN msgid ELSE $2 END
		WHERE id = $1 AND state = 'unknown'`, [16]byte(m.id), r.msgid)
	if err != nil || tag.RowsAffected() == 0 {
		return false, err
	}
	_, err = j.tx.Exec(ctx, `
		INSERT INTO event (message_id, claim, state, reason, note) VALUES ($1, $2, 'sent', 'none', 'a receipt came: WeChat had taken it')`,
		[16]byte(m.id), m.claim)
	return true, err
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
