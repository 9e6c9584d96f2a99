package main

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"github.com/hongyan-dispatch/hongyan/internal/wechattest"
)

// wrongBy are the clocks of the crew.
var wrongBy = []time.Duration{0, 10 * time.Minute, -10 * time.Minute}

// skewClocks lets workers send whose clocks are wrong.
func skewClocks(ctx context.Context, r *rig) error {
	program, err := buildSkewed(ctx, r.dir)
	if err != nil {
		return err
	}
	own := *r.home // the others share it
	own.workers = maps.Clone(r.home.workers)
	own.workers[r.plan.tags] = program
	r.home = &own
	for _, by := range wrongBy {
		r.crew.env = []string{fmt.Sprintf("%s=%d", skewVariable, int(by.Seconds()))}
		if err := r.crew.hire(ctx, 1); err != nil {
			return err
		}
	}
	for r.producing() {
		if err := pause(ctx, 100*time.Millisecond); err != nil {
			return err
		}
	}
	return nil
}

// skewVariable holds the seconds by which the clock of such a worker is ahead.
const skewVariable = "CHAOS_CLOCK_AHEAD"

var nowReads = regexp.MustCompile(`(?s)(func Now\(\) Time \{\n\tsec, nsec, mono := \w+\(\)\n)`)

// buildSkewed builds a worker whose time.Now is wrong: its own code is the shipped one, Go's package time is not.
func buildSkewed(ctx context.Context, dir string) (program string, err error) {
	root, err := exec.CommandContext(ctx, "go", "env", "GOROOT").Output()
	if err != nil {
		return "", fmt.Errorf("go env: %w", err)
	}
	folder := filepath.Join(strings.TrimSpace(string(root)), "src", "time")
	text, err := os.ReadFile(filepath.Join(folder, "time.go"))
	if err != nil {
		return "", err
	}
	if len(nowReads.FindAll(text, 2)) != 1 {
		return "", fmt.Errorf("%s: time.Now is written in another way than this scenario knows", folder)
	}
	files := map[string]string{
		"time.go": nowReads.ReplaceAllString(string(text), "$1\tsec += clockAhead\n"),
		"ahead.go": `package time

import "syscall"

var clockAhead = func() (seconds int64) {
	text, _ := syscall.Getenv("` + skewVariable + `")
	sign := int64(1)
	for i := range len(text) {
		if text[i] == '-' {
			sign = -1
			continue
		}
		seconds = 10*seconds + int64(text[i]-'0')
	}
	return sign * seconds
}()
`,
	}
	replace := map[string]string{}
	for name, text := range files {
		own := filepath.Join(dir, name+".txt")
		if err := os.WriteFile(own, []byte(text), 0o600); err != nil {
			return "", err
		}
		replace[filepath.Join(folder, name)] = own
	}
	overlay, err := json.Marshal(map[string]any{"Replace": replace})
	if err != nil {
		return "", err
	}
	list := filepath.Join(dir, "overlay.json")
	if err := os.WriteFile(list, overlay, 0o600); err != nil {
		return "", err
	}
	program = filepath.Join(dir, "worker-skewed")
	out, err := exec.CommandContext(ctx, "go", "build", "-overlay", list, "-o", program, module+"/cmd/worker").CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("build the worker with wrong clocks: %w: %s", err, out)
	}
	return program, nil
}

// clocksMattered: nobody asked for tokens more often than there are workers, everybody sent, and their clocks were wrong.
func clocksMattered(ctx context.Context, r *rig) (found []string) {
	if calls := r.sim.Account(appID).Calls(wechattest.PathStableToken).Arrived; calls > int64(len(wrongBy)) {
		found = append(found, fmt.Sprintf("(e) %d calls for a token, want at most %d", calls, len(wrongBy)))
	}
	var pods int
	if err := r.db.QueryRow(ctx, "SELECT count(DISTINCT pod)::int FROM message WHERE state = 'sent'").Scan(&pods); err != nil || pods != len(wrongBy) {
		found = append(found, fmt.Sprintf("%d workers sent (%v), want %d: the scenario tests nothing", pods, err, len(wrongBy)))
	}
	for i, w := range r.crew.alive() {
		text, err := os.ReadFile(w.log)
		if err != nil {
			return append(found, err.Error())
		}
		at, err := time.Parse(time.RFC3339, firstTime.FindString(string(text)))
		if off := at.Sub(r.started); err != nil || (off-wrongBy[i]).Abs() > 5*time.Minute {
			found = append(found, fmt.Sprintf("%s: its clock is %v off (%v), want %v: the scenario tests nothing", w.name, off, err, wrongBy[i]))
		}
	}
	return found
}

var firstTime = regexp.MustCompile(`\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)`)
