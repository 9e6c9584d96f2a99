package app

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"runtime/debug"
	"time"

	"github.com/redis/go-redis/v9"
	"golang.org/x/sync/errgroup"

	"github.com/hongyan-dispatch/hongyan/internal/clock"
	"github.com/hongyan-dispatch/hongyan/internal/config"
	"github.com/hongyan-dispatch/hongyan/internal/gate"
	"github.com/hongyan-dispatch/hongyan/internal/pipeline"
	"github.com/hongyan-dispatch/hongyan/internal/postgres"
	"github.com/hongyan-dispatch/hongyan/internal/ratelimit"
	"github.com/hongyan-dispatch/hongyan/internal/reconcile"
	"github.com/hongyan-dispatch/hongyan/internal/tasks"
	"github.com/hongyan-dispatch/hongyan/internal/telemetry"
	"github.com/hongyan-dispatch/hongyan/internal/token"
	"github.com/hongyan-dispatch/hongyan/internal/wechat"
	"github.com/hongyan-dispatch/hongyan/internal/window"
	"github.com/hongyan-dispatch/hongyan/internal/worker"
	"github.com/hongyan-dispatch/hongyan/message"
	"github.com/hongyan-dispatch/hongyan/outcome"
)

// Options is what the caller of Run adds to the configuration.
type Options struct {
	Log     *slog.Logger
	Version string
	Guest   bool              // the process does more than this worker: how much memory it may hold is the caller's to say
	Traces  *telemetry.Traces // nil: none
	// Hooks, each optional.
	Ready   func()                                                           // the worker takes parcels
	Decided func(a *pipeline.Attempt, o outcome.Outcome, took time.Duration) // a decision was written
	Called  func(a *pipeline.Attempt, r wechat.Result)                       // a call that sends was made

	Cancelled func(account string, kind message.Kind, n int)        // recipients of a campaign that was cancelled became messages that are
	Joined    func(j reconcile.Joined)                              // a receipt found its message
	Webhook   func(account, result string, lag time.Duration)       // an endpoint was told, or not
	Claimed   func(account string, kind message.Kind, granted bool) // a claim was asked for

	Resolved func(l reconcile.LeftBehind, s outcome.Status) // what a dead worker left got its fate
	Requeued func(messages int)                             // accepted messages were in no queue
	Stores   func(list ...telemetry.Store)                  // what to ask whether the worker is ready; none: it stops
	Tokens   func(ask func() []telemetry.Token)             // whom to ask for the access tokens
	Fleet    func(f *telemetry.Fleet)                       // a new count; nil: this worker does not count any more
}

// Run is a worker: it dispatches until ctx ends, then drains and returns.
func Run(ctx context.Context, c *config.Config, o Options) error {
	if !o.Guest {
		tuneMemory(c.Worker.Senders)
	}
	o = o.traced()
	w := &pod{config: c, options: o, log: o.Log, accounts: newAccounts(c)}
	defer w.close()
	if err := w.open(ctx); err != nil {
		return err
	}
	return w.run(ctx)
}

// tuneMemory lets garbage grow, for live memory is small and garbage much, but not so far that a worker with up to 64
// senders, the default, holds more than 64 MiB (some 20 of which are its program). Go's own variables win.
func tuneMemory(senders int) {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(300)
	}
	if os.Getenv("GOMEMLIMIT") == "" {
		few, more := min(senders, 64), max(senders-64, 0)
		debug.SetMemoryLimit(24<<20 + int64(few)*(256<<10) + int64(more)*(512<<10))
	}
}

// pod is a running worker and what it holds open.
type pod struct {
	config   *config.Config
	options  Options
	log      *slog.Logger
	accounts accounts

	queue  redis.UniversalClient // asynq's own: its heartbeats must not wait behind ours
	shared redis.UniversalClient // counters, tokens, windows
	store  *postgres.Store
	pod    postgres.Pod

	committer *postgres.Committer
	tokens    *token.Source
	quota     *ratelimit.Quota
	paces     paces
	board     *gate.Board
	breaker   *gate.Breaker
	refused   *refusals
	enqueuer  *tasks.Enqueuer
	crew      *worker.Crew
	servers   *worker.Servers
}

