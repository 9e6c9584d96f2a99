package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/hongyan-dispatch/hongyan/client"
	"github.com/hongyan-dispatch/hongyan/internal/lines"
	"github.com/hongyan-dispatch/hongyan/message"
)

type eventCommand struct{ fileFlags }

func (*eventCommand) Help() string {
	return `For producers that receive WeChat's callback themselves. Each line is such as

  {"account":"shop","openid":"oABC…","type":"message","at":"2026-12-01T09:00:00+08:00"}

The type is message, menu, follow, scan, pay or unsubscribe; at is WeChat's CreateTime. Events may be reported in any order and more than once.

Example:

  enqueue event - <events.jsonl`
}

const (
	eventWorkers = 16 // each waits for the stores
	eventBytes   = 4 << 10
)

// Run reports the file's events.
func (c *eventCommand) Run(ctx context.Context, s *session) error {
	return c.stream(ctx, s, eventBytes, eventWorkers, reportEvents)
}

// reportEvents reports the lines of a slab.
func reportEvents(ctx context.Context, c *client.Client, b *lines.Slab) []verdict {
	verdicts := make([]verdict, len(b.Lines))
	for i, l := range b.Lines {
		if l.TooLong {
			verdicts[i].err = refuse("longer than %d KiB", eventBytes>>10)
			continue
		}
		e, err := client.ParseEvent(b.At(l))
		if err == nil {
			err = c.Event(ctx, e)
		}
		if _, invalid := errors.AsType[message.Invalid](err); err != nil && !invalid {
			for rest := i; rest < len(verdicts); rest++ { // the store is away, and would be for each of them
				verdicts[rest].err = fmt.Errorf("%w: %w", errStore, err)
			}
			return verdicts
		}
		verdicts[i].err = err
	}
	return verdicts
}
