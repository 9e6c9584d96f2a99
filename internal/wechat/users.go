package wechat

import (
	"context"
	"fmt"
	"net/http"
	"net/url"

	"github.com/hongyan-dispatch/hongyan/message"
)

// A UserPage is a part of a list of users: at most 10,000.
type UserPage struct {
	Users []message.OpenID
	Next  message.OpenID // behind whom the next page begins; empty: this is the last
}

// UsersOf lists the users of a tag, or, of tag 0, the followers.
func (c *Client) UsersOf(ctx context.Context, tok Token, tag int, after message.OpenID) (UserPage, error) {
	if tag == 0 {
		return c.Followers(ctx, tok, after)
	}
	return c.TagUsers(ctx, tok, tag, after)
}

type userList struct {
	Count integer `json:"count"`
	Data  struct {
		Users []message.OpenID `json:"openid"`
	} `json:"data"` // absent where there are none
	Next message.OpenID `json:"next_openid"`
}

func (l userList) page() UserPage {
	if l.Count == 0 {
		return UserPage{}
	}
	return UserPage{l.Data.Users, l.Next}
}

// Followers lists the account's followers, behind one of them; empty: from the first. 500 calls a day.
//
// WeChat: /doc/service/api/usermanage/userinfo/ (获取用户列表, user/get).
func (c *Client) Followers(ctx context.Context, tok Token, after message.OpenID) (UserPage, error) {
	if tok.Value.IsZero() {
		return UserPage{}, fmt.Errorf("%s: %w", PathUsers, errNoToken)
	}
	call := Call{Method: http.MethodGet, Path: PathUsers, Token: tok.Value}
	if after != "" {
		call.Query = NewSecret(url.Values{"next_openid": {string(after)}}.Encode())
	}
	var out userList
	_, err := c.call(ctx, call, &out)
	return out.page(), err
}

// TagUsers lists the followers who have a tag, behind one of them; empty: from the first.
//
// WeChat: /doc/service/api/usermanage/tags/ (获取标签下粉丝列表, user/tag/get).
func (c *Client) TagUsers(ctx context.Context, tok Token, tag int, after message.OpenID) (UserPage, error) {
	var out userList
	err := c.post(ctx, tok, PathTagUsers, struct {
		Tag   int            `json:"tagid"`
		After message.OpenID `json:"next_openid"`
	}{tag, after}, &out)
	return out.page(), err
}