// open connects the stores and builds the worker from the ground up.
func (w *pod) open(ctx context.Context) (err error) {
	// One that leads everything holds seven sessions for that, and its settler and its fetches three more at times.
	if w.store, err = postgres.Open(ctx, w.config.Postgres.URL.Reveal(), postgres.Options{Name: "hongyan-worker", MaxConns: 12}); err != nil {
		return fmt.Errorf("postgres: %w", err)
	}
	if err := checkMigrations(ctx, w.config, "worker"); err != nil {
		return err
	}
	if err := startClock(ctx, w.store.Now, w.log); err != nil {
		return err
	}
	if w.shared, err = tasks.Redis(w.config.Redis.URL.Reveal()); err != nil {
		return fmt.Errorf("redis: %w", err)
	}
	if w.queue, err = tasks.Redis(w.config.Redis.URL.Reveal()); err != nil {
		return fmt.Errorf("redis: %w", err)
	}
	w.queue.AddHook(tasks.Detach{})
	w.queue.AddHook(tasks.OneTime{Offset: clock.Offset})
	w.queue.AddHook(new(tasks.Rest))
	if err := w.shared.Ping(ctx).Err(); err != nil {
		return fmt.Errorf("redis: %w", err)
	}
	if err := w.store.SyncAccounts(ctx, w.accounts.rows()); err != nil {
		return err
	}
	if err := w.syncWebhooks(ctx); err != nil {
		return err
	}
	if w.pod, err = w.store.StartPod(ctx, w.name(), w.options.Version); err != nil {
		return err
	}
	return w.build(ctx)
}

func (w *pod) name() string {
	host, _ := os.Hostname()
	return cmp.Or(w.config.Worker.Name, host, "worker")
}

// checkMigrations says what is wrong with the schema for a program.
func checkMigrations(ctx context.Context, c *config.Config, program string) error {
	have, want, dirty, err := postgres.MigrationState(ctx, c.Postgres.URL.Reveal())
	switch {
	case err != nil:
		return fmt.Errorf("read migrations: %w", err)
	case dirty:
		return fmt.Errorf("postgres: migration %d was broken off half-way; see docs/operations.md", have)
	case have < want:
		return fmt.Errorf("postgres: the schema is at migration %d and this %s needs %d: run `worker migrate`", have, program, want)
	}
	return nil
}

func (w *pod) build(ctx context.Context) error {
	id := fmt.Sprintf("%s-%d", w.name(), w.pod.ID)
	w.committer = w.store.NewCommitter(w.pod.ID, postgres.CommitterOptions{
		Failed: func(err error, rows int) {
			w.log.Warn("transaction failed; it is tried again or split", "error", err, "rows", rows)
		},
	})
	w.tokens = newTokens(w.shared, id, w.accounts, w.log)
	w.quota = ratelimit.New(w.shared, id, w.limits, ratelimit.WithRebuild(w.usedToday))
	w.board = gate.NewBoard(gateStore{w.store})
	w.breaker = gate.NewBreaker(w.board)
	w.refused = newRefusals(w.store, w.log)
	if err := w.refused.Load(ctx); err != nil {
		return err
	}
	enqueuer, err := tasks.NewEnqueuer(w.shared)
	if err != nil {
		return err
	}
	w.enqueuer = enqueuer
	w.enqueuer.Trace = parcelTrace(w.options.Traces)
	w.crew = worker.NewCrew(pipeline.InHand(w.config.Worker.Senders))
	ledger := ledger{store: w.store, committer: w.committer, accounts: w.accounts, refused: w.refused, claimed: w.options.Claimed}
	w.servers = worker.NewServers(w.queue, &worker.Handler{
		Pipeline: pipeline.New(pipeline.Deps{
			Recipients: w.refused,
			Gates:      newGates(w.board, w.accounts, w.tokens, w.quota, w.log),
			Windows:    windows{window.New(w.shared, w.accounts.windowRules).Careful(), w.store, w.accounts},
			Caps:       caps{w.store, w.accounts},
			Quota:      quota{w.quota},
			Tokens:     tokens{w.tokens},
			Senders:    pipeline.NewSenders(w.config.Worker.Senders, len(w.config.Accounts)),
			Ledger:     ledger,
			Health:     health{w.breaker, w.log},
			Observe:    w.options.Called,
		}),
		Ledger:   ledger,
		Accounts: w.accounts,
		Chunks: &chunks{
			store: w.store, pod: w.pod.ID, accounts: w.accounts, senders: w.config.Worker.Senders, quota: w.quota, paces: &w.paces, users: users{w.shared}, log: w.log,
		},
		Retention: w.config.Retention.Messages,
		Observe:   w.options.Decided,
		Crew:      w.crew,
	}, w.log)
	return nil
}

