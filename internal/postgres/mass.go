package postgres

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/hongyan-dispatch/hongyan/internal/mass"
	"github.com/hongyan-dispatch/hongyan/message"
	"github.com/hongyan-dispatch/hongyan/outcome"
)

// The states of a mass call.
const (
	MassReserved = "reserved"
	MassSent     = "sent"
	MassRefunded = "refunded"
)

// A MassCall is what a mass message took from the caps.
type MassCall struct {
	ID         message.ID
	Account    string
	Scope      mass.Scope
	Tag        string
	Day        mass.Day
	Month      mass.Month
	State      string
	Users      int // of a list: those it goes to
	MsgID      int64
	DataID     int64
	ReservedAt time.Time
}

// MassCall reads what a mass message took. The error wraps [ErrNotFound] where it never took anything.
func (s *Store) MassCall(ctx context.Context, id message.ID) (MassCall, error) {
	c := MassCall{ID: id}
	err := s.pool.QueryRow(ctx, `
		SELECT a.name, c.scope, c.tag, c.day, c.month, c.state, c.n, c.msg_id, c.msg_data_id, c.reserved_at
		FROM mass_call c JOIN account a ON a.id = c.account WHERE c.id = $1`, [16]byte(id)).
		Scan(&c.Account, &c.Scope, &c.Tag, &c.Day, &c.Month, &c.State, &c.Users, &c.MsgID, &c.DataID, &c.ReservedAt)
	if errors.Is(err, pgx.ErrNoRows) {
		err = ErrNotFound
	}
	if err != nil {
		return MassCall{}, fmt.Errorf("read mass call %s: %w", id, err)
	}
	return c, nil
}

// A LeftOut is a user of a list to whom the message did not go.
type LeftOut struct {
	OpenID message.OpenID
	Reason outcome.Reason
}

// LeftOut lists the users that a mass message left out.
func (s *Store) LeftOut(ctx context.Context, id message.ID) ([]LeftOut, error) {
	rows, err := s.pool.Query(ctx, `SELECT openid, reason::text FROM mass_left_out WHERE message = $1 ORDER BY openid`, [16]byte(id))
	if err != nil {
		return nil, fmt.Errorf("read users left out: %w", err)
	}
	list, err := pgx.CollectRows(rows, pgx.RowToStructByPos[LeftOut])
	if err != nil {
		return nil, fmt.Errorf("read users left out: %w", err)
	}
	return list, nil
}

// MassCounts reads the account's counts that decide about a send at the given time: for a guard that only looks.
// The cap itself is taken by [Committer.ClaimMass].
func (s *Store) MassCounts(ctx context.Context, account, tag string, at time.Time) (mass.Counts, error) {
	id, err := s.accountID(ctx, account)
	if err != nil {
		return mass.Counts{}, fmt.Errorf("read mass counts: %w", err)
	}
	n, err := readCounts(ctx, s.pool, id, tag, mass.DayOf(at), mass.MonthOf(at))
	if err != nil {
		return mass.Counts{}, fmt.Errorf("read mass counts: %w", err)
	}
	return n, nil
}

// MassUsersAtCap counts those of some users whom the month's lists have reached as often as they may.
func (s *Store) MassUsersAtCap(ctx context.Context, account string, month mass.Month, hashes []int64, room int) (n int, err error) {
	id, err := s.accountID(ctx, account)
	if err == nil {
		err = s.pool.QueryRow(ctx, `SELECT count(*) FROM mass_user WHERE account = $1 AND month = $2 AND h = ANY ($3) AND n >= $4`, id, int32(month), hashes, room).Scan(&n)
	}
	if err != nil {
		return 0, fmt.Errorf("count users at their cap: %w", err)
	}
	return n, nil
}

type querier interface {
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
}

func readCounts(ctx context.Context, q querier, account int32, tag string, day mass.Day, month mass.Month) (mass.Counts, error) {
	var n mass.Counts
	rows, err := q.Query(ctx, `SELECT period, scope, used FROM mass_count WHERE account = $1 AND period = ANY ($2)`,
		account, []int32{int32(day), int32(month)})
	if err != nil {
		return n, err
	}
	var period int32
	var scope string
	var used int
	_, err = pgx.ForEachRow(rows, []any{&period, &scope, &used}, func() error {
		switch {
		case period == int32(day) && scope == "":
			n.Day = used
		case period == int32(day) && scope == string(mass.All):
			n.AllDay = used
		case period == int32(month) && scope == string(mass.All):
			n.AllMonth = used
		case period == int32(month) && tag != "" && scope == "tag:"+tag:
			n.TagMonth = used
		}
		return nil
	})
	return n, err
}

