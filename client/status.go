package client

import (
	"context"
	"errors"
	"time"

	"github.com/hongyan-dispatch/hongyan/internal/postgres"
	"github.com/hongyan-dispatch/hongyan/message"
	"github.com/hongyan-dispatch/hongyan/outcome"
)

// Errors of Status and Cancel.
var (
	// ErrNoLedger says that the client has no database to ask.
	ErrNoLedger = errors.New("no database is configured, and only the ledger knows what became of a message")
	// ErrNotFound says that the ledger has no row for the id. A message that was handed over to Redis has none
	// until a worker takes it.
	ErrNotFound = errors.New("the ledger has no such message: it is handed over and not yet taken by a worker, older than the retention, or was never accepted")
)

// A Status is what the ledger knows of a message.
type Status struct {
	Message  *message.Message
	Status   outcome.Status
	Reason   outcome.Reason
	Attempts int
	ErrCode  int       // WeChat's last refusal; 0 if none
	MsgID    int64     // WeChat's msgid, or msg_id of a mass send; 0 if none
	Due      time.Time // parked until then; zero otherwise
	Finished time.Time // zero: not yet
	Timeline []Step    // its whole way: accepted first, WeChat's receipts (delivered, undelivered) last
}

// A Step is one step of a message's way.
type Step struct {
	At      time.Time      `json:"at"`
	Status  outcome.Status `json:"status"`
	Reason  outcome.Reason `json:"reason"`
	ErrCode int            `json:"errcode"`
	ErrMsg  string         `json:"errmsg"` // WeChat's words
	RID     string         `json:"rid"`    // WeChat's request id
	Note    string         `json:"note"`
}

// Status asks the ledger what became of a message.
func (c *Client) Status(ctx context.Context, id message.ID) (Status, error) {
	if c.ledger == nil {
		return Status{}, ErrNoLedger
	}
	s, err := c.ledger.Status(ctx, id)
	if err != nil {
		return Status{}, ledgerError(err)
	}
	way := s.Way()
	steps := make([]Step, len(way))
	for i, e := range way {
		steps[i] = Step{At: e.At, Status: e.State, Reason: e.Reason, ErrCode: e.ErrCode, ErrMsg: e.ErrMsg, RID: e.RID, Note: e.Note}
	}
	return Status{
		Message: s.Message, Status: s.State, Reason: s.Reason, Attempts: s.Attempts, ErrCode: s.ErrCode, MsgID: s.MsgID,
		Due: s.Due, Finished: s.Finished, Timeline: steps,
	}, nil
}

// Cancel ends a message that is accepted or parked, and says which status the message has now: one that is being
// sent, or has ended, stays what it is.
func (c *Client) Cancel(ctx context.Context, id message.ID) (outcome.Status, error) {
	if c.ledger == nil {
		return "", ErrNoLedger
	}
	r, err := c.ledger.Cancel(ctx, id)
	if err != nil {
		return "", ledgerError(err)
	}
	return r.State, nil
}

func ledgerError(err error) error {
	if errors.Is(err, postgres.ErrNotFound) {
		return ErrNotFound
	}
	return err
}
