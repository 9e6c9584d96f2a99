package main

import (
	"context"
	"fmt"
	"net"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/valyala/fasthttp"
)

// stub answers like WeChat where all is well, and counts. It is no simulator: it costs as little as an HTTP
// server can, so that what is measured is the sender.
type stub struct {
	latency  atomic.Int64 // ns
	accepted atomic.Int64
	arrived  chan []byte // bodies, if somebody listens
}

func (s *stub) serve(ctx context.Context, l net.Listener) error {
	server := &fasthttp.Server{
		Handler: s.handle, NoDefaultServerHeader: true, NoDefaultDate: true,
		ReadTimeout: time.Minute, IdleTimeout: time.Minute, CloseOnShutdown: true,
	}
	go func() {
		<-ctx.Done()
		_ = l.Close()
	}()
	if err := server.Serve(l); err != nil && ctx.Err() == nil {
		return fmt.Errorf("stub: %w", err)
	}
	return nil
}

func (s *stub) handle(c *fasthttp.RequestCtx) {
	switch string(c.Path()) {
	case "/cgi-bin/message/template/send":
		if d := s.latency.Load(); d > 0 {
			time.Sleep(time.Duration(d)) // WeChat at work
		}
		n := s.accepted.Add(1)
		if s.arrived != nil {
			s.arrived <- append([]byte(nil), c.PostBody()...)
		}
		c.SetContentType("application/json; encoding=utf-8")
		c.Response.AppendBodyString(`{"errcode":0,"errmsg":"ok","msgid":`)
		c.Response.AppendBody(strconv.AppendInt(nil, n, 10))
		c.Response.AppendBodyString(`}`)
	case "/cgi-bin/stable_token":
		c.SetBodyString(`{"access_token":"bench-token-0123456789","expires_in":7200}`)
	case "/cgi-bin/openapi/quota/get":
		c.SetBodyString(`{"errcode":0,"errmsg":"ok","quota":{"daily_limit":1000000000,"used":0,"remain":1000000000}}`)
	case "/stub": // the benchmark's own side door
		if v := c.QueryArgs().Peek("latency"); v != nil {
			d, _ := time.ParseDuration(string(v))
			s.latency.Store(int64(d))
			s.accepted.Store(0)
		}
		fmt.Fprint(c, s.accepted.Load())
	default:
		c.Error("no such API in the stub: "+string(c.Path()), fasthttp.StatusNotFound)
	}
}
