package postgres

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/hongyan-dispatch/hongyan/message"
	"github.com/hongyan-dispatch/hongyan/outcome"
)

// An Acceptance says what became of one message of an [Store.Accept].
type Acceptance struct {
	ID        message.ID // of the message, or of the earlier one that has its key
	Duplicate bool       // the key was used by an equal message: that one's ID stands here
	Conflict  bool       // the key was used by another message: this one is refused
	Parked    bool       // not_before is ahead: the releaser will bring it
	Err       error      // the message cannot be stored ([ErrUnstorable]) and is refused
}

// Accepted says whether the message itself is in the ledger now.
func (a Acceptance) Accepted() bool { return !a.Duplicate && !a.Conflict && a.Err == nil }

// Accept writes messages down: when it returns without error they are durable, and their parcels are to be put
// into the queue by the caller (or, should it die, by the reconciler). All in one transaction; a thousand messages
// or a few in one call are the cheapest, and calls may run side by side.
//
// The answers stand in the order of the parcels and their messages. Accept takes out of the parcels what must not
// be queued: duplicates, conflicts, what cannot be stored, and what waits for its not_before; a parcel that has no
// message left afterwards is not to be queued at all.
//
// Messages and parcels carry their ids. An id that is in the ledger already is accepted already: after an error,
// the same call may be made again with the same ids. Unless the error wraps [ErrInDoubt] nothing was written.
func (s *Store) Accept(ctx context.Context, parcels []*message.Parcel, now time.Time) ([]Acceptance, error) {
	return s.accept(ctx, parcels, now, eachByItself)
}

// AcceptAll is [Store.Accept] for messages of which all are to be accepted, or none: where one of them cannot be, nothing
// is written, and the answers say which. Duplicates are accepted already.
func (s *Store) AcceptAll(ctx context.Context, parcels []*message.Parcel, now time.Time) ([]Acceptance, error) {
	return s.accept(ctx, parcels, now, allOrNone)
}

// AcceptCancelled is [Store.Accept] for messages that are to be known and not to be sent: nobody finds them accepted, not even
// for a moment. Those that were accepted before are cancelled where they still can be.
func (s *Store) AcceptCancelled(ctx context.Context, parcels []*message.Parcel, now time.Time) ([]Acceptance, error) {
	return s.accept(ctx, parcels, now, cancelled)
}

// errNotAll rolls the transaction of an AcceptAll back.
var errNotAll = errors.New("not all can be accepted")

// acceptMode is what an acceptor makes of its messages.
type acceptMode int8

const (
	eachByItself acceptMode = iota
	allOrNone
	cancelled
)

func (s *Store) accept(ctx context.Context, parcels []*message.Parcel, now time.Time, mode acceptMode) ([]Acceptance, error) {
	a, err := s.prepareAccept(ctx, parcels, now)
	if err != nil {
		return nil, fmt.Errorf("accept: %w", err)
	}
	a.mode = mode
	var wrote, doubt bool
	write := func(redo bool) error {
		err := s.inTx(ctx, func(tx pgx.Tx) error {
			err := a.write(ctx, tx, redo)
			wrote = err == nil // what follows is the commit
			return err
		})
		doubt = doubt || wrote && failureOf(err) == failureUnknown
		return err
	}
	err = write(false)
	if errors.Is(err, errNotAll) {
		return a.none(parcels), nil
	}
	for try := 1; err != nil && (sqlState(err) == stateUniqueViolation || failureOf(err) == failureUnknown); try++ {
		// Some of these ids are there: of an earlier call, or of our own, whose commit's answer was lost. A transaction
		// of ours that is still open holds its ids, and this one waits for it.
		if try > 5 || !pause(ctx, backoff(try)) {
			break
		}
		if err = write(true); errors.Is(err, errNotAll) {
			return a.none(parcels), nil
		}
	}
	if err != nil && doubt {
		return nil, fmt.Errorf("accept: %w: %w", ErrInDoubt, err)
	}
	if err != nil {
		return nil, fmt.Errorf("accept: %w", err)
	}
	a.prune(parcels)
	return a.answers, nil
}

// An acceptor is one call of Accept.
type acceptor struct {
	now      time.Time
	mode     acceptMode
	entries  []entry
	answers  []Acceptance
	keys     []*keyed
	accounts []int32 // of the parcels
	parcels  []*message.Parcel

	messages, bodies, parked, outbox values
}

