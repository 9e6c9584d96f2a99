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
	"github.com/hongyan-dispatch/hongyan/outcome"
)

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
	recent [][]sentMessage // by the place of a user's first receipt; nil: not read ahead
	flying map[user]bool   // nil: not read yet
	joined []Joined
	writes receiptWrites

	refused []error // why users' receipts could not be joined
}

// receiptWrites are what was found out of receipts, written down together.
type receiptWrites struct {
	accounts []int32
	keys     []string
	messages []*[16]byte // nil: none yet
	inferred []bool
	lookAt   []*time.Time // nil: never again
}

func (w *receiptWrites) add(r openReceipt, m *[16]byte, inferred bool, lookAt *time.Time) {
	w.accounts, w.keys = append(w.accounts, r.account), append(w.keys, r.key)
	w.messages, w.inferred, w.lookAt = append(w.messages, m), append(w.inferred, inferred), append(w.lookAt, lookAt)
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
	if !j.apart {
		if err := j.readAhead(ctx); err != nil {
			return err
		}
	}
	for from := 0; from < len(j.open); {
		to := j.endOfUser(from)
		if err := j.userOrPutOff(ctx, from, to); err != nil {
			return err
		}
		from = to
	}
	return j.write(ctx)
}

// endOfUser is the place behind the receipts of one user.
func (j *joiner) endOfUser(from int) int {
	to := from + 1
	for to < len(j.open) && j.open[to].account == j.open[from].account && j.open[to].openid == j.open[from].openid {
		to++
	}
	return to
}

// userOrPutOff joins the receipts of one user; where it works on users apart and the database refuses that, it puts them off.
func (j *joiner) userOrPutOff(ctx context.Context, from, to int) error {
	if !j.apart {
		return j.user(ctx, from, to)
	}
	whole, before := j.tx, len(j.joined)
	err := pgx.BeginFunc(ctx, whole, func(part pgx.Tx) error {
		j.tx = part
		if err := j.user(ctx, from, to); err != nil {
			return err
		}
		return j.write(ctx)
	})
	j.tx = whole
	if failureOf(err) != failureRow {
		return err
	}
	j.joined, j.writes = j.joined[:before], receiptWrites{}
	j.refused = append(j.refused, err)
	for _, r := range j.open[from:to] {
		j.lookAgain(r)
	}
	return j.write(ctx)
}

// user joins the receipts of one user, or of one account's mass sends.
func (j *joiner) user(ctx context.Context, from, to int) error {
	open := j.open[from:to]
	var sends []sentMessage
	var err error
	if j.recent != nil && open[0].kind != message.Mass {
		sends = j.recent[from]
	} else if sends, err = j.sends(ctx, open, receiptRecent); err != nil {
		return err
	}
	pairs := match(open, sends)
	if slices.ContainsFunc(pairs, func(p pair) bool { return p.send < 0 || p.inferred }) {
		// A message may have waited for weeks: what is inferred must have seen it. Who is in flight is looked for first: in
		// the next moment it is a message.
		if err := j.readFlying(ctx); err != nil {
			return err
		}
		if sends, err = j.sends(ctx, open, receiptOldest); err != nil {
			return err
		}
		pairs = match(open, sends)
	}
	for _, m := range pairs {
		if m.send < 0 || m.inferred && j.flying[user{open[0].account, open[0].openid}] {
			j.lookAgain(open[m.receipt])
			continue
		}
		if err := j.join(ctx, open[m.receipt], sends[m.send], m.inferred); err != nil {
			return err
		}
	}
	return nil
}

// readFlying reads, once, to whom campaigns are sending just now: their receipts may be among those that name no msgid.
func (j *joiner) readFlying(ctx context.Context) error {
	if j.flying != nil {
		return nil
	}
	rows, err := j.tx.Query(ctx, `SELECT account, recipient FROM claimed`)
	if err != nil {
		return err
	}
	j.flying = map[user]bool{}
	var u user
	_, err = pgx.ForEachRow(rows, []any{&u.account, &u.openid}, func() error { j.flying[u] = true; return nil })
	return err
}

// sentColumns are those of a sentMessage, of a message m that b has addressed.
const sentColumns = `m.id, m.kind::text, m.state::text, m.msgid, m.first_intent_at, m.intent_at, m.doubt, m.claim,
	coalesce(b.content::json->>'template_id',
		(SELECT c.spec -> 'body' ->> 'template_id' FROM firing f JOIN campaign c ON c.id = f.campaign WHERE f.id = m.firing), ''), 0, EXISTS (SELECT FROM receipt r WHERE r.message = m.id)`

// toUser says of a message m that it may have gone to a user.
const toUser = `m.kind IN ('template', 'subscribe') AND m.intent_at > 'epoch' AND (m.state IN ('sent', 'unknown', 'sending') OR m.doubt)`

func scanSent(row pgx.CollectableRow, more ...any) (m sentMessage, err error) {
	err = row.Scan(append(more, &m.id, &m.kind, &m.state, &m.msgid, &m.first, &m.intent, &m.doubt, &m.claim, &m.templateID, &m.users, &m.reported)...)
	return m, err
}

