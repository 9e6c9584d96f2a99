package postgres

import (
	"errors"

	"github.com/hongyan-dispatch/hongyan/message"
	"github.com/hongyan-dispatch/hongyan/outcome"
)

// A firstWrite gathers messages that may have no row yet, to claim them (no outcome) or to decide about them, with
// their bodies.
type firstWrite struct {
	states, bodies columns
	params         [][]byte
}

func (w *firstWrite) begin() {
	w.states.begin(oidUUID, oidUUID, oidInt4, oidText, oidText, oidText, oidText, oidInt4, oidBool, oidBool, oidBool, oidInt4, oidInt4)
	w.bodies.begin(oidUUID, oidUUID, oidTimestamptz, oidTimestamptz, oidText, oidText, oidText, oidText, oidText, oidText, oidInt4)
}

// add adds a message; call it in id order. An outcome that decides nothing is a claim.
func (w *firstWrite) add(m *message.Message, parcel message.ID, account int32, lane message.Lane, o outcome.Outcome, doubt bool) {
	state := o.Status
	if !o.Decided() {
		state = outcome.Sending
	}
	s := w.states
	s[0].uuid(m.ID)
	s[1].uuid(parcel)
	s[2].int4(account)
	s[3].text(string(m.Kind))
	s[4].text(string(lane))
	s[5].text(string(state))
	s[6].text(reasonText(o.Reason))
	s[7].int4(int32(o.ErrCode))
	s[8].bool(!o.Decided())
	s[9].bool(o.Status.Terminal())
	s[10].bool(doubt)
	s[11].int4(m.Firing)
	s[12].int4(m.N)
	s.row()
	w.body(m)
}

// body adds a body alone.
func (w *firstWrite) body(m *message.Message) {
	labels, err1 := marshalLabels(m.Labels)
	fallback, err2 := marshalFallback(m.Fallback)
	if err := errors.Join(err1, err2); err != nil {
		panic("postgres: a message that is storable can be written: " + err.Error())
	}
	b := w.bodies
	b[0].uuid(m.ID)
	b[1].uuidOrNull(m.Parent)
	b[2].timeOrNull(m.NotBefore)
	b[3].timeOrNull(m.ExpiresAt)
	b[4].text(recipient(m))
	b[5].textOrNull(m.Key)
	b[6].bytes(m.Body)
	if labels == nil {
		b[7].null()
	} else {
		b[7].bytes(labels)
	}
	if len(m.List) == 0 {
		b[8].null()
	} else {
		b[8].bytes(textArray(m.List)) // an array of arrays would be unnested to its elements
	}
	b[9].textOrNull(fallback)
	b[10].int4(m.Firing)
	b.row()
}

// send adds the statements to the round trip.
func (w *firstWrite) send(s *session, pod int32, row func([][]byte), bodies *int64) {
	if w.states.rows() == 0 {
		return
	}
	w.params = w.states.params(append(w.params[:0], int4Param(pod)))
	s.send(sqlFirstWrite, w.params, row, nil)
	w.sendBodies(s, bodies)
}

func (w *firstWrite) sendBodies(s *session, bodies *int64) {
	w.params = w.bodies.params(w.params[:0])
	s.send(sqlBodies, w.params, nil, bodies)
}