type entry struct {
	m       *message.Message
	parcel  int // index of its parcel
	key     *keyed
	waits   bool // not_before is ahead
	refused bool
}

func (s *Store) prepareAccept(ctx context.Context, parcels []*message.Parcel, now time.Time) (*acceptor, error) {
	n := 0
	for _, p := range parcels {
		n += len(p.Messages)
	}
	a := &acceptor{now: now, parcels: parcels, entries: make([]entry, 0, n), answers: make([]Acceptance, n)}
	for i, p := range parcels {
		account, err := s.accountID(ctx, p.Account)
		if err != nil {
			return nil, err
		}
		a.accounts = append(a.accounts, account)
		for _, m := range p.Messages {
			e := entry{m: m, parcel: i, waits: m.NotBefore.After(now)}
			if err := storable(m); err != nil {
				e.refused = true
				a.answers[len(a.entries)].Err = err
			} else if m.Key != "" {
				e.key = &keyed{account: account, m: m, hash: m.Hash()}
				a.keys = append(a.keys, e.key)
			}
			a.entries = append(a.entries, e)
		}
	}
	return a, nil
}

// write does the work inside a transaction. A redo skips what is there already.
func (a *acceptor) write(ctx context.Context, tx pgx.Tx, redo bool) error {
	conn := tx.Conn().PgConn()
	if err := takeKeys(ctx, runOn(conn), a.keys); err != nil {
		return err
	}
	if err := a.encode(); err != nil {
		return err
	}
	if a.mode == allOrNone && slices.ContainsFunc(a.answers, func(a Acceptance) bool { return a.Conflict || a.Err != nil }) {
		return errNotAll
	}
	for _, t := range []struct {
		table, columns string
		rows           values
	}{
		{"message", messageColumns, a.messages},
		{"message_body", bodyColumns, a.bodies},
		{"parked", parkedColumns, a.parked},
		{"parcel", parcelColumns, a.outbox},
	} {
		if err := copyInto(ctx, conn, t.table, t.columns, t.rows, redo); err != nil {
			return fmt.Errorf("write %s: %w", t.table, err)
		}
	}
	for i := range a.entries {
		if e := &a.entries[i]; a.mode == cancelled && !e.refused {
			if _, err := cancel(ctx, tx, e.m.ID); err != nil {
				return fmt.Errorf("cancel: %w", err)
			}
		}
	}
	return nil
}

// The columns that Accept writes, in the order of the encoders below.
const (
	messageColumns = `id, parcel, msgid, first_intent_at, intent_at, finished_at, account, kind, lane, state, reason, claim, pod, errcode, firing, n, attempt, doubt`
	parkedColumns  = `id, due_at, account, kind, lane, reason, alone`
	parcelColumns  = `id, account, kind, lane, ids`
)

// encode decides on every message, now that the keys' holders are known, and writes the rows of those accepted.
func (a *acceptor) encode() error {
	for _, v := range []*values{&a.messages, &a.bodies, &a.parked, &a.outbox} {
		beginCopy(v)
	}
	members := make([]message.ID, 0, message.MaxParcel)
	for i := range a.entries {
		e := &a.entries[i]
		p := a.parcels[e.parcel]
		account := a.accounts[e.parcel]
		if a.answers[i].Err == nil {
			a.answers[i] = Acceptance{ID: e.m.ID, Parked: e.waits}
			e.refused = e.key != nil && !e.key.mine()
			if e.refused {
				a.answers[i] = Acceptance{ID: e.key.holder, Duplicate: e.key.same(), Conflict: !e.key.same()}
			}
		}
		if !e.refused {
			parcel, state, reason := p.ID, outcome.Accepted, outcome.Reason("")
			if e.waits {
				parcel, state, reason = message.ID{}, outcome.Parked, outcome.NotBefore
				copyParked(&a.parked, account, p.Lane, e.m, due(e.m, e.m.NotBefore), reason, p.Kind == message.Mass)
			} else {
				members = append(members, e.m.ID)
			}
			copyMessage(&a.messages, e.m, parcel, account, p.Kind, p.Lane, state, reason)
			if err := copyBody(&a.bodies, e.m); err != nil {
				return err
			}
		}
		if last := i == len(a.entries)-1 || a.entries[i+1].parcel != e.parcel; last {
			if len(members) > 0 {
				copyParcel(&a.outbox, p, account, members)
			}
			members = members[:0]
		}
	}
	return nil
}

