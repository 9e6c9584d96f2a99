package postgres

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hongyan-dispatch/hongyan/internal/mass"
	"github.com/hongyan-dispatch/hongyan/message"
	"github.com/hongyan-dispatch/hongyan/outcome"
)

var service = mass.DefaultCaps(message.ServiceAccount)

// noon is a time far from every boundary, in the middle of a month.
var noon = time.Date(2026, 11, 22, 12, 0, 0, 0, time.FixedZone("", 8*3600))

func newMass(list ...message.OpenID) *message.Message {
	m := newMessage()
	m.Kind, m.To, m.List = message.Mass, "", list
	return m
}

func users(from, to int) []message.OpenID {
	var list []message.OpenID
	for i := from; i < to; i++ {
		list = append(list, message.OpenID(fmt.Sprintf("oUser%d", i)))
	}
	return list
}

func requestFor(m *message.Message) MassRequest {
	r := MassRequest{Caps: service, Scope: mass.List}
	if len(m.List) == 0 {
		r.Scope = mass.All
	}
	for _, to := range m.List {
		r.Hashes = append(r.Hashes, mass.Hash([]byte("key"), to))
	}
	return r
}

func (b *bundle) claimMass(c *Committer, m *message.Message, now time.Time) MassClaim {
	b.Helper()
	claim, err := c.ClaimMass(b.ctx, m, requestFor(m), now)
	if err != nil {
		b.Fatal(err)
	}
	return claim
}

func TestAUserGetsFourListsAMonth(t *testing.T) {
	b := setup(t)
	c := b.committer(CommitterOptions{})
	list := users(0, 10)
	for i := range 4 {
		m := newMass(list[:4+i]...)
		claim := b.claimMass(c, m, noon)
		if !claim.OK || len(claim.List) != 4+i || claim.Number != 1 {
			t.Fatalf("list %d: %+v, want every user", i, claim)
		}
		if !b.settle(c, m, claim.Claim, outcome.Outcome{Status: outcome.Sent, MsgID: 5, DataID: 6}, Effects{}) {
			t.Error("the settle took no effect")
		}
		if call, err := b.store.MassCall(b.ctx, m.ID); err != nil || call.State != MassSent || call.MsgID != 5 || call.DataID != 6 || call.Users != 4+i {
			t.Errorf("call %+v (%v), want it sent, with WeChat's numbers", call, err)
		}
	}
	m := newMass(list...)
	claim := b.claimMass(c, m, noon)
	if !claim.OK || !slices.Equal(claim.List, list[4:]) {
		t.Errorf("fifth list: %+v, want the six who had fewer than four", claim)
	}
	out, err := b.store.LeftOut(b.ctx, m.ID)
	if err != nil || len(out) != 4 || out[0] != (LeftOut{list[0], outcome.MassCap}) {
		t.Errorf("left out %v (%v), want the first four users, with the reason", out, err)
	}
	t.Run("with one left there is no call and nothing is taken", func(t *testing.T) {
		m := newMass(list[0], list[1], list[9])
		claim := b.claimMass(c, m, noon)
		if claim.OK || claim.Verdict == nil || claim.Verdict.Reason != outcome.MassCap || claim.Cap != mass.UserMonth {
			t.Errorf("%+v, want skipped: mass_cap", claim)
		}
		if s := b.wantState(m.ID, outcome.Skipped, outcome.MassCap); len(s.Timeline) != 1 {
			t.Errorf("timeline %+v, want one event", s.Timeline)
		}
		if n := b.count(`SELECT n FROM mass_user WHERE h = $1`, mass.Hash([]byte("key"), list[9])); n != 1 {
			t.Errorf("the user has %d, want 1 as before", n)
		}
		if _, err := b.store.MassCall(b.ctx, m.ID); !errors.Is(err, ErrNotFound) {
			t.Errorf("mass call: %v, want none", err)
		}
	})
	t.Run("next month is new", func(t *testing.T) {
		if claim := b.claimMass(c, newMass(list...), noon.AddDate(0, 1, 0)); len(claim.List) != len(list) {
			t.Errorf("%+v, want every user", claim)
		}
	})
}

func TestFiftyRaceForTheLastMassSlot(t *testing.T) {
	b := setup(t)
	one, two := b.committer(CommitterOptions{}), b.committer(CommitterOptions{})
	for name, make := range map[string]func() *message.Message{
		"to all": func() *message.Message {
			m := newMass()
			m.Body = []byte(`{"filter":{"is_to_all":true}}`)
			return m
		},
		"of two users": func() *message.Message { m := newMass(users(100, 102)...); m.Account = "lists"; return m },
	} {
		t.Run(name, func(t *testing.T) {
			now := noon
			if make().Account == "lists" {
				for range 3 {
					b.claimMass(one, make(), now)
				}
			}
			var won atomic.Int64
			var wg sync.WaitGroup
			for i := range 50 {
				wg.Go(func() {
					c, m := one, make()
					if i%2 == 1 {
						c = two
					}
					claim, err := c.ClaimMass(b.ctx, m, requestFor(m), now)
					if err != nil {
						t.Error(err)
					}
					if claim.OK {
						won.Add(1)
					} else if claim.Verdict == nil || claim.Verdict.Reason != outcome.MassCap {
						t.Errorf("%+v, want skipped: mass_cap", claim)
					}
				})
			}
			wg.Wait()
			if n := won.Load(); n != 1 {
				t.Errorf("%d claims won, want 1", n)
			}
		})
	}
}

