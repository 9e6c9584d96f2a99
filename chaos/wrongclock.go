package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// wrongBy is the variable that says by how many seconds the clock of a worker is wrong that buildClock built.
const wrongBy = "CHAOS_CLOCK"

// What is changed in the standard library's time.Now: programs ask the kernel for the time by way of memory that they
// share with it, where nobody can come between.
const (
	nowAsks = "func Now() Time {\n\tsec, nsec, mono := runtimeNow()\n"
	nowErrs = nowAsks + "\tsec += wrong\n"
	imports = "import (\n"
	wrong   = `
var wrong = func() (n int64) {
	text, _ := syscall.Getenv("` + wrongBy + `")
	for _, c := range text {
		if c != '-' {
			n = 10*n + int64(c-'0')
		}
	}
	if len(text) > 0 && text[0] == '-' {
		return -n
	}
	return n
}()
`
)

// buildClock builds a worker with a time.Now that a variable puts wrong: all its packages see the wrong time, and its
// timers run as they should.
func (h *home) buildClock(ctx context.Context) (string, error) {
	root, err := exec.CommandContext(ctx, "go", "env", "GOROOT").Output()
	if err != nil {
		return "", fmt.Errorf("go env GOROOT: %w", err)
	}
	original := filepath.Join(strings.TrimSpace(string(root)), "src", "time", "time.go")
	source, err := os.ReadFile(original)
	if err != nil {
		return "", err
	}
	text := string(source)
	if !strings.Contains(text, nowAsks) || !strings.Contains(text, imports) {
		return "", errors.New("this Go's time.Now is not the one that the suite knows how to put wrong: see wrongclock.go")
	}
	text = strings.Replace(text, nowAsks, nowErrs, 1)
	text = strings.Replace(text, imports, imports+"\t\"syscall\"\n", 1) + wrong
	changed, overlay := filepath.Join(h.dir, "time.go"), filepath.Join(h.dir, "overlay.json")
	list, err := json.Marshal(map[string]map[string]string{"Replace": {original: changed}})
	if err == nil {
		err = errors.Join(os.WriteFile(changed, []byte(text), 0o600), os.WriteFile(overlay, list, 0o600))
	}
	if err != nil {
		return "", err
	}
	return h.build(ctx, "worker", "chaos", "-overlay", overlay)
}

// clockOf is by how much the clock of the n-th worker is wrong.
func clockOf(n int) time.Duration {
	return []time.Duration{10 * time.Minute, -10 * time.Minute, 0}[n%3]
}
