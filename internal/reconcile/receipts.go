package reconcile

import (
	"context"
	"time"

	"github.com/hongyan-dispatch/hongyan/internal/clock"
	"github.com/hongyan-dispatch/hongyan/message"
)

// receiptsAtOnce is how many receipts one transaction looks at.
const receiptsAtOnce = 100

// Joined is a receipt that has found its message.
type Joined struct {
	Account   string
	Kind      message.Kind
	Message   message.ID
	OpenID    message.OpenID
	Delivered bool
	Reason    string
	Inferred  bool          // by user and time, because WeChat named no msgid that we know
	Upgraded  bool          // the message was unknown, and is sent
	Lag       time.Duration // between the send and the coming of the receipt
	Refunded  bool          // a mass send that reached nobody gave its caps back
}

// join looks for the messages of receipts that are due for a look.
func (r *Reconciler) join(ctx context.Context) error {
	for {
		joined, looked, err := r.Store.JoinReceipts(ctx, clock.Now(), receiptsAtOnce)
		for _, j := range joined {
			if r.Joined != nil {
				r.Joined(j)
			}
		}
		if err != nil {
			return err
		}
		if looked < receiptsAtOnce {
			return nil
		}
	}
}
