package postgres

import (
	"context"
	"time"

	"github.com/hongyan-dispatch/hongyan/message"
	"github.com/hongyan-dispatch/hongyan/outcome"
)

// commitTimeout is how long one try of a transaction may take before its session is given up. Postgres itself gives
// up sooner (statement_timeout); this is for a server that has gone silent.
const commitTimeout = 30 * time.Second

// A transaction is one try to write a batch.
//
// Where nothing depends on what the database answers (claims of rows that are there or without a key, messages
// plainly sent) it is one round trip: the protocol makes a pipeline a transaction. Where something does (the keys'
// holders, the effects of those verdicts and settles that took effect) it is two or three.
type transaction struct {
	committer *Committer
	batch
	began time.Time
	byID  map[message.ID]*op

	explicit                bool // more than one round trip
	known, fresh, knownHits int
	bodiesWritten           int64
}

func (t *transaction) run(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, commitTimeout)
	defer cancel()
	t.reset()
	t.explicit = t.needsAnswers()
	err := t.steps(ctx)
	if err != nil && t.explicit && faultOf(err) != faultUnknown {
		if rollbackErr := t.session().rollback(ctx); rollbackErr != nil {
			t.committer.closeSession()
		}
	}
	return err
}

func (t *transaction) session() *session { return t.committer.session }

// reset forgets what an earlier try found.
func (t *transaction) reset() {
	t.byID = make(map[message.ID]*op, len(t.ops))
	for _, o := range t.ops {
		t.byID[o.m.ID] = o
		o.took = false
		o.key = nil
		if o.kind == opClaim {
			o.claim = Claim{}
		}
	}
}

// needsAnswers says whether the transaction depends on what the database answers in its midst.
func (t *transaction) needsAnswers() bool {
	for _, o := range t.ops {
		if o.kind == opVerdict || o.kind == opSettle && !o.plain() || o.fresh && o.m.Key != "" && o.kind != opSettle {
			return true
		}
	}
	return false
}

// plain says that a settle needs nothing but its state.
func (o *op) plain() bool { return o.ordinary() && o.m.Kind != message.Mass }

// ordinary says that a settle is the ordinary end, which leaves no event.
func (o *op) ordinary() bool {
	return !o.late && o.out.Status == outcome.Sent && o.out.ErrCode == 0 && o.out.ErrMsg == "" && o.out.Reason == "" &&
		o.claim.Number == 1 && o.effects == Effects{}
}

func (t *transaction) steps(ctx context.Context) error {
	s := t.session()
	number := [][]byte{int4Param(t.committer.pod), int8Param(t.committer.number)}
	if !t.explicit {
		s.begin(ctx)
		s.send(sqlBeginBatch, number, nil, nil)
		t.main()
		return s.flush()
	}
	s.begin(ctx)
	s.send(sqlBegin, nil, nil, nil)
	s.send(sqlBeginBatch, number, nil, nil)
	if keys := t.keys(); len(keys) > 0 {
		if err := s.flush(); err != nil {
			return err
		}
		if err := takeKeys(ctx, s.conn.PgConn(), keys); err != nil {
			return err
		}
		s.begin(ctx)
	}
	t.main()
	if err := s.flush(); err != nil {
		return err
	}
	s.begin(ctx)
	if err := t.effects(ctx); err != nil {
		s.pipeline.Close()
		return err
	}
	s.send(sqlCommit, nil, nil, nil)
	return s.flush()
}

// keys are asked for by messages that may have no row yet.
func (t *transaction) keys() []*keyed {
	var list []*keyed
	for _, o := range t.ops {
		if o.kind != opSettle && o.fresh && o.m.Key != "" {
			o.key = &keyed{account: o.account, m: o.m, hash: bodyHash(o.m)}
			list = append(list, o.key)
		}
	}
	return list
}

// verdict is what a claim or a verdict is to write: for a claim whose key belongs to another, what that makes of it.
func (o *op) verdict() outcome.Outcome {
	if o.key != nil && !o.key.mine() {
		return o.key.verdict()
	}
	return o.out
}

// main sends the statements that change the messages' states.
func (t *transaction) main() {
	s := t.session()
	t.claimKnown()
	t.verdictKnown()
	t.firstWrites()
	t.settles()
	if ids := t.claimed(); ids.n > 0 {
		s.send(sqlInFlight, [][]byte{int4Param(t.committer.pod), int8Param(t.committer.number), ids.param()}, nil, nil)
	}
	if landed := t.committer.landing(t.ops); len(landed) > 0 {
		a := newArray(oidInt8)
		for _, n := range landed {
			a.int8(n)
			a.n++
		}
		s.send(sqlLanded, [][]byte{int4Param(t.committer.pod), a.param()}, nil, nil)
	}
	if len(t.parcels) > 0 {
		a := newArray(oidUUID)
		for _, id := range t.parcels {
			a.uuid(id)
			a.n++
		}
		s.send(sqlParcels, [][]byte{a.param()}, nil, nil)
	}
}

