package client_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/hongyan-dispatch/hongyan/client"
	"github.com/hongyan-dispatch/hongyan/internal/mass"
)

// massCheck checks a mass campaign to so many users, of an account that has made these sends already.
func massCheck(t *testing.T, n int, spec string, caps client.MassCaps, used map[string]int) client.CampaignCheck {
	t.Helper()
	b := withLedger(t)
	c, err := b.CreateCampaign(t.Context(), []byte(`{"name": "news", "account": "shop", "kind": "mass", "mass": {"msgtype": "text", "text": {"content": "今晚上新"}}`+spec+`}`))
	if err != nil {
		t.Fatal(err)
	}
	if n > 0 {
		var file strings.Builder
		file.WriteString("openid\n")
		for i := range n {
			fmt.Fprintf(&file, "oMass%d\n", i)
		}
		if _, err := b.ImportAudience(t.Context(), c.ID.String(), "people.csv", strings.NewReader(file.String()), client.ImportOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	conn, err := pgx.Connect(t.Context(), b.options.Database)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	now := time.Now()
	for scope, sends := range used {
		period := int(mass.MonthOf(now))
		if rest, day := strings.CutPrefix(scope, "day:"); day {
			scope, period = rest, int(mass.DayOf(now))
		}
		if _, err := conn.Exec(t.Context(), `INSERT INTO mass_count (account, period, scope, used) SELECT id, $1, $2, $3 FROM account WHERE name = 'shop'`, period, scope, sends); err != nil {
			t.Fatal(err)
		}
	}
	k, err := b.CheckCampaign(t.Context(), "news", client.CheckOptions{Mass: &caps, Limits: client.CampaignLimits{LeftToday: 7, PerDay: 10, PerSecond: 1}})
	if err != nil {
		t.Fatal(err)
	}
	return k
}

var serviceCaps = client.MassCaps{PerDay: -1, AllPerDay: 1, AllPerMonth: 4, UserPerMonth: 4}

func TestAMassCheckForetellsTheParts(t *testing.T) {
	k := massCheck(t, 80_001, "", serviceCaps, nil)
	m, f := k.Mass, k.Forecast
	if !k.Fits() || m == nil || m.Messages != 9 || m.Users != 80_001 || m.Cap != "" || !m.Allowed.Equal(m.At) {
		t.Fatalf("got %+v of %+v", m, k)
	}
	// 7 calls are left today, and 10 of tomorrow.
	if f == nil || f.Timezone != "Asia/Shanghai" || f.Needs != 9 || f.Today || len(f.Days) != 2 || f.Days[0].Messages != 7 || f.Days[1].Messages != 2 {
		t.Errorf("forecast %+v", f)
	}
}

func TestAMassCheckSaysWhenTheCapsAllowIt(t *testing.T) {
	for name, c := range map[string]struct {
		spec    string
		caps    client.MassCaps
		used    map[string]int
		problem string
		cap     string
		month   bool
	}{
		"everybody had it today": {`, "audience": {"followers": true}`, serviceCaps, map[string]int{"day:all": 1, "all": 1}, "all_day", "all_day", false},
		"four this month":        {`, "audience": {"followers": true}`, serviceCaps, map[string]int{"all": 4}, "all_month", "all_month", true},
		"a tag had four":         {`, "audience": {"tag": 2}`, serviceCaps, map[string]int{"tag:2": 4}, "user_month", "user_month", true},
	} {
		t.Run(name, func(t *testing.T) {
			k := massCheck(t, 0, c.spec, c.caps, c.used)
			now := time.Now()
			m := k.Mass
			if k.Fits() || m == nil || m.Cap != c.cap || !m.Allowed.After(now) || !strings.Contains(k.Problems[0].What, "Beijing time") {
				t.Fatalf("got %+v, problems %v", m, k.Problems)
			}
			if other := mass.MonthOf(m.Allowed) != mass.MonthOf(now); c.month && !other {
				t.Errorf("allowed at %v, want it next month", m.Allowed)
			}
			if k.Forecast == nil || k.Forecast.Done.Before(m.Allowed) || k.Forecast.Today {
				t.Errorf("forecast %+v, want it done after %v", k.Forecast, m.Allowed)
			}
		})
	}
	t.Run("a schedule behind the cap fits", func(t *testing.T) {
		at := time.Now().AddDate(0, 2, 0).Format(time.RFC3339)
		k := massCheck(t, 0, `, "audience": {"followers": true}, "schedule": {"at": "`+at+`"}`, serviceCaps, map[string]int{"day:all": 1, "all": 4})
		if !k.Fits() || k.Mass.Cap != "" || k.Forecast == nil || k.Forecast.Done.Before(k.Mass.At) {
			t.Errorf("got %+v, %+v, problems %v", k.Mass, k.Forecast, k.Problems)
		}
	})
	t.Run("the parts are more than the day allows", func(t *testing.T) {
		caps := serviceCaps
		caps.PerDay = 2
		k := massCheck(t, 30_000, "", caps, map[string]int{"day:": 1})
		if k.Fits() || !strings.Contains(k.Problems[0].What, "allows 1 more calls that day, and its list goes in 3") {
			t.Errorf("problems %v", k.Problems)
		}
	})
}