// span are the ids between which the messages of the receipts lie that were accepted at most the given time before them.
func spanOf(open []openReceipt, back time.Duration) (from, to [16]byte) {
	oldest, newest := open[0].at, open[0].at
	for _, r := range open {
		if r.at.Before(oldest) {
			oldest = r.at
		}
		newest = later(newest, r.at)
	}
	return message.FirstID(oldest.Add(-back)), message.FirstID(newest.Add(time.Minute))
}

// sqlRecent is a question for each user (OFFSET 0): joined with u, the view would be read whole. The bounds are no way into
// an index, as in the statements of a committer.
const sqlRecent = `
	SELECT u.place, s.* FROM unnest($1::int4[], $2::int4[], $3::text[], $4::uuid[], $5::uuid[]) AS u (place, account, openid, a, z),
		LATERAL (SELECT ` + sentColumns + ` FROM addressed b JOIN message m ON m.id = b.id
			WHERE b.recipient = u.openid AND b.id >= ALL (ARRAY[u.a]) AND b.id < ALL (ARRAY[u.z]) AND m.account = u.account AND ` + toUser + `
			OFFSET 0) AS s
	ORDER BY u.place, s.intent_at, s.id`

// readAhead reads the recent messages of all users whose receipts are open, in one question.
func (j *joiner) readAhead(ctx context.Context) error {
	j.recent = make([][]sentMessage, len(j.open))
	var places, accounts []int32
	var users []string
	var from, to [][16]byte
	for at := 0; at < len(j.open); {
		end := j.endOfUser(at)
		if r := j.open[at]; r.kind != message.Mass {
			a, b := spanOf(j.open[at:end], receiptRecent)
			places, accounts, users = append(places, int32(at)), append(accounts, r.account), append(users, r.openid)
			from, to = append(from, a), append(to, b)
		}
		at = end
	}
	if len(places) == 0 {
		return nil
	}
	rows, err := j.tx.Query(ctx, sqlRecent, places, accounts, users, from, to)
	if err != nil {
		return err
	}
	_, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (sentMessage, error) {
		var place int32
		m, err := scanSent(row, &place)
		if err == nil {
			j.recent[place] = append(j.recent[place], m)
		}
		return m, err
	})
	return err
}

// sends are the messages that the receipts may be about, accepted at most the given time before them; oldest first.
func (j *joiner) sends(ctx context.Context, open []openReceipt, back time.Duration) ([]sentMessage, error) {
	from, to := spanOf(open, back)
	query, args := `SELECT `+sentColumns+` FROM addressed b JOIN message m ON m.id = b.id
		WHERE b.recipient = $4 AND b.id >= $2 AND b.id < $3 AND m.account = $1 AND `+toUser+`
		ORDER BY m.intent_at, m.id`, []any{open[0].account, from, to, open[0].openid}
	if open[0].kind == message.Mass {
		query, args = `
			SELECT m.id, m.kind::text, m.state::text, greatest(m.msgid, c.msg_id), m.first_intent_at, m.intent_at, m.doubt, m.claim, '', c.n, EXISTS (SELECT FROM receipt r WHERE r.message = m.id)
			FROM mass_call c JOIN message m ON m.id = c.id
			WHERE c.account = $1 AND c.id >= $2 AND c.id < $3 AND m.intent_at > 'epoch'
				AND (m.state IN ('sent', 'unknown', 'sending') OR m.doubt)
			ORDER BY m.intent_at, m.id`, args[:3]
	}
	rows, err := j.tx.Query(ctx, query, args...)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (sentMessage, error) { return scanSent(row) })
}

// write writes down what was found out since the last time.
func (j *joiner) write(ctx context.Context) error {
	w := j.writes
	j.writes = receiptWrites{}
	if len(w.keys) == 0 {
		return nil
	}
	_, err := j.tx.Exec(ctx, `
		UPDATE receipt r SET message = w.message, inferred = w.inferred, look_at = w.look_at
		FROM unnest($1::int4[], $2::text[], $3::uuid[], $4::bool[], $5::timestamptz[]) AS w (account, key, message, inferred, look_at)
		WHERE r.account = w.account AND r.key = w.key`, w.accounts, w.keys, w.messages, w.inferred, w.lookAt)
	return err
}

// lookAgain sets the time of the next look, which come more and more seldom, or gives the search up.
func (j *joiner) lookAgain(r openReceipt) {
	age := j.now.Sub(r.receivedAt)
	var next *time.Time
	if age < receiptFor {
		at := j.now.Add(max(time.Second, age)) // a dozen looks: some receipts are of messages that others sent
		next = &at
	}
	j.writes.add(r, nil, false, next)
}

func (j *joiner) join(ctx context.Context, r openReceipt, m sentMessage, inferred bool) error {
	id := [16]byte(m.id)
	j.writes.add(r, &id, inferred, nil)
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
	if m.state == outcome.Sent { // it stays so
		return false, nil
	}
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
