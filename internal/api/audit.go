package api

import (
	"context"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/hongyan-dispatch/hongyan/internal/clock"
)

// An auditor writes down who did what. Posted messages and events are written within a second, many at once: the ledger
// has the messages themselves. Whatever else changes something is written before it is done.
type auditor struct {
	recorder Recorder
	log      *slog.Logger
	mu       *sync.Mutex
	waiting  []Entry
	keys     map[string]bool
}

const (
	auditEvery  = time.Second
	auditWithin = 5 * time.Second
	maxWaiting  = 100_000 // while Postgres is away, when nothing is accepted
)

func newAuditor(o Options) auditor {
	return auditor{recorder: o.Recorder, log: o.Log, mu: new(sync.Mutex), keys: map[string]bool{}}
}

func (a *auditor) used(key string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.keys[key] = true
}

// later notes an entry.
func (a *auditor) later(e Entry) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.waiting) >= maxWaiting {
		a.log.Error("the audit log cannot be written, and forgets", "key", e.Key, "action", e.Action, "account", e.Account, "messages", e.N)
		return
	}
	a.waiting = append(a.waiting, e)
}

// now writes an entry before what it tells is done.
func (a *auditor) now(ctx context.Context, e Entry) error {
	return a.recorder.Audit(ctx, []Entry{e}, nil)
}

func (a *auditor) run(ctx context.Context) error {
	tick := time.NewTicker(auditEvery)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			a.flush(ctx)
		case <-ctx.Done():
			a.flush(context.WithoutCancel(ctx))
			return nil
		}
	}
}

func (a *auditor) flush(ctx context.Context) {
	a.mu.Lock()
	entries, keys := a.waiting, slices.Collect(maps.Keys(a.keys))
	a.waiting, a.keys = nil, map[string]bool{}
	a.mu.Unlock()
	if len(entries) == 0 && len(keys) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, auditWithin)
	defer cancel()
	if err := a.recorder.Audit(ctx, entries, keys); err != nil {
		a.log.Warn("write the audit log; it is tried again", "entries", len(entries), "error", err)
		a.mu.Lock()
		defer a.mu.Unlock()
		a.waiting = append(entries, a.waiting...)
	}
}

// entry is what a call does.
func (c *call) entry(action, account, target, detail string, n int) Entry {
	return Entry{At: clock.Now(), Key: c.key.ID, Name: c.key.Name, Action: action, Account: account, Target: target, N: n, Detail: detail, Address: c.address()}
}
