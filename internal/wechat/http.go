package wechat

import (
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/http"
	"net/url"
	"os"
	"sync"
	"time"

	"github.com/hongyan-dispatch/hongyan/internal/fault"
)

// Times of the HTTP transport; idle connections die young because those on the way close them silently.
const (
	dialTimeout     = 5 * time.Second
	tlsTimeout      = 5 * time.Second
	keepAlive       = 15 * time.Second // between TCP's probes
	idleTimeout     = 30 * time.Second
	defaultMaxConns = 256
)

// An HTTPConfig shapes [NewHTTP]; its zero value is useful.
type HTTPConfig struct {
	MaxConns int         // per host, idle ones included; at least the senders of the process. Default 256
	TLS      *tls.Config // the system's roots by default
}

// HTTP is the [Transport] of production, made for many small calls: HTTP/1.1, keep-alive, no compression, no proxy.
// A call writes its request and reads its answer on its own goroutine, where net/http has two more for every
// connection (docs/adr/0010-our-own-http-client.md). What it does not know it takes for no answer, and a connection
// that is in any doubt it never uses again.
type HTTP struct {
	maxConns int
	idle     time.Duration // how long a connection may lie unused
	dialer   net.Dialer
	tls      *tls.Config

	mu    sync.Mutex
	hosts map[origin]*host
}

// origin is where a URL leads.
type origin struct{ scheme, host string }

// NewHTTP returns a transport, which several clients may share.
func NewHTTP(c HTTPConfig) *HTTP {
	settings := c.TLS.Clone()
	if settings == nil {
		settings = new(tls.Config)
	}
	settings.NextProtos = []string{"http/1.1"}
	return &HTTP{
		maxConns: cmp.Or(max(c.MaxConns, 0), defaultMaxConns),
		idle:     idleTimeout,
		dialer:   net.Dialer{Timeout: dialTimeout, KeepAlive: keepAlive},
		tls:      settings,
		hosts:    map[origin]*host{},
	}
}

// Close closes idle connections.
func (t *HTTP) Close() {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, h := range t.hosts {
		h.closeIdle(0)
	}
}

// Do implements [Transport].
func (t *HTTP) Do(ctx context.Context, c Call) (reply Reply, connected bool, err error) {
	if !fault.Has(fault.NoRedirects) {
		return c.asEverybody(ctx)
	}
	if err := ctx.Err(); err != nil {
		return Reply{}, false, err
	}
	ends := c.ends(ctx)
	h := t.host(c.Base)
	if err := h.enter(ctx, ends); err != nil {
		return Reply{}, false, err
	}
	defer h.leave()
	n, err := h.get(ctx, ends)
	if err != nil {
		return Reply{}, false, err
	}
	if n.out, err = c.head(n.out[:0]); err != nil {
		h.put(n)
		return Reply{}, false, err
	}

	untouched := func() bool { return true }
	if ctx.Done() != nil {
		untouched = context.AfterFunc(ctx, func() { _ = n.SetDeadline(past) })
	}
	reply, again, err := n.exchange(c)
	again = untouched() && again
	switch {
	case err != nil:
		_ = n.Close()
		if errors.Is(err, os.ErrDeadlineExceeded) {
			err = cmp.Or(ctx.Err(), context.DeadlineExceeded)
		}
		return Reply{}, true, err
	case again:
		h.put(n)
	default:
		_ = n.Close()
	}
	return reply, true, nil
}

// ends is when the call must have ended; zero: never.
func (c Call) ends(ctx context.Context) time.Time {
	at, bounded := ctx.Deadline()
	if c.Timeout > 0 {
		if own := time.Now().Add(c.Timeout); !bounded || own.Before(at) {
			return own
		}
	}
	return at
}

// asEverybody is what the fault suite finds out: the client that everybody has, which goes where an answer sends it.
func (c Call) asEverybody(ctx context.Context) (Reply, bool, error) {
	u := *c.Base
	u.Path += c.Path
	u.RawQuery = c.query()
	req, err := http.NewRequestWithContext(ctx, c.Method, u.String(), bytes.NewReader(bytes.Clone(c.Body))) // of which net/http may read on when it has returned
	if err != nil {
		return Reply{}, false, err
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return Reply{}, true, err
	}
	defer func() { _ = res.Body.Close() }()
	reply, err := readAnswer(res)
	return reply, true, err
}

func (t *HTTP) host(u *url.URL) *host {
	key := origin{u.Scheme, u.Host}
	t.mu.Lock()
	defer t.mu.Unlock()
	h := t.hosts[key]
	if h == nil {
		h = newHost(t, u)
		t.hosts[key] = h
	}
	return h
}
