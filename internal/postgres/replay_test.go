package postgres

import (
	"context"
	"encoding/json"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/hongyan-dispatch/hongyan/message"
	"github.com/hongyan-dispatch/hongyan/outcome"
)

// end accepts a message and ends it, without a call.
func (b *bundle) end(c *Committer, m *message.Message, o outcome.Outcome) *message.Message {
	b.Helper()
	p := parcelOf(m)
	b.accept(p)
	b.verdict(c, m, p.ID, o, Effects{})
	return m
}

// replay replays what r says and counts, by why they were spared, those that were found; replayed ones under "".
func (b *bundle) replay(r Replay) (map[Spared]int, []Replayed) {
	b.Helper()
	found, all := map[Spared]int{}, []Replayed(nil)
	err := b.store.Replay(b.ctx, r, time.Now().Add(time.Millisecond), func(counts []ReplayCount, did []Replayed) {
		for _, c := range counts {
			found[c.Spared] += c.N
		}
		all = append(all, did...)
	})
	if err != nil {
		b.Fatal(err)
	}
	return found, all
}

var ended = []outcome.Status{outcome.Failed, outcome.Skipped, outcome.Expired, outcome.Dead, outcome.Unknown}

func TestWhatIsReplayedAndWhatIsSpared(t *testing.T) {
	refused := outcome.Outcome{Status: outcome.Failed, Reason: outcome.RefusedRequest, ErrCode: 40037}
	unknown := outcome.Outcome{Status: outcome.Unknown, Reason: outcome.InDoubt}
	poison := outcome.Outcome{Status: outcome.Dead, Reason: outcome.Poison}
	ask := func(change func(*Replay)) Replay {
		r := Replay{Statuses: ended, Since: time.Now().Add(-time.Hour)}
		if change != nil {
			change(&r)
		}
		return r
	}
	for name, c := range map[string]struct {
		ends outcome.Outcome
		ask  func(*Replay)
		want Spared // empty: replayed
		not  bool   // not even found
	}{
		"refused":                           {ends: refused},
		"of another status":                 {ends: refused, ask: func(r *Replay) { r.Statuses = []outcome.Status{outcome.Expired} }, not: true},
		"of the reason":                     {ends: refused, ask: func(r *Replay) { r.Reasons = []outcome.Reason{outcome.RefusedRequest} }},
		"of another reason":                 {ends: refused, ask: func(r *Replay) { r.Reasons = []outcome.Reason{outcome.RetriesExhausted} }, not: true},
		"of the account":                    {ends: refused, ask: func(r *Replay) { r.Accounts = []string{"shop"} }},
		"of another account":                {ends: refused, ask: func(r *Replay) { r.Accounts = []string{"club"} }, not: true},
		"of another kind":                   {ends: refused, ask: func(r *Replay) { r.Kinds = []message.Kind{message.Custom} }, not: true},
		"not the asker's":                   {ends: refused, ask: func(r *Replay) { r.Only = func(_ string, k message.Kind) bool { return k != message.Template } }, not: true},
		"older":                             {ends: refused, ask: func(r *Replay) { r.Since = time.Now().Add(time.Minute) }, not: true},
		"younger":                           {ends: refused, ask: func(r *Replay) { r.Until = time.Now().Add(-time.Minute) }, not: true},
		"maybe sent":                        {ends: unknown, want: SparedDoubt},
		"maybe sent, and that is accepted":  {ends: unknown, ask: func(r *Replay) { r.AcceptDuplicates = true }},
		"poison, whatever else is accepted": {ends: poison, ask: func(r *Replay) { r.AcceptDuplicates = true }, want: SparedPoison},
	} {
		t.Run(name, func(t *testing.T) {
			b := setup(t)
			m := b.end(b.committer(CommitterOptions{}), newMessage(), c.ends)
			found, did := b.replay(ask(c.ask))
			if c.not {
				if len(found) != 0 {
					t.Errorf("found %v, want nothing", found)
				}
				return
			}
			if len(found) != 1 || found[c.want] != 1 || len(did) != 0 != (c.want == "") {
				t.Fatalf("found %v and replayed %d, want one for %q", found, len(did), c.want)
			}
			if c.want == "" && did[0].Of != m.ID {
				t.Errorf("replayed %s, want %s", did[0].Of, m.ID)
			}
		})
	}
}

