package callback

import (
	"slices"
	"strings"
)

// A Rule is a reply to pushes of one kind. A rule with neither Keyword nor Event is for every message of a user that no
// rule before it answers.
type Rule struct {
	Keyword  string // of a text message
	Contains bool   // the text holds the keyword; else it is the keyword
	Event    string // follow, scan or menu
	Key      string // of the menu's item, or the scene of the QR code; empty: any
	Reply    Reply
}

// Rules answer pushes; the first that fits counts. They are a [Replies].
type Rules []Rule

// The events that a rule can answer.
const (
	OnFollow = "follow"
	OnScan   = "scan"
	OnMenu   = "menu"
)

// Events lists the events that a rule can answer.
func Events() []string { return []string{OnFollow, OnScan, OnMenu} }

// Reply is what the first fitting rule says.
func (rules Rules) Reply(p *Push) (Reply, bool) {
	i := slices.IndexFunc(rules, func(r Rule) bool { return r.fits(p) })
	if i < 0 {
		return nil, false
	}
	return rules[i].Reply, true
}

func (r Rule) fits(p *Push) bool {
	switch {
	case r.Event != "":
		return r.answers(p)
	case p.MsgType == typeEvent:
		return false
	case r.Keyword == "":
		return p.Meaning().Known
	case p.MsgType != "text":
		return false
	case r.Contains:
		return strings.Contains(strings.ToLower(p.Content), strings.ToLower(r.Keyword))
	}
	return strings.EqualFold(strings.TrimSpace(p.Content), r.Keyword)
}

// answers says whether the push is the rule's event.
func (r Rule) answers(p *Push) bool {
	if p.MsgType != typeEvent {
		return false
	}
	m := p.Meaning()
	switch r.Event {
	case OnFollow:
		return m.Trigger == FollowTrigger && (r.Key == "" || r.Key == m.Scene)
	case OnScan:
		return m.Trigger == ScanTrigger && (r.Key == "" || r.Key == m.Scene)
	case OnMenu:
		return m.Trigger == MenuTrigger && (r.Key == "" || r.Key == p.EventKey)
	}
	return false
}
