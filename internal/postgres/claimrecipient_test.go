package postgres

import (
	"context"
	"testing"
	"time"

	"github.com/hongyan-dispatch/hongyan/internal/campaign"
	"github.com/hongyan-dispatch/hongyan/message"
	"github.com/hongyan-dispatch/hongyan/outcome"
)

var refusedByUser = outcome.Outcome{Status: outcome.Failed, Reason: outcome.RefusedRecipient, ErrCode: 43004}

// lose gives the run's chunk to another run: its worker has fallen silent.
func (b *bundle) lose(id message.ID, run *Chunk) *Chunk {
	b.Helper()
	_, err := b.store.pool.Exec(b.ctx, `UPDATE chunk SET until = now() - interval '1 second' WHERE firing = $1 AND no = $2`, run.Firing, run.No)
	b.ok(err)
	_, err = b.store.FreeChunks(b.ctx, b.open(id))
	b.ok(err)
	return b.take(b.queue(id, 1)[0])
}

// wantLeft checks whom a run still finds to be sent to.
func (b *bundle) wantLeft(run *Chunk, want ...int32) {
	b.Helper()
	list := b.recipients(run)
	for i, r := range list {
		if i >= len(want) || r.N != want[i] {
			b.Fatalf("left are %+v, want %v", list, want)
		}
	}
	if len(list) != len(want) {
		b.Fatalf("left are %+v, want %v", list, want)
	}
}

// Whom one run has claimed the next leaves alone, whether that is settled, goes on, or is left to the reconciler.
func TestTheNextRunLeavesWhoIsInFlight(t *testing.T) {
	b := setup(t)
	c := b.committer(CommitterOptions{})
	id, f := b.started(4, nil)
	run := b.take(b.queue(id, 1)[0])
	var letters []*message.Message
	for _, r := range b.recipients(run) {
		letters = append(letters, letter(run, r))
	}
	first, second := b.claimFor(c, run, letters[0]), b.claimFor(c, run, letters[1])
	if n := b.count(`SELECT count(*) FROM message WHERE firing = $1`, f.ID); n != 0 {
		t.Errorf("%d messages have rows before they are settled", n)
	}
	b.wantProgress(id, 2, Tally{"sending": 2})

	if s := b.wantState(letters[0].ID, outcome.Sending, ""); s.Message.To != letters[0].To || s.Claim != 1 || s.Intent.IsZero() {
		t.Errorf("status %+v", s)
	}
	if r, err := b.store.Cancel(b.ctx, letters[0].ID); err != nil || r != (CancelResult{State: outcome.Sending}) {
		t.Errorf("cancel: %+v, %v", r, err)
	}

	next := b.lose(id, run)
	b.wantLeft(next, 3, 4)
	if claim := b.claimFor(c, run, letters[2]); claim.OK || claim.Verdict != nil {
		t.Errorf("the lost run claims: %+v", claim)
	}
	if b.verdictFor(c, run, letters[3], outcome.Outcome{Status: outcome.Skipped, Reason: outcome.Suppressed}) {
		t.Error("the lost run decides")
	}
	b.wantLeft(next, 3, 4)
	if !b.settle(c, letters[0], first, sent(1), Effects{}) || !b.settle(c, letters[1], second, refusedByUser, Effects{}) {
		t.Error("what the lost run had claimed is not its to settle")
	}
	b.wantState(letters[0].ID, outcome.Sent, "")
	b.wantState(letters[1].ID, outcome.Failed, outcome.RefusedRecipient)

	third := b.claimFor(c, next, letters[2])
	b.ok(b.store.EndChunk(b.ctx, next, nil))
	if closed := b.settleChunks(b.open(id)); closed != 0 {
		t.Error("a chunk is counted while one of its recipients is in flight")
	}
	b.settle(c, letters[2], third, sent(3), Effects{})
	b.settleChunks(b.open(id))
	if tally := b.strings(`SELECT tally::text FROM chunk`)[0]; tally != `{"sent": 2, "failed refused_recipient": 1}` {
		t.Errorf("tally is %s", tally)
	}
	if n := b.count(`SELECT count(*) FROM in_flight`); n != 0 {
		t.Errorf("%d rows of claims in flight are left", n)
	}
}

