package client_test

import (
	"context"
	"encoding/json"
	"errors"
	"reflect"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/hongyan-dispatch/hongyan/client"
	"github.com/hongyan-dispatch/hongyan/internal/devstack"
	"github.com/hongyan-dispatch/hongyan/message"
	"github.com/hongyan-dispatch/hongyan/outcome"
)

func TestWithoutALedgerAMessageIsHandedOver(t *testing.T) {
	b := withoutLedger(t)
	r := b.enqueue(template("oA", ""))
	if r.Durability != client.InRedis || r.ID.IsZero() {
		t.Errorf("got %+v, want an id and durability redis", r)
	}
	_, queued := b.queued()
	if len(queued) != 1 || queued[0].ID != r.ID || queued[0].To != "oA" || queued[0].Lane != message.Normal {
		t.Errorf("queued %+v, want the message in the normal lane", queued)
	}
	if _, err := b.Status(t.Context(), r.ID); !errors.Is(err, client.ErrNoLedger) {
		t.Errorf("status: got %v, want ErrNoLedger", err)
	}
}

func TestWithALedgerAMessageIsARow(t *testing.T) {
	b := withLedger(t)
	r := b.enqueue(template("oA", "k"))
	if r.Durability != client.InPostgres {
		t.Errorf("durability %s, want postgres", r.Durability)
	}
	if n := b.rows("id = $1 AND status = 'accepted' AND key = 'k'", r.ID.String()); n != 1 {
		t.Errorf("%d rows, want 1", n)
	}
	s, err := b.Status(t.Context(), r.ID)
	if err != nil || s.Status != outcome.Accepted || s.Message.To != "oA" {
		t.Errorf("status %+v, %v, want accepted", s, err)
	}
	if _, queued := b.queued(); len(queued) != 1 {
		t.Errorf("%d messages queued, want 1", len(queued))
	}
}

func TestKeys(t *testing.T) {
	b := withLedger(t)
	first := b.enqueue(template("oA", "order-1"))
	again := template("oA", "order-1")
	again.ExpiresAt = time.Now().Add(time.Hour)
	again.Account = "wx0000000000000001"
	if r := b.enqueue(again); !r.Duplicate || r.ID != first.ID {
		t.Errorf("the same message: got %+v, want a duplicate with the id %s", r, first.ID)
	}
	if r, err := b.Enqueue(t.Context(), template("oB", "order-1")); !errors.Is(err, client.ErrKeyConflict) || !r.ID.IsZero() {
		t.Errorf("another message: got %+v, %v, want a conflict and no id", r, err)
	}
	if _, queued := b.queued(); len(queued) != 1 {
		t.Errorf("%d messages queued, want 1", len(queued))
	}
}

func TestABadMessageStopsNoOther(t *testing.T) {
	b := withLedger(t)
	batch := make([]message.Message, 2500)
	for i := range batch {
		batch[i] = template("oA", "")
	}
	batch[7].To = "not an openid"
	batch[8].Account = "nobody"
	batch[1999].Body = json.RawMessage(`{"template_id":"x"`)
	ids := map[message.ID]bool{}
	for i, r := range b.EnqueueBatch(t.Context(), batch) {
		if bad := i == 7 || i == 8 || i == 1999; bad != (r.Err != nil) {
			t.Fatalf("message %d: %v", i, r.Err)
		}
		if r.Err == nil {
			ids[r.ID] = true
		} else if _, ok := errors.AsType[message.Invalid](r.Err); !ok {
			t.Errorf("message %d: %T, want message.Invalid", i, r.Err)
		}
	}
	parcels, queued := b.queued()
	if len(ids) != 2497 || len(queued) != 2497 || b.rows("lane = 'bulk'") != 2497 {
		t.Errorf("%d ids, %d queued, want 2497", len(ids), len(queued))
	}
	if parcels > 27 {
		t.Errorf("%d parcels, want about 25", parcels)
	}
}

func TestNotBeforeWaitsInTheLedger(t *testing.T) {
	b := withLedger(t)
	m := template("oA", "")
	m.NotBefore = time.Now().Add(time.Hour)
	r := b.enqueue(m)
	if n := b.rows("id = $1 AND status = 'parked' AND reason = 'not_before'", r.ID.String()); n != 1 {
		t.Errorf("%d rows parked, want 1", n)
	}
	if _, queued := b.queued(); len(queued) != 0 {
		t.Errorf("%d messages queued, want none", len(queued))
	}
}