// run starts everything and waits. The loops that the servers stand on outlive them.
func (w *pod) run(ctx context.Context) error {
	base, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	loops, base := errgroup.WithContext(base)
	failed := func(what string) func(error) {
		return func(err error) { w.log.Warn(what, "error", err) }
	}
	loops.Go(func() error { return w.committer.Run(base) })
	loops.Go(func() error { return w.quota.Run(base) })
	loops.Go(func() error { return w.tokens.Run(base) })
	loops.Go(func() error { return w.board.Run(base, failed("mirror gates")) })
	loops.Go(func() error { return w.refused.Run(base) })
	loops.Go(func() error { return w.beat(base) })
	loops.Go(func() error { return followClock(base, w.store.Now, w.log) })

	var front errgroup.Group
	serving, unserve := context.WithCancel(ctx)
	defer unserve()
	context.AfterFunc(base, unserve) // a loop that fails takes the servers down with it
	front.Go(func() error { return w.board.ProbeAccounts(serving, w.probe, failed("probe account")) })
	front.Go(func() error { return w.breaker.Run(serving, w.answers, failed("ask whether WeChat answers")) })
	front.Go(func() error { return w.lead(serving) })
	front.Go(func() error { return w.campaigns(serving) })
	front.Go(func() error { return w.audiences(serving) })
	front.Go(func() error { return w.heal(serving) })
	front.Go(func() error { return w.keepHouse(serving) })
	front.Go(func() error { return w.tellWebhooks(serving) })
	front.Go(func() error { return w.servers.Run(serving) })
	w.announce(serving)
	err := front.Wait()
	stop()
	return errors.Join(err, loops.Wait())
}

// announce tells the options' hooks that the worker works, until it is asked to stop.
func (w *pod) announce(serving context.Context) {
	if w.options.Tokens != nil {
		w.options.Tokens(w.tokensNow)
	}
	if w.options.Stores != nil {
		w.options.Stores(storesOf(w.store, w.shared)...)
		context.AfterFunc(serving, func() { w.options.Stores() })
	}
	if w.options.Ready != nil {
		w.options.Ready()
	}
}

func (w *pod) close() {
	if w.crew != nil {
		w.crew.Dismiss()
	}
	if w.store != nil {
		w.store.Close()
	}
	for _, rdb := range []redis.UniversalClient{w.queue, w.shared} {
		if rdb != nil {
			_ = rdb.Close()
		}
	}
}

// beatEvery is how often a pod says that it lives; one silent for 15 s counts as dead.
const beatEvery = 3 * time.Second

func (w *pod) beat(ctx context.Context) error {
	tick := time.NewTicker(beatEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			if err := w.pod.Beat(ctx); err != nil && ctx.Err() == nil {
				w.log.Warn("heartbeat", "error", err)
			}
		}
	}
}

// probe asks for the account's quota: a call that needs a token, sends nothing, and is refused where the account is.
func (w *pod) probe(ctx context.Context, name string) error {
	a, ok := w.accounts[name]
	if !ok {
		return fmt.Errorf("account %q is not in this worker's configuration", name)
	}
	_, err := w.quotaOf(ctx, a, wechat.PathOf(message.Custom))
	return err
}

// answers asks whether WeChat answers for the account; a refusal is an answer.
func (w *pod) answers(ctx context.Context, name string) error {
	err := w.probe(ctx, name)
	if refused, ok := errors.AsType[*wechat.Error](err); ok && refused.Code != wechat.CodeBusy {
		return nil
	}
	return err
}

func (w *pod) quotaOf(ctx context.Context, a *account, api string) (wechat.Quota, error) {
	t, err := w.tokens.Token(ctx, message.AppID(a.AppID))
	if err != nil {
		return wechat.Quota{}, err
	}
	q, err := a.client.QuotaGet(ctx, t, api)
	if refused, ok := errors.AsType[*wechat.Error](err); ok && refused.TokenRefused() {
		if t, err = w.tokens.Refresh(ctx, message.AppID(a.AppID), t); err != nil {
			return wechat.Quota{}, err
		}
		q, err = a.client.QuotaGet(ctx, t, api)
	}
	return q, err
}

// limits are those of an API, or of a campaign.
func (w *pod) limits(k ratelimit.Key) ratelimit.Limits {
	if l, ok := w.paces.limits(k); ok {
		return l
	}
	return w.accounts.limits(k)
}

// usedToday is what WeChat counts of a day of which Redis may not know all: at the very first, and after each start of Redis.
func (w *pod) usedToday(ctx context.Context, k ratelimit.Key) (limit, used int64, err error) {
	if _, ours := w.paces.limits(k); ours {
		return 0, 0, nil
	}
	a, ok := w.accounts[string(k.App)]
	if !ok {
		return 0, 0, fmt.Errorf("appid %s is not in this worker's configuration", k.App)
	}
	q, err := w.quotaOf(ctx, a, k.API)
	if refused, ok := errors.AsType[*wechat.Error](err); ok && refused.Disposition() == wechat.Request {
		return 0, 0, nil // an API that WeChat does not count: ours is the only count
	}
	return w.accounts.dayLimit(k, q), q.Used, err
}
