package main

import (
	"context"

	"github.com/hongyan-dispatch/hongyan/internal/wechat"
)

type massSpeedCommand struct {
	Account string `help:"The account." placeholder:"NAME"`
	Set     *int   `help:"Level from 0 (800,000 a minute) to 4 (100,000 a minute)." placeholder:"LEVEL"`
}

func (*massSpeedCommand) Help() string {
	return `Levels: 0 is 800,000 a minute, 1 is 600,000, 2 is 450,000, 3 is 300,000, 4 is 100,000.

Examples:

  enqueue mass speed --account club
  enqueue mass speed --account club --set 3`
}

// Run prints the speed, after setting it if that was asked.
func (c *massSpeedCommand) Run(ctx context.Context, s *session) error {
	if c.Set != nil && (*c.Set < 0 || *c.Set > 4) {
		return refuse("--set: want a level from 0 to 4, got %d", *c.Set)
	}
	caller, _, err := s.caller(c.Account)
	if err != nil {
		return err
	}
	defer caller.Close()
	if c.Set != nil {
		if err := caller.call(ctx, func(t wechat.Token) error { return caller.wechat.SetMassSpeed(ctx, t, *c.Set) }); err != nil {
			return err
		}
	}
	var speed wechat.MassSpeed
	err = caller.call(ctx, func(t wechat.Token) (err error) {
		speed, err = caller.wechat.MassSpeed(ctx, t)
		return err
	})
	if err != nil {
		return err
	}
	return s.print(map[string]any{"account": caller.account.Name, "level": speed.Level, "realspeed": speed.Real},
		"%s: level %d, realspeed %d", caller.account.Name, speed.Level, speed.Real)
}
