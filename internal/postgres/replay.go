package postgres

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/hongyan-dispatch/hongyan/message"
	"github.com/hongyan-dispatch/hongyan/outcome"
)

// A Replay says which ended messages are to go again, each as a new message with an id, and so a client id, of its
// own. Nothing is replayed twice: see the table replay.
type Replay struct {
	Statuses []outcome.Status
	Reasons  []outcome.Reason // none: any
	Accounts []string         // by name; none: any
	Kinds    []message.Kind   // none: any
	Since    time.Time        // accepted at or after this
	Until    time.Time        // and before this; zero: now

	Again            bool         // also those that are replays themselves
	AcceptDuplicates bool         // also those that may have been sent
	Lane             message.Lane // of the new messages, but for mass sends, which have their own; empty: bulk
	PerSecond        float64      // how many come due in a second; 0: all at once, which then go at the account's pace
	DryRun           bool         // count, and change nothing

	Only func(account string, kind message.Kind) bool // nil: all; others are as if they were not there
}

// A Spared is why a message that was asked for is not replayed.
type Spared string

// Why messages are spared. The empty one is for those that are not.
const (
	SparedReplayed Spared = "replayed"   // it was replayed before
	SparedReplay   Spared = "is_replay"  // it is a replay itself, and Again is not set
	SparedDoubt    Spared = "maybe_sent" // the user may have it, and AcceptDuplicates is not set
	SparedPoison   Spared = "poison"     // it killed its workers: only by its id
	SparedFallback Spared = "fallback"   // its fallback goes instead
	SparedCampaign Spared = "campaign"   // a campaign's: the campaign knows whom to try again
	SparedBody     Spared = "no_body"    // the ledger does not know what it says
	SparedEnded    Spared = "has_no_end" // by id only: it is on its way
	SparedSent     Spared = "was_sent"   // by id only
	SparedMissing  Spared = "not_found"  // by id only
)

// A ReplayCount is how many messages of one sort were found.
type ReplayCount struct {
	Account string
	Kind    message.Kind
	Status  outcome.Status
	Reason  outcome.Reason
	Spared  Spared // empty: replayed, or to be replayed in a dry run
	N       int
}

// A Replayed message and the one that goes in its stead.
type Replayed struct{ Of, ID message.ID }

// How many rows one transaction of a replay looks at, and at most replays.
const (
	replayLook = 20_000
	replaySome = 500
)

// Replay sends messages on their way again, some in each transaction, until it has seen all that match. When it is
// broken off, what it has told of stays replayed; the same call goes on behind it. told, which may be nil, hears
// of each transaction that found something, and of each page, of which it hears nothing but that it is behind us.
func (s *Store) Replay(ctx context.Context, r Replay, now time.Time, told func([]ReplayCount, []Replayed)) error {
	if r.Until.IsZero() || r.Until.After(now) { // what this call makes is not to be found by it
		r.Until = now
	}
	run := replay{Replay: r, store: s, now: now, told: told}
	cursor, end := message.FirstID(r.Since), message.FirstID(r.Until)
	for {
		next, more, err := run.page(ctx, cursor, end)
		if err != nil {
			return fmt.Errorf("replay: %w", err)
		}
		if !more {
			return nil
		}
		cursor = next
	}
}

// ReplayOnly replays the messages of these ids, also what Replay spares because it killed its workers, which only
// AcceptDuplicates allows: they may have been sent. Of r it heeds how, and not which.
func (s *Store) ReplayOnly(ctx context.Context, r Replay, ids []message.ID, now time.Time, told func([]ReplayCount, []Replayed)) error {
	run := replay{Replay: r, store: s, now: now, told: told, byID: true}
	for some := range slices.Chunk(ids, replaySome) {
		list := make([][16]byte, len(some))
		for i, id := range some {
			list[i] = id
		}
		slices.SortFunc(list, func(a, b [16]byte) int { return bytes.Compare(a[:], b[:]) })
		if err := run.some(ctx, slices.Compact(list)); err != nil {
			return fmt.Errorf("replay: %w", err)
		}
	}
	return nil
}

// A replay is one call.
type replay struct {
	Replay
	store    *Store
	now      time.Time
	byID     bool
	told     func([]ReplayCount, []Replayed)
	replayed int
}

