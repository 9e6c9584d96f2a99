package wechat

import (
	"bufio"
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"sync"
	"syscall"
	"time"

	"github.com/hongyan-dispatch/hongyan/internal/fault"
)

// host is where calls go, and the connections that lead there.
type host struct {
	t       *HTTP
	secure  bool
	address string        // with port
	name    string        // for its certificate
	slots   chan struct{} // one for each connection there may be

	mu   sync.Mutex
	idle []*conn // the one used last comes last, and is used first
	reap *time.Timer
}

// conn is a connection, of one call at a time.
type conn struct {
	net.Conn
	socket syscall.RawConn
	look   func(fd uintptr) (done bool)
	quiet  bool // what look saw: open, and nothing to read
	secure bool
	since  time.Time
	in     *bufio.Reader
	left   io.LimitedReader // of Conn: what the answer may still take
	out    []byte
}

func newHost(t *HTTP, u *url.URL) *host {
	h := &host{t: t, secure: u.Scheme == "https", name: u.Hostname(), slots: make(chan struct{}, t.maxConns)}
	port := "80"
	if h.secure {
		port = "443"
	}
	h.address = net.JoinHostPort(h.name, cmp.Or(u.Port(), port))
	h.reap = time.AfterFunc(t.idle, func() { h.closeIdle(t.idle) })
	return h
}

