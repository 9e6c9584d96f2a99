package client

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/hongyan-dispatch/hongyan/internal/campaign"
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

// A MassForecast is what WeChat's caps of mass sends make of a campaign: when it may go, in how many messages, and to how
// many users at most.
type MassForecast struct {
	Messages int       `json:"messages"`         // one, or one for each part of a list
	Users    int       `json:"users,omitempty"`  // of a list: those who are not at their cap; 0: WeChat counts them
	At       time.Time `json:"at"`               // the start that the caps were asked about: now, or that of the schedule
	Allowed  time.Time `json:"allowed,omitzero"` // the first time from then on that the caps allow; zero: never
	Cap      string    `json:"cap,omitempty"`    // the one that does not allow it at the start
}

// mass checks a mass send: one message for all, or for each part of a list.
func (k *checking) mass(ctx context.Context, a *postgres.Audience) error {
	spec, now := k.row.Spec, k.now
	k.parts = 1
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
		if k.parts = len(mass.Parts(int(a.Total))); k.parts > 1 {
			k.note(fmt.Sprintf("goes in %d messages, one after another", k.parts))
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
	return k.massCaps(ctx, a, scope, tag)
}

// massCaps says when the account may make the call, and whom it would leave out then.
func (k *checking) massCaps(ctx context.Context, a *postgres.Audience, scope mass.Scope, tag string) error {
	c := k.o.Mass
	if c == nil {
		return nil
	}
	if scope == mass.List && c.ListsRefused {
		k.problem("audience: WeChat takes lists of openids of service accounts only (服务号); this account may send to a tag or to its followers")
	}
	at := k.start
	f := &MassForecast{Messages: k.parts, At: message.Beijing(at), Allowed: message.Beijing(at)}
	k.out.Mass = f
	caps := mass.Caps{PerDay: c.PerDay, AllPerDay: c.AllPerDay, AllPerMonth: c.AllPerMonth, UserPerMonth: c.UserPerMonth, Observe: c.Observe}
	counts, err := k.client.ledger.MassCounts(ctx, k.row.Account, tag, at)
	if err != nil {
		return err
	}
	v := mass.Decide(caps, scope, counts)
	if !v.OK {
		f.Cap, f.Allowed = string(v.Cap), mass.Opens(caps, scope, counts, at)
		k.problem(fmt.Sprintf("the account's cap is reached: %s; %s", v.Cap, allowedText(f.Allowed)))
		if f.Allowed.IsZero() {
			return nil
		}
		if counts, err = k.client.ledger.MassCounts(ctx, k.row.Account, tag, f.Allowed); err != nil {
			return err
		}
		v = mass.Decide(caps, scope, counts)
	}
	if left := c.PerDay - counts.Day; !c.Observe && c.PerDay >= 0 && k.parts > left {
		k.problem(fmt.Sprintf("the account's cap allows %d more calls that day, and its list goes in %d: the rest would be skipped (mass_cap)", left, k.parts))
	}
	if scope != mass.List || a == nil {
		return nil
	}
	if v.OK && v.Room != mass.NoCap {
		if err := k.massUsersAtCap(ctx, a, mass.MonthOf(f.Allowed), v.Room); err != nil {
			return err
		}
	}
	f.Users = k.out.Recipients - k.out.AtCap
	if f.Users < mass.MinList {
		k.problem(fmt.Sprintf("%d of its %d users have had as many mass sends as a user gets in a month, and a list has 2 or more", k.out.AtCap, k.out.Recipients))
	}
	return nil
}

func allowedText(at time.Time) string {
	if at.IsZero() {
		return "it never allows such a send, by limits.mass of the account"
	}
	return fmt.Sprintf("it allows the next one from %s Beijing time on", at.Format("2006-01-02 15:04"))
}

// massUsersAtCap counts the users of a list whom the month's lists have reached as often as they may.
func (k *checking) massUsersAtCap(ctx context.Context, a *postgres.Audience, month mass.Month, room int) error {
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
		n, err := k.client.ledger.MassUsersAtCap(ctx, k.row.Account, month, hashes, room)
		if err != nil {
			return err
		}
		k.out.AtCap += n
		after = block[len(block)-1].N
	}
}

// massForecast says when the last part would go: a call each, by the calls of a day and of a minute. A list's parts go one
// after another, so it is the earliest.
func (k *checking) massForecast() {
	m, l := k.out.Mass, k.o.Limits
	if m == nil || l == (CampaignLimits{}) || m.Allowed.IsZero() {
		return
	}
	load := campaign.Load{Messages: int64(m.Messages), Left: l.LeftToday, PerDay: l.PerDay, PerSecond: l.PerSecond, Calendar: k.row.Spec.Calendar}
	f := k.foretell(load, m.Allowed)
	expires := k.row.Spec.Expires
	switch {
	case f.Done.IsZero():
		k.problem("with these calls, caps and calendar it is not done within a year")
	case expires > 0 && f.Done.After(m.At.Add(expires)):
		k.problem(fmt.Sprintf("it would be done at %s, and its messages expire %v after its start", f.Done.Format(time.RFC3339), expires))
	case len(f.Days) > 1:
		k.note(fmt.Sprintf("it goes on over %d days", len(f.Days)))
	}
}
