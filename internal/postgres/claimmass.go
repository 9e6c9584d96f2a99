package postgres

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/hongyan-dispatch/hongyan/internal/mass"
	"github.com/hongyan-dispatch/hongyan/message"
	"github.com/hongyan-dispatch/hongyan/outcome"
)

// A MassRequest is what a claim of a mass message needs to know besides the message.
type MassRequest struct {
	Parcel message.ID
	Caps   mass.Caps
	Scope  mass.Scope
	Tag    string  // of scope tag: its id
	Hashes []int64 // of scope list: [mass.Hash] of each user of the message's list, in its order
}

// A MassClaim is the answer to [Committer.ClaimMass].
type MassClaim struct {
	Claim
	List []message.OpenID // whom to send to: the message's list without those at their cap
	Cap  mass.Cap         // where the Verdict is skipped: mass_cap, the cap that is reached
	Wait time.Time        // not its turn: nothing was written, ask again then
}

// ClaimMass takes the caps of a mass message and claims it, in one transaction: neither stands without the other. It
// does not go through the committer's batches; any number may run at once, one after another for each account.
//
// Users at their cap are left out and written down with the reason. Where a cap of the account is reached, or
// fewer than [mass.MinList] users are left, nothing is taken and the message ends as skipped: mass_cap (in Verdict).
//
// What a message has taken it keeps: a second claim, after the message was parked, sends to the same users. Only a
// reservation of another day, of a message that surely was not sent, is given back and taken anew. Near midnight
// ([mass.NearBoundary]) callers wait before they claim.
//
// The parts of a list go one after another, in the order of their ids: WeChat answers parts that are sent side by side
// with 42010 (masssend fast).
func (c *Committer) ClaimMass(ctx context.Context, m *message.Message, r MassRequest, now time.Time) (MassClaim, error) {
	if err := storable(m); err != nil {
		return MassClaim{}, fmt.Errorf("claim mass: %w", err)
	}
	if r.Scope == mass.List && len(r.Hashes) != len(m.List) {
		return MassClaim{}, fmt.Errorf("claim mass: %d hashes for %d users", len(r.Hashes), len(m.List))
	}
	account, err := c.store.accountID(ctx, m.Account)
	if err != nil {
		return MassClaim{}, fmt.Errorf("claim mass: %w", err)
	}
	t := &massTransaction{pod: c.pod, batch: -c.massBatch.Add(1), account: account, m: m, r: r, now: now}
	for try := 1; ; try++ {
		err = c.store.inTx(ctx, func(tx pgx.Tx) error { return t.run(ctx, tx) })
		if err == nil || errors.Is(err, errRefused) {
			return t.answer, nil
		}
		// A commit whose answer was lost: the next run finds its own row in flight.
		if failureOf(err) != failureUnknown || try > 5 || !pause(ctx, backoff(try)) {
			return MassClaim{}, fmt.Errorf("claim mass: %w", err)
		}
	}
}

// errRefused rolls a claim back that somebody else has decided.
var errRefused = errors.New("refused")

// A massTransaction is one claim of a mass message.
type massTransaction struct {
	pod     int32
	batch   int64 // negative: the committer's own batches count upwards
	account int32
	m       *message.Message
	r       MassRequest
	now     time.Time

	answer MassClaim
}

func (t *massTransaction) run(ctx context.Context, tx pgx.Tx) error {
	t.answer = MassClaim{}
	if err := lockAccount(ctx, tx, t.account); err != nil {
		return err
	}
	known, doubt, err := t.lookAtMessage(ctx, tx)
	if err != nil || t.answer.OK {
		return err
	}
	if err := t.awaitTurn(ctx, tx); err != nil {
		return err
	}
	if !known && t.m.Key != "" {
		k := &keyed{account: t.account, m: t.m, hash: t.m.Hash()}
		if err := takeKeys(ctx, runOn(tx.Conn().PgConn()), []*keyed{k}); err != nil {
			return err
		}
		if v := k.verdict(); v.Decided() {
			return t.decide(ctx, tx, v)
		}
	}
	kept, err := t.keptReservation(ctx, tx, doubt)
	if err != nil {
		return err
	}
	if !kept {
		ok, err := t.reserve(ctx, tx)
		if err != nil {
			return err
		}
		if !ok {
			return t.decide(ctx, tx, outcome.Outcome{Status: outcome.Skipped, Reason: outcome.MassCap})
		}
	}
	return t.claim(ctx, tx)
}

