package postgres

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/hongyan-dispatch/hongyan/message"
	"github.com/hongyan-dispatch/hongyan/outcome"
)

// ErrNotFound says that the ledger has no row for an id: it was never accepted here, was handed over and not yet
// claimed, or is older than the retention.
var ErrNotFound = errors.New("postgres: no such message")

// A Status is everything that the ledger knows about a message.
type Status struct {
	Message     *message.Message
	State       outcome.Status
	Reason      outcome.Reason
	Parcel      message.ID
	Attempts    int
	Claim       int32
	Doubt       bool
	ErrCode     int
	MsgID       int64
	FirstIntent time.Time
	Intent      time.Time
	Finished    time.Time  // zero: not yet
	Due         time.Time  // parked until then; zero otherwise
	ReplayOf    message.ID // the ended message in whose stead this one goes; zero: none
	ReplayedAs  message.ID // the message that goes in the stead of this one; zero: none
	Timeline    []Event    // oldest first
	Receipts    []Report   // WeChat's, oldest first
}

// A Report is a receipt, as far as people ask.
type Report struct {
	At        time.Time
	Delivered bool
	Reason    string
	Inferred  bool            // joined by user and time
	Job       json.RawMessage // mass sends: totals, copyright checks, articles
}

// An Event is one step of a message that the state row does not keep.
type Event struct {
	At      time.Time
	Claim   int32
	State   outcome.Status
	Reason  outcome.Reason
	ErrCode int
	ErrMsg  string
	RID     string
	Note    string
}

// What became of a sent message, as WeChat's receipts say: the last steps of its way.
const (
	Delivered   outcome.Status = "delivered"
	Undelivered outcome.Status = "undelivered"
)

// Way is the whole way of the message, from its acceptance to WeChat's receipts: the timeline, and the steps that leave no
// event because rows say them. Receipts come last, although WeChat's clock, which counts seconds, may put them earlier.
func (s Status) Way() []Event {
	way := append([]Event{{At: s.Message.ID.Time(), State: outcome.Accepted}}, s.Timeline...)
	if !s.Finished.IsZero() && !slices.ContainsFunc(s.Timeline, func(e Event) bool { return e.State == s.State }) {
		way = append(way, Event{At: s.Finished, Claim: s.Claim, State: s.State, Reason: s.Reason, ErrCode: s.ErrCode})
	}
	for _, r := range s.Receipts {
		e := Event{At: r.At, State: Undelivered, Note: r.Reason}
		if r.Delivered {
			e.State = Delivered
		}
		way = append(way, e)
	}
	return way
}

// Status reads one message. The error wraps [ErrNotFound] where there is none.
func (s *Store) Status(ctx context.Context, id message.ID) (Status, error) {
	st, err := s.status(ctx, id)
	if err != nil {
		return Status{}, fmt.Errorf("status of %s: %w", id, err)
	}
	return st, nil
}

func (s *Store) status(ctx context.Context, id message.ID) (Status, error) {
	var (
		st      Status
		m       = &message.Message{ID: id}
		account int32
		parcel  [16]byte
		due     *time.Time
		body    bodyRow
	)
	err := s.pool.QueryRow(ctx, `
		SELECT m.account, m.kind::text, m.lane::text, m.state::text, m.reason::text, m.parcel, m.attempt, m.claim, m.doubt, m.errcode,
			m.msgid, m.first_intent_at, m.intent_at, m.finished_at, p.due_at, m.firing, m.n, m.recipient, `+bodySelect+`
		FROM message m LEFT JOIN message_body b ON b.id = m.id LEFT JOIN parked p ON p.id = m.id
		WHERE m.id = $1`, [16]byte(id)).
		Scan(append([]any{
			&account, &m.Kind, &m.Lane, &st.State, &st.Reason, &parcel, &st.Attempts, &st.Claim, &st.Doubt, &st.ErrCode,
			&st.MsgID, &st.FirstIntent, &st.Intent, &st.Finished, &due, &m.Firing, &m.N, &m.To,
		}, body.targets()...)...)
	if errors.Is(err, pgx.ErrNoRows) {
		return s.inFlight(ctx, id)
	}
	if err != nil {
		return st, err
	}
	for _, t := range []*time.Time{&st.FirstIntent, &st.Intent, &st.Finished} {
		if t.Unix() == 0 {
			*t = time.Time{}
		}
	}
	if st.Reason == "none" {
		st.Reason = ""
	}
	if due != nil {
		st.Due = *due
	}
	st.Parcel = parcel
	if err := body.into(m); err != nil {
		return st, err
	}
	if m.Account, err = s.accountName(ctx, account); err != nil {
		return st, err
	}
	if body.content == nil && m.Firing != 0 {
		if err := s.recompose(ctx, s.pool, []*message.Message{m}); err != nil {
			return st, err
		}
	}
	st.Message = m
	if st.ReplayOf, st.ReplayedAs, err = s.replays(ctx, id); err != nil {
		return st, err
	}
	if st.Timeline, err = s.timeline(ctx, id); err != nil {
		return st, err
	}
	st.Receipts, err = s.reports(ctx, id)
	return st, err
}

