package main

import (
	"context"
	"encoding/json"
	"time"

	"github.com/hongyan-dispatch/hongyan/message"
)

type templateCommand struct {
	envelope
	To          string       `help:"The user's openid." required:"" placeholder:"OPENID"`
	TemplateID  string       `help:"The template." placeholder:"ID"`
	Data        []pair       `help:"A keyword of the template; may be repeated." sep:"none" placeholder:"KEYWORD=VALUE"`
	URL         string       `help:"Where a tap leads." placeholder:"URL"`
	Miniprogram *miniprogram `help:"Where a tap leads, rather than to --url." placeholder:"APPID,PAGEPATH"`
	Body        string       `help:"WeChat's own JSON without touser, instead of the four flags above; - is standard input." placeholder:"FILE"`
}

func (*templateCommand) Help() string {
	return `Examples:

  enqueue template --account shop --to oABC… --template-id order_paid --data thing2=咖啡 --data amount3=￥3 --key order-1001-paid
  enqueue template --account shop --to oABC… --body body.json --lane urgent --expires-at +2h`
}

// Run enqueues the message.
func (c *templateCommand) Run(ctx context.Context, s *session) error {
	body, err := c.content(s)
	if err != nil {
		return err
	}
	m, err := c.message(message.Template, body, time.Now())
	if err != nil {
		return err
	}
	m.To = message.OpenID(c.To)
	return s.enqueue(ctx, m)
}

func (c *templateCommand) content(s *session) (json.RawMessage, error) {
	if c.Body != "" {
		if err := alone("--body", map[string]bool{
			"--template-id": c.TemplateID != "", "--data": c.Data != nil, "--url": c.URL != "", "--miniprogram": c.Miniprogram != nil,
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
		URL         string       `json:"url,omitempty"`
		Miniprogram *miniprogram `json:"miniprogram,omitempty"`
		Data        keywordList  `json:"data"`
	}{c.TemplateID, c.URL, c.Miniprogram, c.Data})
}

// templateFlags checks what a template cannot do without.
func templateFlags(id string, data []pair) error {
	switch {
	case id == "":
		return refuse("--template-id: required, or --body FILE with WeChat's own JSON")
	case len(data) == 0:
		return refuse("--data: required: --data thing1=咖啡 for each keyword of the template")
	}
	return twice("--data", data)
}
