package main

import (
	"context"
	"encoding/json"
	"time"

	"github.com/hongyan-dispatch/hongyan/message"
)

type customCommand struct {
	envelope
	To        string `help:"The user's openid." required:"" placeholder:"OPENID"`
	Text      string `help:"A text." placeholder:"TEXT"`
	Image     string `help:"An image, by its media_id." placeholder:"MEDIA_ID"`
	Msgtype   string `help:"Any of WeChat's types; --body then holds the object of that type." placeholder:"TYPE"`
	Body      string `help:"WeChat's own JSON without touser; - is standard input." placeholder:"FILE"`
	KfAccount string `help:"In the name of this agent (客服账号)." placeholder:"NAME@ACCOUNT"`
	Fallback  string `help:"Message to send instead where the user may not be answered: the house's JSON without account and to." placeholder:"FILE"`
}

func (*customCommand) Help() string {
	return `WeChat takes these only for some time after the user acted: report that with enqueue event, or let Hongyan receive WeChat's callback.

Examples:

  enqueue custom --account shop --to oABC… --text 您的订单已发货
  enqueue custom --account shop --to oABC… --msgtype mpnewsarticle --body article.json
  enqueue custom --account shop --to oABC… --text 您的预约已确认 --fallback template.json`
}

// Run enqueues the message.
func (c *customCommand) Run(ctx context.Context, s *session) error {
	body, err := c.content(s)
	if err != nil {
		return err
	}
	m, err := c.message(message.Custom, body, time.Now())
	if err != nil {
		return err
	}
	m.To = message.OpenID(c.To)
	if m.Fallback, err = s.fallback(c.Fallback); err != nil {
		return err
	}
	return s.enqueue(ctx, m)
}

func (c *customCommand) content(s *session) (json.RawMessage, error) {
	typ, object, err := choice{
		text: c.Text, media: map[string]string{"image": c.Image}, msgtype: c.Msgtype, body: c.Body,
	}.content(s)
	if err != nil {
		return nil, err
	}
	if typ == "" {
		if c.KfAccount != "" {
			return nil, refuse("--kf-account and --body: give one of them; the body has customservice.kf_account")
		}
		return object, nil
	}
	body := map[string]any{"msgtype": typ, typ: object}
	if c.KfAccount != "" {
		body["customservice"] = map[string]string{"kf_account": c.KfAccount}
	}
	return marshal(body)
}
