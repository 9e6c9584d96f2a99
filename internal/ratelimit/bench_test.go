package ratelimit

import (
	"testing"
	"time"

	"github.com/hongyan-dispatch/hongyan/message"
)

// BenchmarkTake is a token's whole life, calls to Redis included: by blocks of 200 where the pace allows them.
func BenchmarkTake(b *testing.B) {
	for _, c := range []struct {
		name  string
		lane  message.Lane
		limit Limits
	}{
		{"bulk at 1,000,000 a second", message.Bulk, Limits{PerDay: 1 << 40, PerSecond: 1e6}},
		{"bulk beyond any pace", message.Bulk, Limits{PerDay: 1 << 40, PerSecond: 1e8}},
		{"urgent beyond any pace", message.Urgent, Limits{PerDay: 1 << 40, PerSecond: 1e8, UrgentPace: 0.2}},
	} {
		b.Run(c.name, func(b *testing.B) {
			q := New(connect(b), "pod", fixed(c.limit))
			b.ReportAllocs()
			for b.Loop() {
				tok, err := q.Take(b.Context(), template, c.lane, time.Second)
				if err != nil {
					b.Fatal(err)
				}
				if err := tok.Ready(b.Context()); err != nil {
					b.Fatal(err)
				}
				tok.Spent()
			}
		})
	}
}

// BenchmarkTakeInProcess leaves Redis out: the store answers from memory.
func BenchmarkTakeInProcess(b *testing.B) {
	q := newQuota(&memory{}, "pod", fixed(Limits{PerDay: 1 << 40, PerSecond: 1e8}))
	b.ReportAllocs()
	for b.Loop() {
		tok, err := q.Take(b.Context(), template, message.Bulk, time.Second)
		if err != nil {
			b.Fatal(err)
		}
		tok.Spent()
	}
}
