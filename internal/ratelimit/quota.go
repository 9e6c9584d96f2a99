package ratelimit

import (
	"container/list"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
	"golang.org/x/time/rate"

	"github.com/hongyan-dispatch/hongyan/message"
)

// Quota gives out an account's calls. One per pod; it is safe for concurrent use. [Quota.Run] must run
// besides, or what nobody takes stays with the pod for 30 s.
type Quota struct {
	store   store
	pod     string
	limits  func(Key) Limits
	rebuild func(context.Context, Key) (limit, used int64, err error)

	mu      sync.RWMutex
	buckets map[Key]*bucket
}

// An Option changes what [New] makes.
type Option func(*Quota)

// WithRebuild has f asked what WeChat counts (openapi/quota/get) before a key of which Redis knows nothing
// opens: at the very first start, and after each start of Redis, which may have lost what it was told last. One pod
// asks, the others wait; while f fails, Take fails. For 30 s, a lease's time, up to a tenth of the day's limit and 16
// is then withheld, for the tokens that pods may hold from before; 5 s before its end f is asked again, because what was
// under way at first may have been counted twice. Without it such a key goes on with what Redis has.
func WithRebuild(f func(ctx context.Context, k Key) (limit, used int64, err error)) Option {
	return func(q *Quota) { q.rebuild = f }
}

// New makes the pod's Quota. limits is asked for every block of messages, so that it may change at run time;
// it must be quick.
func New(rdb redis.UniversalClient, pod string, limits func(Key) Limits, options ...Option) *Quota {
	return newQuota(&redisStore{rdb: rdb}, pod, limits, options...)
}

func newQuota(s store, pod string, limits func(Key) Limits, options ...Option) *Quota {
	// A pod that is started again under its name is another holder: it does not hold what the first held.
	var life [4]byte
	_, _ = rand.Read(life[:])
	q := &Quota{store: s, pod: pod + "#" + hex.EncodeToString(life[:]), limits: limits, buckets: map[Key]*bucket{}}
	for _, o := range options {
		o(q)
	}
	return q
}

const (
	keepEvery   = 50 * time.Millisecond
	idleAfter   = 150 * time.Millisecond // then free tokens go back
	renewAfter  = 10 * time.Second       // for tokens in hand of slow calls
	callTimeout = 2 * time.Second
)

// Take gives a token for one call, waiting at most maxWait (never more than 30 s) for its slot. Within a lane
// it is first come, first served; urgent before normal before bulk. The error is a [*Refused] where the
// limits say no, ctx's where it ended, and anything else where nobody can say (Redis is away): the caller
// parks the message. A Redis that does not answer holds Take up for maxWait, or 250 ms if that is more.
func (q *Quota) Take(ctx context.Context, k Key, lane message.Lane, maxWait time.Duration) (*Token, error) {
	b := q.bucket(k)
	now := time.Now()
	b.mu.Lock()
	g, ok := b.take(laneIndex(lane), now)
	if ok {
		b.mu.Unlock()
	} else {
		var err error
		if g, err = b.wait(ctx, now, lane, true, false, maxWait); err != nil { // unlocks
			return nil, err
		}
	}
	return &Token{b: b, lane: lane, lease: g.lease, dead: g.dead}, nil
}

// Run gives idle tokens back within 200 ms, keeps the leases of those in hand, and when ctx ends gives back
// all that is free. It returns after that.
func (q *Quota) Run(ctx context.Context) error {
	tick := time.NewTicker(keepEvery)
	defer tick.Stop()
	var recounts sync.WaitGroup
	for {
		select {
		case <-tick.C:
			for _, b := range q.all() {
				b.keep(time.Now())
				if r, ok := b.due(time.Now()); ok {
					recounts.Go(func() { b.recount(ctx, r) })
				}
			}
		case <-ctx.Done():
			recounts.Wait()
			var errs []error
			for _, b := range q.all() {
				errs = append(errs, b.flush())
			}
			return errors.Join(errs...)
		}
	}
}

// Slow is to be called on WeChat's 45011: it halves the pace of all pods and lets nothing out before the next
// minute; from then on the pace recovers by 5 % of the whole every 10 s. Many calls of one minute count once.
func (q *Quota) Slow(ctx context.Context, k Key) error {
	opens, err := q.store.slow(ctx, k)
	if err != nil {
		return fmt.Errorf("slow down %s: %w", k, err)
	}
	b := q.bucket(k)
	b.mu.Lock()
	defer b.mu.Unlock()
	now := time.Now()
	b.closed = now.Add(opens)
	b.open.runs, b.urgent.runs = nil, nil
	why := func(w *waiter) error {
		if b.closed.After(w.deadline) {
			return refusedPace(b.closed)
		}
		return nil
	}
	b.refuse(b.open, why)
	b.refuse(b.urgent, why)
	b.step(now)
	return nil
}

