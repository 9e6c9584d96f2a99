package wechat

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"time"

	"github.com/hongyan-dispatch/hongyan/message"
)

// A Quota is what WeChat says of one API of an account, exact to about 1 %.
type Quota struct {
	DailyLimit, Used, Remain int64
	Rate                     RateLimit // zero if WeChat gives none
}

// A RateLimit is so many calls in so long.
type RateLimit struct {
	Calls int64
	Per   time.Duration
}

// QuotaGet asks for the quota of an API, given by its path such as [PathCustom]. It also is the
// cheapest call that shows whether an account works.
//
// WeChat: /doc/service/api/apimanage/ (查询API调用额度).
func (c *Client) QuotaGet(ctx context.Context, tok Token, api string) (Quota, error) {
	var out struct {
		Quota struct {
			DailyLimit integer `json:"daily_limit"`
			Used       integer `json:"used"`
			Remain     integer `json:"remain"`
		} `json:"quota"`
		Rate struct {
			Calls   integer `json:"call_count"`
			Seconds integer `json:"refresh_second"`
		} `json:"rate_limit"`
	}
	if err := c.post(ctx, tok, PathQuotaGet, map[string]string{"cgi_path": api}, &out); err != nil {
		return Quota{}, err
	}
	return Quota{
		DailyLimit: int64(out.Quota.DailyLimit), Used: int64(out.Quota.Used), Remain: int64(out.Quota.Remain),
		Rate: RateLimit{Calls: int64(out.Rate.Calls), Per: time.Duration(out.Rate.Seconds) * time.Second},
	}, nil
}

// A PrivateTemplate is one of the at most 25 templates that an account has in use.
type PrivateTemplate struct {
	ID              string `json:"template_id"`
	Title           string `json:"title"`
	PrimaryIndustry string `json:"primary_industry"`
	DeputyIndustry  string `json:"deputy_industry"`
	Content         string `json:"content"` // with its keywords as {{thing1.DATA}}
	Example         string `json:"example"`
}

// Templates lists the account's templates.
//
// WeChat: /doc/service/api/notify/template/ (获取所有模板, get_all_private_template).
func (c *Client) Templates(ctx context.Context, tok Token) ([]PrivateTemplate, error) {
	if tok.Value.IsZero() {
		return nil, fmt.Errorf("%s: %w", PathTemplates, errNoToken)
	}
	var out struct {
		List []PrivateTemplate `json:"template_list"`
	}
	_, err := c.call(ctx, Call{Method: http.MethodGet, Path: PathTemplates, Token: tok.Value}, &out)
	return out.List, err
}

// A Grant is an access token fresh from WeChat.
type Grant struct {
	Token     Secret
	ExpiresIn time.Duration // counted from some moment of the call: take its start
	Date      time.Time     // WeChat's clock, zero if not given
}

// StableToken asks for the account's token. In normal mode repeated calls return the same token until
// 5 minutes before its end, when a new one comes and both work. With force the old one dies at once:
// 20 times a day, at least 30 s apart.
//
// WeChat: /doc/service/api/base/api_getstableaccesstoken.
func (c *Client) StableToken(ctx context.Context, app message.AppID, secret Secret, force bool) (Grant, error) {
	body, err := encode(struct {
		GrantType string `json:"grant_type"`
		AppID     string `json:"appid"`
		Secret    string `json:"secret"`
		Force     bool   `json:"force_refresh"`
	}{"client_credential", string(app), secret.Reveal(), force})
	if err != nil {
		return Grant{}, fmt.Errorf("%s: %w", PathStableToken, err)
	}
	return c.grant(ctx, Call{Method: http.MethodPost, Path: PathStableToken, Hide: secret, Body: body})
}

// LegacyToken asks for a new token; every call replaces the last one, which works for 5 minutes more.
// 2000 times a day. The appsecret travels in the query: prefer [Client.StableToken].
//
// WeChat: /doc/service/api/base/api_getaccesstoken.
func (c *Client) LegacyToken(ctx context.Context, app message.AppID, secret Secret) (Grant, error) {
	query := url.Values{"grant_type": {"client_credential"}, "appid": {string(app)}, "secret": {secret.Reveal()}}
	return c.grant(ctx, Call{Method: http.MethodGet, Path: PathToken, Hide: secret, Query: NewSecret(query.Encode())})
}

func (c *Client) grant(ctx context.Context, call Call) (Grant, error) {
	var out struct {
		Token   string  `json:"access_token"`
		Seconds integer `json:"expires_in"`
	}
	reply, err := c.call(ctx, call, &out)
	if err != nil {
		return Grant{}, err
	}
	if out.Token == "" || out.Seconds <= 0 {
		call.Base = c.base
		return Grant{}, replyError(call, reply, errNoAnswer)
	}
	return Grant{NewSecret(out.Token), time.Duration(out.Seconds) * time.Second, reply.Date}, nil
}
