package api

import (
	"fmt"
	"slices"
	"strings"

	"github.com/hongyan-dispatch/hongyan/message"
)

// An Action is what a key may do.
type Action string

// The actions.
const (
	Enqueue Action = "enqueue" // messages and events; take back what is not on its way
	Read    Action = "read"    // messages, quotas, gates, windows, approvals
	Replay  Action = "replay"  // send again what ended
	Admin   Action = "admin"   // open and close gates; decide on approvals
)

// Actions lists every action.
func Actions() []Action { return []Action{Enqueue, Read, Replay, Admin} }

// anything stands for every account, kind or action.
const anything = "*"

// A Scope allows an action for a kind of message of an account; each may be *.
type Scope struct{ Account, Kind, Action string }

// ParseScope reads account:kind:action.
func ParseScope(text string) (Scope, error) {
	parts := strings.Split(text, ":")
	if len(parts) != 3 || slices.Contains(parts, "") {
		return Scope{}, fmt.Errorf("scope %q: want ACCOUNT:KIND:ACTION, such as shop:template:enqueue, each of which may be *", text)
	}
	s := Scope{parts[0], parts[1], parts[2]}
	if s.Kind != anything && !slices.Contains(message.Kinds(), message.Kind(s.Kind)) {
		return Scope{}, fmt.Errorf("scope %q: kind %q: want one of template, subscribe, custom, mass, *", text, s.Kind)
	}
	if s.Action != anything && !slices.Contains(Actions(), Action(s.Action)) {
		return Scope{}, fmt.Errorf("scope %q: action %q: want one of enqueue, read, replay, admin, *", text, s.Action)
	}
	return s, nil
}

func (s Scope) String() string { return s.Account + ":" + s.Kind + ":" + s.Action }

func matches(pattern, word string) bool { return pattern == anything || pattern == word }

// May says whether the key allows an action for a kind of an account's messages.
func (k *Key) May(account string, kind message.Kind, action Action) bool {
	return slices.ContainsFunc(k.Scopes, func(s Scope) bool {
		return matches(s.Account, account) && matches(s.Kind, string(kind)) && matches(s.Action, string(action))
	})
}

// mayAll says whether the key allows an action for all kinds of an account's messages.
func (k *Key) mayAll(account string, action Action) bool {
	return !slices.ContainsFunc(message.Kinds(), func(kind message.Kind) bool { return !k.May(account, kind, action) })
}

// kindsFor are the kinds of an account's messages for which the key allows an action.
func (k *Key) kindsFor(account string, action Action) []message.Kind {
	return slices.DeleteFunc(message.Kinds(), func(kind message.Kind) bool { return !k.May(account, kind, action) })
}

// knows says whether the key has anything to do with an account: of others it must not even learn that they exist.
func (k *Key) knows(account string) bool {
	return slices.ContainsFunc(k.Scopes, func(s Scope) bool { return matches(s.Account, account) })
}
