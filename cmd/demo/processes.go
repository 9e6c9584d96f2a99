package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"

	"github.com/hongyan-dispatch/hongyan/internal/app"
	"github.com/hongyan-dispatch/hongyan/internal/telemetry"
)

// A process is what runs elsewhere as a command of its own, here with a log of its own.
type process struct {
	name    string
	logFile string
	ended   chan struct{}
	err     error // what it ended with, if it ended by itself; valid after ended
}

// startWorker starts a worker and returns when it takes parcels.
func (s *servers) startWorker(ctx context.Context) (err error) {
	s.worker, err = s.startProcess(ctx, "worker", func(ctx context.Context, log *slog.Logger, ready func()) error {
		return app.Run(ctx, s.config, app.Options{Log: log, Version: "demo", Guest: true, Ready: ready})
	})
	return err
}

// startServer starts a server and returns when it takes callbacks.
func (s *servers) startServer(ctx context.Context) (err error) {
	s.server, err = s.startProcess(ctx, "server", func(ctx context.Context, log *slog.Logger, ready func()) error {
		metrics := telemetry.NewServerMetrics("demo")
		return app.Serve(ctx, s.config, app.ServeOptions{
			Log: log, Listener: s.door, Ready: func(string) { ready() }, Metrics: metrics.Handler(), Stores: &metrics.Stores,
			Observe: metrics.Answered, Forwarded: metrics.Forwarded, Requested: metrics.Requested,
		})
	})
	return err
}

// startProcess returns when the process is ready. It drains before what was started earlier goes.
func (s *servers) startProcess(ctx context.Context, name string, run func(context.Context, *slog.Logger, func()) error) (*process, error) {
	p := &process{name: name, logFile: filepath.Join(s.dir, name+".log"), ended: make(chan struct{})}
	log, err := os.OpenFile(p.logFile, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return nil, err
	}
	s.later(log.Close)
	working, stop := context.WithCancel(context.WithoutCancel(ctx))
	ready := make(chan struct{})
	go func() {
		defer close(p.ended)
		err := run(working, telemetry.Logger(log, s.config.Log.Level, s.config.Log.Format), func() { close(ready) })
		if err == nil && working.Err() == nil {
			err = errors.New("without being asked to")
		}
		p.err = p.explain(err)
	}()
	s.later(func() error {
		stop()
		<-p.ended
		return p.err
	})
	select {
	case <-ready:
		return p, nil
	case <-p.ended:
		return nil, p.err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// whileWorking runs f until it returns or a process ends, which it should not.
func (s *servers) whileWorking(ctx context.Context, f func(context.Context) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- f(ctx) }()
	var broken *process
	select {
	case err := <-done:
		return err
	case <-s.worker.ended:
		broken = s.worker
	case <-s.server.ended:
		broken = s.server
	}
	cancel()
	<-done
	return broken.err
}

// explain shows the end of the log, which goes away with the demo.
func (p *process) explain(err error) error {
	if err == nil {
		return nil
	}
	text, _ := os.ReadFile(p.logFile)
	lines := strings.Split(strings.TrimSpace(string(text)), "\n")
	return fmt.Errorf("the %s ended: %w\n%s", p.name, err, strings.Join(lines[max(0, len(lines)-5):], "\n"))
}
