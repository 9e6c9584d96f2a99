package app

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"time"

	"github.com/redis/go-redis/v9"
	"golang.org/x/sync/errgroup"

	"github.com/hongyan-dispatch/hongyan/client"
	"github.com/hongyan-dispatch/hongyan/internal/api"
	"github.com/hongyan-dispatch/hongyan/internal/callback"
	"github.com/hongyan-dispatch/hongyan/internal/config"
	"github.com/hongyan-dispatch/hongyan/internal/postgres"
	"github.com/hongyan-dispatch/hongyan/internal/tasks"
	"github.com/hongyan-dispatch/hongyan/internal/telemetry"
	"github.com/hongyan-dispatch/hongyan/internal/window"
	"github.com/hongyan-dispatch/hongyan/message"
)

// ServeOptions is what the caller of Serve adds to the configuration.
type ServeOptions struct {
	Log       *slog.Logger
	Listener  net.Listener      // instead of the configured address
	Metrics   http.Handler      // at /metrics; nil: none
	Stores    *telemetry.Stores // answers /readyz; nil: one of its own
	Traces    *telemetry.Traces // nil: none
	Ready     func(address string)
	Observe   func(account, result string, took time.Duration)       // a request to the callback was answered
	Pushed    func(account string, m callback.Meaning)               // a push was recorded
	Forwarded func(account, result string)                           // a push was passed on
	Requested func(operation string, status int, took time.Duration) // a request to the API was answered
}

// Times of the HTTP server. A request's own are those of its handler.
const (
	headerTimeout = 5 * time.Second
	readTimeout   = 30 * time.Second // of bodies, also such as no handler reads
	writeTimeout  = 10 * time.Second
	idleTimeout   = 2 * time.Minute
	serverDrain   = 10 * time.Second
	askedLately   = time.Minute // by whoever sends requests here as long as we say that we are ready
)

// Serve is a server: it takes WeChat's callbacks and producers' requests until ctx ends, then finishes what is under way and returns.
func Serve(ctx context.Context, c *config.Config, o ServeOptions) error {
	s := &server{config: c, options: o, log: o.Log}
	defer s.close()
	if err := s.open(ctx); err != nil {
		return err
	}
	return s.run(ctx)
}

// server is a running server and what it holds open.
type server struct {
	config  *config.Config
	options ServeOptions
	log     *slog.Logger

	store    *postgres.Store
	rdb      redis.UniversalClient
	listener net.Listener
	stores   *telemetry.Stores
	pushes   *pushes
	inbox    *callback.Inbox
	handler  http.Handler
	producer *client.Client
	api      *api.Handler
	backlog  *backlog

	forwarders []*callback.Forwarder
}

func (s *server) open(ctx context.Context) (err error) {
	endpoints, err := endpointsOf(s.config, s.log, s.options.Forwarded)
	if err != nil {
		return err
	}
	if s.store, err = postgres.Open(ctx, s.config.Postgres.URL.Reveal(), postgres.Options{Name: "hongyan-server"}); err != nil {
		return fmt.Errorf("postgres: %w", err)
	}
	if err := checkMigrations(ctx, s.config, "server"); err != nil {
		return err
	}
	if err := startClock(ctx, s.store.Now, s.log); err != nil {
		return err
	}
	if s.rdb, err = tasks.Redis(s.config.Redis.URL.Reveal()); err != nil {
		return fmt.Errorf("redis: %w", err)
	}
	if err := s.rdb.Ping(ctx).Err(); err != nil {
		return fmt.Errorf("redis: %w", err)
	}
	all := newAccounts(s.config)
	if err := s.store.SyncAccounts(ctx, all.rows()); err != nil {
		return err
	}
	if s.listener = s.options.Listener; s.listener == nil {
		if s.listener, err = (&net.ListenConfig{}).Listen(ctx, "tcp", s.config.Server.Listen); err != nil {
			return fmt.Errorf("server.listen: %w", err)
		}
	}
	s.pushes = &pushes{store: s.store, rdb: s.rdb, windows: window.New(s.rdb, all.windowRules), log: s.log}
	s.inbox = callback.NewInbox(s.pushes)
	door := callback.NewHandler(endpoints, s.inbox, callback.HandlerOptions{
		Log: s.log, MaxParallel: s.config.Server.MaxParallel, Observe: s.options.Observe, Pushed: s.options.Pushed,
	})
	for _, e := range endpoints {
		if f, ok := e.Upstream.(*callback.Forwarder); ok {
			s.forwarders = append(s.forwarders, f)
		}
	}
	s.stores = cmp.Or(s.options.Stores, &telemetry.Stores{})
	s.stores.Watch(storesOf(s.store, s.rdb)...)
	if err := s.openAPI(ctx, all); err != nil {
		return err
	}
	s.handler = s.routes(door)
	return nil
}