// writeCounts keeps the counts that a call of this scope changes.
func writeCounts(ctx context.Context, tx pgx.Tx, account int32, call *MassCall, n mass.Counts) error {
	type count struct {
		period int32
		scope  string
		used   int
	}
	list := []count{{int32(call.Day), "", n.Day}}
	switch call.Scope {
	case mass.All:
		list = append(list, count{int32(call.Day), string(mass.All), n.AllDay}, count{int32(call.Month), string(mass.All), n.AllMonth})
	case mass.Tag:
		list = append(list, count{int32(call.Month), "tag:" + call.Tag, n.TagMonth})
	}
	for _, c := range list {
		_, err := tx.Exec(ctx, `
			INSERT INTO mass_count (account, period, scope, used) VALUES ($1, $2, $3, $4)
			ON CONFLICT (account, period, scope) DO UPDATE SET used = excluded.used`, account, c.period, c.scope, max(0, c.used))
		if err != nil {
			return err
		}
	}
	return nil
}

// lockAccount makes the transaction the only one that changes the account's mass counts.
func lockAccount(ctx context.Context, tx pgx.Tx, account int32) error {
	_, err := tx.Exec(ctx, `SELECT FROM account WHERE id = $1 FOR NO KEY UPDATE`, account)
	return err
}

// RefundMass gives back what a mass message took, to the day, month and users it was taken from, and says whether it
// did: only the first refund of a reservation does. Call it when WeChat surely did not send: a definite refusal, or
// a receipt that says so of the whole call.
func (s *Store) RefundMass(ctx context.Context, id message.ID) (bool, error) {
	var done bool
	err := s.inTx(ctx, func(tx pgx.Tx) error {
		done = false
		var account int32
		err := tx.QueryRow(ctx, `SELECT account FROM mass_call WHERE id = $1`, [16]byte(id)).Scan(&account)
		if errors.Is(err, pgx.ErrNoRows) {
			return nil
		}
		if err != nil {
			return err
		}
		if err := lockAccount(ctx, tx, account); err != nil {
			return err
		}
		done, err = refund(ctx, tx, account, id)
		return err
	})
	if err != nil {
		return false, fmt.Errorf("refund mass call %s: %w", id, err)
	}
	return done, nil
}

// refund gives back a reservation, under the account's lock.
func refund(ctx context.Context, tx pgx.Tx, account int32, id message.ID) (bool, error) {
	var call MassCall
	var packed []byte
	err := tx.QueryRow(ctx, `
		UPDATE mass_call SET state = 'refunded' WHERE id = $1 AND state <> 'refunded'
		RETURNING scope, tag, day, month, hashes`, [16]byte(id)).
		Scan(&call.Scope, &call.Tag, &call.Day, &call.Month, &packed)
	if errors.Is(err, pgx.ErrNoRows) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	counts, err := readCounts(ctx, tx, account, call.Tag, call.Day, call.Month)
	if err != nil {
		return false, err
	}
	if err := writeCounts(ctx, tx, account, &call, counts.Add(call.Scope, -1)); err != nil {
		return false, err
	}
	hashes, err := mass.Unpack(packed)
	if err != nil || len(hashes) == 0 {
		return err == nil, err
	}
	_, err = tx.Exec(ctx, `
		UPDATE mass_user SET n = n - 1 WHERE account = $1 AND month = $2 AND h = ANY ($3) AND n > 0`, account, int32(call.Month), hashes)
	return err == nil, err
}

// RefundableMass lists mass messages that ended without being sent and whose reservation nobody has given back: their
// process died between the two. Messages in doubt are not among them.
func (s *Store) RefundableMass(ctx context.Context) ([]message.ID, error) {
	rows, err := s.pool.Query(ctx, `
		SELECT c.id FROM mass_call c JOIN message m ON m.id = c.id
		WHERE c.state = 'reserved' AND NOT m.doubt AND m.state IN ('skipped', 'failed', 'expired', 'cancelled')`)
	if err != nil {
		return nil, fmt.Errorf("look for mass calls to refund: %w", err)
	}
	ids, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (message.ID, error) {
		var id [16]byte
		err := row.Scan(&id)
		return id, err
	})
	if err != nil {
		return nil, fmt.Errorf("look for mass calls to refund: %w", err)
	}
	return ids, nil
}
