package main

import (
	"context"
	"strings"
	"time"

	"github.com/hongyan-dispatch/hongyan/internal/devstack"
)

// What the lines of a bad network do to each piece that they carry. A call to WeChat is two pieces.
var (
	toStores = devstack.Weather{Jitter: 300 * time.Millisecond, Resets: 0.003}
	toWeChat = devstack.Weather{Jitter: 300 * time.Millisecond, Resets: 0.015}
)

// badNetwork lets the workers reach everything over lines that are late and tear, until the producer has done its work.
func badNetwork(ctx context.Context, r *rig) error {
	var lines []*devstack.Link
	defer func() {
		for _, l := range lines {
			_ = l.Close()
		}
	}()
	via := func(address string) (string, error) {
		l, err := devstack.OpenLink(address)
		if err != nil {
			return "", err
		}
		lines = append(lines, l)
		return l.Addr(), nil
	}
	stores := map[string]string{"HONGYAN_REDIS_URL": r.stack.RedisURL(), "HONGYAN_DATABASE_URL": r.stack.DatabaseURL()}
	for variable, address := range map[string]string{"HONGYAN_REDIS_URL": r.stack.Redis().Addr(), "HONGYAN_DATABASE_URL": r.stack.Postgres().Addr()} {
		line, err := via(address)
		if err != nil {
			return err
		}
		r.crew.env = append(r.crew.env, variable+"="+strings.Replace(stores[variable], address, line, 1))
	}
	wechat, err := via(r.front.addr)
	if err != nil {
		return err
	}
	r.front.via = wechat
	if err := r.crew.hire(ctx, badNetworkWorkers); err != nil {
		return err
	}
	mended := r.broke("resets and jitter on all lines", "")
	for i, l := range lines {
		l.Set(toStores)
		if i == len(lines)-1 {
			l.Set(toWeChat)
		}
	}
	for r.producing() {
		if err := pause(ctx, 100*time.Millisecond); err != nil {
			return err
		}
	}
	torn := 0
	for _, l := range lines {
		l.Set(devstack.Weather{})
		torn += l.Torn()
	}
	r.figure("connections torn", torn)
	if err := pause(ctx, 15*time.Second); err != nil { // a call whose answer was lost ends within its time
		return err
	}
	mended()
	return r.settle(ctx) // over the lines, which close behind it
}

const badNetworkWorkers = 3

// linesTore: else the network was a good one.
func linesTore(_ context.Context, r *rig) []string {
	if torn, _ := r.figures["connections torn"].(int); torn == 0 {
		return []string{"no connection was torn: the scenario tests nothing"}
	}
	return nil
}
