package postgres

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/hongyan-dispatch/hongyan/message"
)

// ErrNoOpenID says that a query gives nobody's openid.
var ErrNoOpenID = errors.New("the query has no column openid")

// A QueryError is that of the Postgres that is asked, which need not be the ledger.
type QueryError struct{ error }

// Unwrap gives its cause.
func (e QueryError) Unwrap() error { return e.error }

// A Query is an audience that some Postgres gives.
type Query struct {
	URL, SQL string
	// Begin gets the columns but openid, and says into what they go; nil: nowhere.
	Begin func(columns []string) (*Import, error)
	// Refused gets rows that name nobody, and those that were dropped as suppressed, with the reason.
	Refused func(r Newcomer, reason string) error
	Told    func(Audience) // optional: called behind each block
	Block   int            // rows in a block; 0: ImportBlock
}

// Stream adds the rows, one after another, in a session that can only read. Nothing of them is held in memory but a
// block.
func (q Query) Stream(ctx context.Context) error {
	cfg, err := pgx.ParseConfig(q.URL)
	if err != nil {
		return fmt.Errorf("read database url: %w", err) // pgx leaves the password out
	}
	cfg.RuntimeParams["application_name"] = "hongyan-audience"
	cfg.RuntimeParams["default_transaction_read_only"] = "on"
	conn, err := pgx.ConnectConfig(ctx, cfg)
	if err != nil {
		return QueryError{fmt.Errorf("open database: %w", err)}
	}
	defer conn.Close(context.WithoutCancel(ctx))
	rows := conn.PgConn().ExecParams(ctx, q.SQL, nil, nil, nil, nil) // values as text, whatever their types
	err = q.stream(ctx, rows)
	if err != nil && !errors.Is(err, ErrNoOpenID) {
		return err // rows that are left go with the connection
	}
	if _, refused := rows.Close(); refused != nil { // a query that was refused has no columns
		err = QueryError{fmt.Errorf("query: %w", refused)}
	}
	return err
}

func (q Query) stream(ctx context.Context, rows *pgconn.ResultReader) error {
	var columns []string
	for _, f := range rows.FieldDescriptions() {
		columns = append(columns, f.Name)
	}
	openid := slices.Index(columns, "openid")
	if openid < 0 {
		return ErrNoOpenID
	}
	into, err := q.Begin(slices.Delete(columns, openid, openid+1))
	if err != nil || into == nil {
		return err
	}
	b := queried{Query: q, into: into}
	for rows.NextRow() {
		if err := b.row(ctx, rows.Values(), openid); err != nil {
			return err
		}
	}
	return b.flush(ctx)
}

// queried is a query's rows on their way.
type queried struct {
	Query
	into    *Import
	block   []Newcomer
	line    int64
	refused int32
	bytes   int
}

// queryBytes bounds how much text a block of [ImportBlock] rows has; smaller ones have less.
const queryBytes = 8 << 20

// full says that the block is to be written.
func (b *queried) full() bool {
	rows := cmp.Or(b.Block, ImportBlock)
	return len(b.block) >= rows || b.bytes >= queryBytes/ImportBlock*rows
}

func (b *queried) row(ctx context.Context, values [][]byte, openid int) error {
	b.line++
	r := Newcomer{Line: b.line, OpenID: message.OpenID(values[openid]), Vars: make([]string, 0, len(values)-1)}
	for i, v := range values {
		if i != openid {
			r.Vars = append(r.Vars, string(v)) // NULL is empty
			b.bytes += len(v)
		}
	}
	if err := r.OpenID.Check(); err != nil {
		b.refused++
		return b.Refused(r, "openid: "+err.Error())
	}
	if b.block = append(b.block, r); !b.full() {
		return nil
	}
	return b.flush(ctx)
}

func (b *queried) flush(ctx context.Context) error {
	dropped, err := b.into.Add(ctx, b.block, func(a *Audience) { a.Refused, a.Lines = b.refused, b.line })
	if err != nil {
		return err
	}
	for _, d := range dropped {
		if d.Of > 0 {
			continue
		}
		if err := b.Refused(d.Newcomer, d.Reason()); err != nil {
			return err
		}
	}
	b.block, b.bytes = b.block[:0], 0
	if b.Told != nil {
		b.Told(b.into.Audience)
	}
	return nil
}
