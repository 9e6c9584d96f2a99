package postgres

import (
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hongyan-dispatch/hongyan/internal/campaign"
	"github.com/hongyan-dispatch/hongyan/message"
	"github.com/hongyan-dispatch/hongyan/outcome"
)

// open is the campaign's firing as its feeder sees it.
func (b *bundle) open(id message.ID) OpenFiring {
	b.Helper()
	list, err := b.store.OpenFirings(b.ctx)
	if err != nil {
		b.Fatal(err)
	}
	i := slices.IndexFunc(list, func(f OpenFiring) bool { return f.Campaign == id })
	if i < 0 {
		b.Fatalf("campaign %s has no open firing", id)
	}
	return list[i]
}

func (b *bundle) queue(id message.ID, n int) []QueuedChunk {
	b.Helper()
	list, err := b.store.QueueChunks(b.ctx, b.open(id), n, time.Minute)
	if err != nil {
		b.Fatal(err)
	}
	slices.SortFunc(list, func(a, b QueuedChunk) int { return int(a.No - b.No) })
	return list
}

func (b *bundle) take(q QueuedChunk) *Chunk {
	b.Helper()
	c, err := b.store.TakeChunk(b.ctx, q.Firing, q.No, 7, time.Minute)
	if err != nil {
		b.Fatal(err)
	}
	return c
}

func (b *bundle) recipients(c *Chunk) []Recipient {
	b.Helper()
	list, err := b.store.ChunkRecipients(b.ctx, c)
	if err != nil {
		b.Fatal(err)
	}
	return list
}

func (b *bundle) ok(err error) {
	b.Helper()
	if err != nil {
		b.Fatal(err)
	}
}

func (b *bundle) settleChunks(f OpenFiring) (closed int) {
	b.Helper()
	closed, err := b.store.SettleChunks(b.ctx, f, 10)
	b.ok(err)
	return closed
}

// chunkStates are the states of a firing's chunks, in order.
func (b *bundle) chunkStates(f OpenFiring) string {
	b.Helper()
	return strings.Join(b.strings(`SELECT state FROM chunk WHERE firing = $1 ORDER BY no`, f.ID), " ")
}

// letter is the message to a recipient.
func letter(c *Chunk, r Recipient) *message.Message {
	m := newMessage()
	m.ID, m.Firing, m.N, m.To, m.Lane = campaign.MessageID(c.StartedAt, c.Firing, r.N), c.Firing, r.N, r.OpenID, message.Bulk
	return m
}

func TestAChunkHasOneRunAtATime(t *testing.T) {
	b := setup(t)
	id, _ := b.started(1100, nil)
	queued := b.queue(id, 2)
	if len(queued) != 2 || queued[0].No != 1 || queued[1].No != 2 || queued[0].Account != "shop" || queued[0].Kind != message.Template {
		t.Fatalf("queued %+v", queued)
	}
	if f := b.open(id); f.Busy != 2 {
		t.Errorf("%d chunks are busy, want 2", f.Busy)
	}
	first := b.take(queued[0])
	if first == nil || first.First != 1 || first.Last != 500 || first.Fence != 1 || first.State != campaign.Running || first.Campaign != id {
		t.Fatalf("took %+v", first)
	}
	if twin := b.take(queued[0]); twin != nil {
		t.Fatal("a second run began beside the first")
	}
	if state, err := b.store.KeepChunk(b.ctx, first, time.Minute); err != nil || state != campaign.Running {
		t.Errorf("keep: %s, %v", state, err)
	}
	list := b.recipients(first)
	if len(list) != 500 || list[0].N != 1 || list[499].OpenID != "oAudience0000000000000000500" || !slices.Equal(list[1].Vars, []string{"name 2"}) {
		t.Fatalf("%d recipients, first %+v, last %+v", len(list), list[0], list[len(list)-1])
	}

	// Its worker falls silent.
	_, err := b.store.pool.Exec(b.ctx, `UPDATE chunk SET until = now() - interval '1 second' WHERE no = 1`)
	b.ok(err)
	freed, err := b.store.FreeChunks(b.ctx, b.open(id))
	if err != nil || freed != 1 {
		t.Fatalf("freed %d, %v, want 1", freed, err)
	}
	if state, err := b.store.KeepChunk(b.ctx, first, time.Minute); err != nil || state != "" {
		t.Errorf("keep a chunk that was freed: %s, %v", state, err)
	}
	if stale := b.take(queued[0]); stale != nil {
		t.Error("the lost run's task begins another run")
	}
	again := b.queue(id, 1)
	if len(again) != 1 || again[0].No != 1 || again[0].Run == queued[0].Run {
		t.Fatalf("queued again %+v, first as %+v: want the same chunk under another run", again, queued[0])
	}
	second := b.take(again[0])
	b.ok(b.store.EndChunk(b.ctx, first, Tally{"sent": 1})) // the first run wakes up
	b.ok(b.store.GiveBackChunk(b.ctx, first))
	if states := b.chunkStates(b.open(id)); states != "running queued waiting" {
		t.Errorf("chunks are %s: a lost run wrote", states)
	}
	b.ok(b.store.GiveBackChunk(b.ctx, second))
	if states := b.chunkStates(b.open(id)); states != "waiting queued waiting" {
		t.Errorf("chunks are %s after one was given back", states)
	}
}

