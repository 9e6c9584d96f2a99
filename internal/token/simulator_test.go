package token

import (
	"errors"
	"fmt"
	"net/http/httptest"
	"sync/atomic"
	"testing"

	"github.com/hongyan-dispatch/hongyan/internal/devstack"
	"github.com/hongyan-dispatch/hongyan/internal/wechat"
	"github.com/hongyan-dispatch/hongyan/internal/wechattest"
)

// simulated returns three pods over the simulator, and the client that they send with.
func simulated(t *testing.T) (bundle, *wechattest.Account, *wechat.Client) {
	t.Helper()
	sim := wechattest.New(wechattest.Options{})
	t.Cleanup(sim.Close)
	account := sim.MustAddAccount(wechattest.Settings{
		AppID: string(app), Secret: secret, Type: wechattest.Service, AnyOpenID: true, AnyWindow: true,
	})
	server := httptest.NewServer(sim)
	t.Cleanup(server.Close)
	transport := wechat.NewHTTP(wechat.HTTPConfig{})
	t.Cleanup(transport.Close)
	client := wechat.New(wechat.Config{BaseURL: server.URL, Transport: transport})
	b := bundle{url: devstack.Redis(t)}
	b.rdb = connect(t, b.url)
	for i := range 3 {
		b.pods = append(b.pods, newSource(connect(t, b.url), Options{
			Pod:      fmt.Sprint("pod-", i),
			Accounts: []Account{{AppID: app, Secret: wechat.NewSecret(secret), WeChat: client}},
		}, quick()))
	}
	return b, account, client
}

// send sends one message as the pipeline does: a refused token is refreshed once, and the message
// repeated once.
func send(t *testing.T, s *Source, client *wechat.Client) error {
	tok, err := s.Token(t.Context(), app)
	for range 2 {
		if err != nil {
			return err
		}
		r := client.SendCustom(t.Context(), tok, "oABCDEFGHIJKLMNOPQRSTUVWXYZ1", []byte(`{"msgtype":"text","text":{"content":"x"}}`))
		if r.Class == wechat.Sent {
			return nil
		}
		if e := r.Error(); e == nil || !e.TokenRefused() {
			return r.Err
		}
		tok, err = s.Refresh(t.Context(), app, tok)
	}
	return errors.New("the new token was refused too")
}

func TestSendersUnderTokenTrouble(t *testing.T) {
	for _, c := range []struct {
		name         string
		trouble      func(*wechattest.Account)
		made, forced int64
	}{
		{"tokens that end", (*wechattest.Account).ExpireTokens, 2, 0},
		{"a stranger who takes the token away", (*wechattest.Account).KickTokens, 2, 0}, // the second is the stranger's
		{"a token that is dead and given out all the same", (*wechattest.Account).BreakToken, 2, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			b, account, client := simulated(t)
			var sent atomic.Int64
			for _, err := range b.each(8, func(s *Source) error {
				for range 20 {
					if err := send(t, s, client); err != nil {
						return err
					}
					if sent.Add(1) == 200 {
						c.trouble(account)
					}
				}
				return nil
			}) {
				t.Error(err)
			}
			if made, forced := account.TokenCounts(); made != c.made || forced != c.forced {
				t.Errorf("%d tokens were made, %d by force; want %d and %d", made, forced, c.made, c.forced)
			}
			if calls := account.Calls(wechat.PathStableToken); calls.Arrived > 3 {
				t.Errorf("%d token calls", calls.Arrived)
			}
		})
	}
}
