package client_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hongyan-dispatch/hongyan/client"
	"github.com/hongyan-dispatch/hongyan/message"
)

// A check goes on without what counts the windows, from the first users on or from later ones.
func TestACheckWithoutWindows(t *testing.T) {
	b := withLedger(t)
	id := b.campaign("windows")
	const n = 6000 // two blocks
	var file strings.Builder
	file.WriteString("openid,name\n")
	for i := range n {
		fmt.Fprintf(&file, "oPerson%d,Ann\n", i)
	}
	if _, err := b.ImportAudience(t.Context(), id, "people.csv", strings.NewReader(file.String()), client.ImportOptions{}); err != nil {
		t.Fatal(err)
	}
	check := func(whole int) client.CampaignCheck { // blocks that are answered
		t.Helper()
		blocks := 0
		k, err := b.CheckCampaign(t.Context(), id, client.CheckOptions{
			Limits: client.CampaignLimits{LeftToday: 10 * n, PerDay: 10 * n},
			Answerable: func(_ context.Context, users []message.OpenID) ([]bool, error) {
				if blocks++; blocks > whole+1 {
					t.Error("it asks again what does not answer")
				}
				if blocks > whole {
					return nil, errors.New("redis: away")
				}
				return make([]bool, len(users)), nil // none of them
			},
		})
		if err != nil {
			t.Fatal(err)
		}
		return k
	}
	told := func(k client.CampaignCheck) bool {
		return slices.ContainsFunc(k.Notes, func(s string) bool { return strings.Contains(s, "redis: away") })
	}
	for whole := range 2 {
		if k := check(whole); k.Closed != -1 || k.Good != n || !k.Fits() || !told(k) || k.Forecast == nil || k.Forecast.Needs != n {
			t.Errorf("after %d blocks: %d closed, %d good, notes %q, forecast %+v", whole, k.Closed, k.Good, k.Notes, k.Forecast)
		}
	}
	if k := check(2); k.Closed != n || told(k) || k.Forecast == nil || k.Forecast.Needs != 0 {
		t.Errorf("all answered: %d closed, notes %q, forecast %+v", k.Closed, k.Notes, k.Forecast)
	}
}

// What waits for its schedule is foretold from its next time on, by that day's quota.
func TestACheckForetellsFromTheSchedule(t *testing.T) {
	b := withLedger(t)
	check := func(name, more string) client.CampaignCheck {
		t.Helper()
		c, err := b.CreateCampaign(t.Context(), fmt.Appendf(nil,
			`{"name": "%s", "account": "shop", "kind": "custom", "custom": {"msgtype": "text", "text": {"content": "您好"}}%s}`, name, more))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := b.ImportAudience(t.Context(), c.ID.String(), "p.csv", strings.NewReader("openid\noA\noB\noC\n"), client.ImportOptions{}); err != nil {
			t.Fatal(err)
		}
		k, err := b.CheckCampaign(t.Context(), c.ID.String(), client.CheckOptions{Limits: client.CampaignLimits{LeftToday: 0, PerDay: 10, PerSecond: 1}})
		if err != nil {
			t.Fatal(err)
		}
		return k
	}
	// A midnight in Beijing some days ahead, so that all of it goes on one day, whenever the test runs.
	at := message.Day(time.Now().AddDate(0, 0, 3)).Add(time.Hour)
	text := func(at time.Time) string { return at.Format(time.RFC3339) }

	k := check("later", `, "expires_after": "1m", "schedule": {"at": "`+text(at)+`"}`)
	f := k.Forecast
	if !k.Fits() || f == nil || !f.Start.Equal(at) || f.Today || f.LeftToday != 0 || f.PerDay != 10 || !f.Done.Equal(at.Add(3*time.Second)) {
		t.Errorf("at %v: problems %v, forecast %+v", at, k.Problems, f)
	}
	if len(f.Days) != 1 || f.Days[0].Messages != 3 {
		t.Errorf("days %+v, want all three on the schedule's", f.Days)
	}
	k = check("later, and too slow", `, "expires_after": "1m", "pace": {"per_second": 0.02}, "schedule": {"at": "`+text(at)+`"}`)
	if k.Fits() || !strings.Contains(k.Problems[0].What, "its messages expire 1m0s after its start") {
		t.Errorf("it would expire, and the check says %v", k.Problems)
	}
	k = check("by cron", fmt.Sprintf(`, "schedule": {"cron": "0 1 %d %d *"}`, message.Beijing(at).Day(), int(message.Beijing(at).Month())))
	if f := k.Forecast; f == nil || !f.Start.Equal(at) {
		t.Errorf("by cron it starts %+v, want %v", f, at)
	}
	k = check("past", `, "schedule": {"at": "`+text(time.Now().Add(-time.Hour))+`"}`)
	if k.Fits() || !strings.Contains(k.Problems[0].What, "is past; create it anew") {
		t.Errorf("its time is past, and the check says %v", k.Problems)
	}
	k = check("by hand", "")
	if f := k.Forecast; f == nil || !f.Start.IsZero() {
		t.Errorf("by hand it starts %+v, want now", f)
	}

	// On its way, what is left is foretold; ended, nothing.
	again := func(do func(context.Context, string) (client.CampaignState, error)) client.CampaignCheck {
		t.Helper()
		if _, err := do(t.Context(), "by hand"); err != nil {
			t.Fatal(err)
		}
		k, err := b.CheckCampaign(t.Context(), k.Campaign.ID.String(), client.CheckOptions{Limits: client.CampaignLimits{LeftToday: 5, PerDay: 10, PerSecond: 1}})
		if err != nil {
			t.Fatal(err)
		}
		return k
	}
	k = again(b.StartCampaign)
	if f := k.Forecast; f == nil || f.Needs != 3 || !slices.Contains(k.Notes, "it is running: the forecast is of the 3 messages that have not ended") {
		t.Errorf("running: forecast %+v, notes %q", f, k.Notes)
	}
	k = again(func(ctx context.Context, name string) (client.CampaignState, error) {
		return b.CancelCampaign(ctx, name, "enough")
	})
	if k.Forecast != nil {
		t.Errorf("cancelled: forecast %+v", k.Forecast)
	}
}
