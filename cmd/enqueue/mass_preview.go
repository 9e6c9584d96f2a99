package main

import (
	"context"
	"time"

	"github.com/hongyan-dispatch/hongyan/internal/wechat"
	"github.com/hongyan-dispatch/hongyan/message"
)

type massPreviewCommand struct {
	Account  string `help:"The account." placeholder:"NAME"`
	To       string `help:"The user's openid." placeholder:"OPENID"`
	WechatID string `help:"The user's WeChat id (微信号); 100 a day." placeholder:"ID"`
	massContent
}

func (*massPreviewCommand) Help() string {
	return `Sends at once, past the queue, to one user.

Example:

  enqueue mass preview --account club --wechat-id editor_in_chief --mpnews MEDIA_ID`
}

// Run shows the message to one user.
func (c *massPreviewCommand) Run(ctx context.Context, s *session) error {
	if (c.To == "") == (c.WechatID == "") {
		return refuse("want one of --to, --wechat-id")
	}
	if c.To != "" {
		if err := message.OpenID(c.To).Check(); err != nil {
			return refuse("--to: %w", err)
		}
	}
	fields, err := c.fields(s)
	if err != nil {
		return err
	}
	body, err := previewBody(fields)
	if err != nil {
		return err
	}
	caller, _, err := s.caller(c.Account)
	if err != nil {
		return err
	}
	defer caller.Close()
	var msgID int64
	err = caller.call(ctx, func(t wechat.Token) (err error) {
		msgID, err = caller.wechat.MassPreview(ctx, t, wechat.MassPreview{To: message.OpenID(c.To), WeChatID: c.WechatID}, body)
		return err
	})
	if err != nil {
		return err
	}
	return s.print(map[string]any{"account": caller.account.Name, "msg_id": msgID}, "shown to %s%s", c.To, c.WechatID)
}

// previewBody checks the content as that of a mass message, which wants recipients; the preview has its own.
func previewBody(fields map[string]any) ([]byte, error) {
	if fields["filter"] == nil {
		fields["filter"] = map[string]any{"is_to_all": true}
	}
	body, err := marshal(fields)
	if err != nil {
		return nil, err
	}
	m := message.Message{Account: "any", Kind: message.Mass, Body: body}
	m.Defaults(false)
	return m.Body, m.Validate(time.Now())
}
