package postgres

import (
	"encoding/json"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hongyan-dispatch/hongyan/message"
	"github.com/hongyan-dispatch/hongyan/outcome"
)

func TestAMessageIsClaimedOnceAndSettled(t *testing.T) {
	for name, accepted := range map[string]bool{"accepted": true, "handed over": false} {
		t.Run(name, func(t *testing.T) {
			b := setup(t)
			c := b.committer(CommitterOptions{})
			p := newParcel(1)
			m := p.Messages[0]
			if accepted {
				b.accept(p)
			}
			claim := b.claim(c, m, p.ID)
			if !claim.OK || claim.Number != 1 || claim.Attempt != 1 || claim.Doubt || claim.FirstIntent != claim.Intent || time.Since(claim.Intent) > time.Minute {
				t.Fatalf("claim %+v, want the first, granted now", claim)
			}
			if again := b.claim(c, m, p.ID); again.OK || again.Verdict != nil {
				t.Errorf("second claim %+v, want it refused", again)
			}
			if n := b.count(`SELECT count(*) FROM in_flight WHERE ids = ARRAY[$1::uuid]`, [16]byte(m.ID)); n == 0 {
				t.Error("the claim is not in flight")
			}
			if !b.settle(c, m, claim, sent(42), Effects{}) {
				t.Error("the settle took no effect")
			}
			s := b.wantState(m.ID, outcome.Sent, "")
			if s.MsgID != 42 || s.Finished.IsZero() || len(s.Timeline) != 0 || string(s.Message.Body) != string(m.Body) {
				t.Errorf("status %+v, want msgid 42, an end, its body, and no event for the plain case", s)
			}
			if again := b.claim(c, m, p.ID); again.OK {
				t.Error("a message that was sent was claimed")
			}
		})
	}
}

