package postgres

import (
	"bytes"
	"context"
	"io"
	"net"
	"net/url"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/hongyan-dispatch/hongyan/message"
	"github.com/hongyan-dispatch/hongyan/outcome"
)

// A mute is a proxy before Postgres that can lose the next answer: what was asked is done, and the session breaks
// before anybody hears of it.
type mute struct {
	listener net.Listener
	server   string
	armed    atomic.Bool
	skip     atomic.Int64 // answers to let through first
	lost     atomic.Int64
}

func newMute(t *testing.T, server string) (m *mute, through string) {
	t.Helper()
	u, err := url.Parse(server)
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	m = &mute{listener: l, server: u.Host}
	go m.serve()
	u.Host = l.Addr().String()
	return m, u.String()
}

func (m *mute) serve() {
	for {
		client, err := m.listener.Accept()
		if err != nil {
			return
		}
		server, err := net.Dial("tcp", m.server)
		if err != nil {
			client.Close()
			continue
		}
		go func() { io.Copy(server, client); server.Close() }()
		go func() {
			defer client.Close()
			defer server.Close()
			buf := make([]byte, 64<<10)
			for {
				n, err := server.Read(buf)
				if n > 0 && m.armed.Load() && m.skip.Add(-1) < 0 && m.armed.CompareAndSwap(true, false) {
					m.lost.Add(1)
					return
				}
				if _, werr := client.Write(buf[:n]); err != nil || werr != nil {
					return
				}
			}
		}()
	}
}

func TestALostCommitIsNeitherRepeatedNorForgotten(t *testing.T) {
	b := setup(t)
	m, through := newMute(t, b.url)
	store := open(t, through)
	pod, err := store.StartPod(b.ctx, "pod", "test")
	if err != nil {
		t.Fatal(err)
	}
	c := store.NewCommitter(pod.ID, CommitterOptions{})
	run(t, c)
	b.claim(c, newMessage(), message.ID{}) // the session is open from here on
	lose := func(what string, f func()) {
		t.Helper()
		m.skip.Store(0)
		before := m.lost.Load()
		m.armed.Store(true)
		f()
		if m.lost.Load() != before+1 {
			t.Fatalf("%s: no answer was lost", what)
		}
	}
	p := newParcel(1)
	keyed := newMessage()
	keyed.Key = "k"
	p.Messages = append(p.Messages, keyed)
	b.accept(p)
	handed := newMessage()
	var claims [3]Claim
	for i, m := range []*message.Message{p.Messages[0], keyed, handed} {
		for range 2 { // a refused claim first turns the committer to its other way
			lose("claim", func() {
				if claim := b.claim(c, m, p.ID); claim.OK {
					claims[i] = claim
				}
			})
		}
		if !claims[i].OK || claims[i].Number != 1 {
			t.Fatalf("claim %d: %+v, want the first granted once", i, claims[i])
		}
		if b.claim(c, m, p.ID).OK {
			t.Fatal("a claim was granted twice")
		}
	}
	lose("plain settle", func() {
		if !b.settle(c, p.Messages[0], claims[0], sent(1), Effects{}) {
			t.Error("the settle that was committed reports no effect")
		}
	})
	m.skip.Store(0)
	m.armed.Store(true) // of a transaction of several round trips, any may be lost
	if !b.settle(c, keyed, claims[1], outcome.Outcome{Status: outcome.Parked, Reason: outcome.Backoff, Until: time.Now().Add(time.Hour)}, Effects{}) {
		t.Error("the settle took no effect")
	}
	if s := b.wantState(keyed.ID, outcome.Parked, outcome.Backoff); len(s.Timeline) != 1 || s.Due.IsZero() {
		t.Errorf("status %+v, want its effects once", s)
	}
	if s := b.wantState(p.Messages[0].ID, outcome.Sent, ""); len(s.Timeline) != 0 {
		t.Errorf("timeline %+v, want none", s.Timeline)
	}
}

func TestAcceptWhoseAnswerIsLostIsAccepted(t *testing.T) {
	b := setup(t)
	m, through := newMute(t, b.url)
	store := open(t, through)
	if _, _, err := store.AccountID(b.ctx, "shop"); err != nil {
		t.Fatal(err)
	}
	for skip := range 12 { // an Accept is several round trips: lose one answer after another
		m.skip.Store(int64(skip))
		p := newParcel(3)
		p.Messages[0].Key = p.Messages[0].ID.String()
		m.armed.Store(true)
		answers, err := store.Accept(b.ctx, []*message.Parcel{p}, time.Now())
		if err != nil {
			t.Fatal(err)
		}
		for _, a := range answers {
			if !a.Accepted() {
				t.Errorf("answer %+v, want accepted", a)
			}
		}
	}
	if n := b.count(`SELECT count(*) FROM message JOIN message_body USING (id)`); n != 36 {
		t.Errorf("%d messages, want 36", n)
	}
}