// inFlight is the status of a recipient's message that is being sent, and has no row yet.
func (s *Store) inFlight(ctx context.Context, id message.ID) (Status, error) {
	m := &message.Message{ID: id}
	st := Status{Message: m, State: outcome.Sending, Attempts: 1, Claim: 1}
	var account int32
	err := s.pool.QueryRow(ctx, `SELECT account, kind::text, lane::text, firing, n, recipient, at FROM claimed WHERE id = $1`, [16]byte(id)).
		Scan(&account, &m.Kind, &m.Lane, &m.Firing, &m.N, &m.To, &st.Intent)
	if errors.Is(err, pgx.ErrNoRows) {
		return Status{}, ErrNotFound
	}
	if err == nil {
		st.FirstIntent = st.Intent
		m.Account, err = s.accountName(ctx, account)
	}
	if err == nil {
		err = s.recompose(ctx, s.pool, []*message.Message{m})
	}
	return st, err
}

func (s *Store) reports(ctx context.Context, id message.ID) ([]Report, error) {
	rows, err := s.pool.Query(ctx, `SELECT at, delivered, reason, inferred, job FROM receipt WHERE message = $1 ORDER BY at`, [16]byte(id))
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowToStructByPos[Report])
}

func (s *Store) timeline(ctx context.Context, id message.ID) ([]Event, error) {
	rows, err := s.pool.Query(ctx, `
		SELECT at, claim, state::text, nullif(reason, 'none')::text, errcode, errmsg, rid, note
		FROM event WHERE message_id = $1 ORDER BY at, claim`, [16]byte(id))
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (Event, error) {
		var e Event
		var reason *string
		err := row.Scan(&e.At, &e.Claim, &e.State, &reason, &e.ErrCode, &e.ErrMsg, &e.RID, &e.Note)
		if reason != nil {
			e.Reason = outcome.Reason(*reason)
		}
		return e, err
	})
}

// A CancelResult says whether a message was cancelled, and if not, what it is.
type CancelResult struct {
	Cancelled bool
	State     outcome.Status
}

// Cancel ends a message that is accepted or parked. One that an earlier attempt may have sent ends unknown. One that is being sent, or has ended, stays what it is; the
// result says what. The error wraps [ErrNotFound] where there is no row.
func (s *Store) Cancel(ctx context.Context, id message.ID) (CancelResult, error) {
	var r CancelResult
	err := s.inTx(ctx, func(tx pgx.Tx) (err error) {
		r, err = cancel(ctx, tx, id)
		return err
	})
	if err != nil {
		return CancelResult{}, fmt.Errorf("cancel %s: %w", id, err)
	}
	return r, nil
}

func cancel(ctx context.Context, tx pgx.Tx, id message.ID) (r CancelResult, err error) {
	// The list first, then the message: the order in which the releaser locks them.
	if _, err := tx.Exec(ctx, `DELETE FROM parked WHERE id = $1`, [16]byte(id)); err != nil {
		return r, err
	}
	var claim int32
	var reason outcome.Reason
	err = tx.QueryRow(ctx, `
		UPDATE message SET state = CASE WHEN doubt THEN 'unknown' ELSE 'cancelled'::message_state END,
			reason = CASE WHEN doubt THEN 'in_doubt' ELSE 'cancelled'::message_reason END, finished_at = now()
		WHERE id = $1 AND state IN ('accepted', 'parked') RETURNING claim, state::text, reason::text`, [16]byte(id)).Scan(&claim, &r.State, &reason)
	if errors.Is(err, pgx.ErrNoRows) {
		err = tx.QueryRow(ctx, `SELECT state::text FROM message WHERE id = $1 UNION ALL SELECT 'sending' FROM claimed WHERE id = $1`, [16]byte(id)).Scan(&r.State)
		if errors.Is(err, pgx.ErrNoRows) {
			err = ErrNotFound
		}
		return r, err
	}
	if err != nil {
		return r, err
	}
	r.Cancelled = r.State == outcome.Cancelled
	_, err = tx.Exec(ctx, `
		INSERT INTO event (message_id, claim, state, reason, note) VALUES ($1, $2, $3::text::message_state, $4::text::message_reason, 'by cancel')`,
		[16]byte(id), claim, string(r.State), string(reason))
	return r, err
}
