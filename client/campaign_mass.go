package client

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/hongyan-dispatch/hongyan/internal/mass"
	"github.com/hongyan-dispatch/hongyan/internal/postgres"
	"github.com/hongyan-dispatch/hongyan/message"
)

// MassCaps are the caps of an account's mass sends; -1: there is none.
type MassCaps struct {
	PerDay       int // calls of the account
	AllPerDay    int // calls to everybody
	AllPerMonth  int // calls to everybody
	UserPerMonth int // sends that one user gets
	Observe      bool
	ListsRefused bool // the account is no service account: WeChat takes no lists of it
}

// mass checks a mass send: one message for all, or for each part of a list.
func (k *checking) mass(ctx context.Context, a *postgres.Audience) error {
	spec, now := k.row.Spec, time.Now()
	scope, tag := mass.List, ""
	var first []postgres.Recipient
	switch {
	case spec.Filtered() && spec.Audience.Tag != 0:
		scope, tag = mass.Tag, strconv.Itoa(spec.Audience.Tag)
	case spec.Filtered():
		scope = mass.All
		k.note("an account with API mass-send protection (API群发保护) asks its administrator, who has 30 minutes; WeChat says so by 89504 or 89505, and enqueue mass status tells")
	case a == nil || a.State != "ready" || a.Total < mass.MinList:
		if err := ready(spec, a); err != nil {
			k.problem(err.Error())
			return nil
		}
		k.note("the workers fetch its audience at each firing; import it once to see counts: enqueue campaign import")
		return nil
	default:
		var err error
		if first, err = k.client.ledger.Recipients(ctx, a.ID, 0, mass.MinList); err != nil {
			return err
		}
		k.out.Recipients, k.out.Good = int(a.Total), int(a.Total)
		if parts := len(mass.Parts(int(a.Total))); parts > 1 {
			k.note(fmt.Sprintf("goes in %d messages, one after another", parts))
		}
	}
	var list []message.OpenID
	for _, r := range first {
		list = append(list, r.OpenID)
	}
	m := spec.Mass(now, 0, 1, list)
	sample := Sample{N: 1, Body: m.Body}
	if len(list) > 0 {
		sample.OpenID = list[0]
	}
	var invalid message.Invalid
	if errors.As(k.client.rules.Validate(m, time.Time{}), &invalid) {
		for _, f := range invalid {
			sample.Problems = append(sample.Problems, f.Path+": "+f.Rule)
			k.problem(f.Path + ": " + f.Rule)
		}
	}
	k.out.Samples = append(k.out.Samples, sample)
	k.note("articles and videos can be deleted after they were sent: enqueue mass delete")
	return k.massCaps(ctx, a, scope, tag, now)
}

// massCaps says whether the account may make the call now, and whom it would leave out.
func (k *checking) massCaps(ctx context.Context, a *postgres.Audience, scope mass.Scope, tag string, now time.Time) error {
	c := k.o.Mass
	if c == nil {
		return nil
	}
	if scope == mass.List && c.ListsRefused {
		k.problem("audience: WeChat takes lists of openids of service accounts only (服务号); this account may send to a tag or to its followers")
	}
	counts, err := k.client.ledger.MassCounts(ctx, k.row.Account, tag, now)
	if err != nil {
		return err
	}
	v := mass.Decide(mass.Caps{PerDay: c.PerDay, AllPerDay: c.AllPerDay, AllPerMonth: c.AllPerMonth, UserPerMonth: c.UserPerMonth, Observe: c.Observe}, scope, counts)
	if !v.OK {
		k.problem(fmt.Sprintf("the account's cap is reached: %s; see enqueue quota", v.Cap))
		return nil
	}
	if scope != mass.List || v.Room == mass.NoCap || a == nil {
		return nil
	}
	account, err := k.client.account(k.row.Account)
	if err != nil {
		return err
	}
	for after := int32(0); ; {
		block, err := k.client.ledger.Recipients(ctx, a.ID, after, checkBlock)
		if err != nil || len(block) == 0 {
			return err
		}
		hashes := make([]int64, len(block))
		for i, r := range block {
			hashes[i] = mass.UserHash(account.AppID, r.OpenID)
		}
		n, err := k.client.ledger.MassUsersAtCap(ctx, k.row.Account, mass.MonthOf(now), hashes, v.Room)
		if err != nil {
			return err
		}
		k.out.AtCap += n
		after = block[len(block)-1].N
	}
}
