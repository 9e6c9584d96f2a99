package postgres

import (
	"cmp"
	"context"
	"time"

	"github.com/hongyan-dispatch/hongyan/internal/clock"
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

	explicit                bool      // more than one round trip
	insert                  bool      // first writes by INSERT: some rows exist
	now                     time.Time // the transaction's, in the database
	known, fresh, knownHits int
	copied                  int // rows by COPY: one that is there already refuses them all
	bodiesWritten           int64
}

func (t *transaction) run(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, commitTimeout)
	defer cancel()
	t.reset()
	t.explicit = t.needsAnswers()
	err := t.steps(ctx)
	if err != nil && t.explicit && !t.session().broken {
		if t.session().run(ctx, sqlRollback, nil, nil) != nil {
			t.session().broken = true // the next transaction opens another
		}
	}
	if err == nil {
		t.grantCopied()
		t.grantRecipients(t.now)
	}
	return err
}

func (t *transaction) session() *session { return t.committer.session }

// A scratch is what transactions, which follow one another, use again.
type scratch struct {
	byID                          map[message.ID]*op
	first                         firstWrite
	claims, verdicts, sent, other columns
	flying, landing, parcels      array
	params                        [][]byte
	copyStates, copyBodies        values
	copyEnds                      values
	ends                          columns
	firings, ns, nos, fences      array
	runs                          []*Chunk
}

// parameters are the columns and the span as a statement's parameters, good until the next call.
func (s *scratch) parameters(c columns, bounds span, more ...[]byte) [][]byte {
	s.params = append(bounds.params(c.params(s.params[:0])), more...)
	return s.params
}