// together claims the letters in one batch.
func (b *bundle) together(c *Committer, run *Chunk, letters ...*message.Message) []Claim {
	b.Helper()
	b.claim(c, newMessage(), message.ID{}) // the session is open from here on
	tx, err := b.store.pool.Begin(b.ctx)
	b.ok(err)
	defer tx.Rollback(context.WithoutCancel(b.ctx))
	_, err = tx.Exec(b.ctx, `LOCK TABLE in_flight IN ACCESS EXCLUSIVE MODE`)
	b.ok(err)
	plug := make(chan error, 1)
	go func() {
		_, err := c.Claim(b.ctx, newMessage(), message.ID{})
		plug <- err
	}()
	b.waitForLockWaiters(1)
	claims := make([]Claim, len(letters))
	answers := make(chan error, len(letters))
	for i, m := range letters {
		c.ClaimRecipientLater(b.ctx, m, run, func(claim Claim, err error) { claims[i] = claim; answers <- err })
	}
	b.ok(tx.Rollback(b.ctx))
	b.ok(<-plug)
	for range letters {
		b.ok(<-answers)
	}
	return claims
}

// A call that hangs keeps the line of its batch: those who were claimed with it and have an outcome count once.
func TestWhoIsSettledIsNotInFlight(t *testing.T) {
	b := setup(t)
	c := b.committer(CommitterOptions{})
	id, _ := b.started(4, nil)
	run := b.take(b.queue(id, 1)[0])
	var letters []*message.Message
	var users []message.OpenID
	for _, r := range b.recipients(run) {
		letters, users = append(letters, letter(run, r)), append(users, r.OpenID)
	}
	claims := b.together(c, run, letters[:3]...)
	b.settle(c, letters[0], claims[0], sent(1), Effects{})
	b.settle(c, letters[1], claims[1], refusedByUser, Effects{})
	if n := b.count(`SELECT count(*) FROM claimed`); n != 1 {
		t.Errorf("%d are in flight, want 1", n)
	}
	b.wantProgress(id, 1, Tally{"sent": 1, "failed refused_recipient": 1, "sending": 1})
	got, err := b.store.CampaignSends(b.ctx, "shop", users, time.Now().Add(-time.Minute), false)
	if err != nil || len(got) != 2 {
		t.Errorf("sent, or may be sent: %+v, %v, want the first and the third", got, err)
	}
	b.verdictFor(c, run, letters[3], outcome.Outcome{Status: outcome.Skipped, Reason: outcome.Suppressed})
	b.ok(b.store.EndChunk(b.ctx, run, nil))
	b.settleChunks(b.open(id))
	b.wantProgress(id, 0, Tally{"sent": 1, "failed refused_recipient": 1, "skipped suppressed": 1, "sending": 1})
	b.settle(c, letters[2], claims[2], sent(3), Effects{})
	b.settleChunks(b.open(id))
	b.wantProgress(id, 0, Tally{"sent": 2, "failed refused_recipient": 1, "skipped suppressed": 1})
}

// However many recipients a lost run still asks for, it costs the others one transaction more.
func TestALostRunCostsOneTransaction(t *testing.T) {
	b := setup(t)
	refused := 0
	c := b.committer(CommitterOptions{Failed: func(error, int) { refused++ }})
	id, _ := b.started(1000, nil)
	list := b.queue(id, 2)
	run, other := b.take(list[0]), b.take(list[1])
	var letters []*message.Message
	for _, r := range b.recipients(run)[:50] {
		letters = append(letters, letter(run, r))
	}
	b.lose(id, run)
	for i, claim := range b.together(c, run, letters...) {
		if claim.OK {
			t.Errorf("recipient %d of the lost run is granted", i+1)
		}
	}
	m := letter(other, b.recipients(other)[0])
	if claim := b.claimFor(c, other, m); !claim.OK || refused > 1 {
		t.Errorf("the other run's claim: %+v; %d transactions failed", claim, refused)
	}
}

