package client

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"strconv"
	"time"
)

// Patience is how long a Remote repeats a request whose context has no earlier end. A batch has it anew whenever one of its
// messages got its result.
const Patience = time.Minute

// tryFor is how long one try may take, or stand still where results come one by one: of a server that hangs another one behind
// the same address may know nothing.
const tryFor = 20 * time.Second

// Waits between tries where the server names none.
const (
	firstWait   = 100 * time.Millisecond
	longestWait = 5 * time.Second
)

// tries is how often something was tried, and how long it may be.
type tries struct {
	ctx    context.Context
	caller context.Context
	end    context.CancelFunc
	n      int
	until  time.Time
	timer  *time.Timer // ends ctx then
}

func newTries(ctx context.Context) *tries {
	t := &tries{caller: ctx, until: time.Now().Add(Patience)}
	patient, cancel := context.WithCancelCause(ctx)
	t.ctx = patient
	t.timer = time.AfterFunc(Patience, func() { cancel(context.DeadlineExceeded) })
	t.end = func() { t.timer.Stop(); cancel(nil) }
	return t
}

// goesOn says that something was done, for which the patience begins anew.
func (t *tries) goesOn() {
	if t.timer.Stop() {
		t.n, t.until = 0, time.Now().Add(Patience)
		t.timer.Reset(Patience)
	}
}

// again waits for the next try, if there is one. Otherwise it says by which error to end.
func (t *tries) again(err error) (bool, error) {
	p, answered := errors.AsType[*Problem](err)
	if answered && !p.passing() {
		return false, err
	}
	t.n++
	wait := time.Duration(0)
	if answered {
		wait = p.after
	}
	if wait == 0 {
		wait = min(firstWait<<min(t.n-1, 10), longestWait)
		wait = wait/2 + rand.N(wait)
	} else {
		wait += rand.N(wait/4 + 1) // many are told the same second
	}
	last := doubted(err)
	if t.caller.Err() != nil {
		return false, fmt.Errorf("%w: %w", ErrInDoubt, context.Cause(t.caller))
	}
	if end, ok := t.ctx.Deadline(); time.Until(t.until) < wait || ok && time.Until(end) < wait {
		return false, last
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true, nil
	case <-t.ctx.Done():
		return false, last
	}
}

// doubted is the error of a request that may have arrived, if it has no answer.
func doubted(err error) error {
	if _, answered := errors.AsType[*Problem](err); answered {
		return err
	}
	return fmt.Errorf("%w: %w", ErrInDoubt, err)
}

// A watched try ends when nothing has moved for a while.
type watched struct {
	ctx   context.Context
	end   context.CancelFunc
	timer *time.Timer
	after time.Duration
}

func watch(ctx context.Context, after time.Duration) *watched {
	ctx, cancel := context.WithCancelCause(ctx)
	w := &watched{ctx: ctx, after: after}
	w.timer = time.AfterFunc(after, func() { cancel(context.DeadlineExceeded) })
	w.end = func() { w.timer.Stop(); cancel(nil) }
	return w
}

// moved says that something did. After the end it says nothing.
func (w *watched) moved() {
	if w.timer.Stop() {
		w.timer.Reset(w.after)
	}
}

// moving is a body whose reading is watched.
type moving struct {
	io.Reader
	watched *watched
}

func (m *moving) Read(p []byte) (int, error) {
	n, err := m.Reader.Read(p)
	m.watched.moved()
	return n, err
}

// retryAfter reads the header: seconds, or a date (RFC 9110, 10.2.3). Zero: none.
func retryAfter(text string, now time.Time) time.Duration {
	if n, err := strconv.Atoi(text); err == nil {
		return time.Duration(max(n, 0)) * time.Second
	}
	if at, err := http.ParseTime(text); err == nil {
		return max(at.Sub(now), 0)
	}
	return 0
}
