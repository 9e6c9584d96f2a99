package postgres

import (
	"bytes"
	"cmp"
	"context"
	"slices"
	"strings"
	"time"

	"github.com/hongyan-dispatch/hongyan/internal/clock"
	"github.com/hongyan-dispatch/hongyan/message"
	"github.com/hongyan-dispatch/hongyan/outcome"
)

// complete fills in what a fallback takes over from its first message, and checks that it can be stored.
func (e *Effects) complete(m *message.Message) error {
	if e.Fallback == nil {
		return nil
	}
	f := *e.Fallback
	if f.ID.IsZero() {
		f.ID = message.NewID(clock.Now())
	}
	f.Account, f.To, f.Parent, f.Fallback = m.Account, m.To, m.ID, nil
	if f.Lane == "" {
		f.Lane = m.Lane
	}
	e.Fallback = &f
	return storable(&f)
}

// effects sends what follows from the verdicts and settles that took effect, and keeps the late results.
func (t *transaction) effects(ctx context.Context) error {
	var took, late []*op
	for _, o := range t.ops {
		switch {
		case o.kind == opSettle && !o.took:
			late = append(late, o)
		case o.kind == opSettle && !o.plain(), o.kind == opVerdict && o.took && !o.unclaimed(), o.kind == opClaim && o.claim.Verdict != nil:
			took = append(took, o)
		}
	}
	if err := t.evidence(ctx, late); err != nil {
		return err
	}
	if err := t.fallbacks(ctx, took); err != nil {
		return err
	}
	t.bodies(took)
	t.events(took, late)
	t.parked(took)
	t.suppress(took)
	t.massSent(took)
	return nil
}

// bodies keeps the recipients' messages that did not simply go out: whoever takes one up needs it.
func (t *transaction) bodies(took []*op) {
	var w firstWrite
	w.begin()
	for _, o := range took {
		if o.kind == opSettle && o.claim.rowless {
			w.body(o.m)
		}
	}
	if w.bodies.rows() > 0 {
		w.sendBodies(t.session(), nil)
	}
}

// massSent keeps WeChat's numbers of a mass send with its reservation.
func (t *transaction) massSent(took []*op) {
	var c columns
	c.begin(oidUUID, oidInt8, oidInt8)
	for _, o := range took {
		if o.kind == opSettle && o.m.Kind == message.Mass && o.out.Status == outcome.Sent {
			c[0].uuid(o.m.ID)
			c[1].int8(o.out.MsgID)
			c[2].int8(o.out.DataID)
			c.row()
		}
	}
	if c.rows() > 0 {
		t.session().send(sqlMassSent, c.params(nil), nil, nil)
	}
}

// events writes the timeline.
func (t *transaction) events(took, late []*op) {
	var c columns
	c.begin(oidUUID, oidInt4, oidText, oidText, oidInt4, oidText, oidText, oidText)
	add := func(o *op, note string) {
		out := o.verdict()
		c[0].uuid(o.m.ID)
		c[1].int4(o.claim.Number)
		c[2].text(string(out.Status))
		c[3].text(reasonText(out.Reason))
		c[4].int4(int32(out.ErrCode))
		c[5].text(clean(out.ErrMsg))
		c[6].text(clean(out.RID))
		c[7].text(clean(note))
		c.row()
	}
	for _, o := range took {
		if o.kind != opSettle || !o.ordinary() {
			add(o, o.effects.Note)
		}
	}
	for _, o := range late {
		note := "late result: the claim was lost"
		if o.took {
			note = "late result: it decided what was unknown"
		}
		add(o, strings.TrimSpace(note+" "+o.effects.Note))
	}
	if c.rows() > 0 {
		t.session().send(sqlEvents, c.params(nil), nil, nil)
	}
}

// clean makes text of strangers storable.
func clean(s string) string {
	return strings.ReplaceAll(strings.ToValidUTF8(s, "\uFFFD"), "\x00", "\uFFFD")
}

// evidence lets late results decide what is unknown. It needs their answer for the timeline, so it is a round trip
// of its own.
func (t *transaction) evidence(ctx context.Context, late []*op) error {
	var c columns
	c.begin(oidUUID, oidInt4, oidText, oidText, oidInt4, oidInt8)
	var bounds span
	for _, o := range late {
		if o.out.Status == outcome.Sent || o.out.Status == outcome.Failed {
			bounds.add(o.m.ID)
			c[0].uuid(o.m.ID)
			c[1].int4(o.claim.Number)
			c[2].text(string(o.out.Status))
			c[3].text(reasonText(o.out.Reason))
			c[4].int4(int32(o.out.ErrCode))
			c[5].int8(o.out.MsgID)
			c.row()
		}
	}
	if c.rows() == 0 {
		return nil
	}
	s := t.session()
	s.send(sqlEvidence, bounds.params(c.params(nil)), t.tookEffect, nil)
	if err := s.flush(); err != nil {
		return err
	}
	s.begin(ctx)
	return nil
}

