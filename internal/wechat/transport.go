package wechat

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"time"

	"github.com/hongyan-dispatch/hongyan/internal/fault"
)

// A Call is one HTTP request to make, before the access token meets the URL.
type Call struct {
	Method      string // GET or POST
	Base        *url.URL
	Path        string
	Token       Secret    // into the query, as access_token; none if zero
	Query       Secret    // the rest of the query, escaped; a Secret, as the legacy token call puts the appsecret here
	Hide        Secret    // the appsecret within Query or Body, if any: kept out of errors
	ContentType string    // of the body; application/json if empty
	Body        []byte    // not touched after Do returned, but perhaps still read: never reuse it
	Stream      io.Reader // instead of Body: exactly Length bytes
	Length      int64
}

// String is the request for logs: no query, no body.
func (c Call) String() string { return c.Method + " " + c.Path }

// GoString is String: a Call must not show its body, which may hold the appsecret.
func (c Call) GoString() string { return c.String() }

// A Reply is a whole HTTP answer: the body was read to its end.
type Reply struct {
	Status int
	Date   time.Time // WeChat's clock, to the second; zero if not given
	Body   []byte    // the caller's to keep
}

// A Transport makes one HTTP request per Do, and never a second one: no retries, no redirects.
//
// It reports whether a connection was had. False means that not one byte of the request can have
// left; on any doubt it is true. An error means that there is no whole answer. The error may say
// anything but a URL; package wechat cleans it further.
type Transport interface {
	Do(ctx context.Context, c Call) (reply Reply, connected bool, err error)
}

// MaxAnswer bounds the body of an answer.
const MaxAnswer = 1 << 20

// Times of the HTTP transport; idle connections die young because those on the way close them silently.
const (
	dialTimeout      = 5 * time.Second
	tlsTimeout       = 5 * time.Second
	idleTimeout      = 30 * time.Second
	defaultMaxConns  = 256
	maxAnswerHeaders = 64 << 10
)

// An HTTPConfig shapes [NewHTTP]; its zero value is useful.
type HTTPConfig struct {
	MaxConns int         // per host, idle ones included; at least the senders of the process. Default 256
	Proxy    *url.URL    // none by default: the environment is not asked
	TLS      *tls.Config // the system's roots by default
}

// HTTP is the [Transport] over net/http: HTTP/1.1, keep-alive, no compression.
type HTTP struct{ rt *http.Transport }

// NewHTTP returns a transport, which several clients may share.
func NewHTTP(c HTTPConfig) *HTTP {
	if c.MaxConns <= 0 {
		c.MaxConns = defaultMaxConns
	}
	rt := &http.Transport{
		DialContext:            (&net.Dialer{Timeout: dialTimeout, KeepAlive: 15 * time.Second}).DialContext,
		TLSClientConfig:        c.TLS,
		TLSHandshakeTimeout:    tlsTimeout,
		MaxConnsPerHost:        c.MaxConns,
		MaxIdleConnsPerHost:    c.MaxConns,
		IdleConnTimeout:        idleTimeout,
		DisableCompression:     true,
		MaxResponseHeaderBytes: maxAnswerHeaders,
		Protocols:              new(http.Protocols),
	}
	rt.Protocols.SetHTTP1(true)
	if c.Proxy != nil {
		rt.Proxy = http.ProxyURL(c.Proxy)
	}
	return &HTTP{rt}
}

// Close closes idle connections.
func (h *HTTP) Close() { h.rt.CloseIdleConnections() }

// Headers are shared by all requests; net/http only reads them. Never an Idempotency-Key: with one
// net/http repeats a POST by itself.
var (
	jsonHeader = http.Header{"Content-Type": {"application/json"}, "User-Agent": {"hongyan"}}
	getHeader  = http.Header{"User-Agent": {"hongyan"}}
)

// Do implements [Transport]. It calls RoundTrip, not http.Client: no redirect is followed, and no
// *url.Error is made, which would print the whole URL.
func (h *HTTP) Do(ctx context.Context, c Call) (Reply, bool, error) {
	var connected bool
	trace := &httptrace.ClientTrace{
		GotConn: func(httptrace.GotConnInfo) { connected = true }, // called on this goroutine
	}
	if fault.Compiled {
		trace.WroteRequest = func(httptrace.WroteRequestInfo) { fault.At(fault.Written, c.Path) }
	}
	res, err := h.roundTrip(c.http(httptrace.WithClientTrace(ctx, trace)))
	if err != nil {
		return Reply{}, connected, err
	}
	defer func() { _ = res.Body.Close() }()
	body, err := readAnswer(res)
	if err != nil {
		return Reply{}, true, fmt.Errorf("read answer: %w", err)
	}
	reply := Reply{Status: res.StatusCode, Body: body}
	if date := res.Header.Get("Date"); date != "" {
		reply.Date, _ = http.ParseTime(date)
	}
	return reply, true, nil
}

// roundTrip makes the call, and none that an answer asks for; without that safety it is the client that everybody has.
func (h *HTTP) roundTrip(r *http.Request) (*http.Response, error) {
	if !fault.Has(fault.NoRedirects) {
		body, _ := io.ReadAll(r.Body)
		r.GetBody = func() (io.ReadCloser, error) { return inMemory(body), nil }
		r.Body, _ = r.GetBody()
		return (&http.Client{Transport: h.rt}).Do(r)
	}
	return h.rt.RoundTrip(r)
}

// http builds the request by hand, because http.NewRequest sets GetBody, with which net/http may send
// a body twice. A GET has a body too, an empty one, as net/http repeats every GET without.
func (c Call) http(ctx context.Context) *http.Request {
	u := *c.Base
	u.Path += c.Path
	u.RawQuery = c.query()
	req := http.Request{
		Method: c.Method, URL: &u, Host: u.Host,
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: jsonHeader, Body: inMemory(c.Body), ContentLength: int64(len(c.Body)),
	}
	switch {
	case c.Stream != nil:
		req.Body, req.ContentLength = io.NopCloser(c.Stream), c.Length
	case c.Method == http.MethodGet:
		req.Header = getHeader
	}
	if c.ContentType != "" {
		req.Header = http.Header{"Content-Type": {c.ContentType}, "User-Agent": {"hongyan"}}
	}
	return req.WithContext(ctx)
}

func (c Call) query() string {
	switch {
	case c.Token.IsZero():
		return c.Query.Reveal()
	case c.Query.IsZero():
		return "access_token=" + url.QueryEscape(c.Token.Reveal())
	}
	return "access_token=" + url.QueryEscape(c.Token.Reveal()) + "&" + c.Query.Reveal()
}

// inMemory is a body whose head and rest go out in one write: net/http sends the head of other readers' requests
// apart. Without GetBody it cannot be rewound.
func inMemory(body []byte) io.ReadCloser { return io.NopCloser(bytes.NewReader(body)) }

var errTooLong = errors.New("answer exceeds 1 MiB")

func readAnswer(res *http.Response) ([]byte, error) {
	switch n := res.ContentLength; {
	case n > MaxAnswer:
		return nil, errTooLong
	case n >= 0:
		body := make([]byte, n)
		_, err := io.ReadFull(res.Body, body)
		return body, err
	}
	body, err := io.ReadAll(io.LimitReader(res.Body, MaxAnswer+1))
	if err == nil && len(body) > MaxAnswer {
		return nil, errTooLong
	}
	return body, err
}
