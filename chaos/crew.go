package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"
)

func cores() int { return runtime.NumCPU() }

// A crew is the worker processes of a rig.
type crew struct {
	rig     *rig
	env     []string // of those to come
	mu      sync.Mutex
	workers []*worker // all that ever were
	servers []*worker // likewise, of the HTTP API
	old     bool      // those to come are of the earlier version
	number  int
}

// A worker is one process, of a worker or of a server.
type worker struct {
	name    string
	clock   time.Duration // by which its clock is wrong
	address string        // of a server
	cmd     *exec.Cmd
	log     string // file
	metrics string // URL
	ended   chan struct{}
	asked   bool // to end, by us
}

// hire starts n workers and returns when all of them take parcels.
func (c *crew) hire(ctx context.Context, n int) error {
	var started []*worker
	for range n {
		w, err := c.start()
		if err != nil {
			return err
		}
		started = append(started, w)
	}
	for _, w := range started {
		if err := w.ready(ctx); err != nil {
			return err
		}
	}
	return nil
}

// start starts one worker, which is not ready yet.
func (c *crew) start() (*worker, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.launch(clockOf(c.number))
}

// launch starts a worker with a clock, where the plan has wrong ones. c.mu is held.
func (c *crew) launch(clock time.Duration) (*worker, error) {
	c.number++
	w := &worker{name: fmt.Sprintf("%s-%d", c.rig.name, c.number), clock: clock, ended: make(chan struct{})}
	if err := c.command(w); err != nil {
		return nil, err
	}
	if err := c.run(w); err != nil {
		return nil, err
	}
	c.workers = append(c.workers, w)
	return w, nil
}

// run starts a process.
func (c *crew) run(w *worker) error {
	w.log = filepath.Join(c.rig.dir, w.name+".log")
	log, err := os.Create(w.log)
	if err != nil {
		return err
	}
	defer log.Close()
	w.cmd.Stdout, w.cmd.Stderr = log, log
	w.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	started := make(chan error)
	go func() { // Linux sends the signal at the end of the thread that started the process: it is kept
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := w.cmd.Start()
		started <- err
		if err == nil {
			_ = w.cmd.Wait()
			close(w.ended)
		}
	}()
	return <-started
}

// environment is ours without what speaks to Hongyan.
func environment() []string {
	return slices.DeleteFunc(os.Environ(), func(v string) bool { return strings.HasPrefix(v, "HONGYAN_") })
}

// command is how a worker of the subject is started.
func (c *crew) command(w *worker) error {
	r := c.rig
	if r.subject == naive {
		self, err := os.Executable()
		if err != nil {
			return err
		}
		w.cmd = exec.Command(self, "worker", "--redis", r.stack.RedisURL(), "--database", r.stack.DatabaseURL(), "--wechat", r.front.url())
		w.cmd.Env = environment()
		return nil
	}
	port, err := r.home.freePort()
	if err != nil {
		return err
	}
	w.metrics = "http://" + port + "/metrics"
	file := filepath.Join(r.dir, w.name+".yaml")
	if err := os.WriteFile(file, r.configuration(w.name, port), 0o600); err != nil {
		return err
	}
	w.cmd = exec.Command(r.home.workers[r.plan.tags], "--config", file)
	if c.old {
		w.cmd.Path = r.home.old
	}
	w.cmd.Env = append(environment(), c.env...)
	if r.plan.clocks {
		w.cmd.Path = r.home.clock
		w.cmd.Env = append(w.cmd.Env, fmt.Sprintf("%s=%.0f", wrongBy, w.clock.Seconds()))
	}
	return nil
}

func (r *rig) configuration(name, metrics string) []byte {
	yaml := r.plan.yaml
	if yaml == "" {
		template, other := r.plan.paces()
		yaml = fmt.Sprintf(`limits:
      template: {per_day: %[4]d, per_second: %[2]d}
      custom: {per_day: %[1]d, per_second: %[3]d}
      subscribe: {per_day: %[1]d, per_second: %[3]d}`, perDay, template, other, r.plan.templatesPerDay())
	}
	if r.plan.scarce {
		yaml += "\n    reserve: {urgent_day: 0}" // or the day would never be used up
	}
	if !r.plan.windows {
		yaml += "\n    window: {unknown: try}"
	}
	text := fmt.Appendf(nil, `redis: {url: %q}
postgres: {url: %q}
worker: {name: %s, senders: %d, metrics_listen: %q}
accounts:
`, r.redisURL(), r.stack.DatabaseURL(), name, senders, metrics)
	accounts := []struct{ name, appID string }{{account, appID}}
	if r.plan.neighbour {
		accounts = append(accounts, struct{ name, appID string }{neighbour, neighbourID})
	}
	for _, a := range accounts {
		text = fmt.Appendf(text, `  - name: %s
    appid: %s
    secret: %s
    type: service
    base_url: %s
    %s
`, a.name, a.appID, secret, r.front.url(), yaml)
	}
	return text
}

