package main

import (
	"strings"
	"testing"
	"time"

	"github.com/hongyan-dispatch/hongyan/internal/wechattest"
)

// A rolling upgrade as it goes: the schema is brought ahead under the old workers, a new one joins, the old ones go, one of
// them without a word, and one comes back because somebody rolled back.
func TestOldAndNewWorkersTogether(t *testing.T) {
	t.Parallel()
	const n = 1600
	f := newFleet(t, quick())
	f.sim.SetLatency(wechattest.Latency{Min: 20 * time.Millisecond, Max: 80 * time.Millisecond})
	f.remembers(n)
	start := func(version string) *process {
		p := startProcess(f, nil, []string{envRelease + "=" + version}, "--config", f.config)
		p.ready()
		f.workers = append(f.workers, p)
		return p
	}
	sent := func(share int) func() bool { return func() bool { return f.sim.AcceptedTotal() > n/8*share } }
	first, second := start("v1.0.0"), start("v1.0.0")
	f.enqueue(mixed(n)...)

	eventually(t, 60*time.Second, "load", sent(1))
	f.exec("ALTER TABLE message ADD COLUMN zone int4 NOT NULL DEFAULT 0")
	f.exec("ALTER TABLE pod ADD COLUMN zone text NOT NULL DEFAULT ''")
	f.exec("UPDATE schema_migrations SET version = version + 1")
	start("v1.1.0")
	if code, out, _ := typed(t, nil, "check", "--config", f.config); code != 0 || !strings.Contains(out, "1 of version v1.1.0 live side by side") {
		t.Errorf("check: exit code %d\n%s", code, out)
	}
	eventually(t, 60*time.Second, "load on the new schema", sent(3))
	if code, _ := first.terminate(); code != 0 {
		t.Errorf("an old worker ended with %d on the new schema:\n%s", code, tail(first.stderr(), 20))
	}
	second.kill()
	start("v1.0.0") // its schema is ahead of it
	if f.sim.AcceptedTotal() == n {
		t.Error("everything was sent before the workers went: the test tests nothing")
	}

	eventually(t, 2*time.Minute, "end", func() bool {
		return f.number("SELECT count(*)::int FROM message WHERE state NOT IN ('sent', 'unknown')") == 0
	})
	got := f.outcomes("true")
	if got["sent"]+got["unknown in_doubt"] != n || got["unknown in_doubt"] > senders {
		t.Errorf("outcomes %v, want %d sent but for what the killed worker had on the wire", got, n)
	}
	for user, times := range f.sim.CountBy(wechattest.ByOpenID) {
		if times > 1 {
			t.Errorf("%s got %d messages", user, times)
		}
	}
	f.nothingLeftInQueues()
}
