package devstack

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"syscall"
	"time"
)

// A process is a started program and the programs it starts.
type process struct {
	pid  int
	done chan struct{} // closed when it has ended and was waited for
	err  error         // how it ended; read after done
}

// startProcess starts cmd such that it is sent death when this process ends.
//
// Linux sends that signal when the starting *thread* ends, so the thread is locked, and kept for as long
// as the child lives.
func startProcess(cmd *exec.Cmd, death syscall.Signal) (*process, error) {
	dieWithParent(cmd, death)
	p := &process{done: make(chan struct{})}
	started := make(chan error)
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		if err == nil {
			p.pid = cmd.Process.Pid
		}
		started <- err
		if err == nil {
			p.err = cmd.Wait()
			close(p.done)
		}
	}()
	if err := <-started; err != nil {
		return nil, err
	}
	return p, nil
}

func (p *process) ended() bool {
	select {
	case <-p.done:
		return true
	default:
		return false
	}
}

func (p *process) signal(sig syscall.Signal) error {
	if p.ended() { // its number may be somebody else's by now
		return os.ErrProcessDone
	}
	return syscall.Kill(p.pid, sig)
}

// freeze stops the process and all its descendants; it returns their ids, the process itself first.
// The parent goes first, so that it starts nobody while the list is drawn up, and reaps nobody, so that
// no id on the list can pass to a stranger.
func (p *process) freeze() ([]int, error) {
	if err := p.signal(syscall.SIGSTOP); err != nil {
		return nil, err
	}
	frozen := []int{p.pid}
	for calm := 0; calm < 2; { // a stop takes effect a moment after the call: look until nobody new shows up
		pids, err := descendants(p.pid)
		if err != nil {
			return frozen, fmt.Errorf("list children: %w", err)
		}
		calm++
		for _, pid := range pids {
			if slices.Contains(frozen, pid) {
				continue
			}
			calm = 0
			frozen = append(frozen, pid)
			if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil && !errors.Is(err, syscall.ESRCH) {
				return frozen, err
			}
		}
	}
	return frozen, nil
}

// thaw lets a frozen process and its descendants go on, children first.
func (p *process) thaw() error {
	pids, err := descendants(p.pid)
	if err != nil {
		return fmt.Errorf("list children: %w", err)
	}
	for _, pid := range pids {
		if err := syscall.Kill(pid, syscall.SIGCONT); err != nil && !errors.Is(err, syscall.ESRCH) {
			return err
		}
	}
	return p.signal(syscall.SIGCONT)
}

// kill ends the process and its descendants at one blow, as a machine does that loses power, and returns
// when all of them are gone. (Killing the postmaster alone would leave its backends running for a while,
// and a new one refuses to start beside them.)
func (p *process) kill() error {
	pids, err := p.freeze()
	if errors.Is(err, os.ErrProcessDone) {
		return nil
	}
	for _, pid := range slices.Backward(pids) {
		_ = syscall.Kill(pid, syscall.SIGKILL) // gone already is as good
	}
	if err != nil {
		return err
	}
	<-p.done
	deadline := time.Now().Add(10 * time.Second)
	for _, pid := range pids[1:] {
		for running(pid) {
			if time.Now().After(deadline) {
				return fmt.Errorf("process %d outlives SIGKILL", pid)
			}
			time.Sleep(time.Millisecond)
		}
	}
	return nil
}

// below is everyone under root, parents before their children.
func below(root int, children map[int][]int) []int {
	var all []int
	for level := children[root]; len(level) > 0; {
		all = append(all, level...)
		var next []int
		for _, pid := range level {
			next = append(next, children[pid]...)
		}
		level = next
	}
	return all
}
