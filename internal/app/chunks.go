package app

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"math"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/hongyan-dispatch/hongyan/internal/campaign"
	"github.com/hongyan-dispatch/hongyan/internal/clock"
	"github.com/hongyan-dispatch/hongyan/internal/config"
	"github.com/hongyan-dispatch/hongyan/internal/pipeline"
	"github.com/hongyan-dispatch/hongyan/internal/postgres"
	"github.com/hongyan-dispatch/hongyan/internal/ratelimit"
	"github.com/hongyan-dispatch/hongyan/internal/wechat"
	"github.com/hongyan-dispatch/hongyan/internal/worker"
	"github.com/hongyan-dispatch/hongyan/message"
	"github.com/hongyan-dispatch/hongyan/outcome"
)

const (
	// chunkLease is how long a chunk stays a silent worker's: as long as its messages do.
	chunkLease = 15 * time.Second
	// holdFrom is the shortest wait that makes a campaign throttled: a shorter one is over before anybody looks.
	holdFrom = 2 * time.Second
	// keptFirings is how many firings' texts are kept ready.
	keptFirings = 64
)

// chunks are the ledger's chunks as the handler sees them.
type chunks struct {
	store    *postgres.Store
	pod      int32
	accounts accounts
	senders  int
	quota    *ratelimit.Quota
	paces    *paces
	users    users
	log      *slog.Logger

	mu      sync.Mutex
	firings map[int32]*firing
}

// A firing is what its chunks have in common.
type firing struct {
	campaign postgres.Campaign
	composer *campaign.Composer
	broken   error // it can make blanks only
}

// A chunkRun is a run as the ledger knows it.
type chunkRun struct {
	*postgres.Chunk
	*firing
	release func() // of what Letters holds; nil: nothing
}

func held(c *worker.Chunk) *chunkRun { return c.Held.(*chunkRun) }

// over gives back what the run holds beside its chunk.
func (r *chunkRun) over() {
	if r.release != nil {
		r.release()
	}
}

func (c *chunks) Take(ctx context.Context, id, no int32) (*worker.Chunk, error) {
	taken, err := c.store.TakeChunk(ctx, id, no, c.pod, chunkLease)
	if err != nil || taken == nil {
		return nil, err
	}
	f, err := c.firing(ctx, id)
	if err != nil {
		return nil, errors.Join(err, c.store.GiveBackChunk(context.WithoutCancel(ctx), taken))
	}
	if f.broken != nil && !taken.State.Ended() { // as failed its chunks come again, to be settled
		_, err := c.store.FailCampaign(ctx, taken.Campaign, f.broken.Error())
		return nil, errors.Join(err, c.store.GiveBackChunk(context.WithoutCancel(ctx), taken))
	}
	spec := f.campaign.Spec
	a, known := c.accounts[spec.Account]
	switch {
	case known:
	case taken.State.Ended(): // to be settled without a call, whoever the account was
		a = &account{Account: config.Account{Name: spec.Account}}
	default: // another worker may know it; the feeder says what is wrong
		return nil, c.store.GiveBackChunk(ctx, taken)
	}
	pace := c.accounts.limits(ratelimit.Key{App: message.AppID(a.AppID), API: wechat.PathOf(spec.Kind)}).PerSecond
	stopAt := spec.StopAt
	if stopAt == 0 {
		stopAt = 0.3
	}
	return &worker.Chunk{
		Campaign: taken.Campaign, Kind: spec.Kind, State: taken.State, First: taken.Fence == 1,
		Flow:  a.Name + " " + string(spec.Kind),
		Hand:  int(min(max(math.Ceil(pace), 2), float64(pipeline.InHand(c.senders)))),
		Paced: spec.Pace > 0, StopAt: stopAt, Held: &chunkRun{Chunk: taken, firing: f},
	}, nil
}

// firing readies a firing's texts, once.
func (c *chunks) firing(ctx context.Context, id int32) (*firing, error) {
	c.mu.Lock()
	f := c.firings[id]
	c.mu.Unlock()
	if f != nil {
		return f, nil
	}
	row, of, columns, err := c.store.FiringOf(ctx, id)
	if err != nil {
		return nil, err
	}
	composer, broken := campaign.NewComposer(of.Spec, row.StartedAt, row.ID, columns)
	f = &firing{of, composer, broken}
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.firings) >= keptFirings || c.firings == nil {
		c.firings = map[int32]*firing{}
	}
	c.firings[id] = f
	return f, nil
}

