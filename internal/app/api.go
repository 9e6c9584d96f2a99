package app

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/hongyan-dispatch/hongyan/client"
	"github.com/hongyan-dispatch/hongyan/internal/api"
	"github.com/hongyan-dispatch/hongyan/internal/clock"
	"github.com/hongyan-dispatch/hongyan/internal/config"
	"github.com/hongyan-dispatch/hongyan/internal/postgres"
	"github.com/hongyan-dispatch/hongyan/internal/ratelimit"
	"github.com/hongyan-dispatch/hongyan/internal/report"
	"github.com/hongyan-dispatch/hongyan/internal/telemetry"
	"github.com/hongyan-dispatch/hongyan/internal/token"
	"github.com/hongyan-dispatch/hongyan/internal/wechat"
	"github.com/hongyan-dispatch/hongyan/message"
	"github.com/hongyan-dispatch/hongyan/outcome"
)

// openAPI makes the HTTP API, and the client by which it enqueues.
func (s *server) openAPI(ctx context.Context, all accounts) (err error) {
	traces := s.options.Traces
	o := client.Options{Redis: s.config.Redis.URL.Reveal(), Database: s.config.Postgres.URL.Reveal(), Trace: parcelTrace(traces)}
	for _, a := range s.config.Accounts {
		o.Accounts = append(o.Accounts, client.Account{Name: a.Name, AppID: message.AppID(a.AppID), Remember: s.pushes.windows.Longest(message.AppID(a.AppID))})
	}
	if s.producer, err = client.New(ctx, o); err != nil {
		return err
	}
	s.backlog = &backlog{store: s.store, accounts: all, rdb: s.rdb, limit: s.config.Server.MaxBacklog, failed: func(err error) {
		s.log.Warn("count what waits", "error", err)
	}}
	source := report.Source{Store: s.store, Redis: s.rdb, Account: all.reported, Accounts: true, NoAnswer: func(err error) {
		s.log.Warn("explain a message without Redis", "error", err)
	}}
	s.api = api.New(api.Options{
		Log: s.log, Keys: apiKeys{s.store}.load, Enqueuer: apiEnqueuer{s.producer, traces}, Events: apiEvents{s.producer},
		Ledger: apiLedger{source}, Accounts: apiAccounts{source, all, s.rdb, &stocks{store: s.store}}, Approvals: apiApprovals{s.store, s.producer},
		Campaigns: s.apiCampaigns(source, all, s.log), Replays: apiReplays{s.producer},
		Recorder: apiRecorder{s.store}, Backlog: s.backlog.full, Observe: s.options.Requested, Trace: requestTrace(traces),
	})
	keys, err := s.store.APIKeys(ctx)
	if err != nil {
		return err
	}
	if !slices.ContainsFunc(keys, func(k postgres.APIKey) bool { return k.Live(clock.Now()) }) {
		s.log.Warn("no API key lives, so that /v1 lets nobody in: make one with server key create")
	}
	return nil
}

// reported is what reports must know of an account.
func (all accounts) reported(name string) (report.Account, bool) {
	a, known := all[name]
	if !known {
		return report.Account{}, false
	}
	app := message.AppID(a.AppID)
	return report.Account{
		AppID: app, Window: all.windowRules(app), TryUnknown: a.Window.Unknown == "try", UrgentDay: a.Reserve.UrgentDay,
		Limits: func(path string) ratelimit.Limits { return all.limits(ratelimit.Key{App: app, API: path}) },
		Mass: client.MassCaps{
			PerDay: a.caps.PerDay, AllPerDay: a.caps.AllPerDay, AllPerMonth: a.caps.AllPerMonth, UserPerMonth: a.caps.UserPerMonth,
			Observe: a.caps.Observe, ListsRefused: a.Type == config.SubscriptionAccount,
		},
	}, true
}

