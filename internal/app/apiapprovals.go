package app

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/hongyan-dispatch/hongyan/client"
	"github.com/hongyan-dispatch/hongyan/internal/api"
	"github.com/hongyan-dispatch/hongyan/internal/clock"
	"github.com/hongyan-dispatch/hongyan/internal/postgres"
	"github.com/hongyan-dispatch/hongyan/message"
)

type apiApprovals struct {
	*postgres.Store
	producer *client.Client
}

// approvalLapses is how long a mass message waits for a second key.
const approvalLapses = 7 * 24 * time.Hour

func apiApproval(p postgres.Approval, now time.Time) api.Approval {
	a := api.Approval{
		ID: p.ID, Status: p.State, Account: p.Account, Recipient: p.Message.Recipient(), Message: p.Message, AskedBy: p.AskedBy, Asked: p.Asked,
		DecidedBy: p.DecidedBy, Decided: p.Decided, Note: p.Note, Messages: p.Messages,
	}
	over := !p.Message.ExpiresAt.IsZero() && !p.Message.ExpiresAt.After(now) || now.Sub(p.Asked) > approvalLapses
	if p.State == postgres.ApprovalWaiting && over {
		a.Status = "lapsed"
	}
	return a
}

func (a apiApprovals) Ask(ctx context.Context, m message.Message, by string) (api.Approval, bool, error) {
	p, duplicate, taken, err := a.AskApproval(ctx, &m, by, clock.Now())
	switch {
	case err != nil:
		return api.Approval{}, false, changed(err)
	case taken:
		return api.Approval{}, true, api.ErrConflict
	}
	return apiApproval(p, clock.Now()), duplicate, nil
}

func (a apiApprovals) Approval(ctx context.Context, id message.ID) (api.Approval, error) {
	p, err := a.Store.Approval(ctx, id)
	if err == nil {
		p, err = a.settled(ctx, p, restsFor)
	}
	if err != nil {
		return api.Approval{}, apiError(err)
	}
	return apiApproval(p, clock.Now()), nil
}

// How many approvals are listed at one time, and how many are looked at for that: some have lapsed with their message.
const (
	shownApprovals = 100
	readApprovals  = 1000
)

func (a apiApprovals) Waiting(ctx context.Context, account string) ([]api.Approval, error) {
	rows, err := a.Approvals(ctx, account, clock.Now().Add(-approvalLapses), readApprovals)
	waiting := []api.Approval{}
	for _, p := range rows {
		if len(waiting) == shownApprovals {
			break
		}
		if p, err = a.settled(ctx, p, restsFor); err != nil {
			return nil, err
		}
		if one := apiApproval(p, clock.Now()); one.Status == postgres.ApprovalWaiting || one.Status == postgres.ApprovalApproving {
			waiting = append(waiting, one)
		}
	}
	return waiting, err
}

// restsFor is how long an approval is on its way before anybody asks whether it was cut short.
const restsFor = time.Minute

// settled asks the ledger about an approval that has been on its way for longer than a time: whoever approved it was cut
// short, before its message was accepted or behind that. Where it was, that is noted. Where it was not, and so late that the
// message's key may be forgotten, the approval waits again: nobody can be enqueueing it any more.
func (a apiApprovals) settled(ctx context.Context, p postgres.Approval, after time.Duration) (postgres.Approval, error) {
	if p.State != postgres.ApprovalApproving || clock.Since(p.Decided) < after {
		return p, nil
	}
	ids, err := a.ApprovedAs(ctx, p, approvalKey(p.ID, p.Message))
	switch {
	case err != nil:
		return p, err
	case len(ids) > 0:
		err = a.Approved(ctx, p.ID, ids)
	case clock.Since(p.Decided) > keysLast:
		err = a.NotApproved(ctx, p.ID, p.Decided)
	default:
		return p, nil
	}
	if err != nil {
		return p, err
	}
	return a.Store.Approval(ctx, p.ID)
}