func TestAMassMessageIsClaimedOnceAndKeepsWhatItTook(t *testing.T) {
	b := setup(t)
	c := b.committer(CommitterOptions{})
	list := users(0, 5)
	m := newMass(list...)
	p := parcelOf(m)
	b.accept(p)
	claim := b.claimMass(c, m, noon)
	if !claim.OK {
		t.Fatalf("%+v, want the claim", claim)
	}
	if again := b.claimMass(c, m, noon); again.OK || again.Verdict != nil {
		t.Errorf("second claim %+v, want it refused", again)
	}
	park := func(claim MassClaim, doubt bool) {
		t.Helper()
		b.settle(c, m, claim.Claim, outcome.Outcome{Status: outcome.Parked, Reason: outcome.Backoff, Until: time.Now().Add(-time.Minute)}, Effects{Doubt: doubt})
		parcels, err := b.store.Release(b.ctx, []Budget{{"shop", message.Mass, 10}}, time.Now())
		if err != nil || len(parcels) != 1 || !slices.Equal(parcels[0].Messages[0].List, list) {
			t.Fatalf("released %v (%v), want the message with its list", parcels, err)
		}
	}
	used := func() int {
		return b.count(`SELECT coalesce(sum(n), 0) FROM mass_user WHERE month = 202611`)
	}
	park(claim, false)
	claim = b.claimMass(c, m, noon.Add(time.Hour))
	if !claim.OK || claim.Number != 2 || len(claim.List) != 5 || used() != 5 {
		t.Errorf("claim %+v, used %d, want the same users without taking again", claim, used())
	}
	park(claim, false)
	claim = b.claimMass(c, m, noon.AddDate(0, 1, 0))
	if !claim.OK || used() != 0 || b.count(`SELECT sum(n) FROM mass_user WHERE month = 202612`) != 5 {
		t.Errorf("claim %+v, used %d in November, want the reservation moved to December", claim, used())
	}
	park(claim, true)
	b.claimMass(c, m, noon.AddDate(0, 2, 0))
	if n := b.count(`SELECT sum(n) FROM mass_user WHERE month = 202612`); n != 5 {
		t.Errorf("%d in December, want a message in doubt to keep what it took", n)
	}
	if n := b.count(`SELECT count(*) FROM in_flight WHERE batch < 0`); n != 1 {
		t.Errorf("%d rows in flight, want the open claim's", n)
	}
}

func TestARefundIsExactAndOnce(t *testing.T) {
	b := setup(t)
	c := b.committer(CommitterOptions{})
	list := users(0, 6)
	first, second, all := newMass(list[:4]...), newMass(list[2:]...), newMass()
	all.Body = []byte(`{"filter":{"is_to_all":true}}`)
	b.claimMass(c, first, noon)
	claim := b.claimMass(c, second, noon)
	b.claimMass(c, all, noon)
	b.settle(c, second, claim.Claim, outcome.Outcome{Status: outcome.Failed, Reason: outcome.RefusedRequest, ErrCode: 40007}, Effects{})
	if ids, err := b.store.RefundableMass(b.ctx); err != nil || !slices.Equal(ids, []message.ID{second.ID}) {
		t.Errorf("to refund %v (%v), want the failed one", ids, err)
	}
	for want, i := true, 0; i < 2; i++ {
		if done, err := b.store.RefundMass(b.ctx, second.ID); err != nil || done != want {
			t.Errorf("refund %d: %t, %v, want %t", i, done, err, want)
		}
		want = false
	}
	if _, err := b.store.RefundMass(b.ctx, all.ID); err != nil {
		t.Fatal(err)
	}
	for i, to := range list {
		want := 0
		if i < 4 {
			want = 1
		}
		if n := b.count(`SELECT coalesce(sum(n), 0) FROM mass_user WHERE h = $1`, mass.Hash([]byte("key"), to)); n != want {
			t.Errorf("user %d has %d, want %d", i, n, want)
		}
	}
	if n, err := b.store.MassCounts(b.ctx, "shop", "", noon); err != nil || n != (mass.Counts{Day: 1}) {
		t.Errorf("counts %+v (%v), want one call of the day", n, err)
	}
	if ids, _ := b.store.RefundableMass(b.ctx); len(ids) != 0 {
		t.Errorf("to refund %v, want none", ids)
	}
}

func TestALostMassClaimIsFoundAgain(t *testing.T) {
	b := setup(t)
	m, through := newMute(t, b.url)
	store := open(t, through)
	pod, err := store.StartPod(b.ctx, "pod", "test")
	if err != nil {
		t.Fatal(err)
	}
	c := store.NewCommitter(pod.ID, CommitterOptions{})
	run(t, c)
	if _, _, err := store.AccountID(b.ctx, "shop"); err != nil {
		t.Fatal(err)
	}
	bulk := newMass(users(0, 3)...)
	// Lose the answer to each round trip in turn; one of them is the commit.
	for skip := range 20 {
		m.skip.Store(int64(skip))
		m.armed.Store(true)
		one := newMass(bulk.List...)
		r := requestFor(one)
		r.Caps.UserPerMonth = mass.NoCap
		claim, err := c.ClaimMass(b.ctx, one, r, noon)
		if err != nil || !claim.OK || len(claim.List) != 3 || claim.Number != 1 {
			t.Fatalf("claim %+v, %v, want it granted", claim, err)
		}
		if n := b.count(`SELECT max(n) FROM mass_user`); n != skip+1 {
			t.Fatalf("users have %d after %d claims", n, skip+1)
		}
	}
	m.armed.Store(false)
	if m.lost.Load() < 10 {
		t.Errorf("%d answers were lost, want more", m.lost.Load())
	}
}
