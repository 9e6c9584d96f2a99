package app

import (
	"context"
	"log/slog"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/hongyan-dispatch/hongyan/internal/config"
	"github.com/hongyan-dispatch/hongyan/internal/token"
	"github.com/hongyan-dispatch/hongyan/internal/wechat"
	"github.com/hongyan-dispatch/hongyan/message"
)

func newTokens(rdb redis.UniversalClient, pod string, all accounts, log *slog.Logger) *token.Source {
	o := token.Options{Pod: pod, Log: log}
	for name, a := range all {
		if name != a.Name {
			continue
		}
		forced := a.Token.ForcedPerDay
		if forced == 0 {
			forced = -1 // the configuration says none; to the source 0 is its default
		}
		o.Accounts = append(o.Accounts, token.Account{
			AppID: message.AppID(a.AppID), Secret: secretOf(a.Account), WeChat: a.client,
			Legacy: a.Token.Mode == "legacy", RefreshMargin: a.Token.RefreshMargin,
			ForcedPerDay: forced, ForcedGap: a.Token.ForcedGap,
		})
	}
	return token.New(rdb, o)
}

func secretOf(a config.Account) wechat.Secret { return wechat.NewSecret(a.Secret.Reveal()) }

// granted is a token that was fetched past the shared one, with WeChat's clock.
type granted struct {
	wechat.Token
	Date time.Time
}

// fetchToken asks WeChat for the account's token: the one that is in use already, unless the account is in legacy
// mode, where each call makes a new one and the old works for five minutes more.
func fetchToken(ctx context.Context, c *wechat.Client, a config.Account) (granted, error) {
	asked := time.Now()
	var g wechat.Grant
	var err error
	if a.Token.Mode == "legacy" {
		g, err = c.LegacyToken(ctx, message.AppID(a.AppID), secretOf(a))
	} else {
		g, err = c.StableToken(ctx, message.AppID(a.AppID), secretOf(a), false)
	}
	return granted{wechat.Token{Value: g.Token, ExpiresAt: asked.Add(g.ExpiresIn)}, g.Date}, err
}
