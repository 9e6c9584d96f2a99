package pipeline

import (
	"context"
	"testing"
	"testing/synctest"

	"github.com/hongyan-dispatch/hongyan/message"
)

func TestLine(t *testing.T) {
	take := func(t *testing.T, l *line, lane message.Lane) func() {
		t.Helper()
		if err := l.acquire(t.Context(), lane); err != nil {
			t.Fatal(err)
		}
		return l.release
	}

	t.Run("urgent messages stand first in the line", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			l := newLine(1, 0)
			release := take(t, &l, message.Bulk)
			var served []message.Lane
			for _, lane := range []message.Lane{message.Bulk, message.Normal, message.Urgent} {
				go func() {
					done := take(t, &l, lane)
					served = append(served, lane)
					done()
				}()
				synctest.Wait()
			}
			release()
			synctest.Wait()
			if len(served) != 3 || served[0] != message.Urgent || served[1] != message.Bulk {
				t.Errorf("served %v, want urgent first and the others as they came", served)
			}
		})
	})

	t.Run("the last places are kept for urgent messages", func(t *testing.T) {
		l := newLine(3, 1)
		take(t, &l, message.Bulk)
		take(t, &l, message.Bulk)
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err := l.acquire(ctx, message.Bulk); err == nil {
			t.Error("a bulk message took the urgent place")
		}
		take(t, &l, message.Urgent)
		if got := l.taken(); got != 3 {
			t.Errorf("%d places taken, want 3", got)
		}
	})

	t.Run("a place given to one who has just left is passed on", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			l := newLine(1, 0)
			release := take(t, &l, message.Normal)
			ctx, cancel := context.WithCancel(t.Context())
			go func() {
				if err := l.acquire(ctx, message.Normal); err == nil {
					l.release()
				}
			}()
			synctest.Wait()
			release()
			cancel()
			synctest.Wait()
			take(t, &l, message.Normal)()
			if got := l.taken(); got != 0 {
				t.Errorf("%d places taken, want 0", got)
			}
		})
	})
}
