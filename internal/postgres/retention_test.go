package postgres

import (
	"slices"
	"testing"
	"time"

	"github.com/hongyan-dispatch/hongyan/internal/campaign"
	"github.com/hongyan-dispatch/hongyan/message"
	"github.com/hongyan-dispatch/hongyan/outcome"
)

func TestADayIsDroppedWhenNothingInItLives(t *testing.T) {
	b := setup(t)
	c := b.committer(CommitterOptions{})
	now := time.Now()
	old := now.AddDate(0, 0, -40)
	if err := b.store.EnsurePartitions(b.ctx, old); err != nil {
		t.Fatal(err)
	}
	at := func(day time.Time) *message.Message {
		m := newMessage()
		m.ID = message.NewID(day)
		return m
	}
	ended, live, stray := at(old), at(old.AddDate(0, 0, 1)), at(old.AddDate(0, 0, -10))
	for _, m := range []*message.Message{ended, live, stray} {
		p := parcelOf(m)
		b.accept(p)
		if m != live {
			b.verdict(c, m, p.ID, outcome.Outcome{Status: outcome.Skipped, Reason: outcome.Suppressed}, Effects{})
		}
	}
	young := newParcel(1)
	b.accept(young)
	dropped, err := b.store.DropExpired(b.ctx, now, 20*24*time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	day := func(m *message.Message) string { return message.Beijing(m.ID.Time()).Format("20060102") }
	if !slices.Contains(dropped, day(ended)) || slices.Contains(dropped, day(live)) || len(dropped) != DaysBack+DaysAhead {
		t.Errorf("dropped %v, want all of those days but %s, in which a message is still accepted", dropped, day(live))
	}
	for _, p := range partitioned {
		if n := b.count(`SELECT count(*) FROM `+p.table+` WHERE `+p.column+` IN (SELECT unnest($1::uuid[]))`, [][16]byte{ended.ID, stray.ID}); n != 0 {
			t.Errorf("%d rows left in %s, want none", n, p.table)
		}
		if n := b.count(`SELECT count(*) FROM pg_class WHERE relname = $1`, p.table+"_"+day(live)); n != 1 {
			t.Errorf("%s of the living day was dropped", p.table)
		}
	}
	b.wantState(live.ID, outcome.Accepted, "")
	b.wantState(young.Messages[0].ID, outcome.Accepted, "")
}

func TestMessagesBehindAGateComeForward(t *testing.T) {
	b := setup(t)
	c := b.committer(CommitterOptions{})
	park := func(kind message.Kind, why outcome.Reason) *message.Message {
		m := newMessage()
		m.Kind = kind
		b.verdict(c, m, message.NewID(time.Now()), outcome.Outcome{Status: outcome.Parked, Reason: why, Until: time.Now().Add(time.Hour)}, Effects{})
		return m
	}
	gated, quota := park(message.Template, outcome.Gate), park(message.Template, outcome.Quota)
	others := []*message.Message{park(message.Custom, outcome.Gate), park(message.Template, outcome.NotBefore)}
	n, err := b.store.BringForward(b.ctx, "shop", []message.Kind{message.Template}, 1)
	if err != nil || n != 1 {
		t.Fatalf("brought %d forward, %v, want the one that was asked for", n, err)
	}
	if n, err = b.store.BringForward(b.ctx, "shop", []message.Kind{message.Template}, 10); err != nil || n != 1 {
		t.Fatalf("brought %d forward, %v, want the other", n, err)
	}
	for _, m := range []*message.Message{gated, quota} {
		if due := b.status(m.ID).Due; due.After(time.Now()) {
			t.Errorf("%s is due %v", m.ID, due)
		}
	}
	for _, m := range others {
		if due := b.status(m.ID).Due; !due.After(time.Now()) {
			t.Errorf("%s of kind %s is due", m.ID, m.Kind)
		}
	}
}

func TestGatesKeepSince(t *testing.T) {
	b := setup(t)
	only := func() Gate {
		t.Helper()
		gates, err := b.store.Gates(b.ctx)
		if err != nil || len(gates) != 1 {
			t.Fatalf("gates %+v, %v, want one", gates, err)
		}
		return gates[0]
	}
	shut := func(state string, until time.Time) Gate {
		t.Helper()
		err := b.store.CloseGate(b.ctx, Gate{Account: "shop", API: "/cgi-bin/message/template/send", State: state, Reason: "quota", ErrCode: 45009, Detail: "reach max api daily quota limit", Until: until})
		if err != nil {
			t.Fatal(err)
		}
		return only()
	}
	later := time.Now().Add(time.Hour).Truncate(time.Microsecond)
	first := shut(GateClosed, later)
	if first.State != GateClosed || first.Account != "shop" || !first.Until.Equal(later) {
		t.Errorf("gate %+v, want it closed until %s", first, later)
	}
	if again := shut(GateClosed, later.Add(-time.Minute)); !again.Since.Equal(first.Since) || !again.Until.Equal(later) {
		t.Errorf("gate %+v, want the first since and the later until", again)
	}
	broken := shut(GateBroken, time.Time{})
	if broken.State != GateBroken || !broken.Since.After(first.Since) || !broken.Until.IsZero() {
		t.Errorf("gate %+v, want it broken since now", broken)
	}
	if still := shut(GateClosed, later); still.State != GateBroken {
		t.Errorf("gate %+v, want it to stay broken", still)
	}
	if opened, err := b.store.OpenGate(b.ctx, "shop", broken.API, first.ChangedAt); opened || err != nil {
		t.Errorf("an old probe opened the gate: %t, %v", opened, err)
	}
	if opened, err := b.store.OpenGate(b.ctx, "shop", broken.API, only().ChangedAt); !opened || err != nil {
		t.Errorf("open: %t, %v", opened, err)
	}
	if g := only(); g.State != GateOpen || g.Detail != "" {
		t.Errorf("gate %+v, want it open", g)
	}
}

func TestAGateThatAPersonClosedStaysClosed(t *testing.T) {
	b := setup(t)
	gate := Gate{Account: "shop", API: "/cgi-bin/message/template/send"}
	shut := func(state, reason string, until time.Time) Gate {
		t.Helper()
		gate.State, gate.Reason, gate.Until = state, reason, until
		if err := b.store.CloseGate(b.ctx, gate); err != nil {
			t.Fatal(err)
		}
		gates, err := b.store.Gates(b.ctx)
		if err != nil || len(gates) != 1 {
			t.Fatalf("gates %+v, %v, want one", gates, err)
		}
		return gates[0]
	}
	now := time.Now()
	first := shut(GateClosed, "wechat_errors", now.Add(-time.Minute)) // over
	byHand := shut(GateClosed, ByOperator, now.Add(time.Hour))
	if !byHand.Since.After(first.Since) {
		t.Errorf("closed since %v, want since now: its last closing was over", byHand.Since)
	}
	for what, g := range map[string]Gate{
		"a refusal":                 shut(GateBroken, "refused_account", time.Time{}),
		"a rest that is over first": shut(GateClosed, "wechat_errors", now.Add(time.Minute)),
	} {
		if g.State != GateClosed || g.Reason != ByOperator || !g.Until.Equal(byHand.Until) || !g.Since.Equal(byHand.Since) {
			t.Errorf("after %s the gate is %+v", what, g)
		}
	}
	mended := func() string {
		t.Helper()
		if err := b.store.MendGate(b.ctx, "shop", gate.API); err != nil {
			t.Fatal(err)
		}
		gates, err := b.store.Gates(b.ctx)
		if err != nil {
			t.Fatal(err)
		}
		return gates[0].State
	}
	if state := mended(); state != GateClosed {
		t.Errorf("a call that WeChat accepts made the gate %s", state)
	}
	if g := shut(GateClosed, "quota", now.Add(2*time.Hour)); g.Reason != "quota" {
		t.Errorf("a closing that ends later left %+v", g)
	}
	if g := shut(GateBroken, "refused_account", time.Time{}); g.State != GateBroken {
		t.Errorf("the gate is %+v, want it broken", g)
	}
	if g := shut(GateClosed, ByOperator, now.Add(time.Hour)); g.State != GateClosed || mended() != GateClosed {
		t.Errorf("a broken gate that a person closed is %+v", g)
	}
	_, err := b.store.OpenGate(b.ctx, "shop", gate.API, time.Time{})
	b.ok(err)
	shut(GateBroken, "refused_account", time.Time{})
	if state := mended(); state != GateOpen {
		t.Errorf("mended, the gate is %s", state)
	}
}

func TestInboundEventsKeepTheLatest(t *testing.T) {
	b := setup(t)
	at := time.Now().Truncate(time.Second)
	for _, list := range [][]Inbound{
		{{"shop", "oA", "message", at}, {"shop", "oA", "message", at.Add(time.Minute)}, {"shop", "oA", "follow", at}, {"shop", "oB", "message", at}},
		{{"shop", "oA", "message", at.Add(-time.Hour)}},
	} {
		if err := b.store.RecordInbound(b.ctx, list); err != nil {
			t.Fatal(err)
		}
	}
	got, err := b.store.LastInbound(b.ctx, "shop", "oA")
	if err != nil || len(got) != 2 || got[1].Trigger != "message" || !got[1].At.Equal(at.Add(time.Minute)) {
		t.Errorf("last %+v (%v), want follow, and the latest message", got, err)
	}
}

func TestAccountsKeepTheirNumbers(t *testing.T) {
	b := setup(t)
	id, _, err := b.store.AccountID(b.ctx, "ghost")
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := b.store.SyncAccounts(b.ctx, []Account{{"ghost", "wx1"}, {"shop", "wx2"}}); err != nil {
			t.Fatal(err)
		}
	}
	if again, name, err := b.store.AccountID(b.ctx, "wx1"); err != nil || again != id || name != "ghost" {
		t.Errorf("appid wx1 is %d %q (%v), want %d ghost", again, name, err, id)
	}
	if err := b.store.SyncAccounts(b.ctx, []Account{{"renamed", "wx1"}}); err != nil {
		t.Fatal(err)
	}
	if _, name, _ := open(t, b.url).AccountID(b.ctx, "wx1"); name != "renamed" {
		t.Errorf("appid wx1 is %q, want renamed", name)
	}
}

