package postgres

import (
	"errors"
	"testing"
	"time"

	"github.com/hongyan-dispatch/hongyan/message"
)

func TestANameHasTwoLiveKeys(t *testing.T) {
	b := setup(t)
	key := func(id string) error {
		return b.store.CreateAPIKey(b.ctx, APIKey{ID: id, Name: "crm", Hash: make([]byte, 32), Scopes: []string{"shop:*:enqueue"}}, AuditEntry{At: time.Now(), Action: "key create", Target: id})
	}
	for _, id := range []string{"a", "b"} {
		if err := key(id); err != nil {
			t.Fatal(err)
		}
	}
	if err := key("c"); !errors.Is(err, ErrTooManyKeys) {
		t.Fatalf("a third live key: got %v", err)
	}
	if known, lived, err := b.store.RevokeAPIKey(b.ctx, "a", AuditEntry{At: time.Now()}); err != nil || !known || !lived {
		t.Fatalf("revoke: %v %v %v", known, lived, err)
	}
	if known, lived, err := b.store.RevokeAPIKey(b.ctx, "a", AuditEntry{At: time.Now()}); err != nil || !known || lived {
		t.Errorf("revoke again: %v %v %v", known, lived, err)
	}
	if known, _, err := b.store.RevokeAPIKey(b.ctx, "x", AuditEntry{}); err != nil || known {
		t.Errorf("revoke a stranger: %v %v", known, err)
	}
	if err := key("c"); err != nil {
		t.Errorf("a key in place of the revoked one: %v", err)
	}
	if err := b.store.Audit(b.ctx, []AuditEntry{{At: time.Now(), Key: "b", Action: "enqueue", N: 3}}, []string{"b"}); err != nil {
		t.Fatal(err)
	}
	keys, err := b.store.APIKeys(b.ctx)
	if err != nil || len(keys) != 3 {
		t.Fatalf("%v, %v", keys, err)
	}
	for _, k := range keys {
		if k.Live(time.Now()) != (k.ID != "a") || k.Used.IsZero() != (k.ID != "b") {
			t.Errorf("key %+v", k)
		}
	}
	if n := b.count(`SELECT count(*) FROM api_audit`); n != 5 {
		t.Errorf("%d audit entries, want 5", n)
	}
}