func TestSettledFlightsLeaveNoRow(t *testing.T) {
	b := setup(t)
	pod, err := b.store.StartPod(b.ctx, "pod", "test")
	if err != nil {
		t.Fatal(err)
	}
	c := b.store.NewCommitter(pod.ID, CommitterOptions{})
	stop := run(t, c)
	p := newParcel(20)
	b.accept(p)
	var wg sync.WaitGroup
	for _, m := range p.Messages {
		wg.Go(func() {
			claim, err := c.Claim(b.ctx, m, p.ID)
			if err != nil {
				t.Error(err)
				return
			}
			if _, err := c.Settle(b.ctx, m, claim, sent(1), Effects{}); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	b.claim(c, p.Messages[0], p.ID) // refused: its batch holds nothing
	c.ParcelDone(p.ID)
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	if n := b.count(`SELECT count(*) FROM in_flight`); n != 0 {
		t.Errorf("%d rows in flight, want 0", n)
	}
	if n := b.count(`SELECT count(*) FROM parcel`); n != 0 {
		t.Errorf("%d parcels in the outbox, want 0", n)
	}
	if _, err := c.Claim(b.ctx, p.Messages[0], p.ID); !errors.Is(err, ErrStopped) {
		t.Errorf("claim after the end: %v, want ErrStopped", err)
	}
}

func TestTwoCommittersShareAParcelWithoutClaimingTwice(t *testing.T) {
	for name, accepted := range map[string]bool{"accepted": true, "handed over": false} {
		t.Run(name, func(t *testing.T) {
			b := setup(t)
			one, two := b.committer(CommitterOptions{}), b.committer(CommitterOptions{})
			p := newParcel(400)
			for i, m := range p.Messages {
				if i%3 == 0 {
					m.Key = m.ID.String()
				}
			}
			if accepted {
				b.accept(p)
			}
			var granted atomic.Int64
			var wg sync.WaitGroup
			for i := range p.Messages {
				for _, c := range []*Committer{one, two} {
					m := p.Messages[i]
					if c == two {
						m = p.Messages[len(p.Messages)-1-i]
					}
					wg.Go(func() {
						claim, err := c.Claim(b.ctx, m, p.ID)
						if err != nil {
							t.Error(err)
							return
						}
						if !claim.OK {
							return
						}
						granted.Add(1)
						if took, err := c.Settle(b.ctx, m, claim, sent(1), Effects{}); err != nil || !took {
							t.Errorf("settle: %t, %v", took, err)
						}
					})
				}
			}
			wg.Wait()
			if n := granted.Load(); n != 400 {
				t.Errorf("%d claims granted, want 400", n)
			}
			if n := b.count(`SELECT count(*) FROM message m JOIN message_body b USING (id) WHERE state = 'sent' AND claim = 1`); n != 400 {
				t.Errorf("%d messages sent under their first claim, want 400", n)
			}
		})
	}
}

func TestAHandedOverMessageTakesItsKeyWithItsClaim(t *testing.T) {
	b := setup(t)
	c := b.committer(CommitterOptions{})
	first, same, other := newMessage(), newMessage(), newMessage()
	for _, m := range []*message.Message{first, same, other} {
		m.Key, m.To = "order-1", "oSame"
	}
	other.Body = json.RawMessage(`{"template_id":"other"}`)
	if claim := b.claim(c, first, message.ID{}); !claim.OK {
		t.Fatalf("first: %+v, want the claim", claim)
	}
	if claim := b.claim(c, same, message.ID{}); claim.OK || claim.Verdict == nil || claim.Verdict.Reason != outcome.Duplicate {
		t.Errorf("same body: %+v, want duplicate", claim)
	}
	if claim := b.claim(c, other, message.ID{}); claim.OK || claim.Verdict == nil || claim.Verdict.Reason != outcome.KeyConflict {
		t.Errorf("other body: %+v, want a conflict", claim)
	}
	b.wantState(same.ID, outcome.Skipped, outcome.Duplicate)
	if s := b.wantState(other.ID, outcome.Failed, outcome.KeyConflict); len(s.Timeline) != 1 || s.Finished.IsZero() {
		t.Errorf("status %+v, want an end and an event", s)
	}
	if claim := b.claim(c, first, message.ID{}); claim.OK || claim.Verdict != nil {
		t.Errorf("the first again: %+v, want it refused without a verdict", claim)
	}
}

func TestAVerdictWritesOnlyOverAccepted(t *testing.T) {
	b := setup(t)
	c := b.committer(CommitterOptions{})
	p := newParcel(3)
	b.accept(p)
	accepted, claimed, handed := p.Messages[0], p.Messages[1], newMessage()
	b.claim(c, claimed, p.ID)
	skipped := outcome.Outcome{Status: outcome.Skipped, Reason: outcome.WindowClosed}
	if !b.verdict(c, accepted, p.ID, skipped, Effects{}) || !b.verdict(c, handed, p.ID, skipped, Effects{}) {
		t.Error("a verdict over accepted, or on a message without a row, took no effect")
	}
	if b.verdict(c, claimed, p.ID, skipped, Effects{}) || b.verdict(c, accepted, p.ID, outcome.Outcome{Status: outcome.Expired, Reason: outcome.ReasonExpired}, Effects{}) {
		t.Error("a verdict took effect over sending or over an end")
	}
	b.wantState(claimed.ID, outcome.Sending, "")
	for _, m := range []*message.Message{accepted, handed} {
		if s := b.wantState(m.ID, outcome.Skipped, outcome.WindowClosed); len(s.Timeline) != 1 || s.Attempts != 0 {
			t.Errorf("status %+v, want one event and no attempt", s)
		}
	}
}

func TestParkedMessagesComeBack(t *testing.T) {
	b := setup(t)
	c := b.committer(CommitterOptions{})
	p := newParcel(2)
	b.accept(p)
	retried, waited := p.Messages[0], p.Messages[1]
	claim := b.claim(c, retried, p.ID)
	b.settle(c, retried, claim, outcome.Outcome{Status: outcome.Parked, Reason: outcome.Backoff, Until: time.Now().Add(-time.Second), ErrCode: -1, ErrMsg: "system error"}, Effects{Doubt: true})
	claim = b.claim(c, waited, p.ID)
	b.settle(c, waited, claim, outcome.Outcome{Status: outcome.Parked, Reason: outcome.Quota, Until: time.Now().Add(-time.Minute), ErrCode: 45009}, Effects{Alone: true})
	if s := b.wantState(retried.ID, outcome.Parked, outcome.Backoff); s.Attempts != 1 || s.ErrCode != -1 || len(s.Timeline) != 1 || s.Timeline[0].ErrMsg != "system error" {
		t.Errorf("status %+v, want one attempt counted and WeChat's words", s)
	}
	if s := b.wantState(waited.ID, outcome.Parked, outcome.Quota); s.Attempts != 0 {
		t.Errorf("%d attempts, want waiting for quota to count none", s.Attempts)
	}
	due, err := b.store.Due(b.ctx, time.Now())
	if err != nil || len(due) != 1 || due[0] != (Due{"shop", message.Template}) {
		t.Fatalf("due %v (%v), want the shop's templates", due, err)
	}
	parcels, err := b.store.Release(b.ctx, []Budget{{Account: "shop", Kind: message.Template, N: 10}}, time.Now())
	if err != nil || len(parcels) != 2 {
		t.Fatalf("released %d parcels (%v), want 2: one travels alone", len(parcels), err)
	}
	for _, p := range parcels {
		for _, m := range p.Messages {
			if m.Account != "shop" || len(m.Body) == 0 || m.To == "" || m.Lane != message.Normal {
				t.Errorf("released %+v, want a whole message", m)
			}
			s := b.wantState(m.ID, outcome.Accepted, "")
			if s.Parcel != p.ID || !s.Due.IsZero() {
				t.Errorf("status %+v, want the new parcel", s)
			}
			claim := b.claim(c, m, p.ID)
			if !claim.OK || claim.Number != 2 || claim.Doubt != (m.ID == retried.ID) || claim.FirstIntent.Before(claim.Intent) != claim.Doubt {
				t.Errorf("claim %+v, want the second; in doubt it counts from the first", claim)
			}
		}
	}
}

func TestReleaseKeepsToBudgetAndLanesAndEndsTheExpired(t *testing.T) {
	b := setup(t)
	now := time.Now()
	var list []*message.Message
	for _, lane := range []message.Lane{message.Bulk, message.Normal, message.Urgent} {
		m := newMessage()
		m.Lane, m.NotBefore = lane, now.Add(time.Minute)
		list = append(list, m)
	}
	expired := newMessage()
	expired.Lane, expired.NotBefore, expired.ExpiresAt = message.Urgent, now.Add(time.Hour), now.Add(30*time.Second)
	for _, m := range append(list, expired) {
		b.accept(parcelOf(m))
	}
	release := func(n int, at time.Time) []*message.Parcel {
		parcels, err := b.store.Release(b.ctx, []Budget{{Account: "shop", Kind: message.Template, N: n}}, at)
		if err != nil {
			t.Fatal(err)
		}
		return parcels
	}
	if got := release(10, now); len(got) != 0 {
		t.Errorf("released %d parcels before they were due", len(got))
	}
	got := release(3, now.Add(2*time.Minute))
	if len(got) != 2 || got[0].Lane != message.Urgent || got[1].Lane != message.Normal {
		t.Errorf("released %v, want the urgent and the normal one", got)
	}
	b.wantState(expired.ID, outcome.Expired, outcome.ReasonExpired)
	b.wantState(list[0].ID, outcome.Parked, outcome.NotBefore)
	if got := release(1, now.Add(2*time.Minute)); len(got) != 1 || got[0].Lane != message.Bulk {
		t.Errorf("released %v, want the bulk one", got)
	}
}

func TestAFallbackIsWrittenWithTheSettle(t *testing.T) {
	b := setup(t)
	c := b.committer(CommitterOptions{})
	p := newParcel(2)
	b.accept(p)
	first, second := p.Messages[0], p.Messages[1]
	fallback := func() *message.Message {
		return &message.Message{Kind: message.Template, Key: "fallback-key", Body: json.RawMessage(`{"template_id":"T2"}`)}
	}
	b.verdict(c, first, p.ID, outcome.Outcome{Status: outcome.Skipped, Reason: outcome.WindowClosed}, Effects{Fallback: fallback()})
	parcels, err := b.store.Release(b.ctx, []Budget{{"shop", message.Template, 10}}, time.Now().Add(time.Second))
	if err != nil || len(parcels) != 1 {
		t.Fatalf("released %d (%v), want the fallback", len(parcels), err)
	}
	f := parcels[0].Messages[0]
	if f.Parent != first.ID || f.To != first.To || f.ID == first.ID || f.Lane != first.Lane || string(f.Body) != `{"template_id":"T2"}` {
		t.Errorf("fallback %+v, want a message of its own to the same user", f)
	}
	t.Run("its key is a key like others", func(t *testing.T) {
		claim := b.claim(c, second, p.ID)
		f := fallback()
		f.ID = message.NewID(time.Now())
		b.settle(c, second, claim, outcome.Outcome{Status: outcome.Failed, Reason: outcome.RefusedRecipient, ErrCode: 45015}, Effects{Fallback: f})
		b.wantState(f.ID, outcome.Failed, outcome.KeyConflict) // to another user
	})
}

func TestALateResultIsOnlyAnEvent(t *testing.T) {
	b := setup(t)
	c := b.committer(CommitterOptions{})
	p := newParcel(2)
	b.accept(p)
	m := p.Messages[0]
	claim := b.claim(c, m, p.ID)
	// Somebody who took our pod for dead parks it, and another claims it.
	if _, err := b.store.pool.Exec(b.ctx, `UPDATE message SET claim = claim + 1 WHERE id = $1`, [16]byte(m.ID)); err != nil {
		t.Fatal(err)
	}
	if b.settle(c, m, claim, sent(7), Effects{}) {
		t.Error("a settle under a lost claim took effect")
	}
	s := b.wantState(m.ID, outcome.Sending, "")
	if len(s.Timeline) != 1 || s.Timeline[0].State != outcome.Sent || s.Timeline[0].Note == "" || s.MsgID != 0 {
		t.Errorf("status %+v, want the late result in the timeline alone", s)
	}
	t.Run("but it decides what is unknown", func(t *testing.T) {
		m := p.Messages[1]
		claim := b.claim(c, m, p.ID)
		if _, err := b.store.pool.Exec(b.ctx, `UPDATE message SET state = 'unknown', reason = 'in_doubt', finished_at = now() WHERE id = $1`, [16]byte(m.ID)); err != nil {
			t.Fatal(err)
		}
		if !b.settle(c, m, claim, sent(7), Effects{}) {
			t.Error("the proof took no effect")
		}
		if s := b.wantState(m.ID, outcome.Sent, ""); s.MsgID != 7 || len(s.Timeline) != 1 {
			t.Errorf("status %+v, want msgid 7 and an event", s)
		}
	})
}

func TestABadRowFailsAlone(t *testing.T) {
	b := setup(t)
	c := b.committer(CommitterOptions{})
	nul := newMessage()
	nul.Body = json.RawMessage("{\"x\":\"\x00\"}")
	if _, err := c.Claim(b.ctx, nul, message.ID{}); !errors.Is(err, ErrUnstorable) {
		t.Errorf("claim of text with NUL: %v, want ErrUnstorable", err)
	}
	var wg sync.WaitGroup
	for i := range 50 {
		m := newMessage()
		bad := i == 20 || i == 33
		if bad {
			m.Kind = "carrier pigeon" // the database alone knows that there is no such kind
		}
		wg.Go(func() {
			claim, err := c.Claim(b.ctx, m, message.ID{})
			switch {
			case bad && !errors.Is(err, ErrUnstorable):
				t.Errorf("bad row: %+v, %v, want ErrUnstorable", claim, err)
			case !bad && (err != nil || !claim.OK):
				t.Errorf("good row beside a bad one: %+v, %v", claim, err)
			}
		})
	}
	wg.Wait()
}

func TestCancelEndsWhatIsNotOnItsWay(t *testing.T) {
	b := setup(t)
	c := b.committer(CommitterOptions{})
	p := newParcel(2)
	parked := newMessage()
	parked.NotBefore = time.Now().Add(time.Hour)
	b.accept(p, parcelOf(parked))
	claim := b.claim(c, p.Messages[1], p.ID)
	for _, m := range []*message.Message{p.Messages[0], parked} {
		if r, err := b.store.Cancel(b.ctx, m.ID); err != nil || !r.Cancelled {
			t.Errorf("cancel: %+v, %v", r, err)
		}
		b.wantState(m.ID, outcome.Cancelled, outcome.ReasonCancelled)
	}
	if n := b.count(`SELECT count(*) FROM parked`); n != 0 {
		t.Errorf("%d rows parked, want 0", n)
	}
	if r, err := b.store.Cancel(b.ctx, p.Messages[1].ID); err != nil || r != (CancelResult{State: outcome.Sending}) {
		t.Errorf("cancel of a claimed message: %+v, %v, want it to stay", r, err)
	}
	if got := b.claim(c, p.Messages[0], p.ID); got.OK {
		t.Error("a cancelled message was claimed")
	}
	if !b.settle(c, p.Messages[1], claim, sent(1), Effects{}) {
		t.Error("the settle took no effect")
	}
	if _, err := b.store.Cancel(b.ctx, newMessage().ID); !errors.Is(err, ErrNotFound) {
		t.Errorf("cancel of an unknown id: %v, want ErrNotFound", err)
	}
}