func TestRejectedTasksAreKeptWhole(t *testing.T) {
	b := setup(t)
	if err := b.store.Reject(b.ctx, "normal", "task", "message:send", []byte{0, 0xff}, "version 9\x00 is unknown"); err != nil {
		t.Fatal(err)
	}
	if n := b.count(`SELECT count(*) FROM rejected_task WHERE payload = '\x00ff' AND queue = 'normal'`); n != 1 {
		t.Error("the payload is not there as it came")
	}
}

// startedEarlier moves a firing to a day that has no partition any more.
func (b *bundle) startedEarlier(firing int32) {
	b.Helper()
	_, err := b.store.pool.Exec(b.ctx, `UPDATE firing SET started_at = started_at - interval '3 days' WHERE id = $1`, firing)
	b.ok(err)
}

func TestEndedCampaignsForgetTheirPeople(t *testing.T) {
	b := setup(t)
	const month = 30 * 24 * time.Hour
	old, f := b.started(10, nil)
	b.ok(b.store.EndChunk(b.ctx, b.take(b.queue(old, 1)[0]), Tally{"sent": 10}))
	_, err := b.store.EndFiring(b.ctx, OpenFiring{Firing: f})
	b.ok(err)
	b.wantCampaign(old, "done", "")
	running, _ := b.started(5, nil)
	if _, err := b.store.DropExpired(b.ctx, time.Now(), month); err != nil {
		t.Fatal(err)
	}
	if n := b.count(`SELECT count(*) FROM recipient`); n != 15 {
		t.Errorf("%d recipients before their time is over, want 15", n)
	}
	later := time.Now().Add(month + time.Hour)
	if _, err := b.store.DropExpired(b.ctx, later, month); err != nil {
		t.Fatal(err)
	}
	if n := b.count(`SELECT count(*) FROM recipient`); n != 15 {
		t.Errorf("%d recipients while the day of their messages stands, in which another firing began that is open; want 15", n)
	}
	b.startedEarlier(f.ID)
	if _, err := b.store.DropExpired(b.ctx, later, month); err != nil {
		t.Fatal(err)
	}
	if n := b.count(`SELECT count(*) FROM recipient r JOIN audience a ON a.id = r.audience WHERE a.campaign = $1`, [16]byte(running)); n != 5 || b.count(`SELECT count(*) FROM recipient`) != 5 {
		t.Errorf("%d recipients of the running campaign are left, of %d, want 5 of 5", n, b.count(`SELECT count(*) FROM recipient`))
	}
	if n := b.count(`SELECT count(*) FROM chunk`); n != 1 {
		t.Errorf("%d chunks are left, want the running campaign's", n)
	}
	b.wantCampaign(old, "done", "")
}

