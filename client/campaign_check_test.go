package client_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

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
