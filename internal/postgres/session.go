package postgres

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// A session is the committer's own connection with its statements prepared. It sends several statements in one
// round trip.
type session struct {
	conn     *pgx.Conn
	prepared map[string]string // names, by text
	pipeline *pgconn.Pipeline
	readers  []func([][]byte) // of the statements sent and not yet read
	tags     []*int64
}

// openSession takes a connection out of the pool for good.
func (s *Store) openSession(ctx context.Context) (*session, error) {
	pooled, err := s.pool.Acquire(ctx)
	if err != nil {
		return nil, fmt.Errorf("connect: %w", err)
	}
	return &session{conn: pooled.Hijack(), prepared: map[string]string{}}, nil
}

func (s *session) close() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	s.conn.Close(ctx) // an error here changes nothing any more
}

// begin opens a round trip.
func (s *session) begin(ctx context.Context) {
	s.pipeline = s.conn.PgConn().StartPipeline(ctx)
	s.readers, s.tags = s.readers[:0], s.tags[:0]
}

// send adds a statement to the round trip. row is called for each row of its result, affected is set to the number
// of rows it changed; either may be nil. The parameters are copied.
func (s *session) send(sql string, params [][]byte, row func([][]byte), affected *int64) {
	s.pipeline.SendQueryPrepared(s.prepared[sql], params, binaryFormat, binaryFormat)
	s.readers, s.tags = append(s.readers, row), append(s.tags, affected)
}

// flush sends the round trip and reads its results. Where the session is not inside an explicit transaction the
// round trip is one by itself, committed when flush returns nil.
func (s *session) flush() error {
	err := s.pipeline.Sync()
	for i := 0; err == nil && i < len(s.readers); i++ {
		err = s.read(s.readers[i], s.tags[i])
	}
	if closeErr := s.pipeline.Close(); err == nil {
		err = closeErr // the answer to the Sync, which is the commit
	}
	s.pipeline = nil
	return err
}

func (s *session) read(row func([][]byte), affected *int64) error {
	result, err := s.pipeline.GetResults()
	if err != nil {
		return err
	}
	rr, ok := result.(*pgconn.ResultReader)
	if !ok {
		return fmt.Errorf("pipeline: unexpected %T", result)
	}
	for rr.NextRow() {
		if row != nil {
			row(rr.Values())
		}
	}
	tag, err := rr.Close()
	if affected != nil {
		*affected = tag.RowsAffected()
	}
	return err
}

// rollback ends an explicit transaction that failed.
func (s *session) rollback(ctx context.Context) error {
	if s.conn.IsClosed() {
		return errors.New("session is gone")
	}
	return exec(ctx, s.conn.PgConn(), "ROLLBACK")
}

// prepare readies statements for this session.
func (s *session) prepare(ctx context.Context, statements ...string) error {
	for i, sql := range statements {
		name := fmt.Sprintf("hongyan_%d", i)
		if _, err := s.conn.PgConn().Prepare(ctx, name, sql, nil); err != nil {
			return fmt.Errorf("prepare statement %d: %w", i, err)
		}
		s.prepared[sql] = name
	}
	return nil
}
