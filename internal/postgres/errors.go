package postgres

import (
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"
)

// ErrStopped is what a [Committer] answers when its Run has ended.
var ErrStopped = errors.New("postgres: the committer has stopped")

var (
	// ErrUnknownAccount is for names that no row may be made of: an empty name.
	ErrUnknownAccount = errors.New("postgres: account without a name")
	// ErrInDoubt is wrapped by errors after which a commit may have taken effect: its answer was lost.
	ErrInDoubt = errors.New("whether it was written is not known")
	// ErrUnstorable is wrapped by errors about a message that Postgres cannot hold, such as text with a NUL byte.
	// Nothing but that message is affected, and trying again is no use.
	ErrUnstorable = errors.New("postgres: message cannot be stored")
)

// SQLSTATEs that we act upon (Postgres manual, appendix A).
const (
	stateUniqueViolation  = "23505"
	stateSerialization    = "40001"
	stateDeadlock         = "40P01"
	stateLockNotAvailable = "55P03"
	stateBatchCommitted   = "HY001" // our own, raised by begin_batch
	stateRunLost          = "HY002" // our own, raised by hold_chunks
)

// RefusedRow says whether the database refused the data of a transaction: it would refuse it again, and what was written
// with it may be good.
func RefusedRow(err error) bool { return failureOf(err) == failureRow }

// MaybeWritten says whether what a call was to write may be there though it failed: its answer was lost. It is not where the
// database refused it, or was never asked.
func MaybeWritten(err error) bool {
	_, away := errors.AsType[*pgconn.ConnectError](err)
	return failureOf(err) == failureUnknown && !away && !pgconn.SafeToRetry(err)
}

// runLost is the run of a failureRunLost: firing, number and fence of the chunk.
func runLost(err error) (run [3]int32) {
	if pgErr, ok := errors.AsType[*pgconn.PgError](err); ok {
		_, _ = fmt.Sscan(pgErr.Detail, &run[0], &run[1], &run[2])
	}
	return run
}

func sqlState(err error) string {
	if pgErr, ok := errors.AsType[*pgconn.PgError](err); ok {
		return pgErr.Code
	}
	return ""
}

// A failure says what to do about a transaction that failed.
type failure int

const (
	failureNone      failure = iota
	failureCommitted         // it had been committed before
	failureAgain             // it was rolled back and may succeed when repeated
	failureUnknown           // the session is gone, nobody knows what became of it
	failureRow               // a row in it is bad
	failureRunLost           // a run of a chunk has lost it, see runLost
)

// failureOf sorts errors of a transaction. Everything that Postgres says about the data, and about statements, is
// failureRow: it would come again, for that row. Everything it says about itself passes by.
func failureOf(err error) failure {
	if err == nil {
		return failureNone
	}
	pgErr, ok := errors.AsType[*pgconn.PgError](err)
	if !ok || ends(pgErr) {
		return failureUnknown
	}
	switch code := pgErr.Code; {
	case code == stateBatchCommitted:
		return failureCommitted
	case code == stateRunLost:
		return failureRunLost
	case strings.HasPrefix(code, "40"), // serialization failure, deadlock
		strings.HasPrefix(code, "53"), // out of connections, memory, disk
		strings.HasPrefix(code, "55"), // lock not available, object in use
		strings.HasPrefix(code, "57"), // cancelled by a timeout, shutting down
		strings.HasPrefix(code, "58"), // input and output
		strings.HasPrefix(code, "25"), // read-only: we are connected to a replica now
		strings.HasPrefix(code, "08"):
		return failureAgain
	}
	return failureRow
}
