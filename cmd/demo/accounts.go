package main

import (
	"fmt"
	"time"

	"github.com/hongyan-dispatch/hongyan/internal/wechattest"
)

// The two accounts, by the names that the examples use.
const (
	shop = "shop" // 服务号
	club = "club" // 订阅号
)

var (
	appIDs  = map[string]string{shop: "wx0000000000000001", club: "wx0000000000000002"}
	secrets = map[string]string{shop: "the-demo-secret-of-shop", club: "the-demo-secret-of-club"}
)

// The limits of the demo's accounts, the same in the configuration and in the simulator. WeChat's own are larger:
// the demo wants to be over within the minute and yet to meet them.
const (
	noticesPerDay     = 150
	templatePerSecond = 150
	otherPerSecond    = 100
	massUserPerMonth  = 4 // WeChat's own
	massClubPerDay    = 1 // likewise
)

// perSecond is the pace of an API that sends.
func perSecond(api string) float64 {
	switch api {
	case wechattest.PathTemplate:
		return templatePerSecond
	case wechattest.PathMassSend:
		return 1
	default:
		return otherPerSecond
	}
}

// configuration is the file that worker and producers share.
func configuration(redisURL, dbURL, simURL string) []byte {
	return fmt.Appendf(nil, `# The demo's configuration. It is removed when the demo ends.
redis: {url: %q}
postgres: {url: %q}
worker: {name: demo}
log: {level: warn}
accounts:
  - name: %s
    appid: %s
    secret: %s
    type: service
    base_url: %s
    limits:
      template: {per_day: 100000, per_second: %d}
      subscribe: {per_day: %d, per_second: %d}
      custom: {per_day: 500000, per_second: %d}
    policy: {retry_after: [500ms, 1s, 2s, 4s]}
  - name: %s
    appid: %s
    secret: %s
    type: subscription
    base_url: %s
    limits:
      custom: {per_day: 500000, per_second: %d}
    policy: {retry_after: [500ms, 1s, 2s, 4s]}
`, redisURL, dbURL,
		shop, appIDs[shop], secrets[shop], simURL, templatePerSecond, noticesPerDay, otherPerSecond, otherPerSecond,
		club, appIDs[club], secrets[club], simURL, otherPerSecond)
}

// accountSettings are the accounts as the simulator has them.
func accountSettings(e *examples) []wechattest.Settings {
	return []wechattest.Settings{
		{
			AppID: appIDs[shop], Secret: secrets[shop], Type: wechattest.Service, AnyMedia: true,
			Templates: e.templates(), MiniPrograms: e.miniPrograms(), Tags: e.tags(shop),
			Limits: map[string]wechattest.Limit{wechattest.PathSubscribe: {PerDay: noticesPerDay}},
			Mass:   wechattest.MassRules{PerUserMonth: massUserPerMonth},
		},
		{
			AppID: appIDs[club], Secret: secrets[club], Type: wechattest.Subscription, AnyMedia: true,
			MiniPrograms: e.miniPrograms(), Tags: e.tags(club),
			Mass: wechattest.MassRules{PerDay: massClubPerDay},
		},
	}
}

// playTime is how long the whole may take before something is plainly wrong.
const playTime = 2 * time.Minute
