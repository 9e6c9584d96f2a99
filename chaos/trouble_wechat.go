package main

import (
	"context"
	"fmt"
	"time"

	"github.com/hongyan-dispatch/hongyan/internal/wechattest"
)

// sendAPIs are the calls whose answers get lost.
var sendAPIs = []string{wechattest.PathTemplate, wechattest.PathCustom, wechattest.PathSubscribe}

func loseAnswers(ctx context.Context, r *rig) error {
	faults := []wechattest.Fault{
		{Kind: wechattest.Drop},
		{Kind: wechattest.Reset},
		{Kind: wechattest.HalfReply},
		{Kind: wechattest.HTML},
		{Kind: wechattest.Truncate},
		{Kind: wechattest.Status, Code: 502},
		{Kind: wechattest.Hang, For: 12 * time.Second},
	}
	mended := r.broke("lost answers", "")
	var ids []int
	for _, f := range faults {
		for _, api := range sendAPIs {
			f.When, f.API, f.Chance = wechattest.After, api, 0.01
			id, err := r.sim.Inject(f)
			if err != nil {
				return err
			}
			ids = append(ids, id)
		}
	}
	for r.producing() {
		if err := pause(ctx, 100*time.Millisecond); err != nil {
			return err
		}
	}
	if err := pause(ctx, 5*time.Second); err != nil {
		return err
	}
	struck := int64(0)
	for _, id := range ids {
		struck += r.sim.Struck(id)
	}
	r.sim.Heal()
	r.figure("answers lost", struck)
	if err := pause(ctx, 15*time.Second); err != nil { // what hangs when the faults go, hangs on
		return err
	}
	mended()
	return nil
}

func refuseConnections(ctx context.Context, r *rig) error {
	if err := r.flowing(ctx, 500); err != nil {
		return err
	}
	mended := r.broke("closing of connections", "") // a call may meet it half-way
	r.front.shut()
	mended()
	if err := pause(ctx, 8*time.Second); err != nil {
		return err
	}
	if err := r.front.open(); err != nil {
		return err
	}
	return r.again(ctx, "dispatch again", func() {})
}

func hangUp(ctx context.Context, r *rig) error {
	mended := r.broke("closed connections", "")
	defer mended()
	id, err := r.sim.Inject(wechattest.Fault{Kind: wechattest.HangUp, Every: 3})
	if err != nil {
		return err
	}
	for r.producing() {
		if err := pause(ctx, 100*time.Millisecond); err != nil {
			return err
		}
	}
	if err := pause(ctx, 3*time.Second); err != nil {
		return err
	}
	r.figure("hung up", r.sim.Struck(id))
	return nil
}

func kickTokens(ctx context.Context, r *rig) error {
	for r.producing() {
		if err := pause(ctx, time.Second); err != nil {
			return err
		}
		r.broke("invalid token", "")()
		r.sim.Account(appID).KickTokens()
	}
	return nil
}

// fewTokens: one call for a token, and one for each time that it was made invalid; a forced one, too, where WeChat
// gives the refused one back.
func fewTokens(_ context.Context, r *rig) []string {
	calls := r.sim.Account(appID).Calls(wechattest.PathStableToken).Arrived
	r.figure("token calls", calls)
	if limit := int64(2*len(r.faults) + 1); calls > limit {
		return []string{fmt.Sprintf("(e) %d calls for a token, want at most %d", calls, limit)}
	}
	return nil
}

// redirect lets WeChat accept and then point back to itself: who follows, sends again.
func redirect(ctx context.Context, r *rig) error {
	mended := r.broke("redirects", "")
	for _, api := range sendAPIs {
		if _, err := r.sim.Inject(wechattest.Fault{Kind: wechattest.Redirect, When: wechattest.After, API: api, Every: 20}); err != nil {
			return err
		}
	}
	for r.producing() {
		if err := pause(ctx, 100*time.Millisecond); err != nil {
			return err
		}
	}
	if err := pause(ctx, 3*time.Second); err != nil {
		return err
	}
	r.sim.Heal()
	if err := pause(ctx, time.Second); err != nil { // calls under way
		return err
	}
	mended()
	return nil
}

// What a day allows of template messages in the scenario, and what others use of it.
const (
	elsewherePerDay = 1000
	usedElsewhere   = 400
)

// spendElsewhere lets others use a part of the day's calls when our own have begun.
func spendElsewhere(ctx context.Context, r *rig) error {
	a := r.sim.Account(appID)
	err := a.Change(func(s *wechattest.Settings) {
		s.Limits[wechattest.PathTemplate] = wechattest.Limit{PerDay: elsewherePerDay}
	})
	if err != nil {
		return err
	}
	if err := r.flowing(ctx, 300); err != nil {
		return err
	}
	r.broke("quota used elsewhere", "")()
	return a.SetUsed(wechattest.PathTemplate, a.Used(wechattest.PathTemplate)+usedElsewhere)
}

func sentMost(_ context.Context, r *rig) (found []string) {
	calls := r.sim.Account(appID).Calls(wechattest.PathTemplate)
	r.figure("templates accepted", calls.Accepted)
	r.figure("answers 45009", calls.Refused[45009])
	const allowed = elsewherePerDay - usedElsewhere
	if calls.Accepted > allowed || calls.Accepted < allowed*8/10 {
		found = append(found, fmt.Sprintf("(e) %d template messages were accepted; the day allowed %d", calls.Accepted, allowed))
	}
	return found
}