// keysLast is how long an idempotency key is surely remembered: retention.keys is at least 24 hours.
const keysLast = 23 * time.Hour

// approvalKey is the key of an approved message: one of the approval's, if it has none.
func approvalKey(id message.ID, m *message.Message) string {
	return cmp.Or(m.Key, "approval-"+id.String())
}

// Approve enqueues the message under a key, so that cut short and approved again it is sent once.
func (a apiApprovals) Approve(ctx context.Context, p api.Approval, by string) (api.Approval, error) {
	ctx = context.WithoutCancel(ctx)
	p, err := a.now(ctx, p)
	switch {
	case err != nil:
		return p, err
	case p.Status == postgres.ApprovalApproved && p.DecidedBy == by: // who got no answer asks again
		return p, nil
	case p.Status != postgres.ApprovalWaiting && p.Status != postgres.ApprovalApproving:
		return p, decided(p)
	}
	at, taken, err := a.Store.Approve(ctx, p.ID, by)
	if err != nil || !taken {
		return p, notTaken(err)
	}
	m := *p.Message
	m.Key = approvalKey(p.ID, p.Message)
	r, err := a.producer.Enqueue(ctx, m)
	if _, invalid := errors.AsType[message.Invalid](err); invalid || errors.Is(err, client.ErrKeyConflict) {
		return a.unfit(ctx, p, at, err)
	}
	if err != nil {
		return p, apiError(err)
	}
	ids := r.Parts
	if len(ids) == 0 {
		ids = []message.ID{r.ID}
	}
	if err := a.Approved(ctx, p.ID, ids); err != nil {
		return p, halfDone(err)
	}
	p, err = a.Approval(ctx, p.ID)
	return p, halfDone(err)
}

// unfit ends the approval, of that time, of a message that cannot be enqueued now: it can still be refused, unless it is accepted
// already.
func (a apiApprovals) unfit(ctx context.Context, p api.Approval, at time.Time, why error) (api.Approval, error) {
	ids, err := a.ApprovedAs(ctx, postgres.Approval{ID: p.ID, Account: p.Account, Message: p.Message, Asked: p.Asked}, approvalKey(p.ID, p.Message))
	switch {
	case err != nil:
		return p, halfDone(err)
	case len(ids) == 0:
		return p, errors.Join(apiError(why), a.NotApproved(ctx, p.ID, at))
	}
	if err := a.Approved(ctx, p.ID, ids); err != nil {
		return p, halfDone(err)
	}
	return a.Approval(ctx, p.ID)
}

// now is the approval as it stands, whatever cut it short.
func (a apiApprovals) now(ctx context.Context, p api.Approval) (api.Approval, error) {
	row, err := a.Store.Approval(ctx, p.ID)
	if err == nil {
		row, err = a.settled(ctx, row, 0)
	}
	if err != nil {
		return p, apiError(err)
	}
	return apiApproval(row, clock.Now()), nil
}

// decided says that an approval needs nobody's word any more.
func decided(p api.Approval) error {
	return fmt.Errorf("%w: it is %s", api.ErrDecided, p.Status)
}

func (a apiApprovals) Refuse(ctx context.Context, p api.Approval, by, note string) (api.Approval, error) {
	ctx = context.WithoutCancel(ctx)
	p, err := a.now(ctx, p)
	switch {
	case err != nil:
		return p, err
	case p.Status == postgres.ApprovalRefused && p.DecidedBy == by:
		return p, nil
	case p.Status == postgres.ApprovalApproved || p.Status == postgres.ApprovalRefused:
		return p, decided(p)
	}
	if taken, err := a.Store.Refuse(ctx, p.ID, by, note); err != nil || !taken {
		return p, notTaken(err)
	}
	p, err = a.Approval(ctx, p.ID)
	return p, halfDone(err)
}

// notTaken says why a decision was not noted: the store failed, or somebody else was quicker.
func notTaken(err error) error {
	if err != nil {
		return changed(err)
	}
	return fmt.Errorf("%w meanwhile", api.ErrDecided)
}