// fallbacks writes the messages that are sent instead: parked, for the releaser to bring.
func (t *transaction) fallbacks(ctx context.Context, took []*op) error {
	type row struct {
		o   *op
		m   *message.Message
		key *keyed
	}
	var rows []row
	var keys []*keyed
	for _, o := range took {
		if f := o.effects.Fallback; f != nil && o.claim.Verdict == nil {
			r := row{o: o, m: f}
			if f.Key != "" {
				r.key = &keyed{account: o.account, m: f, hash: f.Hash()}
				keys = append(keys, r.key)
			}
			rows = append(rows, r)
		}
	}
	if len(rows) == 0 {
		return nil
	}
	if len(keys) > 0 {
		s := t.session()
		if err := s.flush(); err != nil {
			return err
		}
		if err := takeKeys(ctx, s.run, keys); err != nil {
			return err
		}
		s.begin(ctx)
	}
	slices.SortFunc(rows, func(a, b row) int { return bytes.Compare(a.m.ID[:], b.m.ID[:]) })
	var w firstWrite
	w.begin()
	var c parkedRows
	c.begin()
	for _, r := range rows {
		o := outcome.Outcome{Status: outcome.Parked, Reason: outcome.NotBefore}
		if r.key != nil && !r.key.mine() {
			o = r.key.verdict()
		} else {
			c.add(r.m, r.o.account, o.Reason, due(r.m, r.m.NotBefore), false)
		}
		w.add(r.m, message.ID{}, r.o.account, r.m.Lane, o, false)
	}
	w.send(t.session(), t.committer.pod, nil, nil)
	c.send(t.session())
	return nil
}

// parked puts what waits on the releaser's list.
func (t *transaction) parked(took []*op) {
	var c parkedRows
	c.begin()
	for _, o := range took {
		if out := o.verdict(); out.Status == outcome.Parked {
			c.add(o.m, o.account, out.Reason, due(o.m, out.Until), o.effects.Alone || o.m.Kind == message.Mass)
		}
	}
	c.send(t.session())
}

type parkedRows struct{ columns }

func (c *parkedRows) begin() {
	c.columns.begin(oidUUID, oidTimestamptz, oidInt4, oidText, oidText, oidText, oidBool)
}

// add adds a row; a zero due is now.
func (c *parkedRows) add(m *message.Message, account int32, reason outcome.Reason, due time.Time, alone bool) {
	k := c.columns
	k[0].uuid(m.ID)
	k[1].time(due)
	k[2].int4(account)
	k[3].text(string(m.Kind))
	k[4].text(string(m.Lane))
	k[5].text(reasonText(reason))
	k[6].bool(alone)
	k.row()
}

func (c *parkedRows) send(s *session) {
	if c.rows() > 0 {
		s.send(sqlParked, c.params(nil), nil, nil)
	}
}

// suppress keeps the users who refuse our messages: in key order, each once, since a statement may not write a row
// twice.
func (t *transaction) suppress(took []*op) {
	var list []*op
	for _, o := range took {
		if o.effects.Suppress != nil && o.claim.Verdict == nil {
			list = append(list, o)
		}
	}
	compare := func(a, b *op) int {
		x, y := a.effects.Suppress, b.effects.Suppress
		return cmp.Or(cmp.Compare(a.account, b.account), strings.Compare(string(x.OpenID), string(y.OpenID)), strings.Compare(x.TemplateID, y.TemplateID))
	}
	slices.SortFunc(list, compare)
	list = slices.CompactFunc(list, func(a, b *op) bool { return compare(a, b) == 0 })
	var c columns
	c.begin(oidInt4, oidText, oidText, oidInt4)
	for _, o := range list {
		c[0].int4(o.account)
		c[1].text(clean(string(o.effects.Suppress.OpenID)))
		c[2].text(clean(o.effects.Suppress.TemplateID))
		c[3].int4(int32(o.effects.Suppress.ErrCode))
		c.row()
	}
	if c.rows() > 0 {
		t.session().send(sqlSuppress, c.params(nil), nil, nil)
	}
}
