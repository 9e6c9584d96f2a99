package main

import (
	"context"

	"github.com/hongyan-dispatch/hongyan/message"
)

type subscribeCommand struct {
	templated
	Page string `help:"Where a tap leads: a URL." placeholder:"URL"`
}

func (*subscribeCommand) Help() string {
	return `Examples:

  enqueue subscribe --account shop --to oABC… --template-id appointment --data thing1=肩颈理疗 --data time2='2026-12-01 09:00'
  enqueue subscribe --account shop --to oABC… --body - <body.json`
}

// Run enqueues the message.
func (c *subscribeCommand) Run(ctx context.Context, s *session) error {
	return c.enqueue(ctx, s, message.Subscribe, "--page", templateBody{Page: c.Page})
}
