package postgres

import (
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/hongyan-dispatch/hongyan/message"
	"github.com/hongyan-dispatch/hongyan/outcome"
)

func TestAcceptWritesWholeMessages(t *testing.T) {
	b := setup(t)
	m := newMessage()
	m.Key, m.Labels, m.ExpiresAt = "order-1", map[string]string{"order": "1"}, time.Now().Add(time.Hour).Truncate(time.Microsecond)
	m.Fallback = &message.Message{Kind: message.Template, Body: json.RawMessage(`{"template_id":"T2"}`)}
	p := parcelOf(m)
	if got := b.accept(p); len(got) != 1 || !got[0].Accepted() || got[0].ID != m.ID {
		t.Fatalf("answers %+v, want the message accepted under its id", got)
	}
	s := b.wantState(m.ID, outcome.Accepted, "")
	got := s.Message
	if got.To != m.To || got.Key != m.Key || string(got.Body) != string(m.Body) || got.Labels["order"] != "1" ||
		!got.ExpiresAt.Equal(m.ExpiresAt) || got.Account != "shop" || got.Kind != m.Kind || got.Lane != m.Lane {
		t.Errorf("got %+v, want %+v", got, m)
	}
	if got.Fallback == nil || string(got.Fallback.Body) != `{"template_id":"T2"}` {
		t.Errorf("fallback %+v, want what was accepted", got.Fallback)
	}
	if s.Parcel != p.ID || b.count(`SELECT count(*) FROM parcel WHERE id = $1 AND ids = ARRAY[$2::uuid]`, [16]byte(p.ID), [16]byte(m.ID)) != 1 {
		t.Error("the parcel is not in the outbox with its message")
	}
}

