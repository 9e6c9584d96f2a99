package main

import (
	"context"
	"fmt"
	"strings"

	"github.com/hongyan-dispatch/hongyan/internal/config"
	"github.com/hongyan-dispatch/hongyan/internal/report"
	"github.com/hongyan-dispatch/hongyan/internal/wechat"
	"github.com/hongyan-dispatch/hongyan/message"
	"github.com/hongyan-dispatch/hongyan/outcome"
)

type massStatusCommand struct {
	ID      string `arg:"" help:"The message's id, or WeChat's msg_id."`
	Account string `help:"For a msg_id: the account." placeholder:"NAME"`
}

func (*massStatusCommand) Help() string {
	return `Asks the ledger, and WeChat once it has the message. WeChat's word is SENDING, SEND_SUCCESS, SEND_FAIL or DELETE; it gives no counts;
those come with the receipt, which an account with a callback has.

Examples:

  enqueue mass status 0198c0de-0000-7000-8000-000000000001
  enqueue mass status 3147483649 --account shop`
}

// massStatus is what --json writes.
type massStatus struct {
	ID      message.ID      `json:"id,omitzero"`
	Account string          `json:"account"`
	Status  outcome.Status  `json:"status,omitempty"`
	Reason  outcome.Reason  `json:"reason,omitempty"`
	MsgID   int64           `json:"msg_id,omitempty"`
	WeChat  string          `json:"wechat,omitempty"` // WeChat's msg_status
	Receipt *report.Receipt `json:"receipt,omitempty"`
	LeftOut []leftOut       `json:"left_out,omitempty"`
}

type leftOut struct {
	OpenID message.OpenID `json:"openid"`
	Reason outcome.Reason `json:"reason"`
}

// Run prints what the ledger and WeChat say.
func (c *massStatusCommand) Run(ctx context.Context, s *session) error {
	st, err := s.massStatus(ctx, c.ID, c.Account)
	if err != nil {
		return err
	}
	if st.MsgID != 0 {
		caller, _, err := s.caller(st.Account)
		if err != nil {
			return err
		}
		defer caller.Close()
		err = caller.call(ctx, func(t wechat.Token) (err error) {
			st.WeChat, err = caller.wechat.MassStatus(ctx, t, st.MsgID)
			return err
		})
		if err != nil {
			return err
		}
	}
	return s.print(st, "%s", st)
}

func (st massStatus) String() string {
	var b strings.Builder
	if !st.ID.IsZero() {
		fmt.Fprintf(&b, "%s: %s %s", st.ID, st.Status, st.Reason)
	}
	if st.MsgID != 0 {
		fmt.Fprintf(&b, "\nWeChat: msg_id %d, %s", st.MsgID, st.WeChat)
	}
	if st.Receipt != nil {
		fmt.Fprintf(&b, "\nreceipt: %s%s", st.Receipt, st.Receipt.Counts())
	}
	if len(st.LeftOut) > 0 {
		fmt.Fprintf(&b, "\nleft out: %d", len(st.LeftOut))
		for _, u := range st.LeftOut {
			fmt.Fprintf(&b, "\n  %s %s", u.OpenID, u.Reason)
		}
	}
	return strings.TrimSpace(strings.ReplaceAll(b.String(), " \n", "\n"))
}

// massStatus is what we know of a mass message without asking WeChat.
func (s *session) massStatus(ctx context.Context, arg, accountName string) (massStatus, error) {
	id, msgID, err := parseMassID(arg)
	if err != nil {
		return massStatus{}, err
	}
	if msgID != 0 {
		cfg, err := s.load(config.NeedAccounts)
		if err != nil {
			return massStatus{}, err
		}
		a, err := account(cfg, accountName)
		if err != nil {
			return massStatus{}, err
		}
		return massStatus{Account: a.Name, MsgID: msgID}, nil
	}
	store, err := s.ledger(ctx)
	if err != nil {
		return massStatus{}, err
	}
	defer store.Close()
	row, err := store.Status(ctx, id)
	if err != nil {
		return massStatus{}, ledgerError(err, id)
	}
	if row.Message.Kind != message.Mass {
		return massStatus{}, refuse("%s: a %s message; see enqueue status", id, row.Message.Kind)
	}
	st := massStatus{ID: id, Account: row.Message.Account, Status: row.State, Reason: row.Reason, MsgID: row.MsgID}
	st.Receipt = report.LastReceipt(row)
	users, err := store.LeftOut(ctx, id)
	if err != nil {
		return massStatus{}, err
	}
	for _, u := range users {
		st.LeftOut = append(st.LeftOut, leftOut{OpenID: u.OpenID, Reason: u.Reason})
	}
	return st, nil
}