func TestAReplayIsANewMessageOfTheSameContent(t *testing.T) {
	b := setup(t)
	c := b.committer(CommitterOptions{})
	now := time.Now()
	m := newMessage()
	m.Key, m.Labels, m.ExpiresAt = "order-1", map[string]string{"order": "1"}, now.Add(-time.Second)
	m.Fallback = &message.Message{ID: message.NewID(now), Kind: message.Custom, Key: "order-1-sms", Body: json.RawMessage(`{"msgtype":"text","text":{"content":"茶"}}`)}
	b.end(c, m, outcome.Outcome{Status: outcome.Failed, Reason: outcome.RetriesExhausted})
	_, did := b.replay(Replay{Statuses: ended, Since: now.Add(-time.Hour)})
	if len(did) != 1 {
		t.Fatalf("replayed %d, want 1", len(did))
	}
	st := b.wantState(did[0].ID, outcome.Parked, outcome.NotBefore)
	got := st.Message
	switch {
	case st.ReplayOf != m.ID, b.status(m.ID).ReplayedAs != got.ID:
		t.Errorf("replay of %s, and %s was replayed as %s", st.ReplayOf, m.ID, b.status(m.ID).ReplayedAs)
	case got.To != m.To, string(got.Body) != string(m.Body), got.Labels["order"] != "1", got.Lane != message.Bulk:
		t.Errorf("got %+v, want what it was, in the bulk lane", got)
	case got.Key != "", !got.ExpiresAt.IsZero():
		t.Errorf("key %q, expires %s: want neither", got.Key, got.ExpiresAt)
	case got.Fallback == nil || got.Fallback.Key != "" || got.Fallback.ID == m.Fallback.ID:
		t.Errorf("fallback %+v, want one of its own", got.Fallback)
	}
	parcels, err := b.store.Release(b.ctx, []Budget{{"shop", message.Template, 10}}, time.Now().Add(time.Second))
	if err != nil || len(parcels) != 1 || parcels[0].Messages[0].ID != got.ID {
		t.Errorf("released %v (%v), want the new message", parcels, err)
	}

	found, did := b.replay(Replay{Statuses: ended, Since: now.Add(-time.Hour), Again: true})
	if found[SparedReplayed] != 1 || len(did) != 0 {
		t.Errorf("a second time: found %v, replayed %d", found, len(did))
	}
	b.verdict(c, got, parcels[0].ID, outcome.Outcome{Status: outcome.Failed, Reason: outcome.RetriesExhausted}, Effects{})
	if found, _ = b.replay(Replay{Statuses: ended, Since: now.Add(-time.Hour)}); found[SparedReplay] != 1 || found[""] != 0 {
		t.Errorf("its replay that failed: %v, want it spared", found)
	}
	if _, did = b.replay(Replay{Statuses: ended, Since: now.Add(-time.Hour), Again: true}); len(did) != 1 || did[0].Of != got.ID {
		t.Errorf("its replay that failed, asked for: %v, want one more of the chain", did)
	}
}

// Who finds nothing says so too: whoever waits for it would take silence for a death.
func TestAReplayThatFindsNothingTells(t *testing.T) {
	b := setup(t)
	b.end(b.committer(CommitterOptions{}), newMessage(), outcome.Outcome{Status: outcome.Failed, Reason: outcome.RefusedRequest})
	told := 0
	err := b.store.Replay(b.ctx, Replay{Statuses: []outcome.Status{outcome.Expired}, Since: time.Now().Add(-time.Hour)}, time.Now().Add(time.Millisecond),
		func(counts []ReplayCount, did []Replayed) {
			if told++; len(counts)+len(did) > 0 {
				t.Errorf("told of %v and %v, want nothing", counts, did)
			}
		})
	if err != nil || told == 0 {
		t.Errorf("told %d times (%v), want once a page", told, err)
	}
}

func TestReplayByIDTakesAlsoWhatKilledItsWorkers(t *testing.T) {
	b := setup(t)
	c := b.committer(CommitterOptions{})
	dead := b.end(c, newMessage(), outcome.Outcome{Status: outcome.Dead, Reason: outcome.Poison})
	waits := newParcel(1)
	b.accept(waits)
	ids := []message.ID{dead.ID, waits.Messages[0].ID, message.NewID(time.Now())}
	only := func(r Replay) map[Spared]int {
		found := map[Spared]int{}
		err := b.store.ReplayOnly(b.ctx, r, ids, time.Now(), func(counts []ReplayCount, _ []Replayed) {
			for _, c := range counts {
				found[c.Spared] += c.N
			}
		})
		if err != nil {
			t.Fatal(err)
		}
		return found
	}
	if found := only(Replay{}); found[SparedDoubt] != 1 || found[SparedEnded] != 1 || found[SparedMissing] != 1 {
		t.Errorf("found %v, want one maybe sent, one without an end, one missing", found)
	}
	if found := only(Replay{AcceptDuplicates: true, DryRun: true}); found[""] != 1 {
		t.Errorf("dry run found %v, want one to replay", found)
	}
	if found := only(Replay{AcceptDuplicates: true}); found[""] != 1 {
		t.Errorf("found %v, want one replayed: a dry run must have changed nothing", found)
	}
	if found := only(Replay{AcceptDuplicates: true}); found[SparedReplayed] != 1 {
		t.Errorf("found %v, want it spared the second time", found)
	}
}

// Several at once, of which some are broken off, replay each message once.
func TestManyReplaysReplayOnce(t *testing.T) {
	b := setup(t)
	const n = 3000
	for range n / message.MaxParcel {
		b.accept(newParcel(message.MaxParcel))
	}
	if _, err := b.store.pool.Exec(b.ctx, `UPDATE message SET state = 'failed', reason = 'retries_exhausted', finished_at = now()`); err != nil {
		t.Fatal(err)
	}
	r := Replay{Statuses: ended, Since: time.Now().Add(-time.Hour), PerSecond: 1000}
	now := time.Now().Add(time.Millisecond)
	var wg sync.WaitGroup
	for i := range 4 {
		wg.Go(func() {
			ctx, cancel := context.WithCancel(b.ctx)
			defer cancel()
			seen := 0
			err := b.store.Replay(ctx, r, now, func([]ReplayCount, []Replayed) {
				if seen++; i < 2 && seen == 2 {
					cancel()
				}
			})
			if err != nil && !errors.Is(err, context.Canceled) {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	b.replay(r)
	if got := b.count(`SELECT count(*) FROM replay`); got != n {
		t.Errorf("%d messages were replayed, want %d", got, n)
	}
	if got := b.count(`SELECT count(*) FROM message m JOIN message_body b USING (id) JOIN parked p USING (id) WHERE m.state = 'parked'`); got != n {
		t.Errorf("%d messages wait, want %d", got, n)
	}
	if got := b.count(`SELECT count(*) FROM parked WHERE due_at > (SELECT min(due_at) FROM parked) + interval '500 ms'`); got == 0 {
		t.Error("all are due at once, want 1,000 a second")
	}
}