// redisURL is where the workers find Redis.
func (r *rig) redisURL() string {
	if r.link == nil {
		return r.stack.RedisURL()
	}
	return strings.Replace(r.stack.RedisURL(), r.stack.Redis().Addr(), r.link.Addr(), 1)
}

// freePort draws from below the ports of outgoing connections, of which the suite makes thousands, and those of the
// suite's servers.
func (h *home) freePort() (string, error) {
	for range 200 {
		port := 10_000 + rand.IntN(8_000)
		l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err != nil {
			continue
		}
		if _, given := h.ports.LoadOrStore(port, nil); given {
			_ = l.Close()
			continue
		}
		return l.Addr().String(), l.Close()
	}
	return "", errors.New("no port between 10000 and 18000 is free")
}

// ready waits until the worker takes parcels.
func (w *worker) ready(ctx context.Context) error { return w.says(ctx, "dispatching") }

// says waits until a word stands in the process's log.
func (w *worker) says(ctx context.Context, word string) error {
	for range 600 {
		text, err := os.ReadFile(w.log)
		if err != nil {
			return err
		}
		if strings.Contains(string(text), word) {
			return nil
		}
		if w.hasEnded() {
			return fmt.Errorf("%s ended at its start: %s", w.name, text)
		}
		if err := pause(ctx, 100*time.Millisecond); err != nil {
			return err
		}
	}
	return fmt.Errorf("%s is not ready after a minute", w.name)
}

func (w *worker) hasEnded() bool {
	select {
	case <-w.ended:
		return true
	default:
		return false
	}
}

// kill ends the worker without a word.
func (w *worker) kill() {
	w.asked = true
	_ = w.cmd.Process.Kill() // an error says that it has ended
	<-w.ended
}

// alive are the workers that run.
func (c *crew) alive() []*worker {
	c.mu.Lock()
	defer c.mu.Unlock()
	return running(c.workers)
}

// serving are the servers that run.
func (c *crew) serving() []*worker {
	c.mu.Lock()
	defer c.mu.Unlock()
	return running(c.servers)
}

func running(list []*worker) (running []*worker) {
	for _, w := range list {
		if !w.hasEnded() {
			running = append(running, w)
		}
	}
	return running
}

// upgraded says that workers to come are of this version.
func (c *crew) upgraded() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.old = false
}

// replace kills a worker and starts another in its place.
func (c *crew) replace(w *worker) error {
	mended := c.rig.killed("kill -9", w.name)
	w.kill()
	mended()
	c.mu.Lock()
	defer c.mu.Unlock()
	_, err := c.launch(w.clock)
	return err
}

// retire ends a worker as an orchestrator does: SIGTERM, and a while to drain.
func (c *crew) retire(ctx context.Context, w *worker) error {
	began := time.Now()
	w.asked = true
	if err := w.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		return err
	}
	select {
	case <-w.ended:
		c.rig.most("drained s", time.Since(began))
		if code := w.cmd.ProcessState.ExitCode(); code != 0 {
			c.rig.finding("worker %s ended with %d after SIGTERM", w.name, code)
		}
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-time.After(time.Minute):
		return fmt.Errorf("worker %s does not drain within a minute", w.name)
	}
}

func (c *crew) dismiss() {
	for _, w := range append(c.alive(), c.serving()...) {
		_ = w.cmd.Process.Signal(syscall.SIGCONT)
		w.kill()
	}
}

// holds is what a worker holds: bytes in memory, and open files.
func (w *worker) holds() (rss, files float64, err error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", w.cmd.Process.Pid))
	if err != nil {
		return 0, 0, err
	}
	for line := range strings.Lines(string(text)) {
		if rest, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			_, err = fmt.Sscan(rest, &rss)
			rss *= 1 << 10
		}
	}
	open, more := os.ReadDir(fmt.Sprintf("/proc/%d/fd", w.cmd.Process.Pid))
	return rss, float64(len(open)), errors.Join(err, more)
}

// used is the processor time that a worker has used.
func (w *worker) used() (time.Duration, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", w.cmd.Process.Pid))
	if err != nil {
		return 0, err
	}
	_, rest, _ := strings.Cut(string(text), ") ")
	fields := strings.Fields(rest)
	var user, system int64
	_, err = fmt.Sscan(fields[11]+" "+fields[12], &user, &system)
	const perTick = 10 * time.Millisecond // USER_HZ is 100 everywhere
	return time.Duration(user+system) * perTick, err
}

// said is the worker's log.
func (w *worker) said() (string, error) {
	text, err := os.ReadFile(w.log)
	return string(text), err
}
