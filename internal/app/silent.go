package app

import (
	"context"
	"fmt"
	"time"

	"github.com/hongyan-dispatch/hongyan/internal/postgres"
	"github.com/hongyan-dispatch/hongyan/internal/wechat"
	"github.com/hongyan-dispatch/hongyan/message"
)

// An administrator has 30 minutes to confirm a mass send, so a receipt is overdue after these.
const (
	silentAfter  = 40 * time.Minute
	silentEvery  = time.Hour
	silentAtOnce = 20
)

// askAboutMass asks WeChat what became of mass sends whose receipt is overdue, or never comes because the account has no
// callback. What it answers is kept like a receipt.
func (w *pod) askAboutMass(ctx context.Context, now time.Time) error {
	silent, err := w.store.SilentMass(ctx, silentAfter, silentEvery, silentAtOnce)
	if err != nil {
		return err
	}
	for _, s := range silent {
		a, known := w.accounts[s.Account]
		if !known {
			continue
		}
		status, err := w.massStatus(ctx, a, s.MsgID)
		if err != nil {
			w.log.Warn("ask about a mass send without a receipt", "account", s.Account, "message_id", s.ID, "error", err)
			continue
		}
		if a.Callback.Token.Reveal() != "" || status != wechat.MassSuccess {
			w.log.Warn("a mass send has no receipt", "account", s.Account, "message_id", s.ID, "msgid", s.MsgID, "sent", s.Sent, "wechat_says", status)
		}
		if status != wechat.MassSuccess && status != wechat.MassFailed {
			continue // it is being sent, or was deleted
		}
		err = w.store.RecordPushes(ctx, postgres.Pushes{Receipts: []postgres.Receipt{{
			Account: s.Account, Key: fmt.Sprintf("mass/get %d", s.MsgID), Kind: message.Mass, MsgID: s.MsgID, At: now,
			Delivered: status == wechat.MassSuccess, Reason: reasonOf(status), Sealed: true,
		}}})
		if err != nil {
			return err
		}
	}
	return nil
}

func reasonOf(status string) string {
	if status == wechat.MassSuccess {
		return ""
	}
	return status
}

func (w *pod) massStatus(ctx context.Context, a *account, msgID int64) (string, error) {
	t, err := w.tokens.Token(ctx, message.AppID(a.AppID))
	if err != nil {
		return "", err
	}
	return a.client.MassStatus(ctx, t, msgID)
}
