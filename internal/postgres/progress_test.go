package postgres

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"errors"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/hongyan-dispatch/hongyan/internal/campaign"
	"github.com/hongyan-dispatch/hongyan/message"
	"github.com/hongyan-dispatch/hongyan/outcome"
)

// sendChunk sends the next chunk's messages: every third is refused.
func (b *bundle) sendChunk(c *Committer, id message.ID) *Chunk {
	b.Helper()
	run := b.take(b.queue(id, 1)[0])
	for _, r := range b.recipients(run) {
		m, o := letter(run, r), sent(int64(r.N))
		if r.N%3 == 0 {
			o = outcome.Outcome{Status: outcome.Failed, Reason: outcome.RefusedRecipient, ErrCode: 43004, ErrMsg: "require \"subscribe\", hint"}
		}
		b.settle(c, m, b.claimFor(c, run, m), o, Effects{})
	}
	return run
}

func (b *bundle) wantProgress(id message.ID, waiting int, want Tally) Progress {
	b.Helper()
	p, err := b.store.CampaignProgress(b.ctx, id.String())
	if err != nil {
		b.Fatal(err)
	}
	if p.Waiting != waiting || !maps.Equal(p.Outcomes, want) {
		b.Errorf("%d wait and outcomes are %v, want %d and %v", p.Waiting, p.Outcomes, waiting, want)
	}
	return p
}

func TestProgressRetryAndExport(t *testing.T) {
	b := setup(t)
	c := b.committer(CommitterOptions{})
	draft := b.draft(nil)
	b.audience(draft, 7)
	if p := b.wantProgress(draft, 0, Tally{}); p.Total != 7 || p.Firings != 0 {
		t.Errorf("a draft's progress is %+v", p)
	}

	id, _ := b.started(1006, nil)
	b.wantProgress(id, 1006, Tally{})
	run := b.sendChunk(c, id)
	halfway := Tally{"sent": 334, "failed refused_recipient": 166}
	b.wantProgress(id, 506, halfway) // by its messages
	b.ok(b.store.EndChunk(b.ctx, run, halfway))
	b.wantProgress(id, 506, halfway) // by its tally
	for range 2 {
		run := b.sendChunk(c, id)
		b.ok(b.store.EndChunk(b.ctx, run, nil))
	}
	o := b.open(id)
	b.settleChunks(o)
	if ended, err := b.store.EndFiring(b.ctx, o); !ended || err != nil {
		t.Fatalf("ended %v, %v", ended, err)
	}
	if p := b.wantProgress(id, 0, Tally{"sent": 671, "failed refused_recipient": 335}); p.EndedAt.IsZero() || p.Total != 1006 || p.Firings != 1 || p.Campaign.State != campaign.Done {
		t.Errorf("progress at the end is %+v", p)
	}

	if _, err := b.store.RetryFailed(b.ctx, id, []string{"failed"}, []string{"refused_request"}, time.Now()); !errors.Is(err, ErrNothingToRetry) {
		t.Errorf("retry for a reason that nobody has: %v", err)
	}
	f, err := b.store.RetryFailed(b.ctx, id, []string{"failed"}, nil, time.Now())
	b.ok(err)
	if f.Total != 335 {
		t.Errorf("%d recipients are tried again, want 335", f.Total)
	}
	b.wantCampaign(id, campaign.Running, "")
	retried := b.recipients(b.take(b.queue(id, 1)[0]))
	if r := retried[1]; len(retried) != 335 || r.N != 2 || r.OpenID != "oAudience0000000000000000006" || r.Vars[0] != "name 6" {
		t.Errorf("%d recipients, the second is %+v", len(retried), retried[1])
	}

	var text bytes.Buffer
	b.ok(b.store.ExportOutcomes(b.ctx, id, &text))
	lines, err := csv.NewReader(&text).ReadAll()
	b.ok(err)
	if len(lines) != 1007 || lines[0][2] != "openid" {
		t.Fatalf("%d lines, the first %v", len(lines), lines[0])
	}
	got := Tally{}
	for i, l := range lines[1:] {
		got[l[4]]++
		if i == 2 && (l[1] != "3" || l[2] != "oAudience0000000000000000003" || l[5] != "refused_recipient" || l[6] != "43004" || l[7] != "require \"subscribe\", hint") {
			t.Errorf("line 3 is %v", l)
		}
	}
	if want := (Tally{"sent": 671, "failed": 335}); !maps.Equal(got, want) {
		t.Errorf("the export counts %v, want %v", got, want)
	}
}

