package ratelimit

import (
	"context"
	"errors"
	"maps"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/hongyan-dispatch/hongyan/internal/devstack"
	"github.com/hongyan-dispatch/hongyan/outcome"
)

func TestMain(m *testing.M) { devstack.Main(m) }

var template = Key{App: "wx0000000000000001", API: "/cgi-bin/message/template/send"}

func connect(tb testing.TB) *redis.Client {
	tb.Helper()
	o, err := redis.ParseURL(devstack.Redis(tb))
	if err != nil {
		tb.Fatal(err)
	}
	c := redis.NewClient(o)
	tb.Cleanup(func() { _ = c.Close() })
	return c
}

// memory is a store without a server, for tests in a synctest bubble: one core that all pods share, which
// lease.lua was tested to agree with.
type memory struct {
	latency time.Duration // of each call, half before and half after

	mu     sync.Mutex
	core   core
	err    error         // instead of any answer
	step   time.Duration // its clock's distance from ours
	locked bool
	leases int
}

func (m *memory) do(f func(now int64) error) error {
	m.mu.Lock()
	latency := m.latency
	m.mu.Unlock()
	time.Sleep(latency / 2)
	defer time.Sleep(latency / 2)
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.err != nil {
		return m.err
	}
	return f(time.Now().Add(m.step).UnixMicro())
}

func (m *memory) lease(_ context.Context, _ Key, day int64, r request) (g grant, err error) {
	err = m.do(func(now int64) error {
		m.leases++
		g, err = m.core.lease(now, day, r)
		return err
	})
	return g, err
}

func (m *memory) mark(_ context.Context, _ Key, day int64) (ours int64, err error) {
	err = m.do(func(now int64) error { ours, err = m.core.mark(now, day); return err })
	return ours, err
}

func (m *memory) sync(_ context.Context, _ Key, day int64, c count) error {
	return m.do(func(now int64) error { return m.core.sync(now, day, c) })
}

func (m *memory) slow(context.Context, Key) (d time.Duration, err error) {
	err = m.do(func(now int64) error { d = m.core.slow(now); return nil })
	return d, err
}

func (m *memory) usage(_ context.Context, _ Key, day int64) (u book, err error) {
	err = m.do(func(now int64) error { u, err = m.core.usage(now, day); return err })
	return u, err
}

func (m *memory) lock(context.Context, Key) (mine bool, err error) {
	err = m.do(func(int64) error { mine, m.locked = !m.locked, true; return nil })
	return mine, err
}

func (m *memory) unlock(context.Context, Key) error {
	return m.do(func(int64) error { m.locked = false; return nil })
}

func (m *memory) fail(err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.err = err
}

func (m *memory) calls() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.leases
}

func (m *memory) slowDown(latency time.Duration) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.latency = latency
}

func (m *memory) stepClock(by time.Duration) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.step += by
}

// remember copies what the store has; setBack starts it again with that.
func (m *memory) remember() core {
	m.mu.Lock()
	defer m.mu.Unlock()
	old := m.core
	old.days = map[int64]*ledger{}
	for day, l := range m.core.days {
		l := *l
		l.holders = maps.Clone(l.holders)
		for name, h := range l.holders {
			h := *h
			l.holders[name] = &h
		}
		old.days[day] = &l
	}
	return old
}

func (m *memory) setBack(old core) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.core = old
	m.core.known = false
}

func fixed(l Limits) func(Key) Limits { return func(Key) Limits { return l } }

// keepRunning runs q until the test's end.
func keepRunning(t *testing.T, q *Quota) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- q.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
}

func refused(t *testing.T, err error, why outcome.Reason) *Refused {
	t.Helper()
	r, ok := errors.AsType[*Refused](err)
	if !ok || r.Reason != why {
		t.Fatalf("got %v, want a refusal by %s", err, why)
	}
	return r
}

var beijing = time.FixedZone("Asia/Shanghai", 8*60*60)