func TestTheNextRunFindsWhatTheLastHasDone(t *testing.T) {
	b := setup(t)
	c := b.committer(CommitterOptions{})
	id, f := b.started(5, nil)
	run := b.take(b.queue(id, 1)[0])
	list := b.recipients(run)
	done := letter(run, list[0])
	b.settle(c, done, b.claimFor(c, run, done), sent(1), Effects{})
	refused := letter(run, list[1])
	b.verdictFor(c, run, refused, outcome.Outcome{Status: outcome.Failed, Reason: outcome.Invalid})
	parked := letter(run, list[2])
	b.settle(c, parked, b.claimFor(c, run, parked), outcome.Outcome{Status: outcome.Parked, Reason: outcome.Backoff, Until: time.Now().Add(time.Hour)}, Effects{})
	b.ok(b.store.GiveBackChunk(b.ctx, run))

	run = b.take(b.queue(id, 1)[0])
	rest := b.recipients(run)
	if len(rest) != 2 || rest[0].N != 4 || rest[1].N != 5 {
		t.Fatalf("left are %+v, want 4 and 5", rest)
	}
	for _, r := range rest {
		m := letter(run, r)
		b.settle(c, m, b.claimFor(c, run, m), sent(2), Effects{})
	}
	b.ok(b.store.EndChunk(b.ctx, run, nil))
	if n := b.count(`SELECT count(*) FROM outcomes WHERE campaign_id = $1 AND recipient LIKE 'oAudience%'`, [16]byte(id)); n != 5 {
		t.Errorf("the view has %d of the campaign's messages, want 5", n)
	}
	if n := b.count(`SELECT count(*) FROM message WHERE firing = $1 AND n BETWEEN 1 AND 5`, f.ID); n != 5 {
		t.Errorf("%d messages have firing and n, want 5", n)
	}

	// One is parked: the chunk, and so the firing, is not done.
	o := b.open(id)
	b.settleChunks(o)
	if ended, err := b.store.EndFiring(b.ctx, o); ended || err != nil || b.chunkStates(o) != "settling" {
		t.Fatalf("with a parked message: ended %v, %v, chunks %s", ended, err, b.chunkStates(o))
	}
	_, err := b.store.Cancel(b.ctx, parked.ID)
	b.ok(err)
	b.settleChunks(o)
	if ended, err := b.store.EndFiring(b.ctx, o); !ended || err != nil {
		t.Fatalf("with none: ended %v, %v, chunks %s", ended, err, b.chunkStates(o))
	}
	if tally := b.strings(`SELECT tally::text FROM chunk`)[0]; tally != `{"sent": 3, "failed invalid": 1, "cancelled cancelled": 1}` {
		t.Errorf("tally is %s", tally)
	}
	b.wantCampaign(id, campaign.Done, "")
}

