package main

import (
	"github.com/hongyan-dispatch/hongyan/message"
	"github.com/hongyan-dispatch/hongyan/outcome"
)

// meanings explain each end in a sentence.
var meanings = map[outcome.Reason]string{
	outcome.WindowClosed:     "no call: the user did not act lately; its fallback, if any, went",
	outcome.WindowUsed:       "no call: the window's answers are used up",
	outcome.MassCap:          "no call: the account, or all readers, are at their cap",
	outcome.Suppressed:       "no call: the user has refused, blocked or left",
	outcome.Duplicate:        "no call: an equal message had the key",
	outcome.KeyConflict:      "no call: another message had the key",
	outcome.ReasonExpired:    "no call: too late",
	outcome.ReasonCancelled:  "taken back by the producer in time",
	outcome.RefusedRecipient: "WeChat refuses the user: blocked us, left, unknown",
	outcome.RefusedRequest:   "WeChat refuses the content: no such template",
	outcome.RefusedAccount:   "WeChat refuses the account",
	outcome.RetriesExhausted: "refused too often for a passing reason",
	outcome.Invalid:          "no worker can send it",
	outcome.Poison:           "it ended several processes",
	outcome.InDoubt:          "the connection broke; sent again it might arrive twice",
	outcome.NotBefore:        "waits for the time that the producer gave",
	outcome.Quota:            "the quota is used up, but for urgent ones: goes at Beijing's midnight",
	outcome.Pace:             "waits for its turn",
	outcome.Backoff:          "waits for another attempt",
	outcome.Gate:             "waits until WeChat lets the account call again",
}

// meaning explains the end of messages of a kind.
func meaning(kind message.Kind, status outcome.Status, reason outcome.Reason) string {
	switch {
	case kind == message.Mass && reason == outcome.Quota:
		return "the account's sends of the day are used up: goes tomorrow"
	case status == outcome.Failed && kind == message.Subscribe:
		return "WeChat refuses the user: gave no permission"
	case status != outcome.Sent:
		return meanings[reason]
	case kind == message.Mass:
		return "accepted by WeChat; readers at their cap were left out"
	default:
		return "accepted by WeChat"
	}
}
