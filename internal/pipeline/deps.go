package pipeline

import (
	"context"
	"time"

	"github.com/hongyan-dispatch/hongyan/internal/wechat"
	"github.com/hongyan-dispatch/hongyan/message"
	"github.com/hongyan-dispatch/hongyan/outcome"
)

// Deps is what the stages need, each as the one or two methods it calls.
type Deps struct {
	Recipients Recipients
	Gates      Gates
	Windows    Windows
	Caps       Caps
	Quota      Quota
	Tokens     Tokens
	Senders    *Senders
	Ledger     Ledger
	Health     Health                            // optional
	Observe    func(a *Attempt, r wechat.Result) // optional: every call that was made
}

// Recipients knows who refuses messages.
type Recipients interface {
	// Suppressed says whether the message's user refuses everything, or its template.
	Suppressed(ctx context.Context, m *message.Message) (bool, error)
}

// Gates knows which account may call which API now.
type Gates interface {
	// Look answers with the time until which the gate is closed; zero when it is open for this message.
	Look(ctx context.Context, account, api string, id message.ID, now time.Time) (until time.Time, err error)
	// Broken reports that WeChat refuses the account on this API ("" for all of them).
	Broken(ctx context.Context, account, api string, err *wechat.Error)
	// QuotaSpent reports a 45009 or its kin and answers when the API may be called again.
	QuotaSpent(ctx context.Context, account, api string, err *wechat.Error, now time.Time) time.Time
	// Rest closes the gate for a while that WeChat's answer asks for.
	Rest(ctx context.Context, account, api string, err *wechat.Error, until time.Time)
	// Passed reports a call that WeChat did not refuse for the account's sake.
	Passed(ctx context.Context, account, api string)
}

// Health learns how an account's calls go, to stop them where WeChat is out of order.
type Health interface {
	Calling(account, api string, now time.Time)
	Answered(account, api string, now time.Time)
	// Troubled reports a call without an answer, or with one that says that WeChat is out of order.
	Troubled(ctx context.Context, account, api string, r wechat.Result, now time.Time)
}

// Windows is the ledger of the customer-service window.
type Windows interface {
	Reserve(ctx context.Context, app message.AppID, user message.OpenID, id message.ID, now time.Time) (Window, error)
	// Spend is Reserve by whoever holds the claim, right before the call: the slot counts for good.
	Spend(ctx context.Context, app message.AppID, user message.OpenID, id message.ID, now time.Time) (Window, error)
	// Release gives back a slot that is only held; Withdraw one that was spent, by whoever spent it and knows that
	// nothing was sent.
	Release(ctx context.Context, app message.AppID, user message.OpenID, id message.ID) error
	Withdraw(ctx context.Context, app message.AppID, user message.OpenID, id message.ID) error
	Refused(ctx context.Context, app message.AppID, user message.OpenID, code int, now time.Time) error
}

// Window says what the ledger knows of a user's window.
type Window byte

// The states of a window.
const (
	WindowOpen Window = iota
	WindowClosed
	WindowUsed
	WindowUnknown // nothing is known of the user
)

// Caps knows the mass-send caps of accounts.
type Caps interface {
	// Look says whether a cap of the account leaves no room for this mass send, and, near Beijing's midnight, until
	// when nobody can say. The cap is taken by the claim, in its own transaction.
	Look(ctx context.Context, a *Attempt) (full bool, wait time.Time, err error)
}

// Quota gives out the right to make one call, at a time.
type Quota interface {
	// Take waits at most maxWait. A refusal is a *NoQuota.
	Take(ctx context.Context, app message.AppID, api string, lane message.Lane, maxWait time.Duration) (QuotaToken, error)
	Slow(ctx context.Context, app message.AppID, api string) error
}

// A QuotaToken is the right to make one call. Spent or Return is called exactly once.
type QuotaToken interface {
	Ready(ctx context.Context) error // right before the wire
	Spent()
	Return(ctx context.Context)
}

// NoQuota says that no call may be made before Until.
type NoQuota struct {
	Until  time.Time
	Reason outcome.Reason // Quota or Pace
}

func (e *NoQuota) Error() string {
	return "no " + string(e.Reason) + " before " + e.Until.Format(time.RFC3339)
}

// Tokens gives access tokens.
type Tokens interface {
	Token(ctx context.Context, app message.AppID) (wechat.Token, error)
	Refresh(ctx context.Context, app message.AppID, refused wechat.Token) (wechat.Token, error)
}

// Ledger grants claims.
type Ledger interface {
	// Claim commits the intent to call WeChat for the message, before it returns.
	Claim(ctx context.Context, a *Attempt) (Claim, error)
}

// WeChat is the API of one account's host.
type WeChat interface {
	SendTemplate(ctx context.Context, t wechat.Token, to message.OpenID, clientMsgID string, body []byte) wechat.Result
	SendSubscribe(ctx context.Context, t wechat.Token, to message.OpenID, body []byte) wechat.Result
	SendCustom(ctx context.Context, t wechat.Token, to message.OpenID, body []byte) wechat.Result
	SendMass(ctx context.Context, t wechat.Token, to []message.OpenID, clientMsgID string, body []byte) wechat.Result
}
