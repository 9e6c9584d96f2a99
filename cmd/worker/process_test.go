package main

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// A process is one run of the command.
type process struct {
	tb    testing.TB
	cmd   *exec.Cmd
	log   string // file of what it wrote to stderr
	ended chan struct{}
}

// startProcess starts the command. It is killed when the test ends, if it still runs.
func startProcess(tb testing.TB, stdout io.Writer, env []string, args ...string) *process {
	tb.Helper()
	log, err := os.CreateTemp(tb.TempDir(), "stderr-*.log")
	if err != nil {
		tb.Fatal(err)
	}
	defer log.Close()
	p := &process{tb: tb, log: log.Name(), ended: make(chan struct{})}
	p.cmd = exec.Command(os.Args[0], args...)
	p.cmd.Env = append(slices.DeleteFunc(os.Environ(), func(v string) bool { return strings.HasPrefix(v, "HONGYAN_") }), envWorker+"=1")
	p.cmd.Env = append(p.cmd.Env, env...)
	p.cmd.Stdout, p.cmd.Stderr = stdout, log
	if _, err := p.cmd.StdinPipe(); err != nil { // closed when this process ends, however it ends
		tb.Fatal(err)
	}
	if err := p.cmd.Start(); err != nil {
		tb.Fatal(err)
	}
	go func() { _ = p.cmd.Wait(); close(p.ended) }()
	tb.Cleanup(func() {
		p.kill()
		if text := p.stderr(); strings.Contains(text, "DATA RACE") || tb.Failed() {
			tb.Errorf("%s wrote:\n%s", filepath.Base(p.log), tail(text, 60))
		}
	})
	return p
}

func (p *process) stderr() string {
	text, err := os.ReadFile(p.log)
	if err != nil {
		p.tb.Errorf("read the log of a worker: %v", err)
	}
	return string(text)
}

func tail(text string, lines int) string {
	all := strings.Split(strings.TrimSpace(text), "\n")
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}

// ready waits until the worker takes parcels.
func (p *process) ready() {
	p.tb.Helper()
	eventually(p.tb, 30*time.Second, "a worker that takes parcels", func() bool {
		if p.hasEnded() {
			p.tb.Fatalf("the worker ended with %d:\n%s", p.code(), p.stderr())
		}
		return strings.Contains(p.stderr(), "msg=dispatching")
	})
}

func (p *process) hasEnded() bool {
	select {
	case <-p.ended:
		return true
	default:
		return false
	}
}

// code is the exit code of a process that has ended.
func (p *process) code() int { return p.cmd.ProcessState.ExitCode() }

// terminate sends SIGTERM and says how long the process took to end and with which code.
func (p *process) terminate() (code int, took time.Duration) {
	p.tb.Helper()
	start := time.Now()
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-p.ended:
	case <-time.After(40 * time.Second):
		p.tb.Fatalf("the worker runs on 40 s after SIGTERM")
	}
	return p.code(), time.Since(start)
}

// kill ends the process without a word.
func (p *process) kill() {
	_ = p.cmd.Process.Kill() // an error says that it has ended
	<-p.ended
}

// typed runs the command to its end, as a user types it.
func typed(tb testing.TB, env []string, args ...string) (code int, stdout, stderr string) {
	tb.Helper()
	var out bytes.Buffer
	p := startProcess(tb, &out, env, args...)
	select {
	case <-p.ended:
	case <-time.After(60 * time.Second):
		tb.Fatalf("worker %s runs on after a minute:\n%s", strings.Join(args, " "), p.stderr())
	}
	return p.code(), out.String(), p.stderr()
}

const (
	pollEvery = 20 * time.Millisecond
	// comesBack is how long a parcel rests that Redis handed out in a reply which came too late, as it may where a machine
	// stands still for two seconds: asynq takes it for a dead worker's, and nobody is told. Who waits for a parcel adds it.
	comesBack = 2 * time.Minute
)

// eventually polls a condition until it holds.
func eventually(tb testing.TB, within time.Duration, what string, holds func() bool) {
	tb.Helper()
	ctx, cancel := context.WithTimeoutCause(tb.Context(), within, errors.New("too late"))
	defer cancel()
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	for !holds() {
		select {
		case <-ctx.Done():
			tb.Fatalf("after %v still no %s", within, what)
		case <-tick.C:
		}
	}
}