// none leaves nothing in the parcels: not all can be accepted, so none is.
func (a *acceptor) none(parcels []*message.Parcel) []Acceptance {
	for _, p := range parcels {
		p.Messages = p.Messages[:0:0]
	}
	return a.answers
}

// prune leaves in the parcels what is to be queued.
func (a *acceptor) prune(parcels []*message.Parcel) {
	for _, p := range parcels {
		p.Messages = p.Messages[:0:0]
	}
	for i := range a.entries {
		if e := &a.entries[i]; !e.refused && !e.waits {
			parcels[e.parcel].Messages = append(parcels[e.parcel].Messages, e.m)
		}
	}
}

// due is when a parked message's turn is: at t, but never later than it expires.
func due(m *message.Message, t time.Time) time.Time {
	if !m.ExpiresAt.IsZero() && m.ExpiresAt.Before(t) {
		return m.ExpiresAt
	}
	return t
}

func copyMessage(v *values, m *message.Message, parcel message.ID, account int32, kind message.Kind, lane message.Lane, state outcome.Status, reason outcome.Reason) {
	*v = append(*v, 0, 18)
	v.uuid(m.ID)
	v.uuid(parcel)
	v.int8(0)
	v.time(time.Time{})
	v.time(time.Time{})
	v.time(time.Time{})
	v.int4(account)
	v.text(string(kind))
	v.text(string(lane))
	v.text(string(state))
	v.text(reasonText(reason))
	v.int4(0)
	v.int4(0)
	v.int4(0)
	v.int4(m.Firing)
	v.int4(m.N)
	v.int2(0)
	v.bool(false)
}

// reasonText is the reason as the enum writes it, which has a value for none.
func reasonText(r outcome.Reason) string {
	if r == "" {
		return "none"
	}
	return string(r)
}

func copyParked(v *values, account int32, lane message.Lane, m *message.Message, due time.Time, reason outcome.Reason, alone bool) {
	*v = append(*v, 0, 7)
	v.uuid(m.ID)
	v.time(due)
	v.int4(account)
	v.text(string(m.Kind))
	v.text(string(lane))
	v.text(reasonText(reason))
	v.bool(alone)
}

func copyParcel(v *values, p *message.Parcel, account int32, members []message.ID) {
	*v = append(*v, 0, 5)
	v.uuid(p.ID)
	v.int4(account)
	v.text(string(p.Kind))
	v.text(string(p.Lane))
	v.uuids(members)
}

// copyHeader opens the binary format of COPY: a signature, no flags, no extension.
const copyHeader = "PGCOPY\n\xff\r\n\x00" + "\x00\x00\x00\x00" + "\x00\x00\x00\x00"

// copyTrailer ends it.
const copyTrailer = "\xff\xff"

func beginCopy(v *values) {
	if cap(*v) > keepBuffer {
		*v = nil
	}
	*v = append((*v)[:0], copyHeader...)
}

// copyInto sends rows begun with beginCopy. Where some may be there already they take the way over a temporary
// table.
func copyInto(ctx context.Context, conn *pgconn.PgConn, table, columns string, rows values, redo bool) error {
	if len(rows) == len(copyHeader) {
		return nil
	}
	rows = append(rows, copyTrailer...)
	if !redo {
		_, err := conn.CopyFrom(ctx, bytes.NewReader(rows), copySQL(table, columns))
		return err
	}
	temp := table + "_again"
	if err := exec(ctx, conn, "CREATE TEMP TABLE "+temp+" ON COMMIT DROP AS SELECT "+columns+" FROM "+table+" WITH NO DATA"); err != nil {
		return err
	}
	if _, err := conn.CopyFrom(ctx, bytes.NewReader(rows), copySQL(temp, columns)); err != nil {
		return err
	}
	return exec(ctx, conn, "INSERT INTO "+table+" ("+columns+") SELECT "+columns+" FROM "+temp+" ORDER BY id ON CONFLICT (id) DO NOTHING")
}

func copySQL(table, columns string) string {
	return "COPY " + table + " (" + columns + ") FROM STDIN (FORMAT binary)"
}

func exec(ctx context.Context, conn *pgconn.PgConn, sql string) error {
	_, err := conn.Exec(ctx, sql).ReadAll()
	return err
}
