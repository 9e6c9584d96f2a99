package postgres

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/hongyan-dispatch/hongyan/message"
	"github.com/hongyan-dispatch/hongyan/outcome"
)

// realMsgID is as large as WeChat's: beyond an int4, and beyond what a float64 holds.
const realMsgID = 3_000_000_000_000_000_077

// report is a receipt that WeChat makes of a message.
func report(m *message.Message, msgid int64, at time.Time) Receipt {
	return Receipt{
		Account: m.Account, Key: fmt.Sprintf("%s-%d", m.ID, msgid), Kind: m.Kind, MsgID: msgid, OpenID: m.To, At: at,
		Delivered: true, Sealed: true,
	}
}

func (b *bundle) receive(list ...Receipt) {
	b.Helper()
	if err := b.store.RecordPushes(b.ctx, Pushes{Receipts: list}); err != nil {
		b.Fatal(err)
	}
}

// joinAt looks for the receipts' messages, as of a time, whenever they are due.
func (b *bundle) joinAt(now time.Time) []Joined {
	b.Helper()
	if _, err := b.store.pool.Exec(b.ctx, `UPDATE receipt SET look_at = $1 WHERE look_at IS NOT NULL`, now); err != nil {
		b.Fatal(err)
	}
	joined, _, err := b.store.JoinReceipts(b.ctx, now, 1000)
	if err != nil {
		b.Fatal(err)
	}
	return joined
}

func (b *bundle) receiptOf(id message.ID) (receipt string, inferred bool) {
	b.Helper()
	err := b.store.pool.QueryRow(b.ctx, `SELECT coalesce(o.receipt, ''), coalesce(r.inferred, false)
		FROM outcomes o LEFT JOIN receipt r ON r.message = o.id WHERE o.id = $1`, [16]byte(id)).Scan(&receipt, &inferred)
	if err != nil {
		b.Fatal(err)
	}
	return receipt, inferred
}

