package ratelimit

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/hongyan-dispatch/hongyan/outcome"
)

const (
	rebuildTimeout  = 5 * time.Second
	rebuildWait     = 3 * time.Second // for another pod that rebuilds
	rebuildPoll     = 50 * time.Millisecond
	rebuildErrStand = time.Second
	recountAfter    = leaseFor - 5*time.Second // a rebuild: what is withheld comes free 5 s later
	recountEvery    = 2 * time.Second          // where it fails
	recountUntil    = 2 * leaseFor
	tries           = 4 // a new day and an unknown key may both come up in one call
)

// call leases for those who wait, or only reports, and gives out what came. It runs on its own goroutine with
// p.asking set, and belongs to no caller: whoever waits may leave before it ends.
func (b *bucket) call(p *pool, r request) {
	g, sent, err := b.lease(p, &r, b.rebuild)
	now := time.Now()

	b.mu.Lock()
	defer b.mu.Unlock()
	p.asking = false
	b.idle.Broadcast()
	if err != nil {
		p.err, p.errUntil = err, now.Add(errorsStand)
		if errors.Is(err, ErrUnknown) {
			p.errUntil = now.Add(rebuildErrStand)
		}
		b.refuse(p, func(*waiter) error { return err })
		return
	}
	p.lease.acked, p.lease.heard = r.spent, g.now
	p.lease.renewed, p.lease.ends = sent, sent.Add(g.midnight)
	p.midnight, p.freed = now.Add(g.midnight), time.Time{}
	if g.freed > 0 {
		p.freed = now.Add(g.freed)
	}
	p.lease.free += g.tokens
	if r.want > 0 {
		p.asked, p.answered, p.interval = sent, now, g.interval
		p.add(g, sent, now)
		b.learn(p, r, g, now)
	}
	b.step(now)
}

// learn draws from an answer who need not wait any longer.
func (b *bucket) learn(p *pool, r request, g grant, now time.Time) {
	p.noSlot, p.retryAt, p.dryUntil = time.Time{}, time.Time{}, time.Time{}
	p.dry = g.left == 0 && g.tokens == 0 && r.want > r.free+r.bare
	switch {
	case p.dry && g.leased == 0:
		p.dryUntil = now.Add(dryStands)
	case p.dry:
		p.retryAt = now.Add(retryEvery)
	case g.n == 0:
		p.noSlot = now.Add(g.start)
	}
	b.refuse(p, func(w *waiter) error {
		switch {
		case p.dry && w.token && (g.leased == 0 || now.Sub(w.came) >= returnWait):
			return b.refusedQuota(p)
		case g.start > 0 && now.Add(g.start).After(w.deadline) && g.start.Microseconds() > r.maxWait:
			return refusedPace(now.Add(g.start))
		}
		return nil
	})
}

// lease sends the request, with the key's limits; it follows Redis to another day, and has a key rebuilt, if it is
// told how, that Redis does not know. r is what was answered in the end.
func (b *bucket) lease(p *pool, r *request, rebuild func(day int64) error) (g grant, sent time.Time, err error) {
	limits := b.q.limits(b.key)
	open, reserved := limits.intervals()
	if open == 0 && r.want > 0 {
		return grant{}, sent, &Refused{Until: time.Now().Add(time.Minute), Reason: outcome.Pace}
	}
	b.mu.Lock()
	day := p.lease.day
	b.mu.Unlock()
	for range tries {
		r.perDay, r.margin, r.reserve = max(limits.PerDay, 0), ppm(limits.Margin), ppm(limits.UrgentDay)
		r.open, r.reserved = open.Nanoseconds(), reserved.Nanoseconds()
		r.rebuilt = b.q.rebuild == nil
		ctx, cancel := context.WithTimeout(context.Background(), callTimeout)
		sent = time.Now()
		g, err = b.q.store.lease(ctx, b.key, day, *r)
		cancel()
		if today, other := errors.AsType[otherDay](err); other {
			day = int64(today)
			b.turn(p, day, r)
			continue
		}
		if errors.Is(err, errUnknown) && rebuild != nil {
			if err = rebuild(day); err == nil {
				continue
			}
		}
		break
	}
	if err != nil {
		return grant{}, sent, fmt.Errorf("lease quota of %s: %w", b.key, err)
	}
	return g, sent, nil
}

// turn makes the request one of another day.
func (b *bucket) turn(p *pool, day int64, r *request) {
	b.mu.Lock()
	defer b.mu.Unlock()
	p.turn(day)
	fresh := p.report(time.Now(), false)
	fresh.want, fresh.bare, fresh.maxWait = r.want, r.bare, r.maxWait
	*r = fresh
}

