package app

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/hongyan-dispatch/hongyan/internal/clock"
	"github.com/hongyan-dispatch/hongyan/internal/mass"
	"github.com/hongyan-dispatch/hongyan/internal/pipeline"
	"github.com/hongyan-dispatch/hongyan/internal/postgres"
	"github.com/hongyan-dispatch/hongyan/message"
)

// claimMass takes the caps of a mass send and claims it, in one transaction.
func (l ledger) claimMass(ctx context.Context, a *pipeline.Attempt) (pipeline.Claim, error) {
	account := l.accounts[a.Account.Name]
	scope, tag := scopeOf(a.Message)
	request := postgres.MassRequest{Parcel: a.Parcel, Caps: account.caps, Scope: scope, Tag: tag}
	if scope == mass.List {
		request.Hashes = hashes(account.AppID, a.Message.List)
	}
	c, err := l.committer.ClaimMass(ctx, a.Message, request, clock.Now())
	if err != nil {
		return pipeline.Claim{}, err
	}
	claim := claimOf(c.Claim)
	claim.List, claim.Wait = c.List, c.Wait
	return claim, nil
}

// caps looks at the caps of accounts.
type caps struct {
	store    *postgres.Store
	accounts accounts
}

// Look says whether a cap of the account is reached, unless the message has taken its caps already.
func (c caps) Look(ctx context.Context, a *pipeline.Attempt) (full bool, wait time.Time, err error) {
	if mass.NearBoundary(a.Now) { // which day, which month? A moment later it is sure
		return false, mass.PastBoundary(a.Now), nil
	}
	scope, tag := scopeOf(a.Message)
	counts, err := c.store.MassCounts(ctx, a.Message.Account, tag, a.Now)
	if err != nil || mass.Decide(c.accounts[a.Account.Name].caps, scope, counts).OK {
		return false, time.Time{}, err
	}
	_, err = c.store.MassCall(ctx, a.Message.ID)
	if errors.Is(err, postgres.ErrNotFound) {
		return true, time.Time{}, nil
	}
	return false, time.Time{}, err
}

// hashes names users in the cap counts without their openids.
func hashes(appid string, list []message.OpenID) []int64 {
	all := make([]int64, len(list))
	for i, user := range list {
		all[i] = mass.UserHash(message.AppID(appid), user)
	}
	return all
}

// scopeOf says to whom a mass send goes; of a tag, also which.
func scopeOf(m *message.Message) (scope mass.Scope, tag string) {
	if len(m.List) > 0 {
		return mass.List, ""
	}
	if tag, ok := strings.CutPrefix(m.Recipient(), "tag:"); ok {
		return mass.Tag, tag
	}
	return mass.All, ""
}