// page looks at the next messages behind the cursor, and replays those that match.
func (r *replay) page(ctx context.Context, cursor, end message.ID) (next message.ID, more bool, err error) {
	accounts := make([]int32, 0, len(r.Accounts))
	for _, name := range r.Accounts {
		id, err := r.store.accountID(ctx, name)
		if err != nil {
			return next, false, err
		}
		accounts = append(accounts, id)
	}
	rows, err := r.store.pool.Query(ctx, `
		SELECT id, found FROM (
			SELECT id, lead(id) OVER (ORDER BY id) IS NULL AS last,
				state = ANY ($3::text[]::message_state[]) AND (cardinality($4::text[]) = 0 OR reason = ANY ($4::text[]::message_reason[]))
				AND (cardinality($5::int4[]) = 0 OR account = ANY ($5)) AND (cardinality($6::text[]) = 0 OR kind = ANY ($6::text[]::message_kind[])) AS found
			FROM (SELECT id, state, reason, account, kind FROM message WHERE id > $1 AND id < $2 ORDER BY id LIMIT $7) AS page) AS looked
		WHERE found OR last ORDER BY id`,
		[16]byte(cursor), [16]byte(end), texts(r.Statuses), texts(r.Reasons), accounts, texts(r.Kinds), replayLook)
	if err != nil {
		return next, false, err
	}
	var found [][16]byte
	var id [16]byte
	var matches bool
	_, err = pgx.ForEachRow(rows, []any{&id, &matches}, func() error {
		next, more = id, true
		if matches {
			found = append(found, id)
		}
		return nil
	})
	if err != nil {
		return next, false, err
	}
	for some := range slices.Chunk(found, replaySome) {
		if err := r.some(ctx, some); err != nil {
			return next, false, err
		}
	}
	if r.told != nil { // whoever waits must see that we go on, though we find little
		r.told(nil, nil)
	}
	return next, more, nil
}

func texts[S ~string](list []S) []string {
	all := make([]string, len(list))
	for i, s := range list {
		all[i] = string(s)
	}
	return all
}

// A replayRow is a message that was asked for.
type replayRow struct {
	m        *message.Message
	account  int32
	state    outcome.Status
	reason   outcome.Reason
	campaign bool
	instead  bool // its fallback goes
	body     bool
	before   bool // it was replayed
	isReplay bool
}

// some replays messages, in id order, in one transaction.
func (r *replay) some(ctx context.Context, ids [][16]byte) error {
	var counts map[ReplayCount]int
	var did []Replayed
	err := r.store.inTx(ctx, func(tx pgx.Tx) error {
		counts, did = map[ReplayCount]int{}, nil
		rows, err := r.read(ctx, tx, ids)
		if err != nil {
			return err
		}
		if r.Only != nil {
			rows = slices.DeleteFunc(rows, func(row *replayRow) bool { return !r.Only(row.m.Account, row.m.Kind) })
		}
		var going []*replayRow
		for _, row := range rows {
			if spared := r.spares(row); spared != "" {
				counts[row.count(spared)]++
				continue
			}
			going = append(going, row)
		}
		if n := len(ids) - len(rows); r.byID && n > 0 {
			counts[ReplayCount{Spared: SparedMissing}] = n
		}
		if r.DryRun {
			for _, row := range going {
				counts[row.count("")]++
			}
			return nil
		}
		did, err = r.write(ctx, tx, going, counts)
		return err
	})
	if err != nil {
		return err
	}
	r.replayed += len(did)
	if r.told != nil && len(counts) > 0 {
		list := make([]ReplayCount, 0, len(counts))
		for c, n := range counts {
			c.N = n
			list = append(list, c)
		}
		r.told(list, did)
	}
	return nil
}

func (row *replayRow) count(why Spared) ReplayCount {
	return ReplayCount{Account: row.m.Account, Kind: row.m.Kind, Status: row.state, Reason: row.reason, Spared: why}
}

// read reads the messages and holds them: what is unknown must not turn out to be sent meanwhile.
func (r *replay) read(ctx context.Context, tx pgx.Tx, ids [][16]byte) ([]*replayRow, error) {
	rows, err := tx.Query(ctx, `
		SELECT m.id, m.account, m.kind::text, m.lane::text, m.state::text, m.reason::text, m.firing <> 0, b.id IS NOT NULL,
			EXISTS (SELECT FROM message_body f WHERE m.kind <> 'mass' AND f.recipient = b.recipient AND f.parent = m.id),
			EXISTS (SELECT FROM replay o WHERE o.of = m.id), EXISTS (SELECT FROM replay o WHERE o.id = m.id), `+bodySelect+`
		FROM unnest($1::uuid[]) WITH ORDINALITY AS i (id, n) JOIN message m ON m.id = i.id LEFT JOIN message_body b ON b.id = m.id
		ORDER BY i.n FOR SHARE OF m`, ids)
	if err != nil {
		return nil, err
	}
	list, err := pgx.CollectRows(rows, func(c pgx.CollectableRow) (*replayRow, error) {
		row := &replayRow{m: &message.Message{}}
		var id [16]byte
		var body bodyRow
		err := c.Scan(append([]any{
			&id, &row.account, &row.m.Kind, &row.m.Lane, &row.state, &row.reason, &row.campaign, &row.body, &row.instead, &row.before, &row.isReplay,
		}, body.targets()...)...)
		if err != nil {
			return nil, err
		}
		if row.reason == "none" {
			row.reason = ""
		}
		row.m.ID = id
		return row, body.into(row.m)
	})
	if err != nil {
		return nil, err
	}
	for _, row := range list {
		if row.m.Account, err = r.store.accountName(ctx, row.account); err != nil {
			return nil, err
		}
	}
	return list, nil
}

