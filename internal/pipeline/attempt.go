package pipeline

import (
	"context"
	"time"

	"github.com/hongyan-dispatch/hongyan/internal/wechat"
	"github.com/hongyan-dispatch/hongyan/message"
	"github.com/hongyan-dispatch/hongyan/outcome"
)

// An Account is what the pipeline must know of an Official Account.
type Account struct {
	Name       string
	AppID      message.AppID
	Type       message.AccountType
	TryUnknown bool // send customer-service messages to users of whom nothing is known
	Policy     Policy
}

// An Attempt is one run of one message: the message, and what the run holds.
type Attempt struct {
	Message *message.Message
	Parcel  message.ID // the parcel it travels in; zero: none, but
	Run     any        // the ledger's own handle of a run through a campaign's chunk; nil: none
	Account *Account   // nil until it is found: see AccountName
	Client  WeChat     // the account's API
	Now     time.Time  // as all of clock.Now: when it began
	// Patience is how long the message may wait for its turn, where that is longer than MaxWait: nobody stands behind it.
	Patience time.Duration

	Traceparent string    // of the parcel, if its way into the queue was traced
	Settling    time.Time // when its outcome was known, and began to be written

	Stage   string // the stage that ended the run
	Fate    Fate
	Effects Effects

	lasting context.Context // of the run, for what must end also while the pod drains; here, as it is made once for five uses

	window bool // holds a slot of the customer-service window
	spent  bool // and has spent it
	token  wechat.Token
	quota  QuotaToken
	claim  Claim // as the ledger answered; granted if it has a number
	share  *share
	places [4]*line // where the run holds a place, as many as held says
	held   int
	sender bool // one of them is a sender
}

// Claimed is the claim that the run holds, if it holds one.
func (a *Attempt) Claimed() (Claim, bool) { return a.claim, a.claim.Number > 0 }

// AccountName is empty where no account was found: of messages that are settled without a run, too.
func (a *Attempt) AccountName() string {
	if a.Account == nil {
		return ""
	}
	return a.Account.Name
}

// Answer keeps what the ledger has answered to the claim, for [Pipeline.Send].
func (a *Attempt) Answer(c Claim) { a.claim = c }

// API is the path of the call that the message goes by; quotas and gates are kept by it.
func (a *Attempt) API() string { return wechat.PathOf(a.Message.Kind) }

// Fate says how far a run came: undo depends on it.
type Fate byte

// How far a run came.
const (
	Refused      Fate = iota // by a guard: nothing left, everything is given back
	ClaimRefused             // the message is decided or somebody else's: what is keyed by it stays
	NotSent                  // class N without a connection
	Answered                 // class N with a connection: WeChat refused
	Left                     // sent, or nobody knows
)

// A Claim is the right to call WeChat for a message, once.
type Claim struct {
	Number      int32            // the fence; 0 for no claim
	Held        any              // the ledger's own handle of it
	Attempt     int              // counted from 1
	FirstIntent time.Time        // of the first claim, by the clock of all
	Intent      time.Time        // when the claim was committed, by this machine's clock, with a monotonic reading
	Doubt       bool             // an earlier attempt may have left
	List        []message.OpenID // mass: the users that are under their caps
	Verdict     *outcome.Outcome // the claim was refused with this outcome, already written; nil: none
	Wait        time.Time        // not its turn before; nothing was written
	Refused     bool             // decided already, or somebody else's
}

// Effects are the consequences of an outcome beyond the message, written in the same transaction.
type Effects struct {
	Suppress   bool   // the user refuses messages
	TemplateID string // Suppress: of this template only
	Fallback   *message.Message
	Doubt      bool   // the row is marked: it ends only sent or unknown
	RefundMass bool   // the mass caps that the claim took are given back
	Alone      bool   // parked: it travels in a parcel of its own
	Note       string // for its timeline
}
