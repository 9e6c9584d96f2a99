package app

import (
	"testing"

	"github.com/hongyan-dispatch/hongyan/internal/config"
	"github.com/hongyan-dispatch/hongyan/internal/ratelimit"
	"github.com/hongyan-dispatch/hongyan/internal/wechat"
	"github.com/hongyan-dispatch/hongyan/message"
)

func TestTheLowerOfTwoDayLimitsBinds(t *testing.T) {
	a := config.DefaultAccount(config.ServiceAccount)
	a.Name, a.AppID = "shop", "wx0000000000000001"
	a.Limits.Template.PerDay = 1000
	all := newAccounts(&config.Config{Accounts: []config.Account{a}})
	k := ratelimit.Key{App: message.AppID(a.AppID), API: wechat.PathOf(message.Template)}
	for _, c := range []struct {
		claim        string
		wechat, want int64
	}{
		{"an operator's own, where WeChat allows more", 100_000, 1000},
		{"WeChat's, where it allows less", 400, 400},
	} {
		if got := all.dayLimit(k, wechat.Quota{DailyLimit: c.wechat}); got != c.want {
			t.Errorf("%s: got %d, want %d", c.claim, got, c.want)
		}
	}
}
