package pipeline

import (
	"context"
	"errors"
	"time"

	"github.com/hongyan-dispatch/hongyan/internal/clock"
	"github.com/hongyan-dispatch/hongyan/internal/wechat"
	"github.com/hongyan-dispatch/hongyan/message"
	"github.com/hongyan-dispatch/hongyan/outcome"
)

// MaxWait is how long a message waits in the pod for the right to go. What cannot go by then is parked.
const MaxWait = 2 * time.Second

// storeAway is when a message is tried again whose guard could not reach its store.
const storeAway = 5 * time.Second

func notExpired() Stage {
	return Stage{Name: "notExpired", Run: func(_ context.Context, a *Attempt) (outcome.Outcome, error) {
		if expired(a.Message, a.Now) {
			return outcome.Outcome{Status: outcome.Expired, Reason: outcome.ReasonExpired}, nil
		}
		if a.Message.NotBefore.After(a.Now.Add(MaxWait)) {
			return park(a.Message, outcome.NotBefore, a.Message.NotBefore), nil
		}
		return outcome.Outcome{}, nil
	}}
}

func expired(m *message.Message, now time.Time) bool {
	return !m.ExpiresAt.IsZero() && !now.Before(m.ExpiresAt)
}

func notSuppressed(r Recipients) Stage {
	return Stage{Name: "notSuppressed", Run: func(ctx context.Context, a *Attempt) (outcome.Outcome, error) {
		refuses, err := r.Suppressed(ctx, a.Message)
		if err != nil {
			return outcome.Outcome{}, err
		}
		if refuses {
			return outcome.Outcome{Status: outcome.Skipped, Reason: outcome.Suppressed}, nil
		}
		return outcome.Outcome{}, nil
	}}
}

func gateOpen(g Gates) Stage {
	return Stage{Name: "gateOpen", Run: func(ctx context.Context, a *Attempt) (outcome.Outcome, error) {
		until, err := g.Look(ctx, a.Account.Name, a.API(), a.Message.ID, a.Now)
		if err != nil {
			return outcome.Outcome{}, err
		}
		if !until.IsZero() {
			return park(a.Message, outcome.Gate, until), nil
		}
		return outcome.Outcome{}, nil
	}}
}

func hasAccessToken(t Tokens, g Gates) Stage {
	return Stage{Name: "hasAccessToken", Run: func(ctx context.Context, a *Attempt) (outcome.Outcome, error) {
		token, err := t.Token(ctx, a.Account.AppID)
		if err != nil {
			return noToken(ctx, a, g, err)
		}
		a.token = token
		return outcome.Outcome{}, nil
	}}
}

// noToken parks a message for which there is no access token: behind a broken gate where WeChat refuses the
// account, for a moment where nobody could fetch one.
func noToken(ctx context.Context, a *Attempt, g Gates, err error) (outcome.Outcome, error) {
	if ctx.Err() != nil {
		return outcome.Outcome{}, ctx.Err()
	}
	if refused, ok := errors.AsType[*wechat.Error](err); ok {
		switch refused.Disposition() {
		case wechat.Account, wechat.Request:
			g.Broken(ctx, a.Account.Name, "", refused)
			o := park(a.Message, outcome.Gate, a.Now.Add(time.Minute))
			o.ErrCode, o.ErrMsg, o.RID = refused.Code, refused.Msg, refused.RID
			return o, nil
		}
	}
	o := park(a.Message, outcome.Gate, a.Now.Add(storeAway))
	o.ErrMsg = err.Error()
	return o, nil
}

func windowOpen(w Windows) Stage {
	holds := func(a *Attempt) bool { return a.Message.Kind == message.Custom && a.window }
	return Stage{
		Name: "windowOpen",
		Run: func(ctx context.Context, a *Attempt) (outcome.Outcome, error) {
			if a.Message.Kind != message.Custom {
				return outcome.Outcome{}, nil
			}
			state, err := w.Reserve(ctx, a.Account.AppID, a.Message.To, a.Message.ID, a.Now)
			if err != nil {
				return storeIsAway(ctx, a, err)
			}
			switch {
			case state == WindowOpen:
				a.window = true
				return outcome.Outcome{}, nil
			case state == WindowUnknown && a.Account.TryUnknown:
				return outcome.Outcome{}, nil
			case state == WindowUsed:
				return a.insteadOf(outcome.Outcome{Status: outcome.Skipped, Reason: outcome.WindowUsed}), nil
			default:
				return a.insteadOf(outcome.Outcome{Status: outcome.Skipped, Reason: outcome.WindowClosed}), nil
			}
		},
		Undo: func(ctx context.Context, a *Attempt) {
			if !holds(a) {
				return
			}
			switch a.Fate {
			case Refused, NotSent, Answered:
				switch {
				case !a.spent: // what fails here lapses by itself after 120 s
					_ = w.Release(ctx, a.Account.AppID, a.Message.To, a.Message.ID)
				case !a.claim.Doubt: // else an earlier attempt may have left, whose slot it is
					_ = w.Withdraw(ctx, a.Account.AppID, a.Message.To, a.Message.ID)
				}
			case Left:
			case ClaimRefused: // the slot is the message's: its other run has it
			}
		},
	}
}