func TestADayStaysWhileItsFiringIsOpen(t *testing.T) {
	b := setup(t)
	c := b.committer(CommitterOptions{})
	const month = 30 * 24 * time.Hour
	id, _ := b.started(2, nil)
	run := b.take(b.queue(id, 1)[0])
	m := letter(run, b.recipients(run)[0])
	b.settle(c, m, b.claimFor(c, run, m), sent(1), Effects{})
	b.ok(b.store.GiveBackChunk(b.ctx, run)) // and it is paused for two months
	_, err := b.store.DropExpired(b.ctx, time.Now().Add(2*month), month)
	b.ok(err)
	if left := b.recipients(b.take(b.queue(id, 1)[0])); len(left) != 1 || left[0].N != 2 {
		t.Errorf("behind the pause it goes to %+v, want recipient 2, who has got nothing yet", left)
	}
}

// What a long campaign has sent this week counts for frequency caps, however long ago it began.
func TestADayStaysForAWeekBehindItsFiring(t *testing.T) {
	b := setup(t)
	c := b.committer(CommitterOptions{})
	const month = 30 * 24 * time.Hour
	id, _ := b.started(1, nil)
	run := b.take(b.queue(id, 1)[0])
	m := letter(run, b.recipients(run)[0])
	b.settle(c, m, b.claimFor(c, run, m), sent(1), Effects{})
	o := b.open(id)
	b.ok(b.store.EndChunk(b.ctx, run, Tally{"sent": 1}))
	_, err := b.store.EndFiring(b.ctx, o)
	b.ok(err)
	later := time.Now().Add(2 * month)
	day := message.Beijing(m.ID.Time()).Format("20060102")
	for _, tc := range []struct {
		ended time.Duration // before
		gone  bool
	}{{7 * 24 * time.Hour, false}, {9 * 24 * time.Hour, true}} {
		_, err := b.store.pool.Exec(b.ctx, `UPDATE firing SET ended_at = $1`, later.Add(-tc.ended))
		b.ok(err)
		dropped, err := b.store.DropExpired(b.ctx, later, month)
		b.ok(err)
		if slices.Contains(dropped, day) != tc.gone {
			t.Errorf("its firing ended %v ago: days dropped are %v, its own %s", tc.ended, dropped, day)
		}
	}
}

