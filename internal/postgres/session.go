package postgres

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"
)

// A session is a connection of the committer's own, which sends several statements, COPY among them, in one round
// trip. pgx opens it; from then on it speaks Postgres' extended protocol by itself, because pgx's pipeline takes no
// COPY and asks to describe each result. What is sent up to a Sync is one transaction, unless BEGIN says otherwise;
// after an error Postgres skips the rest up to the Sync.
//
// Answers are read only after all is written. They are small (some 70 bytes a row), so that Postgres never waits
// for us to read while we wait for it to.
type session struct {
	conn     net.Conn
	front    *pgproto3.Frontend // reads
	buf      []byte             // to be written
	prepared map[string]string  // names, by text
	calls    []call             // sent, not yet answered
	broken   bool
	release  func() bool // ends the watch over the round trip's context
}

// A call is one statement of a round trip.
type call struct {
	row      func([][]byte)
	affected *int64
}

// keepBuffer is how large a buffer may be to be kept for the next round trip.
const keepBuffer = 1 << 20

// openSession takes a connection out of the pool for good, and readies the statements.
func (s *Store) openSession(ctx context.Context, statements []string) (*session, error) {
	pooled, err := s.pool.Acquire(ctx)
	if err != nil {
		return nil, fmt.Errorf("connect: %w", err)
	}
	hijacked, err := pooled.Hijack().PgConn().Hijack()
	if err != nil {
		return nil, fmt.Errorf("connect: %w", err)
	}
	ss := &session{conn: hijacked.Conn, front: hijacked.Frontend, prepared: map[string]string{}}
	ss.begin(ctx)
	for i, sql := range statements {
		name := fmt.Sprintf("hongyan_%d", i)
		ss.prepared[sql] = name
		ss.add(&pgproto3.Parse{Name: name, Query: fenced(sql)})
	}
	if err := ss.flush(); err != nil {
		ss.close()
		return nil, fmt.Errorf("prepare statements: %w", err)
	}
	return ss, nil
}

func (s *session) close() {
	s.broken = true
	s.conn.SetDeadline(time.Now().Add(time.Second))
	goodbye, _ := (&pgproto3.Terminate{}).Encode(nil)
	s.conn.Write(goodbye) // a courtesy: an error here changes nothing any more
	s.conn.Close()
}

// begin opens a round trip, which may last as long as ctx.
func (s *session) begin(ctx context.Context) {
	if cap(s.buf) > keepBuffer {
		s.buf = nil
	}
	s.buf, s.calls = s.buf[:0], s.calls[:0]
	if s.release != nil && !s.release() { // a round trip given up before it was sent
		s.broken = true
	}
	deadline, _ := ctx.Deadline() // the zero time is none
	s.conn.SetDeadline(deadline)
	s.release = context.AfterFunc(ctx, func() { s.conn.SetDeadline(time.Unix(1, 0)) })
}

// send adds a statement to the round trip. row is called for each row of its result, affected is set to the number
// of rows it changed; either may be nil. The parameters are copied.
func (s *session) send(sql string, params [][]byte, row func([][]byte), affected *int64) {
	s.add(&pgproto3.Bind{PreparedStatement: s.prepared[sql], ParameterFormatCodes: binaryFormat, Parameters: params, ResultFormatCodes: binaryFormat})
	s.add(&pgproto3.Execute{})
	s.calls = append(s.calls, call{row, affected})
}

// copy adds a COPY … FROM STDIN with its rows, begun with beginCopy.
func (s *session) copy(sql string, rows values, affected *int64) {
	s.send(sql, nil, nil, affected)
	s.add(&pgproto3.CopyData{Data: append(rows, copyTrailer...)})
	s.add(&pgproto3.CopyDone{})
}

func (s *session) add(m pgproto3.FrontendMessage) {
	buf, err := m.Encode(s.buf)
	if err != nil {
		panic("postgres: a batch stays below the gigabyte of a protocol message: " + err.Error())
	}
	s.buf = buf
}

// flush sends the round trip and reads its answers. Where the session is not inside an explicit transaction, the
// round trip is committed when flush returns nil. An error that is not a *pgconn.PgError leaves that open, and the
// session broken.
func (s *session) flush() error {
	err := s.exchange()
	if !s.release() && err == nil {
		err = context.Canceled // or the end of this context might hit the next round trip
	}
	s.release = nil
	if pgErr, ok := errors.AsType[*pgconn.PgError](err); err != nil && (!ok || ends(pgErr)) {
		s.broken = true
	}
	return err
}

func (s *session) exchange() error {
	s.add(&pgproto3.Sync{})
	if _, err := s.conn.Write(s.buf); err != nil {
		return fmt.Errorf("write: %w", err)
	}
	var failed error
	for next := 0; ; {
		msg, err := s.front.Receive()
		if err != nil {
			return fmt.Errorf("read: %w", err)
		}
		switch msg := msg.(type) {
		case *pgproto3.DataRow:
			if row := s.calls[next].row; row != nil {
				row(msg.Values)
			}
		case *pgproto3.CommandComplete:
			if n := s.calls[next].affected; n != nil {
				*n = pgconn.NewCommandTag(string(msg.CommandTag)).RowsAffected()
			}
			next++
		case *pgproto3.ErrorResponse:
			pgErr := pgconn.ErrorResponseToPgError(msg)
			if failed == nil {
				failed = pgErr
			}
			if ends(pgErr) {
				return failed
			}
		case *pgproto3.ReadyForQuery:
			return failed
		}
	}
}

// ends says that Postgres ends the session with this error. Nobody knows then what became of a commit that was under
// way.
func ends(err *pgconn.PgError) bool {
	return err.SeverityUnlocalized == "FATAL" || err.SeverityUnlocalized == "PANIC"
}

// run is a round trip of one statement.
func (s *session) run(ctx context.Context, sql string, params [][]byte, row func([][]byte)) error {
	s.begin(ctx)
	s.send(sql, params, row, nil)
	return s.flush()
}