// rebuild asks WeChat what the day has used, or waits for the pod that does.
func (b *bucket) rebuild(day int64) error {
	ctx, cancel := context.WithTimeout(context.Background(), rebuildTimeout)
	defer cancel()
	mine, err := b.q.store.lock(ctx, b.key)
	if err != nil {
		return err
	}
	if !mine {
		return b.awaitRebuild(ctx, day)
	}
	limit, used, err := b.q.rebuild(ctx, b.key)
	if err == nil {
		b.countAgain(day, used)
		err = b.q.store.sync(ctx, b.key, day, count{limit: limit, used: used, rebuilt: true})
	}
	unlock, cancel := context.WithTimeout(context.Background(), callTimeout)
	defer cancel()
	if failed := b.q.store.unlock(unlock, b.key); err == nil {
		err = failed
	}
	if err != nil {
		return fmt.Errorf("%w: %w", ErrUnknown, err)
	}
	return nil
}

// countAgain has the recount made whose time comes when a rebuild with this count is nearly a lease's time old.
func (b *bucket) countAgain(day, used int64) {
	if used == 0 {
		return // nothing can have been booked twice
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	now := time.Now()
	b.again = recount{day: day, at: now.Add(recountAfter), until: now.Add(recountUntil)}
}

// due takes the recount whose time has come.
func (b *bucket) due(now time.Time) (r recount, ok bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.again.at.IsZero() || now.Before(b.again.at) {
		return r, false
	}
	r, b.again = b.again, recount{}
	return r, true
}

// recount asks WeChat once more, before what is withheld comes free: what pods had spent and not reported when it counted
// for the rebuild stood in its count, and was booked again when they reported it. Where that fails it is tried again for a
// while; then it is left to the next Sync.
func (b *bucket) recount(ctx context.Context, r recount) {
	err := b.count(ctx, r.day)
	r.at = time.Now().Add(recountEvery)
	b.mu.Lock()
	defer b.mu.Unlock()
	if err != nil && r.at.Before(r.until) && b.again.at.IsZero() {
		b.again = r
	}
}

// count takes WeChat's count of the day, if it is still that.
func (b *bucket) count(ctx context.Context, day int64) error {
	ctx, cancel := context.WithTimeout(ctx, rebuildTimeout)
	defer cancel()
	m, err := b.q.Mark(ctx, b.key)
	if err != nil || m.day != day {
		return err
	}
	limit, used, err := b.q.rebuild(ctx, b.key)
	if err != nil {
		return err
	}
	return b.q.Sync(ctx, b.key, m, limit, used)
}

func (b *bucket) awaitRebuild(ctx context.Context, day int64) error {
	ctx, cancel := context.WithTimeout(ctx, rebuildWait)
	defer cancel()
	poll := time.NewTicker(rebuildPoll)
	defer poll.Stop()
	for {
		select {
		case <-ctx.Done():
			return ErrUnknown
		case <-poll.C:
			if u, err := b.q.store.usage(ctx, b.key, day); err == nil && u.known {
				return nil
			}
		}
	}
}

// keep reports for a pool where nothing else does: it gives idle tokens back, and renews the lease of tokens
// that slow calls have in hand.
func (b *bucket) keep(now time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, p := range []*pool{b.urgent, b.open} {
		l := p.lease
		idle := now.Sub(p.lastTake) >= idleAfter && (l.free > 0 || l.spent > l.acked) && !b.waiting(p)
		renew := l.free+l.inHand > 0 && now.Sub(l.renewed) >= renewAfter
		if p.asking || now.Before(p.errUntil.Add(time.Second)) || !idle && !renew {
			continue
		}
		p.asking = true
		go b.call(p, p.report(now, idle))
	}
}

// flush gives back what is free and reports what was spent.
func (b *bucket) flush() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	var errs []error
	for _, p := range []*pool{b.urgent, b.open} {
		for p.asking {
			b.idle.Wait()
		}
		if l := p.lease; l.renewed.IsZero() {
			continue // never had any
		}
		p.asking = true
		r := p.report(time.Now(), true)
		b.mu.Unlock()
		g, _, err := b.lease(p, &r, nil)
		b.mu.Lock()
		p.asking = false
		b.idle.Broadcast()
		switch {
		case err == nil:
			p.lease.acked, p.lease.heard = r.spent, g.now
		case errors.Is(err, errUnknown):
			err = nil // whoever takes the next token asks WeChat, which has counted ours
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}
