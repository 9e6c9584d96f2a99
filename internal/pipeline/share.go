package pipeline

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/hongyan-dispatch/hongyan/internal/wechat"
	"github.com/hongyan-dispatch/hongyan/message"
)

// A share is what one account may have on the wire at a time, and claimed ahead of it, so that its trouble stays with
// it: half of the pod's senders, or all where there is no other account. It shrinks while the account's calls get no
// answer, and grows back as they do. Its budget keeps repetitions that bring nothing to a tenth of the calls.
type share struct {
	wire, ahead line

	mu    sync.Mutex
	most  int     // calls on the wire, when all is well
	limit float64 // at present
	cutAt time.Time
	heard time.Time // when a call last came back, or the share was last idle
	spare float64   // repetitions that may bring nothing, before the next has to wait
	since time.Time // when spare last grew with the time
}

const (
	// stuckAfter is the silence of all of an account's calls after which its messages do not wait in the pod any more:
	// others need the hands.
	stuckAfter = 2 * time.Second
	// stuckFor is when they are tried again.
	stuckFor = 5 * time.Second
	// cutEvery is the time between two cuts: the calls that were under way at one say nothing new.
	cutEvery = time.Second
	cutTo    = 0.7

	spareMost     = 50.0 // as after a quiet time
	sparePerCall  = 0.1
	sparePerSec   = 0.2
	spareReturned = 1.5 // by a repetition that brought an answer: more of them may follow
)

var (
	errStuck  = errors.New("none of the account's calls comes back")
	errBudget = errors.New("too many repetitions of the account's bring nothing; this one waits")
)

func newShare(n, ahead int) *share {
	s := &share{wire: newLine(n, keptOf(n)), ahead: newLine(ahead, keptOf(n)), most: n, limit: float64(n), spare: spareMost}
	s.wire.stuck, s.ahead.stuck = s.stuck, s.stuck
	return s
}

// share is the account's.
func (s *Senders) share(app message.AppID) *share {
	s.mu.Lock()
	defer s.mu.Unlock()
	own := s.shares[app]
	if own == nil {
		n, ahead := s.wire.size, s.ahead.size
		if s.accounts > 1 {
			n, ahead = (n+1)/2, (ahead+1)/2
		}
		own = newShare(n, ahead)
		s.shares[app] = own
	}
	return own
}

// enter waits for a place in one of the share's lines.
func (s *share) enter(ctx context.Context, l *line, lane message.Lane) error {
	s.mu.Lock()
	if s.wire.taken() == 0 {
		s.heard = time.Now()
	}
	s.mu.Unlock()
	return l.acquire(ctx, lane)
}

func (s *share) stuck() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return time.Since(s.heard) >= stuckAfter
}

// may says whether a repetition may be made now.
func (s *share) may(now time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.since.IsZero() {
		s.spare = min(spareMost, s.spare+sparePerSec*now.Sub(s.since).Seconds())
	}
	s.since = now
	if s.spare < 1 {
		return false
	}
	s.spare--
	return true
}

// came notes what became of a call.
func (s *share) came(r wechat.Result, repetition bool, now time.Time) {
	silent := r.Class == wechat.Ambiguous || r.Class == wechat.NotSent && r.Error() == nil
	s.mu.Lock()
	s.heard = now
	switch {
	case !repetition:
		s.spare = min(spareMost, s.spare+sparePerCall)
	case !outOfOrder(r):
		s.spare = min(spareMost, s.spare+spareReturned)
	}
	before := int(s.limit)
	switch {
	case !silent:
		s.limit = min(float64(s.most), s.limit+1/s.limit)
	case now.Sub(s.cutAt) >= cutEvery:
		s.limit, s.cutAt = max(1, cutTo*s.limit), now
	}
	n := int(s.limit)
	if n != before {
		s.wire.resize(n, keptOf(n))
	}
	s.mu.Unlock()
}