func TestCallsThatWaitTravelTogether(t *testing.T) {
	b := withoutLedger(t)
	var wg sync.WaitGroup
	for range 50 {
		wg.Go(func() {
			for range 20 {
				b.enqueue(template("oA", ""))
			}
		})
	}
	wg.Wait()
	parcels, queued := b.queued()
	if len(queued) != 1000 || parcels > 500 {
		t.Errorf("%d messages in %d parcels, want 1000 in far fewer", len(queued), parcels)
	}
}

func TestTheCallersMessageStaysAsItIs(t *testing.T) {
	b := withoutLedger(t)
	fallback := &message.Message{Kind: message.Template, Body: json.RawMessage(` {"template_id": "order_paid", "data": {"thing2": {"value": "咖啡"}}} `)}
	m := message.Message{
		Account: "shop", Kind: message.Custom, To: "oA", Fallback: fallback,
		Body: json.RawMessage(`{"msgtype":"text","text":{"content":"您好"}}`),
	}
	var wg sync.WaitGroup
	for range 4 { // the race detector looks on
		wg.Go(func() { b.enqueue(m) })
	}
	wg.Wait()
	if fallback.Lane != "" || fallback.Body[0] != ' ' || !m.ID.IsZero() {
		t.Errorf("the message was changed: %+v", m)
	}
}

func TestACallThatIsOverAcceptsNothing(t *testing.T) {
	b := withoutLedger(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := b.Enqueue(ctx, template("oA", "")); !errors.Is(err, client.ErrUnavailable) || !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want ErrUnavailable and context.Canceled", err)
	}
	for _, r := range b.EnqueueBatch(ctx, []message.Message{template("oA", "")}) {
		if !errors.Is(r.Err, client.ErrUnavailable) {
			t.Errorf("got %v, want ErrUnavailable", r.Err)
		}
	}
	if _, queued := b.queued(); len(queued) != 0 {
		t.Errorf("%d messages queued, want none", len(queued))
	}
}

func TestCancel(t *testing.T) {
	b := withLedger(t)
	r := b.enqueue(template("oA", ""))
	for range 2 {
		if s, err := b.Cancel(t.Context(), r.ID); s != outcome.Cancelled || err != nil {
			t.Errorf("got %s, %v, want cancelled", s, err)
		}
	}
	if _, err := b.Cancel(t.Context(), message.NewID(time.Now())); !errors.Is(err, client.ErrNotFound) {
		t.Errorf("an unknown id: got %v, want ErrNotFound", err)
	}
	if _, err := b.Status(t.Context(), message.NewID(time.Now())); !errors.Is(err, client.ErrNotFound) {
		t.Errorf("an unknown id: got %v, want ErrNotFound", err)
	}
}

func TestLongListsBecomeParts(t *testing.T) {
	for _, b := range []func(*testing.T) *bundle{withLedger, withoutLedger} {
		t.Run("", func(t *testing.T) {
			b := b(t)
			r := b.enqueue(massTo(25_001, ""))
			if len(r.Parts) != 3 || r.Parts[0] != r.ID {
				t.Fatalf("got %+v, want three parts", r)
			}
			_, queued := b.queued()
			slices.SortFunc(queued, func(a, b *message.Message) int { return slices.Index(r.Parts, a.ID) - slices.Index(r.Parts, b.ID) })
			var sizes []int
			for i, m := range queued {
				sizes = append(sizes, len(m.List))
				if m.ID != r.Parts[i] || (i > 0) != (m.Parent == r.ID) {
					t.Errorf("part %d is %s of %q", i, m.ID, m.Parent)
				}
			}
			if !slices.Equal(sizes, []int{8334, 8334, 8333}) {
				t.Errorf("parts of %v", sizes)
			}
		})
	}
}

func TestAListThatComesAgainFindsItsParts(t *testing.T) {
	b := withLedger(t)
	first := b.enqueue(massTo(20_002, "sale"))
	if first.Duplicate || len(first.Parts) != 3 {
		t.Fatalf("got %+v", first)
	}
	if again := b.enqueue(massTo(20_002, "sale")); !again.Duplicate || !slices.Equal(again.Parts, first.Parts) {
		t.Errorf("the same list: got %+v, want a duplicate with the parts %v", again, first.Parts)
	}
	if _, err := b.Enqueue(t.Context(), massTo(40_000, "sale")); !errors.Is(err, client.ErrKeyConflict) {
		t.Errorf("another list: got %v, want a conflict", err)
	}
	if n := b.rows("true"); n != 3 {
		t.Errorf("%d rows, want 3", n)
	}
}

