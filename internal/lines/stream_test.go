package lines

import (
	"bytes"
	"context"
	"math/rand/v2"
	"sync/atomic"
	"testing"
)

// Whatever the lines are like, what is in hand of them stays in its bounds, and each is reported once and in its order.
func TestAStreamHoldsNoMoreThanItsBytes(t *testing.T) {
	const limit, total = 1 << 20, 8 << 20 // as much as a stream may hold, and then some
	for name, length := range map[string]func(*rand.Rand) int{
		"short lines": func(r *rand.Rand) int { return 1 + r.IntN(300) },
		"long lines":  func(r *rand.Rand) int { return limit - 10 + r.IntN(20) },
		"some of all": func(r *rand.Rand) int { return 1 + r.IntN(1<<r.IntN(21)) },
	} {
		for _, bytesOf := range []int{4 << 20, 1} { // no slab fits into one byte, and then they go one after another
			random := rand.New(rand.NewPCG(1, 2))
			var text bytes.Buffer
			want := 0
			for ; text.Len() < total; want++ {
				text.Write(append(bytes.Repeat([]byte("x"), length(random)), '\n'))
			}
			in, err := NewReader(&text, limit, 1)
			if err != nil {
				t.Fatal(err)
			}
			var held, most atomic.Int64
			got, last := 0, 0
			s := Stream[int]{
				Lines: in, Workers: 4, Bytes: bytesOf,
				Work: func(_ context.Context, b *Slab) []int {
					for now, peak := held.Add(int64(cap(b.text))), most.Load(); now > peak && !most.CompareAndSwap(peak, now); peak = most.Load() {
						now = held.Load()
					}
					return make([]int, len(b.Lines))
				},
				Stops: func(int) bool { return false },
				Report: func(b *Slab, _ []int) error {
					held.Add(-int64(cap(b.text)))
					for _, l := range b.Lines {
						if l.Number <= last {
							t.Errorf("%s: line %d comes behind %d", name, l.Number, last)
						}
						last = l.Number
						got++
					}
					return nil
				},
			}
			if err := s.Run(t.Context()); err != nil || !s.Ended || got != want {
				t.Errorf("%s: %d lines of %d, %v", name, got, want, err)
			}
			if bound := int64(max(bytesOf, 2*(slabBytes+limit))); most.Load() > bound {
				t.Errorf("%s: up to %d KiB in hand, want at most %d", name, most.Load()>>10, bound>>10)
			}
		}
	}
}
