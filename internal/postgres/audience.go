package postgres

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/hongyan-dispatch/hongyan/message"
)

// An Audience is a list of recipients, and how far its import has come.
type Audience struct {
	ID         int32
	Campaign   message.ID
	Source     string
	Columns    []string
	State      string // importing, ready, dropped
	Total      int32
	Duplicates int32
	Refused    int32
	Suppressed int32
	Bytes      int64  // of the input, behind the last row that is there
	Lines      int64  // likewise
	Cursor     string // likewise, where the input is no file
	CreatedAt  time.Time
}

// retrySource begins the source of an audience that a retry made.
const retrySource = "retry:"

// Retry says that a retry made the audience.
func (a Audience) Retry() bool { return strings.HasPrefix(a.Source, retrySource) }

// BeginAudience begins an import. Its recipients come by CopyRecipients.
func (s *Store) BeginAudience(ctx context.Context, id message.ID, source string, columns []string) (Audience, error) {
	a := Audience{Campaign: id, Source: source, Columns: columns, State: "importing"}
	if a.Columns == nil {
		a.Columns = []string{}
	}
	err := s.pool.QueryRow(ctx, `INSERT INTO audience (campaign, source, columns) VALUES ($1, $2, $3) RETURNING id, created_at`,
		[16]byte(id), source, a.Columns).Scan(&a.ID, &a.CreatedAt)
	if err != nil {
		return a, fmt.Errorf("begin audience: %w", err)
	}
	return a, nil
}

// Audiences lists a campaign's, the youngest first.
func (s *Store) Audiences(ctx context.Context, id message.ID) ([]Audience, error) {
	return s.audiences(ctx, `campaign = $1`, [16]byte(id))
}

func (s *Store) audiences(ctx context.Context, where string, args ...any) ([]Audience, error) {
	rows, err := s.pool.Query(ctx, `
		SELECT id, campaign, source, columns, state, total, duplicates, refused, suppressed, bytes, lines, cursor, created_at
		FROM audience WHERE `+where+` ORDER BY id DESC`, args...)
	if err == nil {
		var list []Audience
		list, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (a Audience, err error) {
			var of [16]byte
			err = row.Scan(&a.ID, &of, &a.Source, &a.Columns, &a.State, &a.Total, &a.Duplicates, &a.Refused, &a.Suppressed, &a.Bytes, &a.Lines, &a.Cursor, &a.CreatedAt)
			a.Campaign = of
			return a, err
		})
		if err == nil {
			return list, nil
		}
	}
	return nil, fmt.Errorf("read audiences: %w", err)
}

// ErrImportMoved says that another import has gone on with the audience, or has rolled it back.
var ErrImportMoved = errors.New("another import goes on with this audience, or it was rolled back")

// CopyRecipients adds recipients to an audience that is being imported, numbered from a.Total + 1, and writes down how
// far its input was read, all in one transaction: a killed import goes on behind the last row that is there. When it
// returns, a is as the row is; after an error it is unchanged. Fifty thousand rows at a time are the cheapest.
//
// position is asked after the last row: it sets the counts and the place in the input.
func (s *Store) CopyRecipients(ctx context.Context, a *Audience, rows iter.Seq2[message.OpenID, []string], position func(*Audience)) error {
	var stop func()
	defer func() {
		if stop != nil {
			stop()
		}
	}()
	return s.copyRecipients(ctx, a, func() (next func() (message.OpenID, []string, bool)) {
		if stop != nil {
			stop()
		}
		next, stop = iter.Pull2(rows)
		return next
	}, position)
}

// copyRecipients is CopyRecipients; begin gives the rows from their beginning, each time that it is called.
func (s *Store) copyRecipients(ctx context.Context, a *Audience, begin func() func() (message.OpenID, []string, bool), position func(*Audience)) error {
	next := *a
	err := s.inTx(ctx, func(tx pgx.Tx) error {
		next = *a
		source := &recipientRows{audience: a.ID, n: a.Total, next: begin()}
		reader := &copyReader{row: source.row}
		beginCopy(&reader.buf)
		if _, err := tx.Conn().PgConn().CopyFrom(ctx, reader, copySQL("recipient", "audience, n, openid, vars")); err != nil {
			return err
		}
		next.Total = source.n
		if position != nil {
			position(&next)
		}
		tag, err := tx.Exec(ctx, `
			UPDATE audience SET total = @total, duplicates = @duplicates, refused = @refused, suppressed = @suppressed, bytes = @bytes, lines = @lines, cursor = @cursor
			WHERE id = @id AND state = 'importing' AND total = @before AND bytes = @bytes_before AND cursor = @cursor_before`, pgx.NamedArgs{
			"id": a.ID, "before": a.Total, "bytes_before": a.Bytes, "cursor_before": a.Cursor, "total": next.Total, "duplicates": next.Duplicates, "refused": next.Refused,
			"suppressed": next.Suppressed, "bytes": next.Bytes, "lines": next.Lines, "cursor": next.Cursor,
		})
		if err == nil && tag.RowsAffected() == 0 {
			err = ErrImportMoved
		}
		return err
	})
	if sqlState(err) == stateUniqueViolation {
		err = ErrImportMoved // by another, a moment ago
	}
	if err != nil {
		return fmt.Errorf("copy recipients: %w", err)
	}
	*a = next
	return nil
}

// recipientRows writes rows of recipient in COPY's format.
type recipientRows struct {
	next     func() (message.OpenID, []string, bool)
	audience int32
	n        int32
}

func (r *recipientRows) row(v *values) bool {
	to, vars, ok := r.next()
	if !ok {
		return false
	}
	r.n++
	*v = append(*v, 0, 4)
	v.int4(r.audience)
	v.int4(r.n)
	v.text(string(to))
	a := newArray(oidText)
	for _, s := range vars {
		a.text(s)
		a.n++
	}
	v.bytes(a.param())
	return true
}

// FinishAudience says that the import is whole: the campaign may start.
func (s *Store) FinishAudience(ctx context.Context, a *Audience) error {
	tag, err := s.pool.Exec(ctx, `UPDATE audience SET state = 'ready' WHERE id = $1 AND state IN ('importing', 'ready') AND total = $2`, a.ID, a.Total)
	if err == nil && tag.RowsAffected() == 0 {
		err = ErrImportMoved
	}
	if err != nil {
		return fmt.Errorf("finish audience: %w", err)
	}
	a.State = "ready"
	return nil
}

// dropRows is how many recipients one transaction deletes.
const dropRows = 50_000

// DropAudience forgets an audience that no firing goes to: an import that was given up is rolled back whole.
func (s *Store) DropAudience(ctx context.Context, id int32) error {
	tag, err := s.pool.Exec(ctx, `UPDATE audience SET state = 'dropped' WHERE id = $1 AND NOT EXISTS (SELECT FROM firing WHERE audience = $1)`, id)
	if err == nil && tag.RowsAffected() == 0 {
		err = errors.New("a firing goes to it, or it is not there")
	}
	if err == nil {
		err = s.deleteRecipients(ctx, id)
	}
	if err != nil {
		return fmt.Errorf("drop audience: %w", err)
	}
	return nil
}

func (s *Store) deleteRecipients(ctx context.Context, audience int32) error {
	for {
		tag, err := s.pool.Exec(ctx, `DELETE FROM recipient WHERE audience = $1 AND n IN (SELECT n FROM recipient WHERE audience = $1 ORDER BY n LIMIT $2)`, audience, dropRows)
		if err != nil || tag.RowsAffected() < dropRows {
			return err
		}
	}
}