// A Mark is how a key stood before WeChat was asked what it counts. See [Quota.Sync].
type Mark struct {
	day, ours int64
}

// Mark is to be called before WeChat is asked: pods go on calling meanwhile. A key of which nothing is known has nothing of ours.
func (q *Quota) Mark(ctx context.Context, k Key) (Mark, error) {
	var m Mark
	err := onDay(func(day int64) (err error) {
		m.day = day
		m.ours, err = q.store.mark(ctx, k, day)
		return err
	})
	if err != nil && !errors.Is(err, errUnknown) {
		return Mark{}, fmt.Errorf("mark quota of %s: %w", k, err)
	}
	return m, nil
}

// Sync takes WeChat's own figures of the day (openapi/quota/get), asked after m. What they hold beyond ours, others use
// of the account, and it counts; a pod's calls of the last moments, of which it has not reported yet, are not taken for
// others', and what was reported since m makes nobody's less. Tokens of pods that died are taken for unspent as far as
// WeChat's count allows. A positive limit is the day's limit, lower or higher than the configured one. Where the day has
// turned since m, the figures may be those of either day, and nothing is taken.
func (q *Quota) Sync(ctx context.Context, k Key, m Mark, limit, used int64) error {
	c := count{limit: limit, used: used, mark: m.ours}
	err := q.store.sync(ctx, k, m.day, c)
	if errors.Is(err, errUnknown) {
		if q.rebuild != nil {
			return nil // whoever takes the next token asks WeChat anew
		}
		c.rebuilt = true
		err = q.store.sync(ctx, k, m.day, c)
	}
	if _, turned := errors.AsType[otherDay](err); turned {
		return nil
	}
	if err != nil {
		return fmt.Errorf("sync quota of %s: %w", k, err)
	}
	b := q.bucket(k)
	b.mu.Lock()
	defer b.mu.Unlock()
	b.open.dryUntil, b.urgent.dryUntil = time.Time{}, time.Time{}
	return nil
}

// Usage is how a key stands, over all pods.
type Usage struct {
	Known         bool      // false: nothing was sent yet, or not since Redis started again
	Day           time.Time // the Beijing midnight at which the day began
	Limit         int64     // what WeChat told, else the configuration
	Used          int64     // by us, and by others as far as WeChat told
	Leased        int64     // in the hands of pods: spent soon, or given back
	Left          int64     // for urgent; the margin is taken off
	PacePerSecond float64   // at present
}

// Usage looks at a key. It is one call to Redis.
func (q *Quota) Usage(ctx context.Context, k Key) (Usage, error) {
	var u book
	var today int64
	err := onDay(func(day int64) (err error) {
		today = day
		u, err = q.store.usage(ctx, k, day)
		return err
	})
	if err != nil {
		return Usage{}, fmt.Errorf("read quota of %s: %w", k, err)
	}
	l := q.limits(k)
	if u.limit == 0 {
		u.limit = max(l.PerDay, 0)
	}
	allowed := request{margin: ppm(l.Margin), urgent: true}.allowed(u.limit)
	return Usage{
		Known: u.known, Day: message.Beijing(startOf(today)), Limit: u.limit, Used: u.used, Leased: u.leased,
		Left:          max(0, allowed-u.used-u.leased),
		PacePerSecond: max(l.PerSecond, 0) * float64(u.factor) / 1000,
	}, nil
}

// onDay calls f with today, by our clock first and then, where Redis' differs, by that.
func onDay(f func(day int64) error) error {
	err := f(dayOf(time.Now().UnixMicro()))
	if day, other := errors.AsType[otherDay](err); other {
		err = f(int64(day))
	}
	return err
}

func (q *Quota) bucket(k Key) *bucket {
	q.mu.RLock()
	b := q.buckets[k]
	q.mu.RUnlock()
	if b != nil {
		return b
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	if b := q.buckets[k]; b != nil {
		return b
	}
	b = &bucket{q: q, key: k, open: newPool(q.pod, false), urgent: newPool(q.pod+"/urgent", true)}
	b.idle.L = &b.mu
	for i := range b.lanes {
		b.lanes[i] = list.New()
	}
	q.buckets[k] = b
	return b
}

func newPool(holder string, urgent bool) *pool {
	p := &pool{holder: holder, urgent: urgent, smooth: rate.NewLimiter(0, 1)}
	p.turn(dayOf(time.Now().UnixMicro()))
	return p
}

func (q *Quota) all() []*bucket {
	q.mu.RLock()
	defer q.mu.RUnlock()
	all := make([]*bucket, 0, len(q.buckets))
	for _, b := range q.buckets {
		all = append(all, b)
	}
	return all
}