func TestReceiptsFindTheirMessages(t *testing.T) {
	t.Run("before the outcome is settled, and after", func(t *testing.T) {
		b := setup(t)
		c := b.committer(CommitterOptions{})
		m, now := newMessage(), time.Now()
		claim := b.claim(c, m, message.NewID(now))
		b.receive(report(m, realMsgID, now.Add(time.Second)))
		if joined := b.joinAt(now.Add(2 * time.Second)); len(joined) != 0 {
			t.Fatalf("joined %+v while the message was on its way", joined)
		}
		b.settle(c, m, claim, sent(realMsgID), Effects{})
		joined := b.joinAt(now.Add(4 * time.Second))
		if len(joined) != 1 || joined[0].Message != m.ID || joined[0].Inferred || joined[0].Upgraded {
			t.Fatalf("joined %+v, want the message, surely", joined)
		}
		if got, _ := b.receiptOf(m.ID); got != "delivered" {
			t.Errorf("receipt %q", got)
		}
		b.receive(report(m, realMsgID, now.Add(time.Second))) // WeChat repeats itself
		if joined := b.joinAt(now.Add(5 * time.Second)); len(joined) != 0 {
			t.Errorf("joined %+v again", joined)
		}
	})
	t.Run("also where another's cannot be joined", func(t *testing.T) {
		b := setup(t)
		c := b.committer(CommitterOptions{})
		now := time.Now()
		var list []*message.Message
		for i := range 3 {
			m := newMessage()
			m.To = message.OpenID(fmt.Sprintf("oUSER%d", i))
			b.settle(c, m, b.claim(c, m, message.NewID(now)), sent(realMsgID+int64(i)), Effects{})
			b.receive(report(m, realMsgID+int64(i), now.Add(time.Second)))
			list = append(list, m)
		}
		if _, err := b.store.pool.Exec(b.ctx, `UPDATE message_body SET content = '{' WHERE id = $1`, [16]byte(list[1].ID)); err != nil {
			t.Fatal(err)
		}
		later := now.Add(2 * time.Second)
		joined, looked, err := b.store.JoinReceipts(b.ctx, later, 1000)
		if len(joined) != 2 || looked != 3 || err == nil {
			t.Errorf("joined %d of %d, error %v; want 2 of 3, and why", len(joined), looked, err)
		}
		if _, looked, err = b.store.JoinReceipts(b.ctx, later, 1000); looked != 0 || err != nil {
			t.Errorf("looked at %d again at once, error %v; want it put off", looked, err)
		}
	})
	t.Run("with the reason why it did not arrive", func(t *testing.T) {
		b := setup(t)
		c := b.committer(CommitterOptions{})
		m := newMessage()
		b.settle(c, m, b.claim(c, m, message.NewID(time.Now())), sent(78), Effects{})
		r := report(m, 78, time.Now().Add(10*time.Minute))
		r.Delivered, r.Reason = false, "system failed"
		b.receive(r)
		b.joinAt(time.Now().Add(11 * time.Minute))
		if got, _ := b.receiptOf(m.ID); got != "undelivered: system failed" {
			t.Errorf("receipt %q", got)
		}
	})
	t.Run("by user and time where WeChat forgot the msgid", func(t *testing.T) {
		b := setup(t)
		c := b.committer(CommitterOptions{})
		m := newMessage()
		b.settle(c, m, b.claim(c, m, message.NewID(time.Now())), sent(79), Effects{})
		b.receive(report(m, 0, time.Now().Add(3*time.Second)))
		b.joinAt(time.Now().Add(4 * time.Second))
		if got, inferred := b.receiptOf(m.ID); got != "delivered" || !inferred {
			t.Errorf("receipt %q, inferred %t", got, inferred)
		}
	})
	t.Run("and an unknown message becomes sent", func(t *testing.T) {
		b := setup(t)
		c := b.committer(CommitterOptions{})
		m := newMessage()
		b.settle(c, m, b.claim(c, m, message.NewID(time.Now())), outcome.Outcome{Status: outcome.Unknown, Reason: outcome.InDoubt}, Effects{})
		b.receive(report(m, 80, time.Now().Add(time.Second)))
		joined := b.joinAt(time.Now().Add(2 * time.Second))
		if len(joined) != 1 || !joined[0].Upgraded || !joined[0].Inferred {
			t.Fatalf("joined %+v", joined)
		}
		if s := b.wantState(m.ID, outcome.Sent, ""); s.MsgID != 80 || len(s.Timeline) == 0 {
			t.Errorf("got msgid %d and timeline %+v", s.MsgID, s.Timeline)
		}
	})
	t.Run("or none, where two messages are possible", func(t *testing.T) {
		b := setup(t)
		c := b.committer(CommitterOptions{})
		one, two := newMessage(), newMessage()
		two.To = one.To
		for i, m := range []*message.Message{one, two} {
			b.settle(c, m, b.claim(c, m, message.NewID(time.Now())), sent(int64(90+i)), Effects{})
		}
		b.receive(report(one, 0, time.Now().Add(3*time.Second)))
		if joined := b.joinAt(time.Now().Add(4 * time.Second)); len(joined) != 0 {
			t.Fatalf("joined %+v: it may be the other's", joined)
		}
		b.receive(report(two, 0, time.Now().Add(4*time.Second)))
		if joined := b.joinAt(time.Now().Add(5 * time.Second)); len(joined) != 0 {
			t.Fatalf("joined %+v: each may be the other's", joined)
		}
	})
	t.Run("by their order, where one came before the other message went", func(t *testing.T) {
		b := setup(t)
		c := b.committer(CommitterOptions{})
		one, two := newMessage(), newMessage()
		two.To = one.To
		for i, m := range []*message.Message{one, two} {
			b.settle(c, m, b.claim(c, m, message.NewID(time.Now())), sent(int64(95+i)), Effects{})
		}
		if _, err := b.store.pool.Exec(b.ctx, `UPDATE message SET first_intent_at = first_intent_at - interval '5 minutes', intent_at = intent_at - interval '5 minutes' WHERE id = $1`, [16]byte(one.ID)); err != nil {
			t.Fatal(err)
		}
		b.receive(report(two, 0, time.Now().Add(4*time.Second)), report(one, 0, time.Now().Add(-4*time.Minute)))
		if joined := b.joinAt(time.Now().Add(5 * time.Second)); len(joined) != 2 || joined[0].Message != one.ID || joined[1].Message != two.ID {
			t.Fatalf("joined %+v, want both, in their order", joined)
		}
	})
	t.Run("or none, where an earlier attempt of another message may have left", func(t *testing.T) {
		b := setup(t)
		c := b.committer(CommitterOptions{})
		one, two := newMessage(), newMessage()
		two.To = one.To
		for i, m := range []*message.Message{one, two} {
			b.settle(c, m, b.claim(c, m, message.NewID(time.Now())), sent(int64(100+i)), Effects{})
		}
		// The answer to the first attempt was lost; the second went five minutes later, after the receipt for the first.
		if _, err := b.store.pool.Exec(b.ctx, `UPDATE message SET intent_at = intent_at + interval '5 minutes' WHERE id = $1`, [16]byte(one.ID)); err != nil {
			t.Fatal(err)
		}
		b.receive(report(one, 0, time.Now().Add(3*time.Second)))
		if joined := b.joinAt(time.Now().Add(6 * time.Minute)); len(joined) != 0 {
			t.Fatalf("joined %+v: it may be the other's", joined)
		}
	})
	t.Run("or none, where a message that waited for weeks is possible too", func(t *testing.T) {
		b := setup(t)
		c := b.committer(CommitterOptions{})
		waited, fresh := newMessage(), newMessage()
		fresh.To = waited.To
		waited.ID = message.FirstID(time.Now().Add(-20 * 24 * time.Hour))
		for i, m := range []*message.Message{waited, fresh} {
			b.settle(c, m, b.claim(c, m, message.NewID(time.Now())), sent(int64(110+i)), Effects{})
		}
		b.receive(report(waited, 0, time.Now().Add(3*time.Second)))
		if joined := b.joinAt(time.Now().Add(4 * time.Second)); len(joined) != 0 {
			t.Fatalf("joined %+v: it may be the other's", joined)
		}
		b.receive(report(waited, 110, time.Now().Add(3*time.Second)))
		if joined := b.joinAt(time.Now().Add(4 * time.Second)); len(joined) == 0 || joined[0].Message != waited.ID && joined[len(joined)-1].Message != waited.ID {
			t.Fatalf("joined %+v, want the one that waited, by its msgid", joined)
		}
	})
	t.Run("but not those of strangers", func(t *testing.T) {
		b := setup(t)
		c := b.committer(CommitterOptions{})
		m := newMessage()
		b.settle(c, m, b.claim(c, m, message.NewID(time.Now())), sent(91), Effects{})
		foreign, other := report(m, 91, time.Now()), report(m, 4711, time.Now())
		foreign.Account = "other"
		b.receive(foreign, other)
		if joined := b.joinAt(time.Now().Add(2 * time.Second)); len(joined) != 0 {
			t.Fatalf("joined %+v", joined)
		}
		b.joinAt(time.Now().Add(time.Hour))
		if n := b.count(`SELECT count(*)::int FROM receipt WHERE message IS NULL AND look_at IS NULL`); n != 2 {
			t.Errorf("%d receipts are kept by themselves, want 2", n)
		}
	})
	t.Run("where a forged one of the same msgid came before", func(t *testing.T) {
		b := setup(t)
		c := b.committer(CommitterOptions{})
		m := newMessage()
		b.settle(c, m, b.claim(c, m, message.NewID(time.Now())), sent(92), Effects{})
		real := report(m, 92, time.Now().Add(time.Second))
		forged := real
		forged.Delivered, forged.Reason, forged.Blocked, forged.Sealed = false, "user block", true, false
		b.receive(forged, real)
		b.receive(forged)
		if joined := b.joinAt(time.Now().Add(2 * time.Second)); len(joined) != 1 || !joined[0].Delivered {
			t.Fatalf("joined %+v, want WeChat's own", joined)
		}
		b.receive(forged)
		if got, _ := b.receiptOf(m.ID); got != "delivered" {
			t.Errorf("receipt %q", got)
		}
		if n := b.count(`SELECT count(*)::int FROM suppression WHERE openid = $1 AND active`, string(m.To)); n != 0 {
			t.Error("a forged receipt suppresses the user")
		}
	})
	t.Run("also those of mass sends", func(t *testing.T) {
		b := setup(t)
		c := b.committer(CommitterOptions{})
		m := newMass(users(0, 3)...)
		claim := b.claimMass(c, m, time.Now())
		if ok, err := c.Settle(b.ctx, m, claim.Claim, sent(55), Effects{}); !ok || err != nil {
			t.Fatal(ok, err)
		}
		r := Receipt{Account: "shop", Key: "m", Kind: message.Mass, MsgID: 55, At: time.Now().Add(time.Minute), Reason: "suspected advertising", Code: 10001, Sealed: true, Job: []byte(`{"total":3}`)}
		b.receive(r)
		joined := b.joinAt(time.Now().Add(2 * time.Minute))
		if len(joined) != 1 || joined[0].Message != m.ID || !joined[0].Refunded {
			t.Fatalf("joined %+v, want the mass send, with its caps given back", joined)
		}
	})
}

