package app

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/hongyan-dispatch/hongyan/internal/campaign"
	"github.com/hongyan-dispatch/hongyan/internal/clock"
	"github.com/hongyan-dispatch/hongyan/internal/postgres"
	"github.com/hongyan-dispatch/hongyan/internal/wechat"
	"github.com/hongyan-dispatch/hongyan/message"
)

const (
	// pullEvery bounds how long a fetch goes on whose campaign was paused or cancelled.
	pullEvery = time.Second
	// pullAgain is how long a fetch that failed waits.
	pullAgain = 30 * time.Second
	// pullsAtOnce is how many fetches go side by side. One of them at most is a query, which has no place where it could be
	// broken off for others.
	pullsAtOnce = 2
	// pullTurn is how long a list is fetched while others wait.
	pullTurn = 10 * time.Second
)

var (
	// errTurnOver ends a fetch that goes on when others have had their turn.
	errTurnOver = errors.New("others wait for their turn")
	// errNoLonger ends a fetch whose campaign was paused, or has ended.
	errNoLonger = errors.New("the campaign does not fire any more")
)

// A puller has audiences fetched, a few at a time: who waits longest begins next.
type puller struct {
	store *postgres.Store
	log   *slog.Logger
	turn  time.Duration
	// fetch makes the audience of a tick ready. Between pages it asks whether its turn is over; the next goes on there.
	fetch func(ctx context.Context, c postgres.Campaign, tick time.Time, over func() bool) error

	due   rota
	ended chan struct{} // a fetch has ended: another may begin

	mu    sync.Mutex
	line  []postgres.Campaign // they wait, first come, first served
	going map[message.ID]*pull
	after map[message.ID]time.Time // not before, by this machine's clock, which nothing puts back: a fetch has failed
}

// A pull is a fetch that is under way.
type pull struct {
	query bool
	halt  context.CancelCauseFunc
}

func newPuller(store *postgres.Store, log *slog.Logger) *puller {
	return &puller{store: store, log: log, turn: pullTurn, ended: make(chan struct{}, 1), going: map[message.ID]*pull{}, after: map[message.ID]time.Time{}}
}

func (p *puller) run(ctx context.Context) error {
	var pulls sync.WaitGroup
	defer pulls.Wait()
	tick := time.NewTicker(pullEvery)
	defer tick.Stop()
	for {
		p.note(ctx, "stop fetching audiences", p.stop(ctx))
		p.note(ctx, "look for audiences to fetch", p.look(ctx, clock.Now()))
		for c, ok := p.next(); ok; c, ok = p.next() {
			pulling, halt := context.WithCancelCause(ctx)
			p.mu.Lock()
			p.going[c.ID] = &pull{query: c.Spec.Audience.Kind == campaign.FromSQL, halt: halt}
			p.mu.Unlock()
			pulls.Go(func() {
				defer halt(nil)
				p.pull(pulling, c)
			})
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		case <-p.ended:
		}
	}
}

func (p *puller) note(ctx context.Context, what string, err error) {
	if err != nil && ctx.Err() == nil {
		p.log.Warn(what, "error", err)
	}
}

// look puts campaigns into the line that are due.
func (p *puller) look(ctx context.Context, now time.Time) error {
	due, err := p.due.look(ctx, p.store, now, true)
	if err != nil {
		return err
	}
	var errs []error
	for _, c := range p.newcomers(due, time.Now()) {
		if err := p.begin(ctx, c, now); err != nil {
			errs = append(errs, err) // the next look comes to it again
			continue
		}
		p.mu.Lock()
		p.line = append(p.line, c)
		p.mu.Unlock()
	}
	return errors.Join(errs...)
}

// newcomers are those of the due campaigns that neither wait, nor are under way, nor have failed a moment ago. now is
// this machine's.
func (p *puller) newcomers(due []postgres.Campaign, now time.Time) []postgres.Campaign {
	p.mu.Lock()
	defer p.mu.Unlock()
	maps.DeleteFunc(p.after, func(_ message.ID, at time.Time) bool { return now.After(at) })
	return slices.DeleteFunc(due, func(c postgres.Campaign) bool {
		_, rests := p.after[c.ID]
		return rests || p.going[c.ID] != nil || slices.ContainsFunc(p.line, func(other postgres.Campaign) bool { return other.ID == c.ID })
	})
}

