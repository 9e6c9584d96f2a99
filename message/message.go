package message

import (
	"encoding/json"
	"time"
)

// Bounds of Hongyan's own envelope.
const (
	MaxBytes     = 64 << 10 // of one message; longer bodies belong into material
	MaxMassBytes = 4 << 20  // of one mass message, whose list of openids may be long
	MaxParcel    = 100      // messages of one parcel
	MaxKeyBytes  = 255      // of a producer's key
	MaxLabels    = 16
)

// A Message is one thing to send to one user, or to many for [Mass]. It is plain data: whoever holds
// it may read it from several goroutines; nobody changes it after it was accepted.
type Message struct {
	ID        ID                // given at enqueue; zero before
	Account   string            // the account's alias in the configuration
	Kind      Kind              //
	To        OpenID            // the recipient; empty for Mass
	List      []OpenID          // Mass only: the recipients; empty where the body has a filter
	Key       string            // the producer's idempotency key, unique per account; empty for none
	Lane      Lane              //
	Body      json.RawMessage   // WeChat's own JSON object for the call, without touser, compact
	NotBefore time.Time         // zero: now
	ExpiresAt time.Time         // zero: none
	Fallback  *Message          // sent instead where the window is closed; has neither account, to nor fallback
	Labels    map[string]string // for reports; not sent
	Parent    ID                // the message this one is a fallback of, or the first part of a mass list
	Firing    int32             // the firing of a campaign, and
	N         int32             // the recipient's number in its audience; given by the ledger, 0 for none
}

// A Parcel is what travels together: 1 to [MaxParcel] messages of one account, kind and lane that were
// enqueued together. Its membership never changes.
type Parcel struct {
	ID       ID // stands on its messages' rows and is the task's id
	Account  string
	Kind     Kind
	Lane     Lane
	Messages []*Message

	Traceparent string // W3C trace context of its way into the queue, if that is traced; travels beside the parcel
}