// enter waits for the right to have a connection.
func (h *host) enter(ctx context.Context, ends time.Time) error {
	select {
	case h.slots <- struct{}{}:
		return nil
	default:
	}
	ctx, cancel := until(ctx, ends)
	defer cancel()
	select {
	case h.slots <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func until(ctx context.Context, ends time.Time) (context.Context, context.CancelFunc) {
	if ends.IsZero() {
		return context.WithCancel(ctx)
	}
	return context.WithDeadline(ctx, ends)
}

func (h *host) leave() { <-h.slots }

// get returns an idle connection that the other side has not closed, or a new one, whose deadline is set.
func (h *host) get(ctx context.Context, ends time.Time) (*conn, error) {
	for {
		now := time.Now()
		if !ends.IsZero() && !now.Before(ends) {
			return nil, context.DeadlineExceeded
		}
		n := h.last()
		if n == nil {
			return h.dial(ctx, ends)
		}
		if now.Sub(n.since) < h.t.idle && n.isQuiet(ends) {
			return n, nil
		}
		_ = n.Close()
	}
}

func (h *host) last() *conn {
	h.mu.Lock()
	defer h.mu.Unlock()
	i := len(h.idle) - 1
	if i < 0 {
		return nil
	}
	n := h.idle[i]
	h.idle[i], h.idle = nil, h.idle[:i]
	return n
}

func (h *host) put(n *conn) {
	n.since = time.Now()
	if cap(n.out) > keptBytes {
		n.out = nil
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.idle = append(h.idle, n)
	if len(h.idle) == 1 {
		h.reap.Reset(h.t.idle)
	}
}

// closeIdle closes what nobody has used for so long, after it has let go of the lock: TLS says goodbye over the wire.
func (h *host) closeIdle(age time.Duration) {
	for _, n := range h.old(age) {
		_ = n.Close()
	}
}

// old takes out what nobody has used for so long, and sets the next look at the rest.
func (h *host) old(age time.Duration) []*conn {
	h.mu.Lock()
	defer h.mu.Unlock()
	n := 0
	for n < len(h.idle) && time.Since(h.idle[n].since) >= age {
		n++
	}
	old := h.idle[:n]
	h.idle = append([]*conn(nil), h.idle[n:]...)
	if len(h.idle) > 0 {
		h.reap.Reset(age - time.Since(h.idle[0].since))
	}
	return old
}

func (h *host) dial(ctx context.Context, ends time.Time) (*conn, error) {
	ctx, cancel := until(ctx, ends)
	defer cancel()
	socket, err := h.t.dialer.DialContext(ctx, "tcp", h.address)
	if err != nil {
		return nil, err
	}
	n, err := h.newConn(ctx, socket, ends)
	if err != nil {
		_ = socket.Close()
	}
	return n, err
}

func (h *host) newConn(ctx context.Context, socket net.Conn, ends time.Time) (n *conn, err error) {
	n = &conn{Conn: socket, secure: h.secure}
	n.look = func(fd uintptr) bool { n.quiet = quiet(fd); return true }
	if n.socket, err = socket.(syscall.Conn).SyscallConn(); err != nil {
		return nil, err
	}
	if err := n.SetDeadline(ends); err != nil {
		return nil, err
	}
	if h.secure {
		settings := h.t.tls.Clone()
		settings.ServerName = cmp.Or(settings.ServerName, h.name)
		over := tls.Client(socket, settings)
		ctx, cancel := context.WithTimeout(ctx, tlsTimeout)
		defer cancel()
		if err := over.HandshakeContext(ctx); err != nil {
			return nil, err
		}
		n.Conn = over
	}
	n.left.R = n.Conn
	n.in = bufio.NewReader(&n.left)
	return n, nil
}

// isQuiet says whether an idle connection is open and has nothing to say, and sets its deadline. One that was closed
// while it was idle would be found out by a message of which then nobody knew whether it was sent.
func (n *conn) isQuiet(ends time.Time) bool {
	if n.secure && !n.readNothing() {
		return false
	}
	n.quiet = false
	return n.SetDeadline(ends) == nil && n.socket.Read(n.look) == nil && n.quiet
}

// readNothing says that nothing lies in the TLS connection, which reads ahead, so that a look at the socket does not
// find it. A read whose time is over asks the socket for nothing.
func (n *conn) readNothing() bool {
	if n.SetDeadline(past) != nil {
		return false
	}
	n.left.N = 1
	_, err := n.in.Peek(1)
	return errors.Is(err, os.ErrDeadlineExceeded)
}

var past = time.Unix(1, 0)

// exchange writes the request, whose head is in n.out, and reads the answer. again: the connection may be used again.
func (n *conn) exchange(c Call) (reply Reply, again bool, err error) {
	n.out = append(n.out, c.Body...)
	_, err = n.Write(n.out)
	if err == nil && c.Stream != nil {
		_, err = io.CopyN(n.Conn, c.Stream, c.Length)
	}
	if err != nil {
		return Reply{}, false, fmt.Errorf("write request: %w", err)
	}
	fault.At(fault.Written, c.Path)

	n.left.N = maxAnswerBytes
	request := http.Request{Method: c.Method}
	res, err := http.ReadResponse(n.in, &request)
	for err == nil && res.StatusCode < 200 && res.StatusCode != http.StatusSwitchingProtocols {
		res, err = http.ReadResponse(n.in, &request) // 100 Continue and its like announce the answer
	}
	if err != nil {
		return Reply{}, false, fmt.Errorf("read answer: %w", err)
	}
	if reply, err = readAnswer(res); err != nil {
		return Reply{}, false, fmt.Errorf("read answer: %w", err)
	}
	whole := n.left.N > 0 && n.in.Buffered() == 0 && res.StatusCode >= 200
	return reply, whole && !res.Close, nil
}

const (
	maxAnswerBytes = MaxAnswer + 64<<10 // with its head
	keptBytes      = 64 << 10           // for requests, by an idle connection, or in a buffer for the next body
)

var errTooLong = errors.New("answer exceeds 1 MiB")

// readAnswer reads an answer to its end.
func readAnswer(res *http.Response) (Reply, error) {
	reply := Reply{Status: res.StatusCode}
	if date := res.Header.Get("Date"); date != "" {
		reply.Date, _ = http.ParseTime(date)
	}
	var err error
	switch n := res.ContentLength; {
	case n > MaxAnswer:
		err = errTooLong
	case n >= 0:
		reply.Body = make([]byte, n)
		_, err = io.ReadFull(res.Body, reply.Body)
	default:
		reply.Body, err = io.ReadAll(io.LimitReader(res.Body, MaxAnswer+1))
		if err == nil && len(reply.Body) > MaxAnswer {
			err = errTooLong
		}
	}
	if err != nil {
		return Reply{}, err
	}
	return reply, nil
}