func TestACancelledCampaignEndsWhatIsParked(t *testing.T) {
	b := setup(t)
	c := b.committer(CommitterOptions{})
	id, _ := b.started(2, nil)
	run := b.take(b.queue(id, 1)[0])
	for _, r := range b.recipients(run) {
		m := letter(run, r)
		b.settle(c, m, b.claimFor(c, run, m), outcome.Outcome{Status: outcome.Parked, Reason: outcome.Backoff, Until: time.Now()}, Effects{Doubt: r.N == 2})
	}
	b.ok(b.store.EndChunk(b.ctx, run, nil))
	other := newMessage() // not the campaign's
	b.verdict(c, other, message.ID{}, outcome.Outcome{Status: outcome.Parked, Reason: outcome.Pace, Until: time.Now()}, Effects{})
	_, err := b.store.MoveCampaign(b.ctx, id, campaign.Cancel, "")
	b.ok(err)
	o := b.open(id)
	b.settleChunks(o)
	if ended, err := b.store.EndFiring(b.ctx, o); !ended || err != nil {
		t.Fatalf("ended %v, %v", ended, err)
	}
	if got := b.strings(`SELECT state || ' ' || reason FROM message WHERE firing > 0 ORDER BY n`); !slices.Equal(got, []string{"cancelled cancelled", "unknown in_doubt"}) {
		t.Errorf("messages ended %v", got)
	}
	if n := b.count(`SELECT count(*) FROM parked`); n != 1 {
		t.Errorf("%d messages are parked, want the other one", n)
	}
	b.wantCampaign(id, campaign.Cancelled, "")
}

func TestACancelEndsWhatNobodyHasBegunWith(t *testing.T) {
	b := setup(t)
	c := b.committer(CommitterOptions{})
	id, _ := b.started(2300, func(s *campaign.Spec) { s.Labels = map[string]string{"season": "11"} })
	run := b.take(b.queue(id, 1)[0])
	first := letter(run, b.recipients(run)[0])
	b.settle(c, first, b.claimFor(c, run, first), sent(1), Effects{})
	b.ok(b.store.GiveBackChunk(b.ctx, run))
	_, err := b.store.MoveCampaign(b.ctx, id, campaign.Cancel, "")
	b.ok(err)
	o := b.open(id)
	for _, want := range [][2]int{{3, 1499}, {2, 800}, {0, 0}} {
		if n, messages, err := b.store.CancelWaiting(b.ctx, o, 3); n != want[0] || messages != want[1] || err != nil {
			t.Fatalf("%d chunks with %d messages were cancelled, %v, want %v", n, messages, err, want)
		}
	}
	if states := b.chunkStates(o); states != "settling done done done done" {
		t.Errorf("chunks are %s, want the one that was begun to be counted", states)
	}
	if stale := b.take(QueuedChunk{Firing: o.ID, No: 1}); stale != nil {
		t.Error("a cancelled chunk has another run")
	}
	late := letter(run, Recipient{N: 2, OpenID: "oAudience0000000000000000002"}) // of a worker that had fallen silent
	if claim := b.claimFor(c, run, late); claim.OK {
		t.Error("a cancelled message is claimed")
	}
	b.settleChunks(o)
	if ended, err := b.store.EndFiring(b.ctx, o); !ended || err != nil {
		t.Fatalf("ended %v, %v", ended, err)
	}
	b.wantProgress(id, 0, Tally{"sent": 1, "cancelled cancelled": 2299})
	got := b.strings(`SELECT DISTINCT format('%s %s %s', o.status, o.reason, o.labels) FROM outcomes o JOIN event e ON e.message_id = o.id
		WHERE campaign_id = $1 AND status = 'cancelled' AND recipient LIKE 'oAudience%' AND e.state = 'cancelled' AND sent_at IS NULL AND finished_at > accepted_at`, [16]byte(id))
	if n := b.count(`SELECT count(*) FROM outcomes WHERE status = 'cancelled'`); n != 2299 || !slices.Equal(got, []string{`cancelled cancelled {"season": "11"}`}) {
		t.Errorf("%d messages are cancelled, such as %q", n, got)
	}
}

