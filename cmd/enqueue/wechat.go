package main

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/redis/go-redis/v9"

	"github.com/hongyan-dispatch/hongyan/internal/config"
	"github.com/hongyan-dispatch/hongyan/internal/tasks"
	"github.com/hongyan-dispatch/hongyan/internal/token"
	"github.com/hongyan-dispatch/hongyan/internal/wechat"
	"github.com/hongyan-dispatch/hongyan/message"
)

// A caller calls WeChat for one account, with the token that all of Hongyan shares.
type caller struct {
	account *config.Account
	wechat  *wechat.Client
	tokens  *token.Source
	rdb     redis.UniversalClient
}

// caller opens what it takes to call WeChat for the account that is named, or the only one. Close it when done.
func (s *session) caller(name string) (*caller, *config.Config, error) {
	cfg, err := s.load(config.NeedRedis, config.NeedAccounts)
	if err != nil {
		return nil, nil, err
	}
	a, err := account(cfg, name)
	if err != nil {
		return nil, nil, err
	}
	rdb, err := tasks.Redis(cfg.Redis.URL.Reveal())
	if err != nil {
		return nil, nil, refuse("%w", err)
	}
	return newCaller(a, rdb), cfg, nil
}

func newCaller(a *config.Account, rdb redis.UniversalClient) *caller {
	c := &caller{account: a, rdb: rdb, wechat: wechat.New(wechat.Config{BaseURL: a.BaseURL})}
	host, _ := os.Hostname()
	c.tokens = token.New(rdb, token.Options{
		Pod: fmt.Sprintf("enqueue@%s/%d", host, os.Getpid()),
		Accounts: []token.Account{{
			AppID: message.AppID(a.AppID), Secret: wechat.NewSecret(a.Secret.Reveal()), WeChat: c.wechat,
			Legacy: a.Token.Mode == "legacy", RefreshMargin: a.Token.RefreshMargin,
			ForcedPerDay: a.Token.ForcedPerDay, ForcedGap: a.Token.ForcedGap,
		}},
	})
	return c
}

func (c *caller) Close() { _ = c.rdb.Close() }

// call makes one call with the token; where WeChat refuses the token, once more with a new one.
func (c *caller) call(ctx context.Context, f func(wechat.Token) error) error {
	app := message.AppID(c.account.AppID)
	t, err := c.tokens.Token(ctx, app)
	if err != nil {
		return fmt.Errorf("account %s: access token: %w", c.account.Name, err)
	}
	err = f(t)
	if refused, ok := errors.AsType[*wechat.Error](err); ok && refused.TokenRefused() {
		if t, err = c.tokens.Refresh(ctx, app, t); err != nil {
			return fmt.Errorf("account %s: access token: %w", c.account.Name, err)
		}
		err = f(t)
	}
	if err != nil {
		return fmt.Errorf("account %s: %w", c.account.Name, err)
	}
	return nil
}