// lookAtMessage says whether the message has a row, and locks it. One that is not accepted refuses the claim, unless
// it is this very claim that made it so.
func (t *massTransaction) lookAtMessage(ctx context.Context, tx pgx.Tx) (known, doubt bool, err error) {
	var state outcome.Status
	var claim Claim
	var mine bool
	err = tx.QueryRow(ctx, `
		SELECT state::text, doubt, claim, attempt, first_intent_at, intent_at,
			EXISTS (SELECT FROM in_flight f WHERE f.pod = $2 AND f.batch = $3 AND f.at = m.intent_at) AND m.pod = $2
		FROM message m WHERE id = $1 FOR UPDATE`, [16]byte(t.m.ID), t.pod, t.batch).
		Scan(&state, &doubt, &claim.Number, &claim.Attempt, &claim.FirstIntent, &claim.Intent, &mine)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return false, false, nil
	case err != nil:
		return false, false, err
	case state == outcome.Accepted:
		return true, doubt, nil
	case state == outcome.Sending && mine:
		var packed []byte
		if err := tx.QueryRow(ctx, `SELECT hashes FROM mass_call WHERE id = $1`, [16]byte(t.m.ID)).Scan(&packed); err != nil {
			return true, doubt, err
		}
		claim.OK, claim.Doubt, claim.Asked, claim.batch = true, doubt, time.Now(), t.batch
		t.answer.Claim = claim
		return true, doubt, t.keepUsers(packed)
	}
	return true, doubt, errRefused
}

// turnAgain is when a part asks again that waits for another's call.
const turnAgain = 2 * time.Second

// awaitTurn refuses the claim, for now, while an earlier part of the same list has not ended, or a later one is on its
// way. Ids of parts are made together, so those between the first and this one are few. Of parts that were handed
// over, those that nobody has looked at have no row, and are not waited for.
func (t *massTransaction) awaitTurn(ctx context.Context, tx pgx.Tx) error {
	first := t.m.Parent
	if first.IsZero() {
		first = t.m.ID
	}
	var waits bool
	var due *time.Time
	err := tx.QueryRow(ctx, `
		SELECT count(*) > 0, max(due_at) FROM (
			SELECT p.due_at FROM message_body b JOIN message m ON m.id = b.id LEFT JOIN parked p ON p.id = b.id
			WHERE b.id >= $2 AND b.id < $1 AND (b.id = $2 OR b.parent = $2) AND m.kind = 'mass' AND m.state IN ('accepted', 'parked', 'sending')
			UNION ALL
			SELECT NULL FROM mass_call c JOIN message m ON m.id = c.id JOIN message_body b ON b.id = c.id
			WHERE c.state = 'reserved' AND c.account = $3 AND c.id > $1 AND b.parent = $2 AND m.state = 'sending'
		) AS others`, [16]byte(t.m.ID), [16]byte(first), t.account).Scan(&waits, &due)
	if err != nil || !waits {
		return err
	}
	t.answer.Wait = t.now.Add(turnAgain)
	if due != nil && due.After(t.now) {
		t.answer.Wait = due.Add(turnAgain)
	}
	return errRefused
}

// keptReservation says whether the message holds a reservation that still counts.
func (t *massTransaction) keptReservation(ctx context.Context, tx pgx.Tx, doubt bool) (bool, error) {
	var state string
	var day mass.Day
	var packed []byte
	err := tx.QueryRow(ctx, `SELECT state, day, hashes FROM mass_call WHERE id = $1 FOR UPDATE`, [16]byte(t.m.ID)).Scan(&state, &day, &packed)
	switch {
	case errors.Is(err, pgx.ErrNoRows) || err == nil && state == MassRefunded:
		return false, nil
	case err != nil:
		return false, err
	case doubt || day == mass.DayOf(t.now):
		return true, t.keepUsers(packed)
	}
	_, err = refund(ctx, tx, t.account, t.m.ID)
	return false, err
}

// keepUsers makes the answer's list of the users whose hashes are packed.
func (t *massTransaction) keepUsers(packed []byte) error {
	hashes, err := mass.Unpack(packed)
	if err != nil {
		return err
	}
	for i, h := range t.r.Hashes {
		if _, ok := slices.BinarySearch(hashes, h); ok {
			t.answer.List = append(t.answer.List, t.m.List[i])
		}
	}
	return nil
}

// reserve takes the caps. Where it answers no it has taken nothing.
func (t *massTransaction) reserve(ctx context.Context, tx pgx.Tx) (bool, error) {
	call := &MassCall{Scope: t.r.Scope, Tag: t.r.Tag, Day: mass.DayOf(t.now), Month: mass.MonthOf(t.now)}
	counts, err := readCounts(ctx, tx, t.account, t.r.Tag, call.Day, call.Month)
	if err != nil {
		return false, err
	}
	v := mass.Decide(t.r.Caps, t.r.Scope, counts)
	if !v.OK {
		t.answer.Cap = v.Cap
		return false, nil
	}
	var hashes []int64
	if t.r.Scope == mass.List {
		users, err := tx.Begin(ctx) // a savepoint
		if err != nil {
			return false, err
		}
		if hashes, err = takeUsers(ctx, users, t.account, call.Month, t.r.Hashes, v.Room); err != nil {
			return false, err
		}
		t.answer.List = nil
		if err := t.keepUsers(mass.Pack(hashes)); err != nil {
			return false, err
		}
		if len(t.answer.List) < mass.MinList {
			t.answer.List, t.answer.Cap = nil, mass.UserMonth
			return false, users.Rollback(ctx)
		}
		if err := users.Commit(ctx); err != nil {
			return false, err
		}
	}
	if err := writeCounts(ctx, tx, t.account, call, counts.Add(t.r.Scope, 1)); err != nil {
		return false, err
	}
	_, err = tx.Exec(ctx, `
		INSERT INTO mass_call (id, account, scope, tag, day, month, state, hashes, n) VALUES ($1, $2, $3, $4, $5, $6, 'reserved', $7, $8)
		ON CONFLICT (id) DO UPDATE SET scope = excluded.scope, tag = excluded.tag, day = excluded.day, month = excluded.month,
			state = 'reserved', hashes = excluded.hashes, n = excluded.n, reserved_at = now()`,
		[16]byte(t.m.ID), t.account, string(call.Scope), call.Tag, call.Day, call.Month, mass.Pack(hashes), len(t.answer.List))
	if err != nil {
		return false, err
	}
	return true, t.writeLeftOut(ctx, tx)
}