// apiError is an error of ours as the door knows it.
func apiError(err error) error {
	switch {
	case errors.Is(err, postgres.ErrNotFound):
		return fmt.Errorf("%w: %w", api.ErrNotFound, err)
	case errors.Is(err, client.ErrKeyConflict):
		return fmt.Errorf("%w: %w", api.ErrConflict, err)
	case errors.Is(err, client.ErrNotAll):
		return fmt.Errorf("%w: %w", api.ErrNotAll, err)
	case errors.Is(err, client.ErrInDoubt):
		return fmt.Errorf("%w: %w", api.ErrInDoubt, err)
	case errors.Is(err, client.ErrUnavailable):
		return fmt.Errorf("%w: %w", api.ErrUnavailable, err)
	case errors.Is(err, postgres.ErrUnstorable):
		return message.Invalid{{Rule: "cannot be stored: " + err.Error()}}
	}
	return err
}

// changed is the error of a call that changes something: whether it did is not known where the answer was lost.
func changed(err error) error {
	_, invalid := errors.AsType[message.Invalid](err)
	if err == nil || invalid || errors.Is(err, postgres.ErrNotFound) || !postgres.MaybeWritten(err) {
		return apiError(err)
	}
	return fmt.Errorf("%w: %w", api.ErrInDoubt, err)
}

type apiKeys struct{ *postgres.Store }

func (k apiKeys) load(ctx context.Context) ([]api.Key, error) {
	rows, err := k.APIKeys(ctx)
	if err != nil {
		return nil, err
	}
	var keys []api.Key
	now := clock.Now()
	for _, r := range rows {
		if !r.Live(now) || len(r.Hash) != len(api.Key{}.Hash) {
			continue
		}
		key := api.Key{ID: r.ID, Name: r.Name, Hash: [32]byte(r.Hash), PerSecond: r.PerSecond, Expires: r.Expires}
		for _, text := range r.Scopes {
			if scope, err := api.ParseScope(text); err == nil { // one of a later version allows nothing here
				key.Scopes = append(key.Scopes, scope)
			}
		}
		keys = append(keys, key)
	}
	return keys, nil
}

type apiEnqueuer struct {
	*client.Client
	traces *telemetry.Traces
}

func apiReceipt(r client.Receipt) api.Receipt {
	return api.Receipt{ID: r.ID, Parts: r.Parts, Duplicate: r.Duplicate, Err: apiError(r.Err)}
}

func apiReceipts(list []client.Receipt) []api.Receipt {
	receipts := make([]api.Receipt, len(list))
	for i, r := range list {
		receipts[i] = apiReceipt(r)
	}
	return receipts
}

func (e apiEnqueuer) Enqueue(ctx context.Context, m message.Message) api.Receipt {
	start := clock.Now()
	r, _ := e.Client.Enqueue(ctx, m) // the error stands in the receipt
	e.accepted(ctx, &m, r, start)
	return apiReceipt(r)
}

func (e apiEnqueuer) EnqueueAll(ctx context.Context, list []message.Message) []api.Receipt {
	start := clock.Now()
	return apiReceipts(e.traced(ctx, list, e.Client.EnqueueAll(ctx, list), start))
}

func (e apiEnqueuer) EnqueueBatch(ctx context.Context, list []message.Message) []api.Receipt {
	start := clock.Now()
	return apiReceipts(e.traced(ctx, list, e.Client.EnqueueBatch(ctx, list), start))
}

type apiEvents struct{ *client.Client }

func (e apiEvents) Parse(text []byte) (api.Event, error) {
	event, err := client.ParseEvent(text)
	if err == nil {
		err = event.Validate(clock.Now())
	}
	return api.Event{Account: event.Account, OpenID: event.OpenID, Type: string(event.Type), At: event.At}, err
}

func (e apiEvents) Event(ctx context.Context, event api.Event) error {
	return e.Client.Event(ctx, client.Event{Account: event.Account, OpenID: event.OpenID, Type: client.EventType(event.Type), At: event.At})
}

type apiLedger struct{ report.Source }

