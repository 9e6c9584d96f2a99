package callback

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// An Inbox writes what waits together, and every caller gets its own answer.
type pile struct {
	mu     sync.Mutex
	writes [][]Entry
	fails  error
}

func (p *pile) Write(_ context.Context, entries []Entry, _ time.Time) ([]bool, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.writes = append(p.writes, entries)
	again := make([]bool, len(entries))
	for i, e := range entries {
		again[i] = strings.HasPrefix(e.Request, "again")
	}
	return again, p.fails
}

func TestInbox(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &pile{}
		b := NewInbox(p)
		ctx, stop := context.WithCancel(t.Context())
		for i := range 1000 {
			go func() {
				want := i%3 == 0
				request := fmt.Sprint("first", i)
				if want {
					request = fmt.Sprint("again", i)
				}
				if again, err := b.Record(t.Context(), Entry{Request: request}); err != nil || again != want {
					t.Errorf("%s: %t, %v", request, again, err)
				}
			}()
		}
		synctest.Wait() // all stand in line
		ended := make(chan error)
		go func() { ended <- b.Run(ctx) }()
		synctest.Wait()
		total := 0
		for _, w := range p.writes {
			total += len(w)
		}
		if total != 1000 || len(p.writes) != 4 || len(p.writes[0]) != inboxBatch {
			t.Errorf("%d entries in %d writes", total, len(p.writes))
		}
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		if _, err := b.Record(t.Context(), Entry{}); !errors.Is(err, errClosed) {
			t.Errorf("after the end: %v", err)
		}
	})
}