// begin writes the audiences down that a campaign waits for: a tick whose audience was begun is not missed.
func (p *puller) begin(ctx context.Context, c postgres.Campaign, now time.Time) error {
	ticks, _, err := ticksOf(ctx, p.store, c, now)
	if err != nil {
		return err
	}
	for _, tick := range ticks {
		if _, err := p.store.TickAudience(ctx, c.ID, tick, c.Spec.Audience.String(), nil); err != nil {
			return err
		}
	}
	return nil
}

// stop ends fetches whose campaigns do not fire any more, and takes such campaigns out of the line.
func (p *puller) stop(ctx context.Context) error {
	p.mu.Lock()
	var ids []message.ID
	for id := range p.going {
		ids = append(ids, id)
	}
	for _, c := range p.line {
		ids = append(ids, c.ID)
	}
	p.mu.Unlock()
	if len(ids) == 0 {
		return nil
	}
	may, err := p.store.MayFire(ctx, ids)
	if err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for id, pull := range p.going {
		if slices.Contains(ids, id) && !may[id] {
			pull.halt(errNoLonger)
		}
	}
	p.line = slices.DeleteFunc(p.line, func(c postgres.Campaign) bool { return !may[c.ID] })
	return nil
}

// next takes the campaign out of the line whose turn is now.
func (p *puller) next() (c postgres.Campaign, ok bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.going) >= pullsAtOnce {
		return c, false
	}
	i := p.nextInLine()
	if i < 0 {
		return c, false
	}
	c = p.line[i]
	p.line = slices.Delete(p.line, i, i+1)
	return c, true
}

func (p *puller) nextInLine() int {
	asking := false
	for _, pull := range p.going {
		asking = asking || pull.query
	}
	return slices.IndexFunc(p.line, func(c postgres.Campaign) bool { return !asking || c.Spec.Audience.Kind != campaign.FromSQL })
}

// othersWait says that somebody would begin if a fetch of a list ended.
func (p *puller) othersWait() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.nextInLine() >= 0
}

// pull fetches what the campaign's due ticks lack. What goes wrong is told in the campaign's status, and tried again.
func (p *puller) pull(ctx context.Context, c postgres.Campaign) {
	began := time.Now()
	over := func() bool { return time.Since(began) >= p.turn && p.othersWait() }
	err := p.ticks(ctx, c.ID, clock.Of(began), over)
	rest := pullEvery // it is due until the feeder has fired it
	if err != nil && ctx.Err() == nil && !errors.Is(err, errTurnOver) {
		now := clock.Now()
		again := retryPull(err, now)
		rest = again.Sub(now)
		p.log.Warn("fetch an audience", "campaign", c.ID, "name", c.Name, "error", err, "again_at", again)
		reason := fmt.Sprintf("its audience cannot be fetched: %v; tried again at %s", err, again.Format(time.RFC3339))
		p.note(ctx, "fetch an audience", p.store.NoteCampaign(ctx, c.ID, reason))
	}
	p.mu.Lock()
	delete(p.going, c.ID)
	if errors.Is(err, errTurnOver) {
		p.line = append(p.line, c)
	} else {
		p.after[c.ID] = time.Now().Add(rest)
	}
	p.mu.Unlock()
	select {
	case p.ended <- struct{}{}:
	default:
	}
}

func (p *puller) ticks(ctx context.Context, id message.ID, now time.Time, over func() bool) error {
	c, err := p.store.Campaign(ctx, id.String()) // while it waited its schedule may have moved on
	if err != nil || c.NextTick.IsZero() || c.NextTick.After(now) {
		return err
	}
	ticks, _, err := ticksOf(ctx, p.store, c, now)
	if err != nil {
		return err
	}
	for _, tick := range ticks {
		if err := p.fetch(ctx, c, tick, over); err != nil {
			return err
		}
	}
	return nil
}

// retryPull says when a fetch is tried again: soon, or when WeChat's day begins where it refused for the day's quota.
func retryPull(err error, now time.Time) time.Time {
	if refused, ok := errors.AsType[*wechat.Error](err); ok && refused.Disposition() == wechat.QuotaReset {
		return message.NextDay(now)
	}
	return now.Add(pullAgain)
}
