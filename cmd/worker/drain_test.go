package main

import (
	"strings"
	"testing"
	"time"

	"github.com/hongyan-dispatch/hongyan/client"
	"github.com/hongyan-dispatch/hongyan/internal/wechattest"
)

func TestDrain(t *testing.T) {
	t.Parallel()
	const n = 2000
	f := newFleet(t, shop("limits: {template: {per_day: 100000, per_second: 400}, custom: {per_day: 100000, per_second: 200}}"))
	f.sim.SetLatency(wechattest.Latency{Min: 20 * time.Millisecond, Max: 80 * time.Millisecond})
	f.remembers(n)
	first := f.start(2)
	receipts := f.enqueue(mixed(n)...)
	for i, p := range first { // one after another, each under load
		eventually(t, 60*time.Second, "load", func() bool { return f.sim.AcceptedTotal() > n/4*(i+1) })
		code, took := p.terminate()
		if code != 0 || took > 30*time.Second {
			t.Errorf("the worker ended with %d after %v, want 0 within 30 s", code, took)
		}
		t.Logf("SIGTERM: exit code %d after %v, %d of %d sent", code, took.Round(time.Millisecond), f.sim.AcceptedTotal(), n)
	}
	accepted := f.sim.AcceptedTotal()
	if accepted == n {
		t.Error("everything was sent before the last SIGTERM: the test tests nothing")
	}
	if got := f.outcomes("true"); got["sending"] != 0 || got["unknown in_doubt"] != 0 || got["sent"] != accepted {
		t.Errorf("after the drain: got outcomes %v, want %d sent and none in between", got, accepted)
	}
	if left := f.number("SELECT count(*)::int FROM in_flight"); left != 0 {
		t.Errorf("%d batches of claims are left in flight", left)
	}
	if queued := f.queued(); strings.Contains(queued, " is active") {
		t.Errorf("the drained workers have kept parcels:\n%s", queued)
	}
	f.start(1)
	f.await(60*time.Second, map[string]int{"sent": n}, "true")
	f.sentOnce(n)
	for _, r := range receipts[:3] {
		if s, err := f.producer.Status(t.Context(), r.ID); err != nil || s.Status != "sent" {
			t.Errorf("status of %s: %v, %v", r.ID, s.Status, err)
		}
	}
	f.nothingLeftInQueues()
	if left := f.number("SELECT count(*)::int FROM parcel"); left != 0 {
		t.Errorf("%d parcels are left in the outbox", left)
	}
}

// remembers opens the windows of n users.
func (f *fleet) remembers(n int) {
	f.Helper()
	for i := 0; i < n; i += 4 {
		e := client.Event{Account: "shop", OpenID: user(i), Type: client.Messaged, At: time.Now().Truncate(time.Second)}
		if err := f.producer.Event(f.Context(), e); err != nil {
			f.Fatal(err)
		}
	}
}

// What a killed worker leaves behind is healed later; here it is only sure that nothing is sent twice.
func TestKill(t *testing.T) {
	t.Parallel()
	const n = 1200
	f := newFleet(t, shop("limits: {template: {per_day: 100000, per_second: 300}, custom: {per_day: 100000, per_second: 150}}"))
	f.sim.SetLatency(wechattest.Latency{Min: 20 * time.Millisecond, Max: 80 * time.Millisecond})
	f.remembers(n)
	three := f.start(3)
	f.enqueue(mixed(n)...)
	eventually(t, 60*time.Second, "load", func() bool { return f.sim.AcceptedTotal() > n/4 })
	three[0].kill()
	last, quiet := 0, time.Now()
	eventually(t, 60*time.Second, "end of what the others have", func() bool {
		if accepted := f.sim.AcceptedTotal(); accepted != last {
			last, quiet = accepted, time.Now()
		}
		return time.Since(quiet) > 2*time.Second
	})
	left := f.outcomes("true")
	for users, times := range f.sim.CountBy(wechattest.ByOpenID) {
		if times > 1 {
			t.Errorf("user %.12s… got %d messages", users, times)
		}
	}
	if accepted := f.sim.AcceptedTotal(); left["sent"] > accepted {
		t.Errorf("%d rows are sent, and WeChat accepted %d", left["sent"], accepted)
	}
	t.Logf("left by the killed worker: %v", left)
}
