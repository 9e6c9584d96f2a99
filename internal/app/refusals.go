package app

import (
	"context"
	"hash/maphash"
	"log/slog"
	"sync"
	"time"

	"github.com/hongyan-dispatch/hongyan/internal/pipeline"
	"github.com/hongyan-dispatch/hongyan/internal/postgres"
	"github.com/hongyan-dispatch/hongyan/message"
)

// refusals says who refuses messages without a call to Postgres for each: it follows the table each second, as
// 8-byte hashes, and asks the table only about those that it finds.
type refusals struct {
	store *postgres.Store
	log   *slog.Logger

	mu   sync.RWMutex
	seed maphash.Seed
	seen map[uint64]struct{}
	next time.Time // where to read on
}

// followEvery is how often the table is read.
const followEvery = time.Second

func newRefusals(s *postgres.Store, log *slog.Logger) *refusals {
	return &refusals{store: s, log: log, seed: maphash.MakeSeed(), seen: map[uint64]struct{}{}}
}

// Run follows the table until the context ends. Load has read it once before.
func (r *refusals) Run(ctx context.Context) error {
	tick := time.NewTicker(followEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			if err := r.Load(ctx); err != nil && ctx.Err() == nil {
				r.log.Warn("follow suppressions", "error", err)
			}
		}
	}
}

// Load reads what changed since the last time.
func (r *refusals) Load(ctx context.Context) error {
	changed, next, err := r.store.SuppressedSince(ctx, r.next)
	if err != nil {
		return err
	}
	r.next = next
	for _, s := range changed {
		r.add(s.Account, s.OpenID)
	}
	return nil
}

func (r *refusals) add(account string, user message.OpenID) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.seen[r.hash(account, user)] = struct{}{}
}

func (r *refusals) hash(account string, user message.OpenID) uint64 {
	return maphash.Comparable(r.seed, [2]string{account, string(user)})
}

// Suppressed says whether the message's user refuses everything, or its template.
func (r *refusals) Suppressed(ctx context.Context, m *message.Message) (bool, error) {
	if m.Kind == message.Mass {
		return false, nil // WeChat leaves out who refuses
	}
	r.mu.RLock()
	_, found := r.seen[r.hash(m.Account, m.To)]
	r.mu.RUnlock()
	if !found {
		return false, nil
	}
	return r.store.IsSuppressed(ctx, m.Account, m.To, pipeline.TemplateID(m))
}
