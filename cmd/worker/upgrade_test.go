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
	const part = 500
	const n = 3 * part
	f := newFleet(t, quick())
	f.sim.SetLatency(wechattest.Latency{Min: 20 * time.Millisecond, Max: 80 * time.Millisecond})
	f.remembers(n)
	start := func(version string) *process {
		p := startProcess(f, nil, []string{envRelease + "=" + version}, "--config", f.config)
		p.ready()
		f.workers = append(f.workers, p)
		return p
	}
	messages := mixed(n)
	load := func() { // what follows happens under a part of its own, of which the first are sent
		before := f.sim.AcceptedTotal()
		f.enqueue(messages[:part]...)
		messages = messages[part:]
		eventually(t, 60*time.Second, "load", func() bool { return f.sim.AcceptedTotal() > before+senders })
	}
	first, second := start("v1.0.0"), start("v1.0.0")

	load()
	f.exec("ALTER TABLE message ADD COLUMN zone int4 NOT NULL DEFAULT 0")
	f.exec("ALTER TABLE pod ADD COLUMN zone text NOT NULL DEFAULT ''")
	f.exec("UPDATE schema_migrations SET version = version + 1")
	start("v1.1.0")
	if code, out, _ := typed(t, nil, "check", "--config", f.config); code != 0 || !strings.Contains(out, "1 of version v1.1.0 live side by side") {
		t.Errorf("check: exit code %d\n%s", code, out)
	}
	load()
	if code, _ := first.terminate(); code != 0 {
		t.Errorf("an old worker ended with %d on the new schema:\n%s", code, tail(first.stderr(), 20))
	}
	load()
	second.kill()
	if f.sim.AcceptedTotal() == n {
		t.Error("everything was sent before the worker was killed: the test tests nothing")
	}
	start("v1.0.0") // its schema is ahead of it

	eventually(t, 2*time.Minute+comesBack, "end", func() bool {
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
