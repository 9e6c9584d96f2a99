package postgres

import (
	"encoding/json"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hongyan-dispatch/hongyan/internal/campaign"
	"github.com/hongyan-dispatch/hongyan/message"
	"github.com/hongyan-dispatch/hongyan/outcome"
)

// composed are the messages of a chunk, as a worker composes them.
func (b *bundle) composed(run *Chunk) (list []*message.Message) {
	b.Helper()
	f, c, columns, err := b.store.FiringOf(b.ctx, run.Firing)
	b.ok(err)
	composer, err := campaign.NewComposer(c.Spec, f.StartedAt, f.ID, columns)
	b.ok(err)
	for _, r := range b.recipients(run) {
		m, _, err := composer.Message(nil, r.N, r.OpenID, r.Vars)
		b.ok(err)
		list = append(list, m)
	}
	return list
}

func withEverything(s *campaign.Spec) {
	s.Labels, s.Expires = map[string]string{"act": "spring"}, time.Hour
	s.Fallback = json.RawMessage(`{"kind":"custom","custom":{"msgtype":"text","text":{"content":"{{.name}}"}}}`)
}

// wantSaid compares what the ledger tells of a message with what was composed.
func (b *bundle) wantSaid(got, want *message.Message) {
	b.Helper()
	if string(got.Body) != string(want.Body) || got.To != want.To || !reflect.DeepEqual(got.Labels, want.Labels) ||
		!got.ExpiresAt.Equal(want.ExpiresAt) || got.Fallback == nil || string(got.Fallback.Body) != string(want.Fallback.Body) {
		b.Errorf("got %+v\nwant %+v", got, want)
	}
}

// Only what did not simply go out has a body of its own; the ledger tells the same of all.
func TestACampaignsMessageIsComposedAgain(t *testing.T) {
	b := setup(t)
	c := b.committer(CommitterOptions{})
	id, _ := b.started(6, withEverything)
	run := b.take(b.queue(id, 1)[0])
	list := b.composed(run)
	ends := []outcome.Outcome{
		sent(1),
		{Status: outcome.Failed, Reason: outcome.RefusedRecipient, ErrCode: 43004},
		{Status: outcome.Unknown, Reason: outcome.InDoubt},
		{Status: outcome.Parked, Reason: outcome.Backoff, Until: time.Now()},
	}
	for i, m := range list[:5] {
		claim := b.claimFor(c, run, m)
		if !claim.OK || claim.Number != 1 || claim.Attempt != 1 || claim.Intent.IsZero() {
			t.Fatalf("claim of %d: %+v", m.N, claim)
		}
		if i < len(ends) {
			b.settle(c, m, claim, ends[i], Effects{})
		}
	}
	b.verdictFor(c, run, list[5], outcome.Outcome{Status: outcome.Skipped, Reason: outcome.Suppressed})
	for i, bodies := range []int{0, 1, 1, 1} {
		b.wantOnce(list[i], bodies)
	}
	b.wantOnce(list[5], 1)
	for _, m := range append(list[:4:4], list[5]) {
		if n := b.count(`SELECT count(*) FROM outcomes WHERE id = $1 AND recipient = $2 AND labels ->> 'act' = 'spring' AND campaign_id = $3`,
			[16]byte(m.ID), string(m.To), [16]byte(id)); n != 1 {
			t.Errorf("the view does not tell of message %d whose it is", m.N)
		}
	}

	got, err := b.store.CampaignSends(b.ctx, "shop", []message.OpenID{list[0].To, list[3].To}, time.Now().Add(-time.Minute), true)
	b.ok(err)
	slices.SortFunc(got, func(x, y CampaignSend) int { return slices.Compare([]byte(x.To), []byte(y.To)) })
	if len(got) != 2 || got[0].Content != string(list[0].Body) || got[1].Content != string(list[3].Body) {
		t.Errorf("the two users got %+v", got)
	}

	parcels := b.release(10, time.Now().Add(time.Second))
	if len(parcels) != 1 || len(parcels[0].Messages) != 1 {
		t.Fatalf("released %v, want the one that is parked", parcels)
	}
	b.wantSaid(parcels[0].Messages[0], list[3])
	b.receive(report(list[0], 1, time.Now()))
	b.joinAt(time.Now().Add(time.Minute))
	if receipt, inferred := b.receiptOf(list[0].ID); receipt != "delivered" || inferred {
		t.Errorf("the receipt is %q, inferred %t", receipt, inferred)
	}
}

// wantOnce checks that the ledger knows the message in one place, and what it says.
func (b *bundle) wantOnce(m *message.Message, bodies int) {
	b.Helper()
	if n := b.count(`SELECT count(*) FROM addressed WHERE id = $1 AND recipient = $2`, [16]byte(m.ID), string(m.To)); n != 1 {
		b.Errorf("recipient %d is addressed %d times", m.N, n)
	}
	if n := b.count(`SELECT count(*) FROM message_body WHERE id = $1`, [16]byte(m.ID)); n != bodies {
		b.Errorf("message %d has %d bodies, want %d", m.N, n, bodies)
	}
	b.wantSaid(b.status(m.ID).Message, m)
}

