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
	tokens  = map[string]string{shop: "the-demo-token-of-shop", club: "the-demo-token-of-club"}
	aesKeys = map[string]string{
		shop: "TheDemoKeyOfShopTheDemoKeyOfShopTheDemoKeyA",
		club: "TheDemoKeyOfClubTheDemoKeyOfClubTheDemoKeyA",
	}
)

// welcome is what club answers to who follows it: a passive reply, in the answer to WeChat's callback.
const welcome = "欢迎关注！"

// The limits of the demo's accounts, the same in the configuration and in the simulator: the demo wants to be over
// within the minute and yet to meet them.
const (
	noticesPerDay     = 150
	templatePerSecond = 4000
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
func configuration(redisURL, dbURL, simURL, listen string) []byte {
	return fmt.Appendf(nil, `# The demo's configuration. It is removed when the demo ends.
redis: {url: %q}
postgres: {url: %q}
server: {listen: %s}
worker: {name: demo, senders: 256} # of which one account has half
log: {level: warn}
accounts:
  - name: %s
    appid: %s
    secret: %s
    type: service
    base_url: %s
    callback: {token: %s, aes_key: %s}
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
    callback:
      token: %s
      aes_key: %s
      replies: [{event: follow, text: %q}]
    limits:
      custom: {per_day: 500000, per_second: %d}
    policy: {retry_after: [500ms, 1s, 2s, 4s]}
`, redisURL, dbURL, listen,
		shop, appIDs[shop], secrets[shop], simURL, tokens[shop], aesKeys[shop], templatePerSecond, noticesPerDay, otherPerSecond, otherPerSecond,
		club, appIDs[club], secrets[club], simURL, tokens[club], aesKeys[club], welcome, otherPerSecond)
}

// callbackOf is what the simulator pushes to: the demo's own server, where everything arrives at once and well until
// the bulk begins. A server that a slow machine keeps from writing within a second answers 500: there are more tries
// than WeChat's three, lest the check take slowness for a difference.
func callbackOf(account, serverURL string) *wechattest.Callback {
	return &wechattest.Callback{
		URL: serverURL + "/wechat/" + account, Token: tokens[account], AESKey: aesKeys[account], Gap: time.Second, Tries: 10,
		Actions: wechattest.Fortune{Delay: wechattest.Latency{Min: 5 * time.Millisecond, Max: 50 * time.Millisecond}},
	}
}

// badDays are what happens to receipts from the bulk on.
var badDays = wechattest.Receipts{
	Fortune: wechattest.Fortune{
		Delay: wechattest.Latency{Min: 50 * time.Millisecond, Max: 2 * time.Second}, Lost: 0.02, Twice: 0.03, Reorder: 0.1,
	},
	Early: 0.1, NoMsgID: 0.02,
}

// accountSettings are the accounts as the simulator has them.
func accountSettings(e *examples, serverURL string) []wechattest.Settings {
	return []wechattest.Settings{
		{
			AppID: appIDs[shop], Secret: secrets[shop], Type: wechattest.Service, AnyMedia: true,
			Templates: e.templates(), MiniPrograms: e.miniPrograms(), Tags: e.tags(shop),
			Limits: map[string]wechattest.Limit{wechattest.PathSubscribe: {PerDay: noticesPerDay}},
			Mass:   wechattest.MassRules{PerUserMonth: massUserPerMonth}, Callback: callbackOf(shop, serverURL),
		},
		{
			AppID: appIDs[club], Secret: secrets[club], Type: wechattest.Subscription, AnyMedia: true,
			MiniPrograms: e.miniPrograms(), Tags: e.tags(club),
			Mass: wechattest.MassRules{PerDay: massClubPerDay}, Callback: callbackOf(club, serverURL),
		},
	}
}

// playTime is how long the whole may take before something is plainly wrong.
const playTime = 5 * time.Minute