func (c *chunks) Letters(ctx context.Context, ch *worker.Chunk) (int, iter.Seq[worker.Letter], error) {
	run := held(ch)
	recipients, err := c.store.ChunkRecipients(ctx, run.Chunk)
	if err != nil {
		return 0, nil, err
	}
	n, letters := len(recipients), run.letters(recipients)
	if ch.State.Ended() {
		return n, run.blanks(recipients), nil
	}
	if spec := run.campaign.Spec; n > 0 && (spec.Cap.Messages > 0 || spec.Dedupe) {
		list := slices.Collect(letters)
		letters = slices.Values(list)
		run.release, err = c.sparing(ctx, spec, list, clock.Now())
	}
	return n, letters, err
}

// arenaBytes is how much memory some messages' bodies share: one allocation, free when all of them have ended.
const arenaBytes = 16 << 10

func (r *chunkRun) letters(recipients []postgres.Recipient) iter.Seq[worker.Letter] {
	return func(yield func(worker.Letter) bool) {
		var arena []byte
		last := 0
		for _, to := range recipients {
			var l worker.Letter
			if len(arena)+last > cap(arena) { // the next is about as long
				arena = make([]byte, 0, arenaBytes)
			}
			before := len(arena)
			l.Message, arena, l.Err = r.composer.Message(arena, to.N, to.OpenID, to.Vars)
			last = len(arena) - before
			if !yield(l) {
				return
			}
		}
	}
}

// blanks are the letters of a campaign that was cancelled.
func (r *chunkRun) blanks(recipients []postgres.Recipient) iter.Seq[worker.Letter] {
	return func(yield func(worker.Letter) bool) {
		for _, to := range recipients {
			if !yield(worker.Letter{Message: r.composer.Blank(to.N, to.OpenID)}) {
				return
			}
		}
	}
}

// paceWait is how long one question for a campaign's pace waits.
const paceWait = 10 * time.Second

func (c *chunks) Pace(ctx context.Context, ch *worker.Chunk) error {
	run := held(ch)
	perSecond := run.campaign.Spec.Pace
	if perSecond <= 0 {
		return nil
	}
	k := c.paces.key(message.AppID(c.accounts[run.campaign.Spec.Account].AppID), run.Campaign, perSecond)
	for {
		token, err := c.quota.Take(ctx, k, message.Bulk, paceWait)
		if err == nil {
			token.Spent() // a pace counts no calls
			return nil
		}
		if refused, ok := errors.AsType[*ratelimit.Refused](err); !ok || refused.Reason != outcome.Pace || ctx.Err() != nil {
			return fmt.Errorf("campaign's pace: %w", err)
		}
	}
}

func (c *chunks) Keep(ctx context.Context, ch *worker.Chunk) (campaign.State, error) {
	return c.store.KeepChunk(ctx, held(ch).Chunk, chunkLease)
}

func (c *chunks) GiveBack(ctx context.Context, ch *worker.Chunk, h worker.Hold) error {
	run := held(ch)
	run.over()
	if clock.Until(h.Until) >= holdFrom {
		if _, err := c.store.HoldCampaign(ctx, run.Campaign, campaign.Throttled, h.Reason, h.Until); err != nil {
			return err
		}
	}
	return c.store.GiveBackChunk(ctx, run.Chunk)
}

func (c *chunks) End(ctx context.Context, ch *worker.Chunk, tally map[string]int) error {
	run := held(ch)
	run.over()
	return c.store.EndChunk(ctx, run.Chunk, tally)
}

func (c *chunks) Stop(ctx context.Context, ch *worker.Chunk, reason string) error {
	run := held(ch)
	_, err := c.store.MoveCampaign(ctx, run.Campaign, campaign.Pause, reason)
	if _, moved := errors.AsType[*campaign.MoveError](err); moved { // somebody was quicker
		return nil
	}
	c.log.Warn("a campaign pauses by itself", "campaign", run.Campaign, "name", run.campaign.Name, "reason", reason)
	return err
}

// paces are the paces of campaigns, which the rate limiter keeps over all pods as it does those of APIs.
type paces struct{ perSecond sync.Map } // by API

// pacePrefix tells a campaign's key from an API's path, which begins with a slash.
const pacePrefix = "campaign/"

func (p *paces) key(app message.AppID, id message.ID, perSecond float64) ratelimit.Key {
	k := ratelimit.Key{App: app, API: pacePrefix + id.String()}
	if known, ok := p.perSecond.Load(k.API); !ok || known != perSecond {
		p.perSecond.Store(k.API, perSecond)
	}
	return k
}

// limits are those of a campaign's key; false: it is an API's.
func (p *paces) limits(k ratelimit.Key) (ratelimit.Limits, bool) {
	if !strings.HasPrefix(k.API, pacePrefix) {
		return ratelimit.Limits{}, false
	}
	perSecond, _ := p.perSecond.Load(k.API)
	pace, _ := perSecond.(float64)
	return ratelimit.Limits{PerDay: math.MaxInt32, PerSecond: pace}, true
}
