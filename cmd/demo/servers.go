package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/hongyan-dispatch/hongyan/client"
	"github.com/hongyan-dispatch/hongyan/internal/config"
	"github.com/hongyan-dispatch/hongyan/internal/postgres"
	"github.com/hongyan-dispatch/hongyan/internal/wechattest"
	"github.com/hongyan-dispatch/hongyan/message"
)

// servers is everything that runs: stores, simulator, worker, server, and what the producer holds.
type servers struct {
	examples *examples
	dir      string // configuration and logs; removed at the end
	redisURL string
	dbURL    string
	sim      *wechattest.Sim
	simURL   string
	door     net.Listener // of the server, which WeChat calls back
	apiKey   string       // that lets producers in
	config   *config.Config

	redisInside bool // the Redis is one in this process
	campaignID  atomic.Pointer[message.ID]

	producer  *client.Client // writes the ledger first
	handsOver *client.Client // knows no ledger: hands over to Redis
	db        *pgxpool.Pool  // for reading outcomes
	worker    *process
	server    *process
	closers   []func() error // last first
}

// start starts everything, from the ground up.
func (f *flags) start(ctx context.Context, p *progress) (_ *servers, err error) {
	s := &servers{}
	if s.examples, err = readExamples(f.Examples, time.Now()); err != nil {
		return nil, err
	}
	if s.examples.unfit > 0 {
		p.say("%d lines of %s are left out: the demo has the accounts %s (服务号) and %s (订阅号, which sends no templates, no notices, and no lists)",
			s.examples.unfit, f.Examples, shop, club)
	}
	if s.examples.campaign, err = readCampaign(f.Examples); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(remedy(err), s.close())
		}
	}()
	for _, step := range []func(context.Context) error{
		s.folder, s.address,
		func(ctx context.Context) error { return s.stores(ctx, p, f.InProcess) },
		func(context.Context) error { return s.simulator(f.Seed) },
		s.configure, s.migrate, s.makeKey, s.startWorker, s.startServer, s.connect,
	} {
		if err := step(ctx); err != nil {
			return nil, err
		}
	}
	return s, nil
}

func (s *servers) later(f func() error) { s.closers = append(s.closers, f) }

// close stops what was started, last first, and removes its files. It may be called again.
func (s *servers) close() error {
	var errs []error
	for i := len(s.closers) - 1; i >= 0; i-- {
		errs = append(errs, s.closers[i]())
	}
	s.closers = nil
	if err := errors.Join(errs...); err != nil {
		return &leftError{err}
	}
	return nil
}

func (s *servers) folder(context.Context) (err error) {
	if s.dir, err = os.MkdirTemp("", "hongyan-demo-"); err != nil {
		return fmt.Errorf("%w: set TMPDIR to a folder that can be written", err)
	}
	s.later(func() error { return os.RemoveAll(s.dir) })
	return nil
}

// address takes a free loopback port for the server: the simulator must know it before the server is there.
func (s *servers) address(context.Context) (err error) {
	if s.door, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
		return fmt.Errorf("server: %w", err)
	}
	s.later(func() error {
		_ = s.door.Close() // the server has done so, if it was there
		return nil
	})
	return nil
}

func (s *servers) serverURL() string { return "http://" + s.door.Addr().String() }

// simulator serves a simulated WeChat on a free loopback port.
func (s *servers) simulator(seed uint64) error {
	s.sim = wechattest.New(wechattest.Options{
		Latency: wechattest.Latency{Min: 15 * time.Millisecond, Max: 60 * time.Millisecond},
		Log:     wechattest.LogBodies,
		Seed:    seed,
	})
	for _, account := range accountSettings(s.examples, s.serverURL()) {
		if _, err := s.sim.AddAccount(account); err != nil {
			return fmt.Errorf("simulator: %w", err)
		}
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return fmt.Errorf("simulator: %w", err)
	}
	s.simURL = "http://" + listener.Addr().String()
	server := &http.Server{Handler: s.sim, ReadHeaderTimeout: 10 * time.Second}
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	s.later(func() error {
		s.sim.Close()
		_ = server.Close() // worker and server, its only callers that matter, have ended
		if err := <-served; !errors.Is(err, http.ErrServerClosed) {
			return fmt.Errorf("simulator: %w", err)
		}
		return nil
	})
	return nil
}

// configure writes the configuration into a file, where the commands find it too, and reads it as they do.
func (s *servers) configure(context.Context) (err error) {
	file := s.configFile()
	if err = os.WriteFile(file, configuration(s.redisURL, s.dbURL, s.simURL, s.door.Addr().String()), 0o600); err != nil {
		return err
	}
	none := func(string) (string, bool) { return "", false } // the file says it all
	s.config, err = config.Load(file, none, config.NeedRedis, config.NeedPostgres, config.NeedAccounts)
	return err
}

func (s *servers) configFile() string { return filepath.Join(s.dir, "hongyan.yaml") }

func (s *servers) migrate(ctx context.Context) error {
	if err := postgres.Migrate(ctx, s.dbURL); err != nil {
		return fmt.Errorf("postgres: %w", err)
	}
	return nil
}

// connect gives the producer its clients, and the reports their sessions.
func (s *servers) connect(ctx context.Context) (err error) {
	o := client.Options{Redis: s.redisURL}
	for _, a := range s.config.Accounts {
		o.Accounts = append(o.Accounts, client.Account{Name: a.Name, AppID: message.AppID(a.AppID)})
	}
	if s.handsOver, err = client.New(ctx, o); err != nil {
		return err
	}
	s.later(s.handsOver.Close)
	o.Database = s.dbURL
	if s.producer, err = client.New(ctx, o); err != nil {
		return err
	}
	s.later(s.producer.Close)
	if s.db, err = pgxpool.New(ctx, s.dbURL); err != nil {
		return fmt.Errorf("postgres: %w", err)
	}
	s.later(func() error { s.db.Close(); return nil })
	return nil
}