// A list is accepted whole or not at all, also one with a key.
func TestAListOfWhichAPartIsRefused(t *testing.T) {
	b := withLedger(t)
	b.enqueue(template("oA", "")) // so that the account is there
	conn, err := pgx.Connect(t.Context(), b.options.Database)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	if _, err := conn.Exec(t.Context(), `
		INSERT INTO idempotency_key (account, key, id, body_hash) SELECT id, E'sale\u00a0#3', gen_random_uuid(), 'sixteen bytes of'::bytea FROM account`); err != nil {
		t.Fatal(err)
	}
	if r, err := b.Enqueue(t.Context(), massTo(20_002, "sale")); !errors.Is(err, client.ErrKeyConflict) {
		t.Errorf("got %+v, %v, want a conflict", r, err)
	}
	if n := b.rows("true"); n != 1 {
		t.Errorf("%d rows, want none of the list", n-1)
	}
	if _, queued := b.queued(); len(queued) != 1 {
		t.Errorf("%d parts are queued", len(queued)-1)
	}
}

func TestAllOrNone(t *testing.T) {
	b := withLedger(t)
	b.enqueue(template("oA", "taken"))
	refused := b.EnqueueAll(t.Context(), []message.Message{template("oB", ""), template("oC", "taken")})
	if !errors.Is(refused[0].Err, client.ErrNotAll) || !errors.Is(refused[1].Err, client.ErrKeyConflict) {
		t.Errorf("receipts %+v", refused)
	}
	refused = b.EnqueueAll(t.Context(), []message.Message{template("oB", ""), template("", "")})
	if _, invalid := errors.AsType[message.Invalid](refused[1].Err); !errors.Is(refused[0].Err, client.ErrNotAll) || !invalid {
		t.Errorf("receipts %+v", refused)
	}
	refused = b.EnqueueAll(t.Context(), []message.Message{template("oB", ""), massTo(10_001, "")})
	if _, invalid := errors.AsType[message.Invalid](refused[1].Err); !invalid {
		t.Errorf("receipts %+v", refused)
	}
	for _, r := range withoutLedgerNow(t).EnqueueAll(t.Context(), []message.Message{template("oB", "")}) {
		if !errors.Is(r.Err, client.ErrNoLedger) {
			t.Errorf("without a ledger: %+v", r)
		}
	}
	if n := b.rows("true"); n != 1 {
		t.Errorf("%d messages, want the first alone", n)
	}
	good := b.EnqueueAll(t.Context(), []message.Message{template("oB", ""), template("oA", "taken")})
	if good[0].Err != nil || good[0].Duplicate || good[1].Err != nil || !good[1].Duplicate {
		t.Errorf("receipts %+v", good)
	}
	if _, queued := b.queued(); len(queued) != 2 || b.rows("true") != 2 {
		t.Errorf("%d messages are queued, want 2", len(queued))
	}
}

// withoutLedgerNow is a client inside a test that runs already.
func withoutLedgerNow(t *testing.T) *bundle {
	t.Helper()
	return open(t, client.Options{Redis: devstack.Redis(t)})
}

func TestReplay(t *testing.T) {
	b := withLedger(t)
	waits := template("oA", "k")
	waits.NotBefore = time.Now().Add(time.Hour)
	first := b.enqueue(waits)
	ask := client.Replay{Statuses: []outcome.Status{outcome.Cancelled}, Accounts: []string{"wx0000000000000001"}, Since: time.Now().Add(-time.Hour)}
	if r, err := b.Replay(t.Context(), ask); err != nil || r.Replayed+r.Spared != 0 {
		t.Errorf("replayed %+v (%v) before anything ended", r, err)
	}
	if _, err := b.Cancel(t.Context(), first.ID); err != nil {
		t.Fatal(err)
	}
	for i, want := range []client.ReplayResult{{Replayed: 1}, {Spared: 1}} {
		var told client.ReplayResult
		ask.Progress = func(r client.ReplayResult) { told = r }
		r, err := b.Replay(t.Context(), ask)
		if err != nil || r.Replayed != want.Replayed || r.Spared != want.Spared || !reflect.DeepEqual(told, r) || len(r.Counts) != 1 || r.Counts[0].Messages != 1 {
			t.Errorf("call %d: %+v (%v), told at last of %+v; want %+v and its count", i+1, r, err, told, want)
		}
	}
	if _, err := open(t, client.Options{Redis: b.options.Redis}).Replay(t.Context(), ask); !errors.Is(err, client.ErrNoLedger) {
		t.Errorf("without a ledger: %v, want %v", err, client.ErrNoLedger)
	}
	_, err := b.Replay(t.Context(), client.Replay{Statuses: []outcome.Status{outcome.Sent}})
	if invalid, ok := errors.AsType[message.Invalid](err); !ok || len(invalid) != 2 || invalid[0].Path != "since" || invalid[1].Path != "status" {
		t.Errorf("got %v, want since and status to be refused", err)
	}
}
