package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
)

// A home is what scenarios share: a folder, and the programs built from this source.
type home struct {
	dir     string
	workers map[string]string // by build tags
	clock   string            // a worker whose clock can be wrong
	enqueue string            // the command, with crash points
	old     string            // a worker of an earlier version, which --old names
	server  string
	ports   sync.Map // that were given, by their numbers: who got one may not listen yet
}

const module = "github.com/hongyan-dispatch/hongyan"

func prepare(ctx context.Context, chosen []scenario, old string) (*home, error) {
	dir, err := os.MkdirTemp("", "hongyan-chaos-")
	if err != nil {
		return nil, err
	}
	h := &home{dir: dir, workers: map[string]string{}, old: old}
	if err := os.Chmod(dir, 0o711); err != nil { // the servers' user must get through
		return nil, err
	}
	for _, s := range chosen {
		if s.plan.clocks && h.clock == "" {
			h.clock, err = h.buildClock(ctx)
		} else if h.workers[s.plan.tags] == "" {
			h.workers[s.plan.tags], err = h.build(ctx, "worker", s.plan.tags)
		}
		if err == nil && h.server == "" {
			h.server, err = h.build(ctx, "server", "")
		}
		if err == nil && s.command && h.enqueue == "" {
			h.enqueue, err = h.build(ctx, "enqueue", "chaos")
		}
		if err != nil {
			h.close()
			return nil, err
		}
	}
	return h, nil
}

// build builds a command with build tags, and what else the builder is to know.
func (h *home) build(ctx context.Context, name, tags string, args ...string) (string, error) {
	program := filepath.Join(h.dir, name+"-"+tags+strings.Join(args[:min(1, len(args))], ""))
	args = append([]string{"build", "-tags", tags, "-o", program}, args...)
	out, err := exec.CommandContext(ctx, "go", append(args, module+"/cmd/"+name)...).CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("build %s: %w: %s", name, err, out)
	}
	return program, nil
}

func (h *home) close() { _ = os.RemoveAll(h.dir) }

// machine names the processor and the number of cores.
func machine() string {
	model := "unknown processor"
	text, _ := os.ReadFile("/proc/cpuinfo")
	for line := range strings.Lines(string(text)) {
		if rest, ok := strings.CutPrefix(line, "model name"); ok {
			model = strings.TrimSpace(strings.TrimLeft(rest, "\t :"))
			break
		}
	}
	return fmt.Sprintf("%s, %d cores", model, cores())
}

func commit() string {
	out, err := exec.Command("git", "rev-parse", "--short", "HEAD").Output()
	if err != nil {
		return "unknown"
	}
	return strings.TrimSpace(string(out))
}