// reset forgets what an earlier try found.
func (t *transaction) reset() {
	if t.byID = t.committer.scratch.byID; t.byID == nil {
		t.byID = make(map[message.ID]*op, t.committer.o.MaxRows)
		t.committer.scratch.byID = t.byID
	}
	clear(t.byID)
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
		if o.kind == opVerdict && !o.unclaimed() || o.kind == opSettle && !o.plain() || o.fresh && o.m.Key != "" && o.kind != opSettle {
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
		s.send(sqlBeginBatch, number, t.begun, nil)
		t.main()
		return s.flush()
	}
	s.begin(ctx)
	s.send(sqlBegin, nil, nil, nil)
	s.send(sqlBeginBatch, number, t.begun, nil)
	if keys := t.keys(); len(keys) > 0 {
		if err := s.flush(); err != nil {
			return err
		}
		if err := takeKeys(ctx, s.run, keys); err != nil {
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
		return err
	}
	s.send(sqlCommit, nil, nil, nil)
	return s.flush()
}

func (t *transaction) begun(v [][]byte) { t.now = instant(v[0]) }

// keys are asked for by messages that may have no row yet.
func (t *transaction) keys() []*keyed {
	var list []*keyed
	for _, o := range t.ops {
		if o.kind != opSettle && o.fresh && o.m.Key != "" {
			o.key = &keyed{account: o.account, m: o.m, hash: o.m.Hash()}
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
	t.holdRuns()
	t.claimKnown()
	t.verdictKnown()
	t.firstWrites()
	t.settles()
	t.endRecipients()
	t.inFlight()
	x := &t.committer.scratch
	if landed := t.committer.landing(t.ops); len(landed) > 0 {
		x.landing.begin(oidInt8)
		for _, n := range landed {
			x.landing.int8(n)
			x.landing.n++
		}
		s.send(sqlLanded, append(x.params[:0], int4Param(t.committer.pod), x.landing.param()), nil, nil)
	}
	if len(t.parcels) > 0 {
		x.parcels.begin(oidUUID)
		for _, id := range t.parcels {
			x.parcels.uuid(id)
			x.parcels.n++
		}
		s.send(sqlParcels, append(x.params[:0], x.parcels.param()), nil, nil)
	}
}

// inFlight writes down whose claims are asked for.
func (t *transaction) inFlight() {
	x := &t.committer.scratch
	x.flying.begin(oidUUID)
	x.firings.begin(oidInt4)
	x.ns.begin(oidInt4)
	for _, o := range t.ops {
		if o.kind != opClaim || o.verdict().Decided() {
			continue
		}
		x.flying.uuid(o.m.ID)
		x.flying.n++
		var firing, n int32
		if o.run != nil {
			firing, n = o.m.Firing, o.m.N
		}
		x.firings.int4(firing)
		x.firings.n++
		x.ns.int4(n)
		x.ns.n++
	}
	if x.flying.n > 0 {
		t.session().send(sqlInFlight, append(x.params[:0], int4Param(t.committer.pod), int8Param(t.committer.number),
			x.flying.param(), x.firings.param(), x.ns.param()), nil, nil)
	}
}

func (t *transaction) claimKnown() {
	x := &t.committer.scratch
	x.claims.begin(oidUUID)
	c := x.claims
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
		t.session().send(sqlClaimKnown, x.parameters(c, bounds, int4Param(t.committer.pod)), func(v [][]byte) { t.knownHits++; t.granted(v) }, nil)
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
		o.stayInDoubt(v[6])
		return
	}
	if verdict := o.verdict(); verdict.Decided() {
		own := verdict // made for few
		o.claim = Claim{Verdict: &own}
		return
	}
	o.claim = Claim{
		OK: true, Number: readInt4(v[1]), Attempt: readInt2(v[2]), Doubt: readBool(v[3]),
		FirstIntent: instant(v[4]), Intent: instant(v[5]), Asked: t.began, batch: t.committer.number,
	}
}

func (t *transaction) verdictKnown() {
	x := &t.committer.scratch
	x.verdicts.begin(oidUUID, oidText, oidText, oidInt4, oidBool, oidBool)
	c := x.verdicts
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
		t.session().send(sqlVerdictKnown, x.parameters(c, bounds), func(v [][]byte) { t.knownHits++; t.decided(v) }, nil)
	}
}

// decided reads a row of verdictKnown.
func (t *transaction) decided(v [][]byte) {
	if o := t.byID[readUUID(v[0])]; o != nil {
		o.took = true
		o.stayInDoubt(v[1])
	}
}

// stayInDoubt turns a verdict that ended a message in doubt into what was written: unknown, and nothing follows.
func (o *op) stayInDoubt(written []byte) {
	if readBool(written) {
		o.out.Status, o.out.Reason = outcome.Unknown, outcome.InDoubt
		o.effects = Effects{Note: o.effects.Note}
	}
}

func (t *transaction) tookEffect(v [][]byte) {
	if o := t.byID[readUUID(v[0])]; o != nil {
		o.took = true
	}
}

// firstWrites sends the claims and verdicts on messages that may have no row yet, with the bodies that they keep.
func (t *transaction) firstWrites() {
	x := &t.committer.scratch
	w := &x.first
	w.begin()
	beginCopy(&x.copyStates)
	beginCopy(&x.copyBodies)
	for _, o := range t.ops {
		switch {
		case o.kind == opSettle || !o.fresh || o.claimsRecipient():
		case o.copies(t):
			t.copied++
			copyClaim(&x.copyStates, o, t.committer.pod)
			if err := copyBody(&x.copyBodies, o.m); err != nil {
				panic("postgres: a message that is storable can be written: " + err.Error())
			}
		default:
			t.fresh++
			w.add(o.m, o.parcel, o.account, o.m.Lane, o.verdict(), o.effects.Doubt)
		}
	}
	w.send(t.session(), t.committer.pod, t.granted, &t.bodiesWritten)
	if t.copied > 0 {
		t.session().copy(sqlCopyClaims, x.copyStates, nil)
		t.session().copy(sqlCopyBodies, x.copyBodies, nil)
	}
}

// copies says whether the op is a claim that goes by COPY.
func (o *op) copies(t *transaction) bool {
	return o.fresh && !t.insert && (o.kind == opClaim && o.run == nil && !o.verdict().Decided() || o.unclaimed())
}

// grantCopied answers the claims that went by COPY: all are first claims, made at the transaction's time.
func (t *transaction) grantCopied() {
	if t.copied == 0 {
		return
	}
	for _, o := range t.ops {
		if o.copies(t) {
			t.grantFirst(o, t.now)
		}
	}
}

func (t *transaction) grantFirst(o *op, at time.Time) {
	o.took = true
	if o.kind == opClaim {
		o.claim = Claim{
			OK: true, Number: 1, Attempt: 1, FirstIntent: at, Intent: at, Asked: t.began, batch: t.committer.number, rowless: o.run != nil,
		}
	}
}

// copyClaim writes a claimed message's row, in the order of sqlCopyClaims.
func copyClaim(v *values, o *op, pod int32) {
	*v = append(*v, 0, 16)
	v.uuid(o.m.ID)
	v.uuid(o.parcel)
	v.int8(o.out.MsgID)
	if o.unclaimed() {
		v.time(clock.Now())
	} else {
		v.time(time.Time{})
	}
	v.int4(o.account)
	v.text(string(o.m.Kind))
	v.text(string(o.m.Lane))
	v.text(string(cmp.Or(o.out.Status, outcome.Sending)))
	v.text(reasonText(""))
	v.int4(1)
	v.int4(pod)
	v.int4(0)
	v.int4(o.m.Firing)
	v.int4(o.m.N)
	v.int2(1)
	v.bool(false)
}

func (t *transaction) settles() {
	x := &t.committer.scratch
	x.sent.begin(oidUUID, oidInt4, oidInt8)
	x.other.begin(oidUUID, oidInt4, oidText, oidText, oidInt4, oidInt8, oidBool, oidInt2, oidBool)
	sent, other := x.sent, x.other
	var sentBounds, otherBounds span
	for _, o := range t.ops {
		switch {
		case o.kind != opSettle || o.late || o.claim.rowless:
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
		t.session().send(sqlSettleSent, x.parameters(sent, sentBounds), t.tookEffect, nil)
	}
	if other.rows() > 0 {
		t.session().send(sqlSettle, x.parameters(other, otherBounds), t.tookEffect, nil)
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