func TestADeadlockedBatchIsRepeated(t *testing.T) {
	b := setup(t)
	var failed atomic.Int64
	c := b.committer(CommitterOptions{Failed: func(err error, _ int) {
		if sqlState(err) == stateDeadlock {
			failed.Add(1)
		}
	}})
	p := newParcel(3)
	b.accept(p)
	plug, first, last := p.Messages[0], p.Messages[1], p.Messages[2]
	if bytes.Compare(first.ID[:], last.ID[:]) > 0 {
		first, last = last, first
	}
	plugged, other := b.locks(plug), b.locks(last)
	// Our own patience is longer, so that Postgres ends the committer's transaction and not ours.
	if _, err := other.Exec(b.ctx, `SET LOCAL deadlock_timeout = '20s'`); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	claim := func(m *message.Message) {
		wg.Go(func() {
			if claim, err := c.Claim(b.ctx, m, p.ID); err != nil || !claim.OK {
				t.Errorf("claim: %+v, %v", claim, err)
			}
		})
	}
	claim(plug)
	b.waitForLockWaiters(1)
	claim(first) // these two are queued while the committer waits, and go in one batch
	claim(last)
	waitUntil(t, func() bool { c.mu.Lock(); defer c.mu.Unlock(); return len(c.queue) == 2 })
	if err := plugged.Rollback(b.ctx); err != nil {
		t.Fatal(err)
	}
	waitUntil(t, func() bool { return b.status(plug.ID).State == outcome.Sending })
	b.waitForLockWaiters(1) // for last, holding first
	if _, err := other.Exec(b.ctx, `SELECT FROM message WHERE id = $1 FOR UPDATE`, [16]byte(first.ID)); err != nil {
		t.Fatal(err)
	}
	if err := other.Rollback(b.ctx); err != nil {
		t.Fatal(err)
	}
	wg.Wait()
	if failed.Load() == 0 {
		t.Error("no batch was ended by a deadlock")
	}
}

func TestSessionsThatAreEndedUnderwayChangeNothing(t *testing.T) {
	b := setup(t)
	store, err := Open(b.ctx, b.url, Options{Name: "victim"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(store.Close)
	pod, err := store.StartPod(b.ctx, "victim", "test")
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := store.AccountID(b.ctx, "shop"); err != nil {
		t.Fatal(err)
	}
	c := store.NewCommitter(pod.ID, CommitterOptions{})
	run(t, c)
	p := newParcel(300)
	b.accept(&message.Parcel{ID: p.ID, Account: p.Account, Kind: p.Kind, Lane: p.Lane, Messages: p.Messages[:150]}) // the others are handed over
	stop := make(chan struct{})
	var killer sync.WaitGroup
	killed := 0
	killer.Go(func() {
		for killed < 25 {
			select {
			case <-stop:
				return
			default:
				killed += b.count(`
					WITH victims AS MATERIALIZED (SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'victim')
					SELECT count(*) FROM victims WHERE pg_terminate_backend(pid)`)
				pause(b.ctx, 20*time.Millisecond)
			}
		}
	})
	var granted atomic.Int64
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for j := i; j < len(p.Messages); j += 8 {
				m := p.Messages[j]
				claim, err := c.Claim(b.ctx, m, p.ID)
				if err != nil || !claim.OK || claim.Number != 1 {
					t.Errorf("claim %+v, %v, want it granted", claim, err)
					continue
				}
				granted.Add(1)
				o := sent(int64(j))
				if j%3 == 0 {
					o = outcome.Outcome{Status: outcome.Failed, Reason: outcome.RefusedRecipient, ErrCode: 40003}
				}
				if took, err := c.Settle(b.ctx, m, claim, o, Effects{}); err != nil || !took {
					t.Errorf("settle: %t, %v", took, err)
				}
			}
		})
	}
	wg.Wait()
	close(stop)
	killer.Wait()
	if n := b.count(`SELECT count(*) FROM message JOIN message_body USING (id) WHERE claim = 1 AND state IN ('sent', 'failed')`); n != 300 {
		t.Errorf("%d messages ended under their first claim, want 300", n)
	}
	if n := b.count(`SELECT count(*) FROM event`); n != 100 {
		t.Errorf("%d events, want one for each of the 100 that failed", n)
	}
	if killed == 0 {
		t.Error("no session was ended")
	}
	t.Logf("%d sessions were ended", killed)
}

// locks is a transaction that holds the message's row.
func (b *bundle) locks(m *message.Message) pgx.Tx {
	b.Helper()
	tx, err := b.store.pool.Begin(b.ctx)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { tx.Rollback(context.Background()) })
	if _, err := tx.Exec(b.ctx, `SELECT FROM message WHERE id = $1 FOR UPDATE`, [16]byte(m.ID)); err != nil {
		b.Fatal(err)
	}
	return tx
}

func (b *bundle) waitForLockWaiters(n int) {
	b.Helper()
	waitUntil(b.T, func() bool {
		return b.count(`SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'`) >= n
	})
}

// waitUntil polls for something that another process does.
func waitUntil(t *testing.T, done func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	for !done() {
		if !pause(ctx, 5*time.Millisecond) {
			t.Fatal("it did not come about within 30 s")
		}
	}
}

func TestAClaimWhoseCallerHasGoneIsGivenBack(t *testing.T) {
	b := setup(t)
	c := b.committer(CommitterOptions{})
	p := newParcel(1)
	m := p.Messages[0]
	b.accept(p)
	tx := b.locks(m)
	ctx, leave := context.WithCancel(b.ctx)
	gone := make(chan error)
	go func() { _, err := c.Claim(ctx, m, p.ID); gone <- err }()
	b.waitForLockWaiters(1)
	leave()
	if err := <-gone; err == nil {
		t.Error("the claim of a caller who left was answered")
	}
	if err := tx.Rollback(b.ctx); err != nil {
		t.Fatal(err)
	}
	waitUntil(t, func() bool { return b.status(m.ID).State == outcome.Parked })
	if s := b.status(m.ID); s.Attempts != 0 || s.Due.After(time.Now().Add(time.Minute)) {
		t.Errorf("status %+v, want it parked, due, no attempt counted", s)
	}
}