func TestQueuedChunksThatAreLostComeBack(t *testing.T) {
	b := setup(t)
	id, _ := b.started(600, nil)
	queued := b.queue(id, 5)
	if list, err := b.store.LongQueued(b.ctx, b.open(id)); err != nil || len(list) > 0 {
		t.Fatalf("queued just now, and looked for: %v, %v", list, err)
	}
	_, err := b.store.pool.Exec(b.ctx, `UPDATE chunk SET until = now() WHERE no = 2`)
	b.ok(err)
	long, err := b.store.LongQueued(b.ctx, b.open(id))
	b.ok(err)
	lost, err := b.store.Requeue(b.ctx, b.open(id), long, time.Minute)
	if err != nil || len(lost) != 1 || lost[0].No != 2 || lost[0].Run == queued[1].Run {
		t.Fatalf("lost are %+v, %v, queued were %+v", lost, err, queued)
	}
	if again, err := b.store.Requeue(b.ctx, b.open(id), long, time.Minute); err != nil || len(again) > 0 {
		t.Errorf("what was queued again is queued once more: %v, %v", again, err)
	}
	if b.take(queued[1]) == nil || b.take(lost[0]) != nil {
		t.Error("of two tasks of a chunk not exactly the first ran")
	}
}

func TestAChunkThatOutlivesItsWorkersPausesItsCampaign(t *testing.T) {
	b := setup(t)
	id, _ := b.started(3, nil)
	for i := range MaxLost {
		b.wantCampaign(id, campaign.Running, "")
		b.take(b.queue(id, 1)[0])
		_, err := b.store.pool.Exec(b.ctx, `UPDATE chunk SET until = 'epoch' WHERE state = 'running'`)
		b.ok(err)
		if freed, err := b.store.FreeChunks(b.ctx, b.open(id)); freed != 1 || err != nil {
			t.Fatalf("death %d: freed %d, %v", i+1, freed, err)
		}
	}
	b.wantCampaign(id, campaign.Paused, "a chunk has lost its worker 5 times")
}

func TestACanaryGoesFirst(t *testing.T) {
	b := setup(t)
	id, _ := b.started(50, func(s *campaign.Spec) { s.Canary = 5 })
	o := b.open(id)
	if !o.Canary {
		t.Fatal("the firing has no canary")
	}
	run := b.take(b.queue(id, 1)[0])
	if run.First != 1 || run.Last != 5 {
		t.Fatalf("the first chunk is %d to %d, want 1 to 5", run.First, run.Last)
	}
	if done, err := b.store.CanaryDone(b.ctx, o); done || err != nil {
		t.Fatalf("done before it was sent: %v, %v", done, err)
	}
	b.ok(b.store.EndChunk(b.ctx, run, Tally{"sent": 5}))
	if more := b.queue(id, 1); len(more) > 0 {
		t.Errorf("before the look %+v are queued", more)
	}
	if done, err := b.store.CanaryDone(b.ctx, o); !done || err != nil {
		t.Fatalf("not done: %v, %v", done, err)
	}
	b.wantCampaign(id, campaign.Paused, "the canary was sent; resume when it is well")
	_, err := b.store.MoveCampaign(b.ctx, id, campaign.Resume, "")
	b.ok(err)
	if b.open(id).Canary {
		t.Error("after the look the rest does not go")
	}
}

func TestACanaryThatWasPausedIsStillToCome(t *testing.T) {
	b := setup(t)
	id, _ := b.started(50, func(s *campaign.Spec) { s.Canary = 5 })
	run := b.take(b.queue(id, 1)[0])
	move := func(v campaign.Verb) {
		t.Helper()
		_, err := b.store.MoveCampaign(b.ctx, id, v, "")
		b.ok(err)
	}
	move(campaign.Pause)
	b.ok(b.store.GiveBackChunk(b.ctx, run))
	move(campaign.Resume)
	o := b.open(id)
	if !o.Canary {
		t.Fatal("after a pause in its midst the canary is over, and nobody has looked at it")
	}
	again := b.queue(id, 9)
	if len(again) != 1 || again[0].No != 0 {
		t.Fatalf("queued %+v, want the canary alone", again)
	}
	b.ok(b.store.EndChunk(b.ctx, b.take(again[0]), nil))
	if done, err := b.store.CanaryDone(b.ctx, o); !done || err != nil {
		t.Fatalf("not done: %v, %v", done, err)
	}
	move(campaign.Resume)
	if b.open(id).Canary {
		t.Error("after the look the rest does not go")
	}
}