// takeUsers counts the send for every user who has room, and says for whom.
func takeUsers(ctx context.Context, tx pgx.Tx, account int32, month mass.Month, hashes []int64, room int) ([]int64, error) {
	if room == mass.NoCap {
		room = math.MaxInt16 // what the column holds
	}
	order := slices.Clone(hashes)
	slices.Sort(order)
	order = slices.Compact(order)
	rows, err := tx.Query(ctx, `
		INSERT INTO mass_user AS u (month, account, h, n) SELECT $1, $2, h, 1 FROM unnest($3::int8[]) AS i (h)
		ON CONFLICT (account, h, month) DO UPDATE SET n = u.n + 1 WHERE u.n < $4
		RETURNING h`, month, account, order, room)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowTo[int64])
}

// writeLeftOut keeps the users of the list to whom the message does not go.
func (t *massTransaction) writeLeftOut(ctx context.Context, tx pgx.Tx) error {
	if _, err := tx.Exec(ctx, `DELETE FROM mass_left_out WHERE message = $1`, [16]byte(t.m.ID)); err != nil {
		return err
	}
	kept := make(map[message.OpenID]struct{}, len(t.answer.List))
	for _, to := range t.answer.List {
		kept[to] = struct{}{}
	}
	var out []string
	for _, to := range t.m.List {
		if _, ok := kept[to]; !ok {
			out = append(out, string(to))
		}
	}
	if len(out) == 0 {
		return nil
	}
	_, err := tx.Exec(ctx, `INSERT INTO mass_left_out (message, openid, reason) SELECT $1, openid, 'mass_cap' FROM unnest($2::text[]) AS i (openid)
		ON CONFLICT DO NOTHING`, [16]byte(t.m.ID), out)
	return err
}

// claim writes the message as sending, and in flight.
func (t *massTransaction) claim(ctx context.Context, tx pgx.Tx) error {
	claimed := false
	err := t.write(ctx, tx, outcome.Outcome{}, func(v [][]byte) {
		claimed = true
		t.answer.Claim = Claim{
			OK: true, Number: readInt4(v[1]), Attempt: readInt2(v[2]), Doubt: readBool(v[3]),
			FirstIntent: instant(v[4]), Intent: instant(v[5]), batch: t.batch,
		}
	})
	if err == nil && !claimed { // it has got a row, and a fate, since we looked
		t.answer = MassClaim{}
		return errRefused
	}
	if err != nil {
		return err
	}
	_, err = tx.Exec(ctx, sqlInFlight, t.pod, t.batch, [][16]byte{t.m.ID}, []int32{}, []int32{})
	t.answer.Asked = time.Now()
	return err
}

// decide writes the message's end, with an event.
func (t *massTransaction) decide(ctx context.Context, tx pgx.Tx, o outcome.Outcome) error {
	took := false
	if err := t.write(ctx, tx, o, func([][]byte) { took = true }); err != nil {
		return err
	}
	if !took {
		t.answer = MassClaim{}
		return errRefused
	}
	t.answer.Verdict = &o
	_, err := tx.Exec(ctx, `INSERT INTO event (message_id, claim, state, reason, note) VALUES ($1, 0, $2, $3, $4)`,
		[16]byte(t.m.ID), string(o.Status), reasonText(o.Reason), string(t.answer.Cap))
	return err
}

func (t *massTransaction) write(ctx context.Context, tx pgx.Tx, o outcome.Outcome, row func([][]byte)) error {
	var w firstWrite
	w.begin()
	w.add(t.m, t.r.Parcel, t.account, t.m.Lane, o, false)
	run := runOn(tx.Conn().PgConn())
	if err := run(ctx, sqlFirstWrite, w.states.params([][]byte{int4Param(t.pod)}), row); err != nil {
		return err
	}
	return run(ctx, sqlBodies, w.bodies.params(nil), nil)
}