func (l apiLedger) Message(ctx context.Context, id message.ID) (report.Message, error) {
	m, err := l.Source.Message(ctx, id)
	return m, apiError(err)
}

func (l apiLedger) Explain(ctx context.Context, id message.ID) (report.Explanation, error) {
	e, err := l.Source.Explain(ctx, id)
	return e, apiError(err)
}

func (l apiLedger) Find(ctx context.Context, account, key string) (message.ID, error) {
	id, err := l.Store.KeyHolder(ctx, account, key)
	return id, apiError(err)
}

func (l apiLedger) Cancel(ctx context.Context, id message.ID) (outcome.Status, error) {
	r, err := l.Store.Cancel(ctx, id)
	return r.State, changed(err)
}

type apiAccounts struct {
	report.Source
	accounts accounts
	rdb      redis.UniversalClient
	stocks   *stocks
}

// stocks are what waits, counted at most every few seconds however often somebody asks.
type stocks struct {
	store *postgres.Store

	mu      sync.Mutex
	counted time.Time // by this machine's clock
	last    []postgres.Stock
}

const stocksEvery = 5 * time.Second

func (s *stocks) now(ctx context.Context) ([]postgres.Stock, error) {
	s.mu.Lock()
	defer s.mu.Unlock() // one counts, the others wait for it
	if !s.counted.IsZero() && time.Since(s.counted) < stocksEvery {
		return s.last, nil
	}
	list, err := s.store.Stocks(ctx, clock.Now())
	if err != nil {
		return nil, err
	}
	s.counted, s.last = time.Now(), list
	return list, nil
}

func (a apiAccounts) Name(nameOrAppID string) (string, bool) {
	known, ok := a.accounts[nameOrAppID]
	if !ok {
		return "", false
	}
	return known.Name, true
}

func (a apiAccounts) WantsApproval(account string) bool {
	return a.accounts[account].Policy.MassApproval
}

func (a apiAccounts) Quotas(ctx context.Context, account string) ([]api.Quota, error) {
	of, _ := a.accounts.reported(account)
	stocks, err := a.stocks.now(ctx)
	if err != nil {
		return nil, err
	}
	now := clock.Now()
	var quotas []api.Quota
	for _, kind := range message.Kinds() {
		path := wechat.PathOf(kind)
		u, err := a.Usage(ctx, of, path)
		if err != nil {
			return nil, err
		}
		q := report.QuotaOf(u)
		quotas = append(quotas, api.Quota{
			Kind: kind, API: path, Quota: q, UsedUpAt: report.UsedUpAt(u, now),
			Forecast: report.Foretell(report.Waiting(stocks, account, path), q.Left, q, of.Limits(path).UrgentDay, now),
		})
	}
	return quotas, nil
}

func (a apiAccounts) Gates(ctx context.Context, account string) ([]report.Gate, error) {
	all, err := report.Shut(ctx, a.Store)
	return slices.DeleteFunc(all, func(g report.Gate) bool { return g.Account != account }), err
}

func (a apiAccounts) OpenGate(ctx context.Context, account, path string) (opened bool, due int64, err error) {
	if opened, err = a.Store.OpenGate(ctx, account, path, time.Time{}); err != nil {
		return false, 0, changed(err)
	}
	if of := a.accounts[account]; path == "" {
		if err := token.Forgive(ctx, a.rdb, message.AppID(of.AppID), wechat.NewSecret(of.Secret.Reveal())); err != nil {
			return opened, 0, halfDone(err)
		}
	}
	due, err = report.BringForward(ctx, a.Store, account, path)
	return opened, due, halfDone(err)
}

// halfDone is the error of a step behind one that was done: made again, the request does what is missing.
func halfDone(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%w: %w", api.ErrInDoubt, err)
}