func TestWhatADeadPodLeftOfACampaignIsComposedAgain(t *testing.T) {
	b := setup(t)
	c := b.committer(CommitterOptions{})
	id, _ := b.started(2, withEverything)
	run := b.take(b.queue(id, 1)[0])
	list := b.composed(run)
	for _, m := range list {
		b.claimFor(c, run, m)
	}
	b.silence(c.pod)
	left := b.resolve(again)
	slices.SortFunc(left, func(x, y LeftBehind) int { return slices.Compare(x.ID[:], y.ID[:]) })
	if len(left) != 2 || left[0].To != list[0].To || left[1].To != list[1].To {
		t.Fatalf("left behind: %+v", left)
	}
	for _, m := range list {
		b.wantOnce(m, 1)
		b.wantState(m.ID, outcome.Parked, outcome.Backoff)
	}
	parcels := b.release(10, time.Now().Add(time.Second))
	if len(parcels) != 1 || len(parcels[0].Messages) != 2 {
		t.Fatalf("released %v", parcels)
	}
	b.wantSaid(parcels[0].Messages[0], list[0])
}

// A pod that only seemed dead settles while it is resolved: one of the two decides, and the ledger has one text.
func TestALatePodIsResolvedOrHeard(t *testing.T) {
	for name, late := range map[string]outcome.Outcome{
		"sent":   sent(7),
		"failed": {Status: outcome.Failed, Reason: outcome.RefusedRecipient, ErrCode: 43004},
	} {
		t.Run(name, func(t *testing.T) {
			b := setup(t)
			c := b.committer(CommitterOptions{Failed: func(err error, _ int) { t.Errorf("a commit failed: %v", err) }})
			id, _ := b.started(1, withEverything)
			run := b.take(b.queue(id, 1)[0])
			m := b.composed(run)[0]
			claim := b.claimFor(c, run, m)
			b.silence(c.pod)
			settled := make(chan bool, 1)
			_, _, err := b.store.ResolveLeftBehind(b.ctx, 15*time.Second, func(LeftBehind) (outcome.Outcome, string) {
				go func() {
					took, err := c.Settle(b.ctx, m, claim, late, Effects{})
					settled <- took && err == nil
				}()
				b.waitForLockWaiters(1) // it waits for the resolver
				return again, "its worker fell silent"
			})
			b.ok(err)
			if <-settled {
				t.Error("the claim was lost, and its outcome counted")
			}
			b.wantOnce(m, 1)
		})
	}
}

// A customer-service message of a campaign uses up a place of its user's window, whoever asks later.
func TestACampaignsAnswersCount(t *testing.T) {
	b := setup(t)
	c := b.committer(CommitterOptions{})
	id, _ := b.started(1, func(s *campaign.Spec) {
		s.Kind, s.Body = message.Custom, json.RawMessage(`{"msgtype":"text","text":{"content":"{{.name}}"}}`)
	})
	run := b.take(b.queue(id, 1)[0])
	m := b.composed(run)[0]
	check := func(when string) {
		t.Helper()
		got, err := b.store.AnsweredSince(b.ctx, "shop", m.To, time.Now().Add(-time.Minute))
		if err != nil || len(got) != 1 || got[0].ID != m.ID {
			t.Errorf("%s: answers %+v, %v", when, got, err)
		}
	}
	claim := b.claimFor(c, run, m)
	check("in flight")
	b.settle(c, m, claim, sent(0), Effects{})
	check("sent")
}

// Whose a message is must be found by index, in both places, also by the receipts' question about many users.
func TestTheMessagesOfAUserAreFoundByIndex(t *testing.T) {
	b := setup(t)
	for name, sql := range map[string]string{
		"one":  `SELECT m.id FROM addressed b JOIN message m ON m.id = b.id WHERE b.recipient = 'o1' AND b.id >= '00000000-0000-0000-0000-000000000001'`,
		"some": `SELECT m.id FROM addressed b JOIN message m ON m.id = b.id WHERE b.recipient = ANY (ARRAY['o1', 'o2'])`,
		"many": strings.NewReplacer("$1", "'{1}'", "$2", "'{1}'", "$3", "'{o1}'", "$4", "'{00000000-0000-0000-0000-000000000001}'", "$5", "'{f0000000-0000-0000-0000-000000000001}'").Replace(sqlRecent),
	} {
		plan := strings.Join(b.strings(`EXPLAIN `+sql), "\n")
		found := strings.Count(plan, "Index Cond: (recipient = ") + strings.Count(plan, "Index Cond: ((recipient = ")
		if want := 2 * b.count(`SELECT count(*) FROM pg_inherits WHERE inhparent = 'message'::regclass`); found < want || strings.Contains(plan, "Join Filter") {
			t.Errorf("%s: %d of %d scans are by recipient:\n%s", name, found, want, plan)
		}
	}
}
