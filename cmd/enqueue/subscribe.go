package main

import (
	"context"
	"encoding/json"
	"time"

	"github.com/hongyan-dispatch/hongyan/message"
)

type subscribeCommand struct {
	envelope
	To          string       `help:"The user's openid." required:"" placeholder:"OPENID"`
	TemplateID  string       `help:"The template." placeholder:"ID"`
	Data        []pair       `help:"A keyword of the template; may be repeated." sep:"none" placeholder:"KEYWORD=VALUE"`
	Page        string       `help:"Where a tap leads: a URL." placeholder:"URL"`
	Miniprogram *miniprogram `help:"Where a tap leads, rather than to --page." placeholder:"APPID,PAGEPATH"`
	Body        string       `help:"WeChat's own JSON without touser, instead of the four flags above; - is standard input." placeholder:"FILE"`
}

func (*subscribeCommand) Help() string {
	return `Examples:

  enqueue subscribe --account shop --to oABC… --template-id appointment --data thing1=肩颈理疗 --data time2='2026-12-01 09:00'
  enqueue subscribe --account shop --to oABC… --body - <body.json`
}

// Run enqueues the message.
func (c *subscribeCommand) Run(ctx context.Context, s *session) error {
	body, err := c.content(s)
	if err != nil {
		return err
	}
	m, err := c.message(message.Subscribe, body, time.Now())
	if err != nil {
		return err
	}
	m.To = message.OpenID(c.To)
	return s.enqueue(ctx, m)
}

func (c *subscribeCommand) content(s *session) (json.RawMessage, error) {
	if c.Body != "" {
		if err := alone("--body", map[string]bool{
			"--template-id": c.TemplateID != "", "--data": c.Data != nil, "--page": c.Page != "", "--miniprogram": c.Miniprogram != nil,
		}); err != nil {
			return nil, err
		}
		return s.body(c.Body)
	}
	if err := templateFlags(c.TemplateID, c.Data); err != nil {
		return nil, err
	}
	return marshal(struct {
		TemplateID  string       `json:"template_id"`
		Page        string       `json:"page,omitempty"`
		Miniprogram *miniprogram `json:"miniprogram,omitempty"`
		Data        keywordList  `json:"data"`
	}{c.TemplateID, c.Page, c.Miniprogram, c.Data})
}