func TestFetchedAudiencesGoWithTheirFirings(t *testing.T) {
	b := setup(t)
	const month = 30 * 24 * time.Hour
	id := b.draft(func(s *campaign.Spec) { s.Audience = campaign.Source{Kind: campaign.FromFollowers} })
	ticks := []time.Time{time.Now().Truncate(time.Second), time.Now().Add(time.Hour).Truncate(time.Second)}
	_, err := b.store.StartCampaign(b.ctx, id, ticks[0].Add(-time.Hour), ticks[0])
	b.ok(err)
	for i, tick := range ticks {
		a := b.audience(id, 3)
		_, err := b.store.pool.Exec(b.ctx, `UPDATE audience SET tick = $2 WHERE id = $1`, a, tick)
		b.ok(err)
		_, _, err = b.store.Fire(b.ctx, id, tick, a)
		b.ok(err)
		b.ok(b.store.Ticked(b.ctx, id, tick, tick.Add(time.Hour)))
		if i == 0 {
			run := b.take(b.queue(id, 1)[0])
			o := b.open(id)
			b.ok(b.store.EndChunk(b.ctx, run, Tally{"sent": 3}))
			_, err = b.store.EndFiring(b.ctx, o)
			b.ok(err)
		}
	}
	b.ok(b.store.deleteExpired(b.ctx, time.Now(), month))
	if n := b.count(`SELECT count(*) FROM recipient`); n != 6 {
		t.Errorf("%d recipients before their time is over, want 6", n)
	}
	b.startedEarlier(b.firing(id).ID - 1)
	b.ok(b.store.deleteExpired(b.ctx, time.Now().Add(month+time.Hour), month))
	if n := b.count(`SELECT count(*) FROM recipient`); n != 3 {
		t.Errorf("%d recipients are left of a campaign that goes on, want the 3 of its open firing", n)
	}
}