func TestAcceptKeepsMassLists(t *testing.T) {
	b := setup(t)
	m := newMessage()
	m.Kind, m.To, m.List = message.Mass, "", []message.OpenID{"oA", `o"B\`, "oC"}
	all := newMessage()
	all.Kind, all.To, all.Body = message.Mass, "", json.RawMessage(`{"filter":{"is_to_all":true},"msgtype":"text"}`)
	tag := newMessage()
	tag.Kind, tag.To, tag.Body = message.Mass, "", json.RawMessage(`{"filter":{"is_to_all":false,"tag_id":2},"msgtype":"text"}`)
	b.accept(parcelOf(m), parcelOf(all, tag))
	if got := b.status(m.ID).Message.List; fmt.Sprint(got) != fmt.Sprint(m.List) {
		t.Errorf("list %v, want %v", got, m.List)
	}
	got := b.strings(`SELECT recipient FROM outcomes ORDER BY array_position($1::uuid[], id)`, [][16]byte{m.ID, all.ID, tag.ID})
	if want := "[list:3 all tag:2]"; fmt.Sprint(got) != want {
		t.Errorf("recipients %v, want %s", got, want)
	}
}

func TestAcceptGivesAKeyOnce(t *testing.T) {
	b := setup(t)
	first, again, other, inBatch := newMessage(), newMessage(), newMessage(), newMessage()
	for _, m := range []*message.Message{first, again, other, inBatch} {
		m.Key, m.To = "order-1", "oSame"
	}
	other.Body = json.RawMessage(`{"template_id":"other"}`)
	p := parcelOf(first, inBatch)
	if got := b.accept(p); got[0] != (Acceptance{ID: first.ID}) || got[1] != (Acceptance{ID: first.ID, Duplicate: true}) {
		t.Errorf("the same key twice in a batch: %+v, want the second to be a duplicate of the first", got)
	}
	if len(p.Messages) != 1 || p.Messages[0] != first {
		t.Errorf("%d messages left in the parcel, want the first alone", len(p.Messages))
	}
	p = parcelOf(again, other)
	if got := b.accept(p); got[0] != (Acceptance{ID: first.ID, Duplicate: true}) || got[1] != (Acceptance{ID: first.ID, Conflict: true}) {
		t.Errorf("later: %+v, want a duplicate and a conflict", got)
	}
	if len(p.Messages) != 0 || b.count(`SELECT count(*) FROM message`) != 1 || b.count(`SELECT count(*) FROM parcel`) != 1 {
		t.Error("want one message and one parcel in the ledger, and nothing left to queue")
	}
	t.Run("another account has its own keys", func(t *testing.T) {
		m := newMessage()
		m.Key, m.Account = "order-1", "other shop"
		if got := b.accept(parcelOf(m)); !got[0].Accepted() {
			t.Errorf("%+v, want accepted", got)
		}
	})
}

func TestOneOfAHundredEqualKeysWins(t *testing.T) {
	b := setup(t)
	var wg sync.WaitGroup
	ids := make([]message.ID, 100)
	for i := range ids {
		wg.Go(func() {
			// Two keys in either order: transactions that took them as they come would deadlock.
			x, y := newMessage(), newMessage()
			x.Key, y.Key, x.To, y.To = "x", "y", "oSame", "oSame"
			list := []*message.Message{x, y}
			if i%2 == 1 {
				list = []*message.Message{y, x}
			}
			answers, err := b.store.Accept(b.ctx, []*message.Parcel{parcelOf(list...)}, time.Now())
			if err != nil {
				t.Error(err)
				return
			}
			ids[i] = answers[i%2].ID
		})
	}
	wg.Wait()
	for _, id := range ids {
		if id != ids[0] || id.IsZero() {
			t.Fatalf("ids %s and %s for one key, want one id", ids[0], id)
		}
	}
	if n := b.count(`SELECT count(*) FROM message`); n != 2 {
		t.Errorf("%d messages, want 2", n)
	}
}

func TestAcceptParksWhatIsNotYetToGo(t *testing.T) {
	b := setup(t)
	now := time.Now()
	later, soon := newMessage(), newMessage()
	later.NotBefore = now.Add(time.Hour).Truncate(time.Microsecond)
	p := parcelOf(later, soon)
	if got := b.accept(p); !got[0].Parked || got[1].Parked {
		t.Errorf("answers %+v, want the first parked", got)
	}
	if len(p.Messages) != 1 || p.Messages[0] != soon {
		t.Error("want the other message alone to be queued")
	}
	s := b.wantState(later.ID, outcome.Parked, outcome.NotBefore)
	if !s.Due.Equal(later.NotBefore) {
		t.Errorf("due %s, want %s", s.Due, later.NotBefore)
	}
}

func TestAcceptRefusesAMessageThatCannotBeStoredAndKeepsTheOthers(t *testing.T) {
	b := setup(t)
	nul, labels, good := newMessage(), newMessage(), newMessage()
	nul.Body = json.RawMessage("{\"x\":\"\x00\"}")
	labels.Labels = map[string]string{"a": "\xff"}
	p := parcelOf(nul, good, labels)
	got := b.accept(p)
	if !errors.Is(got[0].Err, ErrUnstorable) || !got[1].Accepted() || !errors.Is(got[2].Err, ErrUnstorable) {
		t.Errorf("answers %+v, want the second alone accepted", got)
	}
	if len(p.Messages) != 1 {
		t.Errorf("%d messages to queue, want 1", len(p.Messages))
	}
	b.wantState(good.ID, outcome.Accepted, "")
}

func TestAcceptOfTheSameIdsIsAcceptedAlready(t *testing.T) {
	b := setup(t)
	old, keyedOld, fresh := newMessage(), newMessage(), newMessage()
	keyedOld.Key = "k"
	b.accept(parcelOf(old, keyedOld))
	p := parcelOf(old, keyedOld, fresh)
	for i, a := range b.accept(p) {
		if !a.Accepted() {
			t.Errorf("answer %d: %+v, want accepted", i, a)
		}
	}
	if len(p.Messages) != 3 || b.count(`SELECT count(*) FROM message`) != 3 || b.count(`SELECT count(*) FROM message_body`) != 3 {
		t.Error("want three messages, each once")
	}
}

func TestAcceptCancelledShowsNobodyAnAcceptedMessage(t *testing.T) {
	b := setup(t)
	fresh, old := newMessage(), newMessage()
	b.accept(parcelOf(old))
	claimed := newMessage()
	p := parcelOf(claimed)
	b.accept(p)
	b.claim(b.committer(CommitterOptions{}), claimed, p.ID)
	answers, err := b.store.AcceptCancelled(b.ctx, []*message.Parcel{parcelOf(fresh, old, claimed)}, time.Now())
	if err != nil || len(answers) != 3 || !answers[0].Accepted() {
		t.Fatalf("answers %+v, %v", answers, err)
	}
	b.wantState(fresh.ID, outcome.Cancelled, outcome.ReasonCancelled)
	b.wantState(old.ID, outcome.Cancelled, outcome.ReasonCancelled)
	b.wantState(claimed.ID, outcome.Sending, "")
	if b.count(`SELECT count(*) FROM message m JOIN message_body b USING (id) WHERE m.id = $1 AND m.xmin = b.xmin`, [16]byte(fresh.ID)) != 1 {
		t.Error("accepted in one transaction and cancelled in another; want one")
	}
}

func TestPurgeKeysForgetsOldKeysOnly(t *testing.T) {
	b := setup(t)
	p := newParcel(3)
	for i, m := range p.Messages {
		m.Key = fmt.Sprint("k", i)
	}
	b.accept(p)
	if n, err := b.store.PurgeKeys(b.ctx, time.Now().Add(-time.Hour), 10); n != 0 || err != nil {
		t.Errorf("purged %d (%v), want 0", n, err)
	}
	if n, err := b.store.PurgeKeys(b.ctx, time.Now().Add(time.Hour), 2); n != 2 || err != nil {
		t.Errorf("purged %d (%v), want 2", n, err)
	}
}