// spares says why a message is not replayed; empty where it is.
func (r *replay) spares(row *replayRow) Spared {
	switch {
	case !row.state.Terminal():
		return SparedEnded
	case row.state == outcome.Sent:
		return SparedSent
	case row.before:
		return SparedReplayed
	case row.isReplay && !r.Again:
		return SparedReplay
	case row.campaign:
		return SparedCampaign
	case !row.body:
		return SparedBody
	case row.state == outcome.Dead && !r.byID:
		return SparedPoison
	case (row.state == outcome.Unknown || row.state == outcome.Dead) && !r.AcceptDuplicates:
		return SparedDoubt
	case row.instead:
		return SparedFallback
	}
	return ""
}

// write takes the messages for this replay, and writes the new ones: parked, for the releaser to bring.
func (r *replay) write(ctx context.Context, tx pgx.Tx, going []*replayRow, counts map[ReplayCount]int) ([]Replayed, error) {
	if len(going) == 0 {
		return nil, nil
	}
	var of, as [][16]byte
	for _, row := range going {
		of, as = append(of, row.m.ID), append(as, message.NewID(r.now))
	}
	rows, err := tx.Query(ctx, `
		INSERT INTO replay (of, id) SELECT of, id FROM unnest($1::uuid[], $2::uuid[]) AS i (of, id) ORDER BY of
		ON CONFLICT (of) DO NOTHING RETURNING of, id`, of, as)
	if err != nil {
		return nil, err
	}
	mine := map[message.ID]message.ID{}
	var from, to [16]byte
	if _, err := pgx.ForEachRow(rows, []any{&from, &to}, func() error { mine[from] = to; return nil }); err != nil {
		return nil, err
	}
	var did []Replayed
	var messages, bodies, parked values
	for _, v := range []*values{&messages, &bodies, &parked} {
		beginCopy(v)
	}
	for _, row := range going {
		id, taken := mine[row.m.ID]
		if !taken { // somebody else was quicker
			counts[row.count(SparedReplayed)]++
			continue
		}
		m := r.renew(row.m, id)
		if err := storable(m); err != nil {
			return nil, fmt.Errorf("message %s: %w", row.m.ID, err)
		}
		due := r.now
		if r.PerSecond > 0 {
			due = due.Add(time.Duration(float64(r.replayed+len(did)) / r.PerSecond * float64(time.Second)))
		}
		if m.NotBefore.After(due) {
			due = m.NotBefore
		}
		copyMessage(&messages, m, message.ID{}, row.account, m.Kind, m.Lane, outcome.Parked, outcome.NotBefore)
		if err := copyBody(&bodies, m); err != nil {
			return nil, err
		}
		copyParked(&parked, row.account, m.Lane, m, due, outcome.NotBefore, m.Kind == message.Mass)
		did = append(did, Replayed{row.m.ID, id})
		counts[row.count("")]++
	}
	conn := tx.Conn().PgConn()
	for _, t := range []struct {
		table, columns string
		rows           values
	}{{"message", messageColumns, messages}, {"message_body", bodyColumns, bodies}, {"parked", parkedColumns, parked}} {
		if err := copyInto(ctx, conn, t.table, t.columns, t.rows, false); err != nil {
			return nil, fmt.Errorf("write %s: %w", t.table, err)
		}
	}
	return did, nil
}

// renew is the message as it goes again: without its key, which belongs to the first; without times that are over.
func (r *replay) renew(old *message.Message, id message.ID) *message.Message {
	m := *old
	m.ID, m.Key, m.Parent = id, "", message.ID{}
	if m.Kind != message.Mass {
		if m.Lane = r.Lane; m.Lane == "" {
			m.Lane = message.Bulk
		}
	}
	if !m.ExpiresAt.After(r.now) {
		m.ExpiresAt = time.Time{}
	}
	if f := old.Fallback; f != nil {
		again := *f
		again.ID, again.Key = message.ID{}, ""
		if !again.ExpiresAt.After(r.now) {
			again.ExpiresAt = time.Time{}
		}
		m.Fallback = &again
	}
	return &m
}

// replays says of what a message is a replay, and as what it was replayed; zero for none.
func (s *Store) replays(ctx context.Context, id message.ID) (of, as message.ID, err error) {
	var first, next *[16]byte
	err = s.pool.QueryRow(ctx, `SELECT (SELECT of FROM replay WHERE id = $1), (SELECT id FROM replay WHERE of = $1)`, [16]byte(id)).Scan(&first, &next)
	if first != nil {
		of = *first
	}
	if next != nil {
		as = *next
	}
	return of, as, err
}
