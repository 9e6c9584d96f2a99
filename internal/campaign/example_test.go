package campaign_test

import (
	"fmt"
	"time"

	"github.com/hongyan-dispatch/hongyan/internal/campaign"
)

func ExampleParseSpec() {
	_, err := campaign.ParseSpec([]byte(`
name: double-eleven
account: shop
kind: template
template: {template_id: T1, data: {thing1: {value: "{{.name | truncate}}"}}}
quiet_hours: {from: "22:00"}
`))
	fmt.Println(err)
	// Output:
	// campaign: 2 mistakes:
	//   line 5: template.data.thing1.value: {{.name | truncate}}: truncate wants 2 values, not 1
	//   line 6: quiet_hours: want both from and to
}

func ExampleSchedule_Next() {
	mondays := campaign.Schedule{Cron: "0 10 * * 1", Timezone: "Asia/Shanghai"}
	fmt.Println(mondays.Next(time.Date(2026, 11, 28, 0, 0, 0, 0, time.UTC)))
	// Output: 2026-11-30 10:00:00 +0800 Asia/Shanghai
}

func ExampleForecast() {
	now := time.Date(2026, 11, 28, 2, 0, 0, 0, time.UTC) // ten in Beijing
	o := campaign.Forecast(campaign.Load{
		Messages: 182_400, Left: 61_200, PerDay: 99_000, Reserve: 10_000, PerSecond: 80,
		Calendar: campaign.Calendar{From: "22:00", To: "08:00"},
	}, now)
	for _, day := range o.Days {
		fmt.Println(day.Day.Format(time.DateOnly), day.Messages)
	}
	fmt.Println(o.Today, o.Done.Format(time.DateTime))
	// Output:
	// 2026-11-28 51200
	// 2026-11-29 89000
	// 2026-11-30 42200
	// false 2026-11-30 08:08:47
}