// Receipts late, lost, doubled, shuffled, before the settle and without msgid: each joins its own message or none.
func TestNoReceiptIsOnTheWrongMessage(t *testing.T) {
	b := setup(t)
	c := b.committer(CommitterOptions{})
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 2))
	start := time.Now()
	owner := map[string]message.ID{} // of a receipt's key
	var all []Receipt
	sure, lost := 0, 0
	for i := range 120 {
		m := newMessage()
		m.To = message.OpenID(fmt.Sprintf("oWRONG%d", r.IntN(60)))
		claim := b.claim(c, m, message.NewID(start))
		msgid := int64(1000 + i)
		rec := report(m, msgid, time.Now().Add(time.Duration(r.IntN(9))*time.Minute))
		if r.IntN(5) == 0 {
			rec.MsgID = 0
		}
		owner[rec.Key] = m.ID
		if r.IntN(20) == 0 {
			lost++
		} else {
			if rec.MsgID != 0 {
				sure++
			}
			for range 1 + r.IntN(2) {
				all = append(all, rec)
			}
		}
		if r.IntN(5) == 0 { // its receipt is faster
			b.receive(all[max(0, len(all)-1):]...)
			b.joinAt(time.Now())
		}
		b.settle(c, m, claim, sent(msgid), Effects{})
	}
	r.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	for len(all) > 0 {
		n := min(1+r.IntN(30), len(all))
		b.receive(all[:n]...)
		all = all[n:]
		b.joinAt(start.Add(10 * time.Minute))
	}
	b.joinAt(start.Add(11 * time.Minute))
	rows, err := b.store.pool.Query(b.ctx, `SELECT key, message FROM receipt WHERE message IS NOT NULL`)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	joined := 0
	for rows.Next() {
		var key string
		var id [16]byte
		if err := rows.Scan(&key, &id); err != nil {
			t.Fatal(err)
		}
		joined++
		if owner[key] != message.ID(id) {
			t.Errorf("the receipt of %s is on %s", owner[key], message.ID(id))
		}
	}
	if joined < sure {
		t.Errorf("%d receipts joined, of %d that name their msgid (%d lost)", joined, sure, lost)
	}
}