func TestApprovalsGoOneWay(t *testing.T) {
	b := setup(t)
	m := newMessage()
	m.Kind, m.To, m.Key, m.Body = message.Mass, "", "k1", []byte(`{"filter":{"is_to_all":true},"msgtype":"text","text":{"content":"x"}}`)
	ask := func(m *message.Message) (Approval, bool, bool) {
		t.Helper()
		a, duplicate, conflict, err := b.store.AskApproval(b.ctx, m, "crm", time.Now())
		if err != nil {
			t.Fatal(err)
		}
		return a, duplicate, conflict
	}
	first, duplicate, _ := ask(m)
	again, twice, _ := ask(m)
	if duplicate || !twice || again.ID != first.ID || string(again.Message.Body) != string(m.Body) {
		t.Errorf("asked again: %+v, %v; want %s", again, twice, first.ID)
	}
	other := *m
	other.Body = []byte(`{"filter":{"is_to_all":true},"msgtype":"text","text":{"content":"y"}}`)
	if _, _, conflict := ask(&other); !conflict {
		t.Error("another message under the key is no conflict")
	}
	keyless := *m
	keyless.Key = ""
	second, _, _ := ask(&keyless)
	if list, err := b.store.Approvals(b.ctx, m.Account, time.Now().Add(-time.Hour), 10); err != nil || len(list) != 2 {
		t.Errorf("waiting: %v, %v", list, err)
	}
	if list, err := b.store.Approvals(b.ctx, m.Account, time.Now().Add(time.Hour), 10); err != nil || len(list) != 0 {
		t.Errorf("waiting since later: %v, %v", list, err)
	}
	if ok, err := b.store.Refuse(b.ctx, second.ID, "boss", "no"); !ok || err != nil {
		t.Errorf("refuse: %v %v", ok, err)
	}
	if _, ok, _ := b.store.Approve(b.ctx, second.ID, "boss"); ok {
		t.Error("what was refused is approved")
	}
	at, ok, err := b.store.Approve(b.ctx, first.ID, "boss")
	if !ok || err != nil {
		t.Errorf("approve: %v %v", ok, err)
	}
	if again, ok, err := b.store.Approve(b.ctx, first.ID, "boss"); !ok || err != nil || !again.Equal(at) { // it was cut short
		t.Errorf("approve once more: %v %v, at %v, want %v", ok, err, again, at)
	}
	state := func() string {
		t.Helper()
		a, err := b.store.Approval(b.ctx, first.ID)
		if err != nil {
			t.Fatal(err)
		}
		return a.State
	}
	for earlier, want := range map[time.Duration]string{time.Microsecond: ApprovalApproving, 0: ApprovalWaiting} {
		if err := b.store.NotApproved(b.ctx, first.ID, at.Add(-earlier)); err != nil || state() != want {
			t.Errorf("one of %v before is taken back: it is %s, want %s (%v)", earlier, state(), want, err)
		}
		if at, _, err = b.store.Approve(b.ctx, first.ID, "boss"); err != nil {
			t.Fatal(err)
		}
	}
	if ok, _ := b.store.Refuse(b.ctx, first.ID, "boss", ""); ok {
		t.Error("what is on its way is refused")
	}
	id := message.NewID(time.Now())
	late := func(by string) bool {
		t.Helper()
		if _, err := b.store.pool.Exec(b.ctx, `UPDATE approval SET decided_at = decided_at + $2::interval WHERE id = $1`, [16]byte(first.ID), by); err != nil {
			t.Fatal(err)
		}
		_, ok, err := b.store.Approve(b.ctx, first.ID, "boss")
		if err != nil {
			t.Fatal(err)
		}
		return ok
	}
	if late("-24 hours") {
		t.Error("what was cut short is approved again when its message's key may be forgotten")
	}
	if !late("24 hours") {
		t.Error("what was cut short just now is not approved again")
	}
	if err := b.store.Approved(b.ctx, first.ID, []message.ID{id}); err != nil {
		t.Fatal(err)
	}
	if a, err := b.store.Approval(b.ctx, first.ID); err != nil || a.State != ApprovalApproved || len(a.Messages) != 1 || a.Messages[0] != id || a.DecidedBy != "boss" {
		t.Errorf("%+v, %v", a, err)
	}
	if _, ok, _ := b.store.Approve(b.ctx, first.ID, "boss"); ok {
		t.Error("what was approved is approved again")
	}
}

func TestAllOrNone(t *testing.T) {
	b := setup(t)
	taken, good, bad := newMessage(), newMessage(), newMessage()
	taken.Key, bad.Key, bad.To = "k", "k", "oOther"
	b.accept(parcelOf(taken))
	refused := parcelOf(good, bad)
	got, err := b.store.AcceptAll(b.ctx, []*message.Parcel{refused}, time.Now())
	if err != nil || !got[1].Conflict {
		t.Fatalf("%+v, %v; want the second in conflict", got, err)
	}
	if len(refused.Messages) > 0 {
		t.Error("what is not accepted is left to be queued")
	}
	if n := b.count(`SELECT count(*) FROM message`); n != 1 {
		t.Errorf("%d messages are there, want the first alone", n)
	}
	if id, err := b.store.KeyHolder(b.ctx, taken.Account, "k"); err != nil || id != taken.ID {
		t.Errorf("key holder %v, %v", id, err)
	}
	if _, err := b.store.KeyHolder(b.ctx, taken.Account, "no\x00key"); !errors.Is(err, ErrNotFound) {
		t.Errorf("a key that cannot be: %v", err)
	}
	if _, err := b.store.KeyHolder(b.ctx, taken.Account, "free"); !errors.Is(err, ErrNotFound) {
		t.Errorf("a free key: %v", err)
	}
	got, err = b.store.AcceptAll(b.ctx, []*message.Parcel{parcelOf(good, newMessage())}, time.Now())
	if err != nil || !got[0].Accepted() || !got[1].Accepted() {
		t.Errorf("%+v, %v", got, err)
	}
	backlogs, err := b.store.Backlogs(b.ctx, time.Now(), 1000)
	if err != nil || len(backlogs) != 1 || backlogs[0].N != 3 || backlogs[0].Lane != good.Lane {
		t.Errorf("backlogs %+v, %v; want 3", backlogs, err)
	}
}