func (a apiAccounts) CloseGate(ctx context.Context, account, path, reason string, until time.Time) (report.Gate, error) {
	err := a.Store.CloseGate(ctx, postgres.Gate{
		Account: account, API: path, State: postgres.GateClosed, Reason: postgres.ByOperator, Detail: reason, Until: until,
	})
	if err != nil {
		return report.Gate{}, changed(err)
	}
	gates, err := a.Gates(ctx, account)
	if err != nil {
		return report.Gate{}, halfDone(err)
	}
	for _, g := range gates { // one that was closed for longer stays so, which the answer says
		if g.API == path {
			return g, nil
		}
	}
	return report.Gate{}, fmt.Errorf("%s %s: somebody opened the gate meanwhile", account, report.APIName(path))
}

func (a apiAccounts) Window(ctx context.Context, account string, user message.OpenID) (api.Window, error) {
	of, _ := a.accounts.reported(account)
	v, err := a.Source.Window(ctx, of, user, clock.Now())
	if err != nil {
		return api.Window{}, fmt.Errorf("redis: %w", err)
	}
	w := api.Window{Account: account, OpenID: user, State: string(v.State), Until: v.Until, Unsubscribed: v.Unsubscribed, Triggers: []api.Trigger{}}
	for _, b := range v.Buckets {
		w.Triggers = append(w.Triggers, api.Trigger{Trigger: string(b.Trigger), At: b.At, Until: b.Until, Used: b.Used, Left: b.Left, Open: b.Open})
	}
	return w, nil
}

type apiRecorder struct{ *postgres.Store }

func (r apiRecorder) Audit(ctx context.Context, entries []api.Entry, used []string) error {
	rows := make([]postgres.AuditEntry, len(entries))
	for i, e := range entries {
		rows[i] = postgres.AuditEntry{
			At: e.At, Key: e.Key, Name: e.Name, Action: e.Action, Account: e.Account, Target: e.Target, N: int64(e.N),
			Detail: strings.ToValidUTF8(e.Detail, "�"), Address: e.Address,
		}
	}
	return r.Store.Audit(ctx, rows, used)
}

// backlog knows about how much waits, so that producers are told when it is too much.
type backlog struct {
	store    *postgres.Store
	accounts accounts
	rdb      redis.UniversalClient
	limit    int64
	failed   func(error)

	last atomic.Pointer[map[lane]waiting]
}

type lane struct {
	account string
	kind    message.Kind
	lane    message.Lane
}

// waiting is what stands before a lane's next message, its own and those of lanes that go first.
type waiting struct {
	n         int64
	perSecond float64
}

// backlogEvery is how old the count may be.
const backlogEvery = 2 * time.Second

func (b *backlog) full(account string, kind message.Kind, l message.Lane) (bool, time.Duration) {
	counts := b.last.Load()
	if counts == nil {
		return false, 0
	}
	w := (*counts)[lane{account, kind, l}]
	if w.n < b.limit {
		return false, 0
	}
	return true, min(time.Duration(float64(w.n)/max(w.perSecond, 1)*float64(time.Second)), time.Hour)
}

// run counts until ctx ends.
func (b *backlog) run(ctx context.Context) error {
	tick := time.NewTicker(backlogEvery)
	defer tick.Stop()
	for {
		if err := b.count(ctx, clock.Now()); err != nil && ctx.Err() == nil {
			b.failed(err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

func (b *backlog) count(ctx context.Context, now time.Time) error {
	rows, err := b.store.Backlogs(ctx, now, b.limit)
	if err != nil {
		return err
	}
	counts := map[lane]waiting{}
	for _, r := range rows {
		a, known := b.accounts.reported(r.Account)
		if !known {
			continue
		}
		u, err := report.Source{Redis: b.rdb}.Usage(ctx, a, wechat.PathOf(r.Kind))
		if err != nil {
			return err
		}
		from := slices.Index(message.Lanes(), r.Lane)
		for _, behind := range message.Lanes()[from:] {
			w := counts[lane{r.Account, r.Kind, behind}]
			counts[lane{r.Account, r.Kind, behind}] = waiting{w.n + r.N, u.PacePerSecond}
		}
	}
	b.last.Store(&counts)
	return nil
}
