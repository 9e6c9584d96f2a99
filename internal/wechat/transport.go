package wechat

import (
	"cmp"
	"context"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
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
	Body        []byte    // only read, and not after Do returned
	Stream      io.Reader // instead of Body: exactly Length bytes
	Length      int64
	Timeout     time.Duration // from start to last byte; 0: as long as ctx lasts
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

var errControl = errors.New("a control character or a space in the request's head")

// head is the request's head, appended to b.
func (c Call) head(b []byte) ([]byte, error) {
	path, query, kind := c.Base.EscapedPath()+c.Path, c.query(), cmp.Or(c.ContentType, "application/json")
	if strings.ContainsFunc(path+query, func(r rune) bool { return r <= ' ' || r == 0x7f }) || strings.ContainsAny(kind, "\r\n") {
		return b, errControl
	}
	length := int64(len(c.Body))
	if c.Stream != nil {
		length = c.Length
	}
	b = append(append(append(b, c.Method...), ' '), path...)
	if query != "" {
		b = append(append(b, '?'), query...)
	}
	b = append(append(b, " HTTP/1.1\r\nHost: "...), c.Base.Host...)
	b = append(b, "\r\nUser-Agent: hongyan\r\n"...)
	if c.Method != http.MethodGet {
		b = append(append(append(b, "Content-Type: "...), kind...), "\r\nContent-Length: "...)
		b = append(strconv.AppendInt(b, length, 10), "\r\n"...)
	}
	return append(b, "\r\n"...), nil
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
