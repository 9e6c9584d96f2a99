package wechat

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// A Config says how WeChat is reached; only BaseURL has no default.
type Config struct {
	BaseURL           string        // such as https://api.weixin.qq.com
	Timeout           time.Duration // of a call, from start to last byte. Default 10 s
	UploadTimeout     time.Duration // of an upload of material. Default 60 s
	MaxConns          int           // of the transport made for this client, see HTTPConfig
	Transport         Transport     // default: a [NewHTTP] of its own. Accounts of one process should share one
	MinusOneAmbiguous bool          // count errcode -1, "system busy", as ambiguous; by default it is not sent
}

// A Client calls the API for any number of accounts; it is safe for concurrent use.
type Client struct {
	base              *url.URL
	timeout           time.Duration
	uploadTimeout     time.Duration
	transport         Transport
	minusOneAmbiguous bool
}

const (
	defaultTimeout       = 10 * time.Second
	defaultUploadTimeout = time.Minute
)

// New returns a client. It panics on a BaseURL that is none: the configuration checks it before.
func New(c Config) *Client {
	base, err := url.Parse(strings.TrimSuffix(c.BaseURL, "/"))
	if err != nil || base.Host == "" || base.Scheme != "https" && base.Scheme != "http" ||
		base.User != nil || base.RawQuery != "" || base.Fragment != "" {
		panic("wechat: the base URL is not of the form https://host")
	}
	if c.Timeout <= 0 {
		c.Timeout = defaultTimeout
	}
	if c.UploadTimeout <= 0 {
		c.UploadTimeout = defaultUploadTimeout
	}
	if c.Transport == nil {
		c.Transport = NewHTTP(HTTPConfig{MaxConns: c.MaxConns})
	}
	return &Client{base, c.Timeout, c.UploadTimeout, c.Transport, c.MinusOneAmbiguous}
}

// send makes a call that reaches a user, and judges what came of it.
func (c *Client) send(ctx context.Context, call Call) Result {
	if call.Token.IsZero() {
		return Result{Class: NotSent, Err: fmt.Errorf("%s: %w", call.Path, errNoToken)}
	}
	if len(call.Body) == 0 {
		return Result{Class: NotSent, Err: fmt.Errorf("%s: %w", call.Path, errNoObject)}
	}
	call.Method, call.Base, call.Timeout = http.MethodPost, c.base, c.timeout
	start := time.Now()
	reply, connected, err := c.transport.Do(ctx, call)
	r := Result{Connected: connected, Elapsed: time.Since(start), Date: reply.Date}
	if err != nil {
		r.Err = transportError(call, err)
		if !connected {
			r.Class = NotSent
		}
		return r
	}
	a, err := readReply(call, reply)
	if err == nil && !a.hasCode && a.MsgID == 0 && a.JobID == 0 {
		err = replyError(call, reply, errNoAnswer) // an object with neither errcode nor id may be anybody's
	}
	if err != nil {
		r.Err = err
		return r
	}
	return c.judge(r, call, a)
}

func (c *Client) judge(r Result, call Call, a answer) Result {
	r.MsgID, r.DataID = int64(cmp.Or(a.MsgID, a.JobID)), int64(a.DataID)
	if a.Code == 0 {
		r.Class = Sent
		return r
	}
	e := a.refusal(call)
	r.Err, r.Class = e, NotSent
	switch {
	case e.Code == CodeBusy && c.minusOneAmbiguous:
		r.Class = Ambiguous
	case e.Disposition() == Accepted, isMass(e.API) && (e.Code == CodeAdminApproving || e.Code == CodeAdminConfirming):
		r.Class = Sent
	}
	return r
}

// call makes any other call and decodes the reply into out, if out is not nil. Its error is an *Error
// if WeChat refused.
func (c *Client) call(ctx context.Context, call Call, out any) (Reply, error) {
	call.Base, call.Timeout = c.base, c.timeout
	if call.Stream != nil {
		call.Timeout = c.uploadTimeout
	}
	reply, _, err := c.transport.Do(ctx, call)
	if err != nil {
		return Reply{}, transportError(call, err)
	}
	a, err := readReply(call, reply)
	if err != nil {
		return Reply{}, err
	}
	if a.Code != 0 {
		return reply, a.refusal(call)
	}
	if out == nil {
		return reply, nil
	}
	if err := json.Unmarshal(reply.Body, out); err != nil {
		return Reply{}, replyError(call, reply, errNoAnswer)
	}
	return reply, nil
}

func (c *Client) post(ctx context.Context, tok Token, path string, in, out any) error {
	body, err := encode(in)
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return c.postRaw(ctx, tok, path, body, out)
}

// encode is JSON without \u escapes of <, > and &: WeChat answers some of those with 40033.
func encode(v any) ([]byte, error) {
	var out bytes.Buffer
	e := json.NewEncoder(&out)
	e.SetEscapeHTML(false)
	err := e.Encode(v)
	return bytes.TrimSpace(out.Bytes()), err
}

func (c *Client) postRaw(ctx context.Context, tok Token, path string, body []byte, out any) error {
	if tok.Value.IsZero() {
		return fmt.Errorf("%s: %w", path, errNoToken)
	}
	_, err := c.call(ctx, Call{Method: http.MethodPost, Path: path, Token: tok.Value, Body: body}, out)
	return err
}

// readReply reads WeChat's fields. WeChat answers with status 200 also where it refuses; a 4xx counts
// only with an errcode, and of a 3xx or 5xx not even that: it comes from something on the way.
func readReply(call Call, reply Reply) (answer, error) {
	refusedOnly := reply.Status >= 400 && reply.Status < 500
	if reply.Status != http.StatusOK && !refusedOnly {
		return answer{}, replyError(call, reply, errNoAnswer)
	}
	a, err := parseAnswer(reply.Body)
	if err != nil || refusedOnly && a.Code == 0 {
		return answer{}, replyError(call, reply, errNoAnswer)
	}
	return a, nil
}

// replyError tells of an answer that is not WeChat's, without quoting it.
func replyError(call Call, reply Reply, err error) error {
	return fmt.Errorf("%s: %s: HTTP status %d, %d bytes: %w", call.Path, call.Base.Host, reply.Status, len(reply.Body), err)
}

// refusal makes an Error of an errcode that is not 0.
func (a answer) refusal(call Call) *Error {
	e := &Error{API: call.Path, Code: int(a.Code), miniprogram: hasMiniprogram(call)}
	e.Msg, e.RID = splitRID(hide(a.Msg, call))
	return e
}
