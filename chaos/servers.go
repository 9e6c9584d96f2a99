package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/hongyan-dispatch/hongyan/client"
	"github.com/hongyan-dispatch/hongyan/internal/wechattest"
)

// openServers opens the HTTP servers of a plan, behind a balancer, and makes the producer one that speaks HTTP.
func (r *rig) openServers(ctx context.Context) error {
	var addresses []string
	for range r.plan.servers {
		s, err := r.serve(ctx, "")
		if err != nil {
			return err
		}
		addresses = append(addresses, s.address)
	}
	var err error
	if r.balancer, err = balance(addresses); err != nil {
		return err
	}
	key, err := r.apiKey(ctx)
	if err != nil {
		return err
	}
	err = r.sim.Account(appID).Change(func(s *wechattest.Settings) { // receipts come back through the balancer, too
		s.Callback = &wechattest.Callback{URL: "http://" + r.balancer.addr + "/wechat/" + account, Token: callbackToken, AESKey: callbackKey}
	})
	if err != nil {
		return err
	}
	if r.remote, err = client.HTTP("http://"+r.balancer.addr, key); err != nil {
		return err
	}
	for _, address := range addresses {
		if err := r.balanced(ctx, address); err != nil {
			return err
		}
	}
	return nil
}

// balanced waits until the balancer sends requests to a server.
func (r *rig) balanced(ctx context.Context, address string) error {
	for range 600 {
		if r.balancer.knows(address) {
			return nil
		}
		if err := pause(ctx, 100*time.Millisecond); err != nil {
			return err
		}
	}
	return fmt.Errorf("server %s is not ready after a minute", address)
}

// serve starts a server at an address, or at a free one.
func (r *rig) serve(ctx context.Context, address string) (*worker, error) {
	if address == "" {
		var err error
		if address, err = r.home.freePort(); err != nil {
			return nil, err
		}
	}
	c := r.crew
	c.mu.Lock()
	defer c.mu.Unlock()
	c.number++
	s := &worker{name: fmt.Sprintf("%s-server-%d", r.name, c.number), address: address, metrics: "http://" + address + "/metrics", ended: make(chan struct{})}
	file, err := r.serverFile(s.name, address)
	if err != nil {
		return nil, err
	}
	s.cmd = exec.Command(r.home.server, "--config", file)
	s.cmd.Env = environment()
	if err := c.run(s); err != nil {
		return nil, err
	}
	c.servers = append(c.servers, s)
	return s, s.says(ctx, "listening")
}

// The callback's secrets, which are canaries, too.
const (
	callbackToken = "canarycallbacktoken"
	callbackKey   = "canarycallbackkeyxxxxxxxxxxxxxxxxxxxxxxxxxx"
)

// serverFile is the configuration of a server.
func (r *rig) serverFile(name, address string) (string, error) {
	text := string(r.configuration(name, "127.0.0.1:0"))
	text = fmt.Sprintf("server: {listen: %q}\n", address) + strings.Replace(text, "    type: service\n",
		fmt.Sprintf("    type: service\n    callback: {token: %s, aes_key: %s}\n", callbackToken, callbackKey), 1)
	file := filepath.Join(r.dir, name+".yaml")
	return file, os.WriteFile(file, []byte(text), 0o600)
}

// apiKey is a key that may do everything. It is made once.
func (r *rig) apiKey(ctx context.Context) (string, error) {
	if r.key != "" {
		return r.key, nil
	}
	file, err := r.serverFile("key", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	cmd := exec.CommandContext(ctx, r.home.server, "key", "create", "chaos", "--scope", "*:*:*", "--config", file)
	cmd.Env = environment()
	var said bytes.Buffer
	cmd.Stderr = &said
	key, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("make an API key: %w: %s", err, said.Bytes())
	}
	r.key = strings.TrimSpace(string(key))
	return r.key, nil
}

// replaceServer ends a server as an orchestrator does, and starts another at its address.
func (r *rig) replaceServer(ctx context.Context, s *worker) error {
	s.asked = true
	if err := s.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		return err
	}
	select {
	case <-s.ended:
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-time.After(time.Minute):
		return fmt.Errorf("server %s does not end within a minute", s.name)
	}
	if code := s.cmd.ProcessState.ExitCode(); code != 0 {
		r.finding("server %s ended with %d after SIGTERM", s.name, code)
	}
	if _, err := r.serve(ctx, s.address); err != nil {
		return err
	}
	return r.balanced(ctx, s.address)
}

// rollBoth replaces each server and each worker, one after another, twice, while producers speak HTTP.
func rollBoth(ctx context.Context, r *rig) error {
	if err := r.flowing(ctx, 300); err != nil {
		return err
	}
	replaced := 0
	for range 2 {
		for _, s := range r.crew.serving() {
			if err := r.replaceServer(ctx, s); err != nil {
				return err
			}
			replaced++
		}
		for _, w := range r.crew.alive() {
			if err := r.crew.hire(ctx, 1); err != nil {
				return err
			}
			if err := r.crew.retire(ctx, w); err != nil {
				return err
			}
			replaced++
		}
	}
	r.figure("replaced", replaced)
	if !r.producing() {
		return errors.New("the producers were done before the last process was replaced: the scenario wants more messages")
	}
	return nil
}

// noneRefused: through a rolling restart no request fails.
func noneRefused(ctx context.Context, r *rig) []string {
	r.balancer.mu.Lock()
	requests := 0
	for status, n := range r.balancer.statuses {
		requests += n
		if status >= 300 {
			r.figure(fmt.Sprintf("answers %d", status), n)
		}
	}
	r.balancer.mu.Unlock()
	r.figure("requests", requests)
	return append(r.balancer.failed(), drainedInTime(ctx, r)...)
}
