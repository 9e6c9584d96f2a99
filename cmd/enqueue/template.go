package main

import (
	"context"
	"encoding/json"
	"time"

	"github.com/hongyan-dispatch/hongyan/message"
)

// templated are the flags of what is made from a template: template messages and subscription notices.
type templated struct {
	envelope
	To          string       `help:"The user's openid." required:"" placeholder:"OPENID"`
	TemplateID  string       `help:"The template." placeholder:"ID"`
	Data        []pair       `help:"A keyword of the template; may be repeated." sep:"none" placeholder:"KEYWORD=VALUE"`
	Miniprogram *miniprogram `help:"Where a tap leads, rather than to a page of the web." placeholder:"APPID,PAGEPATH"`
	Body        string       `help:"WeChat's own JSON without touser, instead of the flags for content; - is standard input." placeholder:"FILE"`
}

// A templateBody is WeChat's JSON for both calls, which name the page differently.
type templateBody struct {
	TemplateID  string       `json:"template_id"`
	URL         string       `json:"url,omitempty"`
	Page        string       `json:"page,omitempty"`
	Miniprogram *miniprogram `json:"miniprogram,omitempty"`
	Data        keywordList  `json:"data"`
}

type templateCommand struct {
	templated
	URL string `help:"Where a tap leads." placeholder:"URL"`
}

func (*templateCommand) Help() string {
	return `Examples:

  enqueue template --account shop --to oABC… --template-id order_paid --data thing2=咖啡 --data amount3=￥3 --key order-1001-paid
  enqueue template --account shop --to oABC… --body body.json --lane urgent --expires-at +2h`
}

// Run enqueues the message.
func (c *templateCommand) Run(ctx context.Context, s *session) error {
	return c.enqueue(ctx, s, message.Template, "--url", templateBody{URL: c.URL})
}

// enqueue enqueues the message; body has the page already, which the flag gave.
func (c *templated) enqueue(ctx context.Context, s *session, kind message.Kind, pageFlag string, body templateBody) error {
	content, err := c.content(s, pageFlag, body)
	if err != nil {
		return err
	}
	m, err := c.message(kind, content, time.Now())
	if err != nil {
		return err
	}
	m.To = message.OpenID(c.To)
	return s.enqueue(ctx, m)
}

func (c *templated) content(s *session, pageFlag string, body templateBody) (json.RawMessage, error) {
	if c.Body != "" {
		if err := alone("--body", map[string]bool{
			"--template-id": c.TemplateID != "", "--data": c.Data != nil, pageFlag: body.URL+body.Page != "", "--miniprogram": c.Miniprogram != nil,
		}); err != nil {
			return nil, err
		}
		return s.body(c.Body)
	}
	switch {
	case c.TemplateID == "":
		return nil, refuse("--template-id: required, or --body FILE with WeChat's own JSON")
	case len(c.Data) == 0:
		return nil, refuse("--data: required: --data thing1=咖啡 for each keyword of the template")
	}
	if err := twice("--data", c.Data); err != nil {
		return nil, err
	}
	body.TemplateID, body.Miniprogram, body.Data = c.TemplateID, c.Miniprogram, c.Data
	return marshal(body)
}
