package postgres

import (
	"context"
	"fmt"

	"github.com/hongyan-dispatch/hongyan/outcome"
)

// recall reads what the batch did that was committed without our hearing of it: begin_batch has just refused its
// number. The claims granted are those whose rows stand under this pod and this commit's instant; were they taken
// from us meanwhile (our pod counted as dead), they read as refused, which is safe.
func (t *transaction) recall(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, commitTimeout)
	defer cancel()
	if err := t.committer.openSession(ctx); err != nil {
		return err
	}
	t.reset()
	a := newArray(oidUUID)
	for _, o := range t.ops {
		a.uuid(o.m.ID)
		a.n++
		o.took = false
	}
	if a.n == 0 {
		return nil
	}
	s := t.session()
	s.begin(ctx)
	s.send(sqlStates, [][]byte{a.param()}, t.recalled, nil)
	number := [][]byte{int4Param(t.committer.pod), int8Param(t.committer.number)}
	s.send(sqlGranted, number, t.granted, nil)
	s.send(sqlGrantedRecipients, number, func(v [][]byte) { t.grantRecipients(instant(v[0])) }, nil)
	if err := s.flush(); err != nil {
		return fmt.Errorf("read what a lost commit did: %w", err)
	}
	return nil
}

// recalled reads the state of one message of the batch.
func (t *transaction) recalled(v [][]byte) {
	o := t.byID[readUUID(v[0])]
	if o == nil {
		return
	}
	state, reason := outcome.Status(v[1]), outcome.Reason(v[2])
	switch {
	case o.kind == opClaim:
		if state == outcome.Skipped && reason == outcome.Duplicate || state == outcome.Failed && reason == outcome.KeyConflict {
			o.took = true
			o.claim = Claim{Verdict: &outcome.Outcome{Status: state, Reason: reason}}
		}
	case o.kind == opVerdict:
		o.took = state == o.out.Status
	default:
		o.took = state == o.out.Status && readInt4(v[3]) == o.claim.Number
	}
}