// claimed are the ids whose claims are asked for.
func (t *transaction) claimed() *array {
	a := newArray(oidUUID)
	for _, o := range t.ops {
		if o.kind == opClaim && !o.verdict().Decided() {
			a.uuid(o.m.ID)
			a.n++
		}
	}
	return &a
}

func (t *transaction) claimKnown() {
	var c columns
	c.begin(oidUUID)
	var bounds span
	for _, o := range t.ops {
		if o.kind == opClaim && !o.fresh {
			t.known++
			bounds.add(o.m.ID)
			c[0].uuid(o.m.ID)
			c.row()
		}
	}
	if c.rows() > 0 {
		p := append(bounds.params(c.params(nil)), int4Param(t.committer.pod))
		t.session().send(sqlClaimKnown, p, func(v [][]byte) { t.knownHits++; t.granted(v) }, nil)
	}
}

// granted reads a row of a claim. For a verdict of firstWrite it only says that it took effect.
func (t *transaction) granted(v [][]byte) {
	o := t.byID[readUUID(v[0])]
	if o == nil {
		return
	}
	o.took = true
	if o.kind != opClaim {
		return
	}
	if verdict := o.verdict(); verdict.Decided() {
		o.claim = Claim{Verdict: verdict}
		return
	}
	o.claim = Claim{OK: true, Number: readInt4(v[1]), Attempt: readInt2(v[2]), Doubt: readBool(v[3]),
		FirstIntent: instant(v[4]), Intent: instant(v[5]), Asked: t.began, batch: t.committer.number}
}

func (t *transaction) verdictKnown() {
	var c columns
	c.begin(oidUUID, oidText, oidText, oidInt4, oidBool, oidBool)
	var bounds span
	for _, o := range t.ops {
		if o.kind == opVerdict && !o.fresh {
			t.known++
			bounds.add(o.m.ID)
			c[0].uuid(o.m.ID)
			c[1].text(string(o.out.Status))
			c[2].text(reasonText(o.out.Reason))
			c[3].int4(int32(o.out.ErrCode))
			c[4].bool(o.out.Status.Terminal())
			c[5].bool(o.effects.Doubt)
			c.row()
		}
	}
	if c.rows() > 0 {
		t.session().send(sqlVerdictKnown, bounds.params(c.params(nil)), func(v [][]byte) { t.knownHits++; t.tookEffect(v) }, nil)
	}
}

func (t *transaction) tookEffect(v [][]byte) {
	if o := t.byID[readUUID(v[0])]; o != nil {
		o.took = true
	}
}

// firstWrites sends the claims and verdicts on messages that may have no row yet, with their bodies.
func (t *transaction) firstWrites() {
	var w firstWrite
	w.begin()
	for _, o := range t.ops {
		if o.kind == opSettle || !o.fresh {
			continue
		}
		t.fresh++
		w.add(o.m, o.parcel, o.account, o.m.Lane, o.verdict(), o.effects.Doubt)
	}
	w.send(t.session(), t.committer.pod, t.granted, &t.bodiesWritten)
}

func (t *transaction) settles() {
	var sent, other columns
	sent.begin(oidUUID, oidInt4, oidInt8)
	other.begin(oidUUID, oidInt4, oidText, oidText, oidInt4, oidInt8, oidBool, oidInt2, oidBool)
	var sentBounds, otherBounds span
	for _, o := range t.ops {
		switch {
		case o.kind != opSettle || o.late:
		case o.plain():
			sentBounds.add(o.m.ID)
			sent[0].uuid(o.m.ID)
			sent[1].int4(o.claim.Number)
			sent[2].int8(o.out.MsgID)
			sent.row()
		default:
			otherBounds.add(o.m.ID)
			other[0].uuid(o.m.ID)
			other[1].int4(o.claim.Number)
			other[2].text(string(o.out.Status))
			other[3].text(reasonText(o.out.Reason))
			other[4].int4(int32(o.out.ErrCode))
			other[5].int8(o.out.MsgID)
			other[6].bool(o.out.Status.Terminal())
			other[7].int2(uncounted(o.out))
			other[8].bool(o.effects.Doubt)
			other.row()
		}
	}
	if sent.rows() > 0 {
		t.session().send(sqlSettleSent, sentBounds.params(sent.params(nil)), t.tookEffect, nil)
	}
	if other.rows() > 0 {
		t.session().send(sqlSettle, otherBounds.params(other.params(nil)), t.tookEffect, nil)
	}
}

// A span is the least and the greatest id of a statement.
type span struct {
	first, last message.ID
	begun       bool
}

// add widens the span by an id that is not less than those before.
func (s *span) add(id message.ID) {
	if !s.begun {
		s.first, s.begun = id, true
	}
	s.last = id
}

func (s *span) params(to [][]byte) [][]byte { return append(to, s.first[:], s.last[:]) }

// textArray is a list as Postgres writes an array of text.
func textArray(list []message.OpenID) []byte {
	out := []byte{'{'}
	for i, s := range list {
		if i > 0 {
			out = append(out, ',')
		}
		out = append(out, '"')
		for _, b := range []byte(s) {
			if b == '"' || b == '\\' {
				out = append(out, '\\')
			}
			out = append(out, b)
		}
		out = append(out, '"')
	}
	return append(out, '}')
}
