package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/redis/go-redis/v9"

	"github.com/hongyan-dispatch/hongyan/client"
	"github.com/hongyan-dispatch/hongyan/internal/devstack"
	"github.com/hongyan-dispatch/hongyan/internal/postgres"
	"github.com/hongyan-dispatch/hongyan/internal/wechattest"
	"github.com/hongyan-dispatch/hongyan/message"
)

// The account of the suite. Its secret is a canary: it must turn up nowhere.
const (
	account = "shop"
	appID   = "wx00000000000000c4"
	secret  = "canary-secret-of-the-chaos-suite"

	neighbour   = "store"
	neighbourID = "wx00000000000000c5"

	templatePerSecond = 300
	otherPerSecond    = 150
	perDay            = 1_000_000
	senders           = 16
)

// A rig is one scenario's servers, workers and books.
type rig struct {
	scenario
	plan     plan
	subject  string
	home     *home
	progress *progress
	rand     *rand.Rand

	dir       string
	stack     *devstack.Stack
	sim       *wechattest.Sim
	front     *front // where the simulator listens
	db        *pgxpool.Pool
	rdb       *redis.Client
	producer  *client.Client // writes the ledger first
	handsOver *client.Client // knows no ledger
	link      *devstack.Link // between workers and Redis; nil: none
	remote    *client.Remote // speaks HTTP; nil: no producer does
	key       string         // of the HTTP API
	balancer  *balancer      // before the servers; nil: none
	crew      *crew
	undo      []func() // when the servers have stopped
	books     books
	started   time.Time

	mu        sync.Mutex
	campaigns []message.ID
	faults    []strike
	figures   map[string]any
	tokens    map[string]bool // every access token that went over the wire
	wrong     []string        // what a scenario saw that must not be
}

// A strike is something that we broke, and when.
type strike struct {
	What     string
	From, To time.Time // To is zero while it lasts
	Worker   string    // that was killed or stopped
	Deadly   bool      // the worker has ended by it
}

// broke notes a fault that begins now and returns what ends it.
func (r *rig) broke(what, worker string) (mended func()) {
	return r.strikes(strike{What: what, Worker: worker})
}

// killed is broke for what a worker does not survive.
func (r *rig) killed(what, worker string) (mended func()) {
	return r.strikes(strike{What: what, Worker: worker, Deadly: true})
}

func (r *rig) strikes(s strike) (mended func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	i := len(r.faults)
	s.From = time.Now()
	r.faults = append(r.faults, s)
	return func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.faults[i].To = time.Now()
	}
}

// figure notes a number for the report.
func (r *rig) figure(name string, value any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if d, ok := value.(time.Duration); ok {
		const hundredth = 10 * time.Millisecond
		value = float64(d.Round(hundredth)/hundredth) / 100
	}
	r.figures[name] = value
}

// most notes a time for the report, if it is longer than one noted before.
func (r *rig) most(name string, d time.Duration) {
	r.mu.Lock()
	before, _ := r.figures[name].(float64)
	r.mu.Unlock()
	if d.Seconds() > before {
		r.figure(name, d)
	}
}

// finding notes what must not be, by the letter of the promise.
func (r *rig) finding(format string, args ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.wrong = append(r.wrong, fmt.Sprintf(format, args...))
}

func (r *rig) open(ctx context.Context) (err error) {
	r.figures, r.tokens = map[string]any{}, map[string]bool{}
	r.dir = filepath.Join(r.home.dir, r.name)
	if err := os.Mkdir(r.dir, 0o711); err != nil {
		return err
	}
	r.progress.say(r.name, "starting servers")
	r.stack, err = devstack.Start(ctx, devstack.Options{
		Dir: filepath.Join(r.dir, "servers"), Redis: true, Postgres: true, Private: true, RedisAppendOnly: true,
		PostgresSettings: map[string]string{"shared_buffers": "32MB"},
	})
	if err != nil {
		return err
	}
	if err := r.simulate(); err != nil {
		return err
	}
	if r.old {
		err = r.migrate(ctx, r.home.old)
	} else {
		err = postgres.Migrate(ctx, r.stack.DatabaseURL())
	}
	if err != nil {
		return err
	}
	return r.connect(ctx)
}

// simulate serves the simulator, with the limits that our configuration knows, too.
func (r *rig) simulate() (err error) {
	latency := r.plan.latency
	if latency == "" {
		latency = "10ms-60ms"
	}
	l, err := wechattest.ParseLatency(latency)
	if err != nil {
		return err
	}
	r.sim = wechattest.New(wechattest.Options{Latency: l, Log: wechattest.LogBodies, Seed: r.rand.Uint64() | 1})
	_, err = r.sim.AddAccount(wechattest.Settings{
		AppID: appID, Secret: secret, AnyOpenID: true, AnyMedia: true, AnyWindow: !r.plan.windows,
		Templates: templatesOf(r.plan),
		Limits: map[string]wechattest.Limit{
			wechattest.PathTemplate: {PerDay: r.plan.templatesPerDay()}, wechattest.PathCustom: {PerDay: perDay}, wechattest.PathSubscribe: {PerDay: perDay},
		},
	})
	if err == nil && r.plan.neighbour {
		_, err = r.sim.AddAccount(wechattest.Settings{
			AppID: neighbourID, Secret: secret, AnyOpenID: true, AnyMedia: true, AnyWindow: true,
			Templates: []wechattest.Template{{ID: "order_paid", Keys: []string{"thing2"}}},
		})
	}
	if err != nil {
		return err
	}
	r.front, err = openFront(http.HandlerFunc(r.overhear))
	return err
}

// templatesOf are the account's: none yet where messages are to fail for that.
func templatesOf(p plan) []wechattest.Template {
	if p.failed {
		return nil
	}
	return []wechattest.Template{{ID: "order_paid", Keys: []string{"thing2"}}}
}