// endpointsOf are the doors of the accounts that have a callback.
func endpointsOf(c *config.Config, log *slog.Logger, forwarded func(account, result string)) ([]callback.Endpoint, error) {
	var all []callback.Endpoint
	for _, a := range c.Accounts {
		if a.Callback.Token.IsZero() {
			continue
		}
		door, err := callback.New(callback.Config{
			AppID: message.AppID(a.AppID), Mode: callback.Mode(a.Callback.Mode),
			Tokens:  reveal(a.Callback.Token, a.Callback.TokenPrevious),
			AESKeys: reveal(a.Callback.AESKey, a.Callback.AESKeyPrevious),
		})
		if err != nil {
			return nil, fmt.Errorf("accounts.%s.callback: %w", a.Name, err)
		}
		if mode := callback.Mode(a.Callback.Mode); mode == callback.Plain || mode == callback.Compatible {
			log.Warn("callback.mode takes bodies that are not encrypted: whoever has seen one URL can forge events and open windows; such receipts are hints that change nothing",
				"account", a.Name, "mode", mode)
		}
		e := callback.Endpoint{Name: a.Name, AppID: message.AppID(a.AppID), Door: door}
		if rules := rulesOf(a.Callback.Replies); len(rules) > 0 {
			e.Replies = rules
		}
		if a.Callback.ForwardURL != "" {
			to, err := url.Parse(a.Callback.ForwardURL)
			if err != nil {
				return nil, fmt.Errorf("accounts.%s.callback.forward_url: no URL", a.Name)
			}
			e.Upstream = callback.NewForwarder(callback.ForwardOptions{
				Account: a.Name, URL: to, Timeout: a.Callback.ForwardTimeout, Log: log, Observe: forwarded,
			})
		}
		all = append(all, e)
	}
	if len(all) == 0 {
		log.Warn("no account has a callback, so WeChat can tell nothing: set accounts[].callback.token and aes_key, as in WeChat's console")
	}
	return all, nil
}

// rulesOf are the replies of a configuration that was checked.
func rulesOf(replies []config.Reply) callback.Rules {
	var rules callback.Rules
	for _, r := range replies {
		rules = append(rules, callback.Rule{Keyword: r.Keyword, Contains: r.Contains, Event: r.Event, Key: r.Key, Reply: bodyOf(r)})
	}
	return rules
}

func bodyOf(r config.Reply) callback.Reply {
	switch {
	case r.Text != "":
		return callback.Text{Content: r.Text}
	case r.Image != "":
		return callback.Image{MediaID: r.Image}
	case r.Voice != "":
		return callback.Voice{MediaID: r.Voice}
	case r.Video != config.VideoReply{}:
		return callback.Video(r.Video)
	case r.Music != config.MusicReply{}:
		m := r.Music
		return callback.Music{Title: m.Title, Description: m.Description, URL: m.URL, HQURL: m.HQURL, ThumbMediaID: m.ThumbMediaID}
	case len(r.News) > 0:
		var news callback.News
		for _, a := range r.News {
			news.Articles = append(news.Articles, callback.Article(a))
		}
		return news
	}
	return callback.Transfer{KfAccount: r.Transfer.KfAccount}
}

func reveal(secrets ...config.Secret) []string {
	var texts []string
	for _, s := range secrets {
		if !s.IsZero() {
			texts = append(texts, s.Reveal())
		}
	}
	return texts
}

func (s *server) routes(door http.Handler) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("/wechat/{account}", door)
	mux.Handle("/v1/", s.api)
	api.Documentation(mux)
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	mux.Handle("GET /readyz", s.stores)
	if s.options.Metrics != nil {
		mux.Handle("GET /metrics", s.options.Metrics)
	}
	return mux
}

func (s *server) run(ctx context.Context) error {
	web := &http.Server{
		Handler: s.handler, ReadHeaderTimeout: headerTimeout, ReadTimeout: readTimeout, WriteTimeout: writeTimeout, IdleTimeout: idleTimeout,
		MaxHeaderBytes: 16 << 10, ErrorLog: slog.NewLogLogger(s.log.Handler(), slog.LevelDebug),
	}
	base, stop := context.WithCancel(context.WithoutCancel(ctx)) // the inbox outlives the requests
	defer stop()
	g, serving := errgroup.WithContext(ctx)
	g.Go(func() error { return followClock(base, s.store.Now, s.log) })
	g.Go(func() error { return s.inbox.Run(base) })
	g.Go(func() error { return s.pushes.Run(base) })
	g.Go(func() error { return s.api.Run(base) })
	g.Go(func() error { return s.backlog.run(base) })
	for _, f := range s.forwarders {
		g.Go(func() error { return f.Run(base) })
	}
	g.Go(func() error {
		if err := web.Serve(s.listener); !errors.Is(err, http.ErrServerClosed) {
			return fmt.Errorf("serve: %w", err)
		}
		return nil
	})
	g.Go(func() error {
		<-serving.Done()
		s.stores.Watch() // whoever asks sends nothing more here
		if ctx.Err() != nil && s.stores.Asked(askedLately) {
			linger(base, s.config.Server.Linger)
		}
		s.api.Drain()
		err := s.drain(base, web)
		stop()
		return err
	})
	if s.options.Ready != nil {
		s.options.Ready(s.listener.Addr().String())
	}
	return g.Wait()
}

// drain lets requests end that are under way, and ends the connections of those that do not: a client that is slow must not keep
// the server up, and is no failure of it.
func (s *server) drain(ctx context.Context, web *http.Server) error {
	bounded, cancel := context.WithTimeout(ctx, serverDrain)
	defer cancel()
	err := web.Shutdown(bounded)
	if !errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	s.log.Warn("clients that are slow are cut off: their requests did not end in time", "waited", serverDrain)
	return web.Close()
}

// linger waits, while requests are served as ever.
func linger(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}

func (s *server) close() {
	if s.producer != nil {
		_ = s.producer.Close()
	}
	if s.listener != nil {
		_ = s.listener.Close()
	}
	if s.store != nil {
		s.store.Close()
	}
	if s.rdb != nil {
		_ = s.rdb.Close()
	}
}