// A run that is taken over while its claim is being committed either has it, and the next run sees that, or has it not.
func TestATakeoverWaitsForTheClaim(t *testing.T) {
	b := setup(t)
	c := b.committer(CommitterOptions{})
	id, _ := b.started(1, nil)
	run := b.take(b.queue(id, 1)[0])
	m := letter(run, b.recipients(run)[0])
	_, err := b.store.pool.Exec(b.ctx, `UPDATE chunk SET until = now() - interval '1 second'`)
	b.ok(err)

	b.claim(c, newMessage(), message.ID{}) // the session is open from here on
	tx, err := b.store.pool.Begin(b.ctx)   // holds the claim's transaction up behind the chunk, which it has
	b.ok(err)
	defer tx.Rollback(context.WithoutCancel(b.ctx))
	_, err = tx.Exec(b.ctx, `LOCK TABLE in_flight IN ACCESS EXCLUSIVE MODE`)
	b.ok(err)
	claimed, taken := make(chan Claim, 1), make(chan *Chunk, 1)
	go func() {
		claim, _ := c.ClaimRecipient(b.ctx, m, run)
		claimed <- claim
	}()
	b.waitForLockWaiters(1)
	go func() {
		next, _ := b.store.TakeChunk(b.ctx, run.Firing, run.No, 8, time.Minute)
		taken <- next
	}()
	b.waitForLockWaiters(2)
	b.ok(tx.Commit(b.ctx))
	if claim := <-claimed; !claim.OK {
		t.Fatal("the claim, which came first, was refused")
	}
	next := <-taken
	if next == nil {
		t.Fatal("the chunk was not taken")
	}
	b.wantLeft(next)
}

// Who is in flight when the campaign is cancelled ends as the call does.
func TestACancelLeavesWhoIsInFlight(t *testing.T) {
	b := setup(t)
	c := b.committer(CommitterOptions{})
	id, _ := b.started(3, nil)
	run := b.take(b.queue(id, 1)[0])
	m := letter(run, b.recipients(run)[1])
	claim := b.claimFor(c, run, m)
	b.ok(b.store.GiveBackChunk(b.ctx, run))
	_, err := b.store.MoveCampaign(b.ctx, id, campaign.Cancel, "")
	b.ok(err)
	o := b.open(id)
	if n, messages, err := b.store.CancelWaiting(b.ctx, o, 10); n != 1 || messages != 2 || err != nil {
		t.Errorf("%d chunks with %d messages were cancelled, %v, want 1 with 2", n, messages, err)
	}
	if !b.settle(c, m, claim, sent(7), Effects{}) {
		t.Error("the message that was on the wire is not told as sent")
	}
	b.settleChunks(o)
	b.wantProgress(id, 0, Tally{"cancelled cancelled": 2, "sent": 1})
}

// A receipt that names no msgid may be of a message that is just being sent: nothing is inferred from it meanwhile.
func TestNothingIsInferredWhileARecipientIsInFlight(t *testing.T) {
	b := setup(t)
	c := b.committer(CommitterOptions{})
	id, _ := b.started(1, nil)
	run := b.take(b.queue(id, 1)[0])
	m := letter(run, b.recipients(run)[0])
	earlier, now := newMessage(), time.Now()
	earlier.To = m.To
	b.settle(c, earlier, b.claim(c, earlier, message.ID{}), outcome.Outcome{Status: outcome.Unknown, Reason: outcome.InDoubt}, Effects{})
	claim := b.claimFor(c, run, m)
	r := report(m, realMsgID, now.Add(time.Second))
	b.receive(r)
	if joined := b.joinAt(now.Add(2 * time.Second)); len(joined) != 0 {
		t.Fatalf("joined %+v: the receipt may be the other's", joined)
	}
	b.settle(c, m, claim, sent(realMsgID), Effects{})
	if joined := b.joinAt(now.Add(4 * time.Second)); len(joined) != 1 || joined[0].Message != m.ID || joined[0].Inferred {
		t.Errorf("joined %+v, want the campaign's message, surely", joined)
	}
	b.wantState(earlier.ID, outcome.Unknown, outcome.InDoubt)
}

