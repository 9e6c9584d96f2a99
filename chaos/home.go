package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// A home is what scenarios share: a folder, and the programs built from this source.
type home struct {
	dir     string
	workers map[string]string // by build tags
}

const module = "github.com/hongyan-dispatch/hongyan"

func prepare(ctx context.Context, chosen []scenario) (*home, error) {
	dir, err := os.MkdirTemp("", "hongyan-chaos-")
	if err != nil {
		return nil, err
	}
	h := &home{dir: dir, workers: map[string]string{}}
	if err := os.Chmod(dir, 0o711); err != nil { // the servers' user must get through
		return nil, err
	}
	for _, s := range chosen {
		if err := h.build(ctx, s.plan.tags); err != nil {
			h.close()
			return nil, err
		}
	}
	return h, nil
}

// build builds the worker with build tags, once.
func (h *home) build(ctx context.Context, tags string) error {
	if h.workers[tags] != "" {
		return nil
	}
	program := filepath.Join(h.dir, "worker-"+tags)
	out, err := exec.CommandContext(ctx, "go", "build", "-tags", tags, "-o", program, module+"/cmd/worker").CombinedOutput()
	if err != nil {
		return fmt.Errorf("build the worker: %w: %s", err, out)
	}
	h.workers[tags] = program
	return nil
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
