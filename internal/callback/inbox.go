package callback

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/hongyan-dispatch/hongyan/internal/clock"
)

// A Store writes a batch of entries, each with all that follows from it. again[i] says that entry i was recorded before.
type Store interface {
	Write(ctx context.Context, entries []Entry, now time.Time) (again []bool, err error)
}

// An Inbox is a [Recorder] that gathers entries of many requests into one write at a time: it writes at once when idle;
// what comes meanwhile goes together with the next.
type Inbox struct {
	store Store

	mu      sync.Mutex
	waiting []*letter
	stopped bool
	wake    chan struct{}
}

// A letter is an entry whose request waits.
type letter struct {
	Entry
	done  chan struct{}
	again bool
	err   error
}

// inboxBatch is how many entries go in one write.
const inboxBatch = 256

// inboxPatience bounds one write. Longer than a request waits: what is under way is finished, and remembered.
const inboxPatience = 10 * time.Second

// errClosed says that the server is going.
var errClosed = errors.New("the inbox is closed")

// NewInbox makes an inbox, which records while [Inbox.Run] runs.
func NewInbox(s Store) *Inbox { return &Inbox{store: s, wake: make(chan struct{}, 1)} }

// Record returns when the entry is written, or ctx ends: then it may still be.
func (b *Inbox) Record(ctx context.Context, e Entry) (again bool, err error) {
	l := &letter{Entry: e, done: make(chan struct{})}
	b.mu.Lock()
	if b.stopped {
		b.mu.Unlock()
		return false, errClosed
	}
	b.waiting = append(b.waiting, l)
	b.mu.Unlock()
	select {
	case b.wake <- struct{}{}:
	default:
	}
	select {
	case <-l.done:
		return l.again, l.err
	case <-ctx.Done():
		return false, ctx.Err()
	}
}

// Run writes until the context ends, and then what is waiting.
func (b *Inbox) Run(ctx context.Context) error {
	for {
		if batch := b.next(); len(batch) > 0 {
			b.write(ctx, batch)
			continue
		}
		select {
		case <-b.wake:
		case <-ctx.Done():
			b.mu.Lock()
			b.stopped = len(b.waiting) == 0
			stopped := b.stopped
			b.mu.Unlock()
			if stopped {
				return nil
			}
		}
	}
}

func (b *Inbox) next() []*letter {
	b.mu.Lock()
	defer b.mu.Unlock()
	n := min(len(b.waiting), inboxBatch)
	batch := b.waiting[:n:n]
	b.waiting = b.waiting[n:]
	return batch
}

func (b *Inbox) write(ctx context.Context, batch []*letter) {
	entries := make([]Entry, len(batch))
	for i, l := range batch {
		entries[i] = l.Entry
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), inboxPatience)
	defer cancel()
	again, err := b.store.Write(ctx, entries, clock.Now())
	for i, l := range batch {
		if l.err = err; err == nil {
			l.again = again[i]
		}
		close(l.done)
	}
}