// spend makes the slot count that the message holds, right before it is sent, or ends the run: another run of the message
// may have given the slot back, so that it went to another message.
func (a *Attempt) spend(ctx context.Context, w Windows) (outcome.Outcome, error) {
	if !a.window || a.Message.Kind != message.Custom {
		return outcome.Outcome{}, nil
	}
	state, err := w.Spend(ctx, a.Account.AppID, a.Message.To, a.Message.ID, clock.Now())
	switch {
	case err != nil:
		return outcome.Outcome{}, err
	case state == WindowOpen:
		a.spent = true
		return outcome.Outcome{}, nil
	case state == WindowUsed:
		return a.inDoubt(a.insteadOf(outcome.Outcome{Status: outcome.Skipped, Reason: outcome.WindowUsed})), nil
	}
	return a.inDoubt(a.insteadOf(outcome.Outcome{Status: outcome.Skipped, Reason: outcome.WindowClosed})), nil
}

func underMassCap(c Caps) Stage {
	return Stage{Name: "underMassCap", Run: func(ctx context.Context, a *Attempt) (outcome.Outcome, error) {
		if a.Message.Kind != message.Mass {
			return outcome.Outcome{}, nil
		}
		full, wait, err := c.Look(ctx, a)
		switch {
		case err != nil:
			return outcome.Outcome{}, err
		case !wait.IsZero():
			return park(a.Message, outcome.Pace, wait), nil
		case full:
			return outcome.Outcome{Status: outcome.Skipped, Reason: outcome.MassCap}, nil
		}
		return outcome.Outcome{}, nil
	}}
}

func withinQuota(q Quota) Stage {
	return Stage{
		Name: "withinQuota",
		Run: func(ctx context.Context, a *Attempt) (outcome.Outcome, error) {
			o, err := a.takeQuota(ctx, q)
			if err != nil {
				return storeIsAway(ctx, a, err)
			}
			return o, nil
		},
		Undo: func(ctx context.Context, a *Attempt) {
			switch a.Fate {
			case Refused, ClaimRefused, NotSent:
				a.quota.Return(ctx)
			case Answered, Left:
				a.quota.Spent()
			}
		},
	}
}

// takeQuota takes the right to one call, or parks until there is one.
func (a *Attempt) takeQuota(ctx context.Context, q Quota) (outcome.Outcome, error) {
	token, err := q.Take(ctx, a.Account.AppID, a.API(), a.Message.Lane, max(MaxWait, a.Patience))
	if none, ok := errors.AsType[*NoQuota](err); ok {
		return park(a.Message, none.Reason, none.Until), nil
	}
	if err != nil {
		return outcome.Outcome{}, err
	}
	a.quota = token
	return outcome.Outcome{}, nil
}

func hasSender(s *Senders) Stage {
	return Stage{
		Name: "hasSender",
		Run: func(ctx context.Context, a *Attempt) (outcome.Outcome, error) {
			var err error
			if a.share = s.share(a.Account.AppID); a.Message.Kind.HasClientID() {
				// May be claimed ahead of a sender: a crash costs nothing, and commits carry more.
				err = a.enter(ctx, &a.share.ahead, &s.ahead)
			} else {
				err = a.enter(ctx, &a.share.wire, &s.wire)
				a.sender = err == nil
			}
			if errors.Is(err, errStuck) {
				o := park(a.Message, outcome.Pace, clock.Now().Add(jitter(stuckFor)))
				o.ErrMsg = err.Error()
				return o, nil
			}
			return outcome.Outcome{}, err
		},
		Undo: func(_ context.Context, a *Attempt) {
			for _, l := range a.places[:a.held] {
				l.release()
			}
		},
	}
}

// enter waits for a place in the account's line, and then for one in that of all.
func (a *Attempt) enter(ctx context.Context, own, all *line) error {
	if err := a.share.enter(ctx, own, a.Message.Lane); err != nil {
		return err
	}
	if err := all.acquire(ctx, a.Message.Lane); err != nil {
		own.release()
		return err
	}
	a.places[a.held], a.places[a.held+1] = all, own
	a.held += 2
	return nil
}

// storeIsAway parks a message whose guard could not reach its store; it counts as no attempt.
func storeIsAway(ctx context.Context, a *Attempt, err error) (outcome.Outcome, error) {
	if ctx.Err() != nil {
		return outcome.Outcome{}, ctx.Err()
	}
	o := park(a.Message, outcome.Pace, a.Now.Add(storeAway))
	o.ErrMsg = err.Error()
	return o, nil
}

// park is a parked outcome, due never later than the message expires.
func park(m *message.Message, why outcome.Reason, until time.Time) outcome.Outcome {
	if !m.ExpiresAt.IsZero() && until.After(m.ExpiresAt) {
		until = m.ExpiresAt
	}
	return outcome.Outcome{Status: outcome.Parked, Reason: why, Until: until}
}

// insteadOf arranges for the message's fallback, if it has one, to be sent instead.
func (a *Attempt) insteadOf(o outcome.Outcome) outcome.Outcome {
	if a.Message.Fallback != nil {
		f := *a.Message.Fallback
		f.ID = message.NewID(a.Now)
		f.Parent = a.Message.ID
		f.Account, f.To = a.Message.Account, a.Message.To
		if f.Lane == "" {
			f.Lane = a.Message.Lane
		}
		if f.ExpiresAt.IsZero() {
			f.ExpiresAt = a.Message.ExpiresAt
		}
		a.Effects.Fallback = &f
	}
	return o
}