// overhear serves the simulator and remembers each token.
func (r *rig) overhear(w http.ResponseWriter, q *http.Request) {
	if token := q.URL.Query().Get("access_token"); token != "" {
		r.mu.Lock()
		r.tokens[token] = true
		r.mu.Unlock()
	}
	r.sim.ServeHTTP(w, q)
}

func (r *rig) connect(ctx context.Context) error {
	pool, err := pgxpool.ParseConfig(r.stack.DatabaseURL())
	if err != nil {
		return err
	}
	pool.MaxConns = 4
	if r.db, err = pgxpool.NewWithConfig(ctx, pool); err != nil {
		return err
	}
	if r.subject == naive {
		if _, err := r.db.Exec(ctx, naiveTable); err != nil {
			return err
		}
	}
	opt, err := redis.ParseURL(r.stack.RedisURL())
	if err != nil {
		return err
	}
	r.rdb = redis.NewClient(opt)
	if r.plan.link {
		if r.link, err = devstack.OpenLink(opt.Addr); err != nil {
			return err
		}
	}
	o := client.Options{Redis: r.stack.RedisURL(), Accounts: []client.Account{{Name: account, AppID: appID}, {Name: neighbour, AppID: neighbourID}}}
	if r.handsOver, err = client.New(ctx, o); err != nil {
		return err
	}
	o.Database = r.stack.DatabaseURL()
	if r.producer, err = client.New(ctx, o); err != nil {
		return err
	}
	r.crew = &crew{rig: r, old: r.old}
	if r.without != "" {
		r.crew.env = []string{"HONGYAN_FAULT_WITHOUT=" + string(r.without)}
	}
	return nil
}

func (r *rig) close() error {
	if r.crew != nil {
		r.crew.dismiss()
	}
	for _, c := range []*client.Client{r.producer, r.handsOver} {
		if c != nil {
			_ = c.Close()
		}
	}
	if r.remote != nil {
		_ = r.remote.Close()
	}
	if r.balancer != nil {
		r.balancer.close()
	}
	if r.db != nil {
		r.db.Close()
	}
	if r.rdb != nil {
		_ = r.rdb.Close()
	}
	if r.sim != nil {
		r.sim.Close()
	}
	if r.front != nil {
		r.front.shut()
	}
	var err error
	if r.stack != nil {
		err = r.stack.Close()
	}
	if r.link != nil {
		_ = r.link.Close()
	}
	for _, undo := range r.undo {
		undo()
	}
	return errors.Join(err, os.RemoveAll(r.dir))
}

// work starts the workers and the producer, breaks things meanwhile, and waits until all is decided.
func (r *rig) work(ctx context.Context) error {
	r.started = time.Now()
	if err := r.crew.hire(ctx, r.plan.workers); err != nil {
		return err
	}
	if r.plan.servers > 0 {
		if err := r.openServers(ctx); err != nil {
			return err
		}
	}
	produced := make(chan error, 1)
	producing, stop := context.WithCancel(ctx)
	defer stop()
	go func() { produced <- r.produce(producing) }()
	err := r.do(ctx, r)
	if err != nil {
		stop()
		return errors.Join(err, <-produced)
	}
	if err := <-produced; err != nil {
		return err
	}
	return r.settle(ctx)
}

// settle waits until every message has its end; what has none when time is up is the checker's to find.
func (r *rig) settle(ctx context.Context) error {
	deadline := time.Now().Add(r.plan.settle)
	for time.Now().Before(deadline) {
		n, err := r.undecided(ctx)
		if err != nil && ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err == nil && n == 0 {
			return nil
		}
		r.progress.say(r.name, "%d messages, %d to be decided", r.books.count(), n)
		if err := pause(ctx, 500*time.Millisecond); err != nil {
			return err
		}
	}
	return nil
}

// undecided counts the messages that were accepted and have no end.
func (r *rig) undecided(ctx context.Context) (n int, err error) {
	query := "SELECT count(*)::int FROM message WHERE state NOT IN ('accepted', 'parked', 'sending')"
	if r.plan.parked {
		query = "SELECT count(*)::int FROM message WHERE state NOT IN ('accepted', 'parked', 'sending') OR state = 'parked' AND reason IN ('quota', 'gate')"
	}
	if r.plan.failed {
		query = "SELECT count(*)::int FROM message WHERE state = 'sent'"
	}
	if r.subject == naive {
		query = "SELECT count(DISTINCT n)::int FROM naive_outcome"
	}
	if err := r.db.QueryRow(ctx, query).Scan(&n); err != nil {
		return 0, err
	}
	return max(0, r.books.count()-n), nil
}

// A front is where the simulator listens: it can be shut and opened again at the same address.
type front struct {
	handler http.Handler
	addr    string
	via     string // the line to it, where there is one
	server  *http.Server
}

func openFront(h http.Handler) (*front, error) {
	f := &front{handler: h, addr: "127.0.0.1:0"}
	return f, f.open()
}

func (f *front) open() error {
	l, err := net.Listen("tcp", f.addr)
	if err != nil {
		return fmt.Errorf("simulator: %w", err)
	}
	f.addr = l.Addr().String()
	f.server = &http.Server{Handler: f.handler, ReadHeaderTimeout: 10 * time.Second}
	go func(s *http.Server) { _ = s.Serve(l) }(f.server)
	return nil
}

func (f *front) url() string { return "http://" + cmp.Or(f.via, f.addr) }

// shut lets the calls under way end, and takes no more.
func (f *front) shut() {
	ctx, cancel := context.WithTimeout(context.Background(), 15*time.Second)
	defer cancel()
	if f.server.Shutdown(ctx) != nil {
		_ = f.server.Close()
	}
}