func TestACancelEndsWhatIsOnItsWayToAWorker(t *testing.T) {
	b := setup(t)
	c := b.committer(CommitterOptions{})
	id, _ := b.started(3, nil)
	run := b.take(b.queue(id, 1)[0])
	var letters []*message.Message
	for _, r := range b.recipients(run) {
		m := letter(run, r)
		letters = append(letters, m)
		b.settle(c, m, b.claimFor(c, run, m), outcome.Outcome{Status: outcome.Parked, Reason: outcome.Backoff, Until: time.Now().Add(-time.Second)}, Effects{})
	}
	b.ok(b.store.EndChunk(b.ctx, run, nil))
	parcels := b.release(2, time.Now()) // and Redis loses them
	if len(parcels) == 0 {
		t.Fatal("nothing was released")
	}
	_, err := b.store.MoveCampaign(b.ctx, id, campaign.Cancel, "")
	b.ok(err)
	b.settleChunks(b.open(id))
	for _, m := range letters {
		b.wantState(m.ID, outcome.Cancelled, outcome.ReasonCancelled)
	}
	for _, p := range parcels {
		if claim := b.claim(c, p.Messages[0], p.ID); claim.OK {
			t.Errorf("a message of the cancelled campaign is claimed: %+v", claim)
		}
	}
}

func TestAScheduledCampaignWaitsForItsNextTick(t *testing.T) {
	b := setup(t)
	id := b.draft(nil)
	b.audience(id, 1)
	tick := time.Now().Truncate(time.Second)
	_, err := b.store.StartCampaign(b.ctx, id, tick.Add(-time.Hour), tick)
	b.ok(err)
	_, _, err = b.store.Fire(b.ctx, id, tick, 0)
	b.ok(err)
	b.ok(b.store.Ticked(b.ctx, id, tick, tick.Add(time.Hour)))
	run := b.take(b.queue(id, 1)[0])
	o := b.open(id)
	b.ok(b.store.EndChunk(b.ctx, run, Tally{"sent": 1}))
	ended, err := b.store.EndFiring(b.ctx, o)
	if !ended || err != nil {
		t.Fatalf("ended %v, %v", ended, err)
	}
	b.wantCampaign(id, campaign.Scheduled, "")
	_, _, err = b.store.Fire(b.ctx, id, tick.Add(time.Hour), 0)
	b.ok(err)
	b.ok(b.store.Ticked(b.ctx, id, tick.Add(time.Hour), time.Time{}))
	run = b.take(b.queue(id, 1)[0])
	o = b.open(id)
	b.ok(b.store.EndChunk(b.ctx, run, Tally{"sent": 1}))
	_, err = b.store.EndFiring(b.ctx, o)
	b.ok(err)
	b.wantCampaign(id, campaign.Done, "")
	if n := b.count(`SELECT count(DISTINCT id) FROM firing`); n != 2 {
		t.Errorf("%d firings, want 2", n)
	}
}

func TestTalliesAreOneWord(t *testing.T) {
	got := Tally{}
	for _, o := range []outcome.Outcome{sent(1), {Status: outcome.Failed, Reason: outcome.Invalid}, {Status: outcome.Failed, Reason: outcome.Invalid}} {
		got[TallyKey(o.Status, o.Reason)]++
	}
	if want := (Tally{"sent": 1, "failed invalid": 2}); !maps.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestACampaignThatEndsAtItsCanaryIsSettled(t *testing.T) {
	b := setup(t)
	id, _ := b.started(50, func(s *campaign.Spec) { s.Canary = 5 })
	b.queue(id, 2)
	_, err := b.store.MoveCampaign(b.ctx, id, campaign.Cancel, "the canary looks ill")
	b.ok(err)
	if left := b.queue(id, 2); len(left) != 1 || left[0].No != 1 {
		t.Errorf("queued %v of a cancelled campaign, want what is behind the canary", left)
	}
}