// One row that is there, of one that the reconciler took for lost, holds up no others.
func TestALostClaimHoldsUpNoOthers(t *testing.T) {
	b := setup(t)
	c := b.committer(CommitterOptions{})
	id, _ := b.started(3, nil)
	run := b.take(b.queue(id, 1)[0])
	letters := make([]*message.Message, 3)
	claims := make([]Claim, 3)
	for i, r := range b.recipients(run) {
		letters[i] = letter(run, r)
		claims[i] = b.claimFor(c, run, letters[i])
		if i == 0 {
			b.silence(c.pod)
			b.resolve(outcome.Outcome{Status: outcome.Unknown, Reason: outcome.InDoubt})
		}
	}
	took := make(chan bool, 3)
	tx := b.locks(letters[0]) // so that the three are settled together
	for i, m := range letters {
		c.SettleLater(b.ctx, m, claims[i], sent(int64(i+1)), Effects{}, func(ok bool, err error) { took <- ok && err == nil })
	}
	b.ok(tx.Rollback(b.ctx))
	n := 0
	for range letters {
		if <-took {
			n++
		}
	}
	if n != 3 { // the first by its evidence: what was unknown was sent
		t.Errorf("%d settles took effect, want 3", n)
	}
	for _, m := range letters {
		b.wantState(m.ID, outcome.Sent, "")
	}
	if notes := b.strings(`SELECT note FROM event WHERE message_id = $1 ORDER BY at`, [16]byte(letters[0].ID)); len(notes) != 2 {
		t.Errorf("its timeline says %q, want the death of its worker, and the late result", notes)
	}
}

// A settle that nobody waits for says so when it cannot be written.
func TestSettleLaterAnswersOnce(t *testing.T) {
	b := setup(t)
	pod, err := b.store.StartPod(b.ctx, "pod", "test")
	b.ok(err)
	c := b.store.NewCommitter(pod.ID, CommitterOptions{})
	stop := run(t, c)
	m := newMessage()
	claim := b.claim(c, m, message.ID{})
	b.ok(stop())
	answers := 0
	later := func(o outcome.Outcome) (err error) {
		c.SettleLater(b.ctx, m, claim, o, Effects{}, func(_ bool, e error) { answers, err = answers+1, e })
		return err
	}
	if err := later(sent(1)); err == nil {
		t.Error("a committer that has stopped settles")
	}
	if err := later(outcome.Outcome{Status: outcome.Accepted}); err == nil {
		t.Error("accepted is no outcome")
	}
	if answers != 2 {
		t.Errorf("%d answers, want 2", answers)
	}
}

// A claim whose commit's answer was lost is granted if it was committed, and a settle is not repeated.
func TestARecipientsLostCommitIsRecalled(t *testing.T) {
	b := setup(t)
	m, through := newMute(t, b.url)
	store := open(t, through)
	pod, err := store.StartPod(b.ctx, "pod", "test")
	b.ok(err)
	c := store.NewCommitter(pod.ID, CommitterOptions{})
	run(t, c)
	b.claim(c, newMessage(), message.ID{}) // the session is open from here on
	id, _ := b.started(1, nil)
	chunk := b.take(b.queue(id, 1)[0])
	to := letter(chunk, b.recipients(chunk)[0])
	lose := func() {
		m.skip.Store(0)
		m.armed.Store(true)
	}
	lose()
	claim := b.claimFor(c, chunk, to)
	if !claim.OK || claim.Number != 1 || claim.Intent.IsZero() || m.lost.Load() != 1 {
		t.Fatalf("claim %+v, %d answers lost", claim, m.lost.Load())
	}
	lose()
	if !b.settle(c, to, claim, sent(7), Effects{}) || m.lost.Load() != 2 {
		t.Errorf("the settle that was committed reports no effect; %d answers lost", m.lost.Load())
	}
	if s := b.wantState(to.ID, outcome.Sent, ""); s.MsgID != 7 || len(s.Timeline) != 0 {
		t.Errorf("status %+v", s)
	}
}
