package devstack

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"time"
)

const (
	startTimeout = 60 * time.Second // Postgres may have to recover first, on a loaded machine
	stopTimeout  = 20 * time.Second
	portAttempts = 5
)

// A Server is one started Redis or Postgres. Its methods may be called from several goroutines; each
// returns when what it does has taken effect.
type Server struct {
	name    string
	logFile string
	stop    syscall.Signal // asks it to end in good order
	death   syscall.Signal // what it gets when our process ends
	command func(port int) *exec.Cmd
	ready   func(ctx context.Context, port int) error

	mu   sync.Mutex
	port int
	proc *process // nil before the first start
}

// start starts the server on a free port. A port can be lost between being found free and being bound;
// then another one is tried.
func (s *Server) start(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	var err error
	for range portAttempts {
		if s.port, err = freePort(); err != nil {
			return err
		}
		if err = s.run(ctx); err == nil || !strings.Contains(err.Error(), "in use") {
			return err
		}
	}
	return err
}

// run starts the server on its port and waits until it answers.
func (s *Server) run(ctx context.Context) error {
	log, err := os.OpenFile(s.logFile, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return fmt.Errorf("open log of %s: %w", s.name, err)
	}
	defer log.Close()
	from, _ := log.Seek(0, 2)
	cmd := s.command(s.port)
	cmd.Stdout, cmd.Stderr = log, log
	proc, err := startProcess(cmd, s.death)
	if err != nil {
		return fmt.Errorf("start %s: %w", s.name, err)
	}
	s.proc = proc

	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	for {
		// The password is ours alone: another server that took the port would refuse it.
		answer := s.ready(ctx, s.port)
		if answer == nil {
			return nil
		}
		select {
		case <-proc.done:
			return fmt.Errorf("%s ended at start (%w): %s", s.name, proc.err, tail(s.logFile, from))
		case <-ctx.Done():
			_ = proc.kill()
			return fmt.Errorf("%s does not answer (%w): %w: %s", s.name, ctx.Err(), answer, tail(s.logFile, from))
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// PID is the process id of the server (of Postgres: the postmaster's).
func (s *Server) PID() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.proc.pid
}

// Addr is the server's address, the same over restarts.
func (s *Server) Addr() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return addr(s.port)
}

// Stop ends the server in good order: Redis saves what it is set to save, Postgres rolls back what is
// open and closes its files. Stopping a stopped server does nothing.
func (s *Server) Stop() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.halt()
}

func (s *Server) halt() error {
	if s.proc.ended() {
		return nil
	}
	if err := s.proc.thaw(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("stop %s: %w", s.name, err)
	}
	if err := s.proc.signal(s.stop); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("stop %s: %w", s.name, err)
	}
	select {
	case <-s.proc.done:
		return nil
	case <-time.After(stopTimeout):
		if err := s.proc.kill(); err != nil {
			return fmt.Errorf("stop %s: %w", s.name, err)
		}
		return fmt.Errorf("stop %s: it did not end within %v and was killed", s.name, stopTimeout)
	}
}

// Kill ends the server and all its children at one blow (SIGKILL).
func (s *Server) Kill() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.proc.kill(); err != nil {
		return fmt.Errorf("kill %s: %w", s.name, err)
	}
	return nil
}

// Freeze stops the server and all its children where they stand (SIGSTOP): connections stay open and
// nobody answers.
func (s *Server) Freeze() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, err := s.proc.freeze(); err != nil {
		return fmt.Errorf("freeze %s: %w", s.name, err)
	}
	return nil
}

// Thaw lets a frozen server go on.
func (s *Server) Thaw() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.proc.thaw(); err != nil {
		return fmt.Errorf("thaw %s: %w", s.name, err)
	}
	return nil
}

// Restart stops the server if it runs and starts it on the same port with the same data. It returns
// when the server answers.
func (s *Server) Restart(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.halt(); err != nil {
		return err
	}
	var err error
	for range portAttempts { // somebody may hold the port for a moment
		if err = s.run(ctx); err == nil || !strings.Contains(err.Error(), "in use") {
			return err
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(200 * time.Millisecond):
		}
	}
	return err
}

// tail is the end of what a server wrote since offset.
func tail(path string, offset int64) string {
	b, err := os.ReadFile(path)
	if err != nil || int64(len(b)) < offset {
		return "(no log)"
	}
	b = b[offset:]
	if len(b) > 2000 {
		b = b[len(b)-2000:]
	}
	return strings.TrimSpace(string(b))
}
