package postgres

import (
	"time"

	"github.com/hongyan-dispatch/hongyan/message"
	"github.com/hongyan-dispatch/hongyan/outcome"
)

// A sentMessage may be the one that a receipt is about.
type sentMessage struct {
	id         message.ID
	kind       message.Kind
	state      outcome.Status
	msgid      int64     // 0: its answer was lost, or has not come
	first      time.Time // of its attempts
	intent     time.Time // the last attempt
	doubt      bool
	claim      int32
	templateID string
	users      int64 // mass: of the list
	reported   bool  // has a receipt: another can only be told by its msgid
}

// settled says that nothing more will be known of the message but by receipts.
func (m sentMessage) settled() bool { return m.state == outcome.Sent || m.state == outcome.Unknown }

// A pair is a receipt and its message, by their places; send is -1 where there is none, for now.
type pair struct {
	receipt, send int
	inferred      bool
}

// match finds the messages of one user's receipts; both are in the order of their times. By msgid it is sure. What WeChat
// names no msgid for, or one that we never learned, is inferred from the times, and only where nothing else is possible:
// as many messages as receipts, none still on its way, and each receipt came before the later messages went. A receipt
// stays without a message rather than get the wrong one.
func match(open []openReceipt, sends []sentMessage) []pair {
	pairs := make([]pair, len(open))
	taken := make([]bool, len(sends))
	for i, r := range open {
		pairs[i] = pair{receipt: i, send: -1}
		for k, m := range sends {
			if r.msgid != 0 && m.msgid == r.msgid && m.kind == r.kind && !taken[k] {
				pairs[i].send, taken[k] = k, true
				break
			}
		}
	}
	for _, kind := range message.Kinds() {
		infer(kind, open, sends, pairs, taken)
	}
	return pairs
}

// infer pairs what is left of a kind, within each template.
func infer(kind message.Kind, open []openReceipt, sends []sentMessage, pairs []pair, taken []bool) {
	done := map[string]bool{}
	for i, r := range open {
		if r.kind != kind || pairs[i].send >= 0 || done[r.templateID] {
			continue
		}
		done[r.templateID] = true
		var receipts, possible []int
		waits := false
		for k, other := range open[i:] {
			if other.kind == kind && pairs[i+k].send < 0 && other.templateID == r.templateID {
				receipts = append(receipts, i+k)
			}
		}
		for k, m := range sends {
			if taken[k] || m.reported || m.kind != kind || r.templateID != "" && m.templateID != r.templateID || !near(open, receipts, m) {
				continue
			}
			waits = waits || !m.settled()
			possible = append(possible, k)
		}
		if waits || len(possible) != len(receipts) {
			continue
		}
		if !onlyWay(open, sends, receipts, possible) {
			continue
		}
		for n, at := range receipts {
			pairs[at].send, pairs[at].inferred, taken[possible[n]] = possible[n], true, true
		}
	}
}

// onlyWay says whether each receipt can be the message's at its own place, and none a later message's: then no other
// pairing is possible.
func onlyWay(open []openReceipt, sends []sentMessage, receipts, possible []int) bool {
	for n, at := range receipts {
		m := sends[possible[n]]
		if !fits(open[at], m) || near(open, receipts[:n], m) {
			return false
		}
	}
	return true
}

// near says whether any of the receipts may be the message's.
func near(open []openReceipt, receipts []int, m sentMessage) bool {
	for _, at := range receipts {
		if fits(open[at], m) {
			return true
		}
	}
	return false
}

// fits says whether a receipt may be the message's: it came after the send, and not long after. Of several attempts the
// first may have reached WeChat as well as the last. A message whose msgid we know has no receipt under another.
func fits(r openReceipt, m sentMessage) bool {
	if r.at.Sub(m.first) < -receiptEarly || r.at.Sub(m.intent) > receiptAround {
		return false
	}
	if r.kind == message.Mass && m.users > 0 && r.total != m.users {
		return false
	}
	return r.msgid == 0 || m.msgid == 0
}
