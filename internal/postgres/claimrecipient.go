package postgres

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/hongyan-dispatch/hongyan/message"
	"github.com/hongyan-dispatch/hongyan/outcome"
)

// A recipient of a campaign becomes a message in two steps. The claim is a line of the batch's row in in_flight, written
// in a transaction that holds the chunk's row under the run's fence: so each of two runs of a chunk that follow one another
// knows what the other has claimed. The row of the message, one for most, comes with the settle, or from the reconciler
// where its worker died.

// ClaimRecipient asks to send m, to a recipient that was left to the run by [Store.ChunkRecipients]. It is refused where
// another run has taken over. What [Committer.Claim] says of ctx is so here, too.
func (c *Committer) ClaimRecipient(ctx context.Context, m *message.Message, run *Chunk) (Claim, error) {
	o := newOp(opClaim, m)
	o.run = run
	return c.claim(ctx, o)
}

// ClaimRecipientLater does so for a caller who need not wait: then is called once, with the answer, and must not block, since
// all others wait behind it.
func (c *Committer) ClaimRecipientLater(ctx context.Context, m *message.Message, run *Chunk, then func(Claim, error)) {
	o := newOp(opClaim, m)
	o.run = run
	o.then = func(o *op, err error) { then(o.claim, err) }
	err := storable(m)
	if err == nil {
		err = c.enqueue(ctx, o)
	}
	if err != nil {
		then(Claim{}, fmt.Errorf("claim: %w", err))
	}
}

// VerdictOnRecipient is [Committer.Verdict] on such a message. It takes no effect where another run has taken over.
func (c *Committer) VerdictOnRecipient(ctx context.Context, m *message.Message, run *Chunk, o outcome.Outcome, e Effects) (bool, error) {
	op := newOp(opVerdict, m)
	op.run, op.out, op.effects = run, o, e
	return c.verdict(ctx, op)
}

// claimsRecipient says of a claim that it makes no row.
func (o *op) claimsRecipient() bool { return o.kind == opClaim && o.run != nil }

// holdRuns makes the transaction fail (stateRunLost) unless the chunks of its recipients are still in the hands of their
// runs, and keeps them there until it ends.
func (t *transaction) holdRuns() {
	x := &t.committer.scratch
	x.runs = x.runs[:0]
	for _, o := range t.ops {
		if o.run != nil && !slices.Contains(x.runs, o.run) {
			x.runs = append(x.runs, o.run)
		}
	}
	if len(x.runs) == 0 {
		return
	}
	x.firings.begin(oidInt4)
	x.nos.begin(oidInt4)
	x.fences.begin(oidInt4)
	for _, run := range x.runs {
		x.firings.int4(run.Firing)
		x.firings.n++
		x.nos.int4(run.No)
		x.nos.n++
		x.fences.int4(run.Fence)
		x.fences.n++
	}
	t.session().send(sqlHoldChunks, append(x.params[:0], x.firings.param(), x.nos.param(), x.fences.param()), nil, nil)
}

// grantRecipients answers their claims: where the transaction was committed it granted them all.
func (t *transaction) grantRecipients(at time.Time) {
	for _, o := range t.ops {
		if o.claimsRecipient() {
			t.grantFirst(o, at)
		}
	}
}

// endRecipients writes the rows of recipients' messages: by COPY where they simply went out, unless some rows are there.
func (t *transaction) endRecipients() {
	x := &t.committer.scratch
	beginCopy(&x.copyEnds)
	x.ends.begin(oidUUID, oidInt8, oidTimestamptz, oidInt4, oidText, oidText, oidText, oidText, oidInt4, oidInt4, oidInt4, oidInt2, oidBool, oidBool, oidText)
	copied := 0
	for _, o := range t.ops {
		switch {
		case o.kind != opSettle || o.late || !o.claim.rowless:
		case o.plain() && !t.insert:
			copied++
			copyEnd(&x.copyEnds, o, t.committer.pod)
			o.took = true // or the transaction fails
		default:
			addEnd(x.ends, o)
		}
	}
	if copied > 0 {
		t.copied += copied
		t.session().copy(sqlCopyEnds, x.copyEnds, nil)
	}
	if x.ends.rows() > 0 {
		t.session().send(sqlEndRecipients, x.ends.params(append(x.params[:0], int4Param(t.committer.pod))), t.tookEffect, nil)
	}
}

// copyEnd writes the row of a message that simply went out, in the order of sqlCopyEnds.
func copyEnd(v *values, o *op, pod int32) {
	*v = append(*v, 0, 11)
	v.uuid(o.m.ID)
	v.int8(o.out.MsgID)
	v.time(o.claim.FirstIntent)
	v.time(o.claim.Intent)
	v.int4(o.account)
	v.text(string(o.m.Kind))
	v.text(string(o.m.Lane))
	v.int4(pod)
	v.int4(o.m.Firing)
	v.int4(o.m.N)
	v.text(string(o.m.To))
}

// addEnd adds any settle of a recipient's claim, in the order of sqlEndRecipients. What does not simply go out gets a body,
// which has the openid.
func addEnd(c columns, o *op) {
	c[0].uuid(o.m.ID)
	c[1].int8(o.out.MsgID)
	c[2].time(o.claim.Intent)
	c[3].int4(o.account)
	c[4].text(string(o.m.Kind))
	c[5].text(string(o.m.Lane))
	c[6].text(string(o.out.Status))
	c[7].text(reasonText(o.out.Reason))
	c[8].int4(int32(o.out.ErrCode))
	c[9].int4(o.m.Firing)
	c[10].int4(o.m.N)
	c[11].int2(uncounted(o.out))
	c[12].bool(o.out.Status.Terminal())
	c[13].bool(o.effects.Doubt)
	if o.plain() {
		c[14].text(string(o.m.To))
	} else {
		c[14].text("")
	}
	c.row()
}