func TestARetrySparesWhomTheFallbackReached(t *testing.T) {
	b := setup(t)
	c := b.committer(CommitterOptions{})
	id, _ := b.started(3, func(s *campaign.Spec) {
		s.Kind, s.Body = message.Custom, json.RawMessage(`{"msgtype":"text","text":{"content":"hi"}}`)
		s.Fallback = json.RawMessage(`{"kind":"template","template":{"template_id":"T1","data":{}}}`)
	})
	run := b.take(b.queue(id, 1)[0])
	closed := outcome.Outcome{Status: outcome.Failed, Reason: outcome.RefusedRecipient, ErrCode: 45015}
	for _, r := range b.recipients(run) {
		m, e := letter(run, r), Effects{}
		if r.N > 1 {
			e.Fallback = newMessage()
		}
		b.settle(c, m, b.claimFor(c, run, m), closed, e)
	}
	if _, err := b.store.RetryFailed(b.ctx, id, []string{"failed"}, nil, time.Now()); !errors.Is(err, ErrFiringOpen) {
		t.Errorf("retry of a firing that has not ended: %v", err)
	}
	b.ok(b.store.EndChunk(b.ctx, run, Tally{"failed refused_recipient": 3}))
	if ended, err := b.store.EndFiring(b.ctx, OpenFiring{Firing: b.firing(id)}); !ended || err != nil {
		t.Fatalf("ended %v, %v", ended, err)
	}
	// Of the two fallbacks one did not arrive either.
	_, err := b.store.pool.Exec(b.ctx, `UPDATE message SET state = 'failed', finished_at = now() WHERE id = (SELECT id FROM message_body WHERE parent IS NOT NULL AND recipient LIKE '%2')`)
	b.ok(err)
	var text bytes.Buffer
	b.ok(b.store.ExportOutcomes(b.ctx, id, &text))
	lines, err := csv.NewReader(&text).ReadAll()
	b.ok(err)
	for i, want := range []string{"fallback_status", "", "failed", "parked"} {
		if l := lines[i]; len(l) != 16 || l[14] != want || i > 0 && (l[13] == "") != (want == "") {
			t.Errorf("line %d of the export is %q, want a fallback that is %q", i, l, want)
		}
	}
	if n, err := b.store.CountFailed(b.ctx, id, []string{"failed"}, nil); n != 2 || err != nil {
		t.Errorf("%d recipients would be tried again, %v, want 2: the third has a fallback on its way", n, err)
	}
	f, err := b.store.RetryFailed(b.ctx, id, []string{"failed"}, nil, time.Now())
	b.ok(err)
	if got := b.strings(`SELECT openid FROM recipient WHERE audience = $1 ORDER BY n`, f.Audience); !slices.Equal(got, []string{"oAudience0000000000000000001", "oAudience0000000000000000002"}) {
		t.Errorf("the retry goes to %q", got)
	}
}

func TestARetryDoesNotTakeANameBack(t *testing.T) {
	b := setup(t)
	c := b.committer(CommitterOptions{})
	named := func(s *campaign.Spec) { s.Name = "double-eleven" }
	id, _ := b.started(3, named)
	run := b.sendChunk(c, id)
	o := b.open(id)
	b.ok(b.store.EndChunk(b.ctx, run, Tally{"sent": 2, "failed refused_recipient": 1}))
	_, err := b.store.EndFiring(b.ctx, o)
	b.ok(err)
	other := b.draft(named)
	if _, err := b.store.RetryFailed(b.ctx, id, []string{"failed"}, nil, time.Now()); !errors.Is(err, ErrNameTaken) {
		t.Errorf("retry of a campaign whose name another has now: %v", err)
	}
	b.wantCampaign(id, campaign.Done, "")
	_, err = b.store.MoveCampaign(b.ctx, other, campaign.Cancel, "")
	b.ok(err)
	_, err = b.store.RetryFailed(b.ctx, id, []string{"failed"}, nil, time.Now())
	b.ok(err)
}
