package wechat

import (
	"bytes"
	"context"
	"sync"

	"github.com/hongyan-dispatch/hongyan/message"
)

// SendTemplate sends a template message (模板消息). body is WeChat's JSON object without touser and
// client_msg_id. WeChat sends one message per openid and client_msg_id within 10 minutes; an empty
// clientMsgID gives no such promise.
//
// WeChat: /doc/service/api/notify/template/api_sendtemplatemessage.md.
func (c *Client) SendTemplate(ctx context.Context, tok Token, to message.OpenID, clientMsgID string, body []byte) Result {
	return c.sendTo(ctx, PathTemplate, tok, to, "client_msg_id", clientMsgID, body)
}

// SendSubscribe sends a subscription notice (订阅通知). WeChat documents no anti-duplicate id for it.
//
// WeChat: 订阅通知, message/subscribe/bizsend; the page was read through SDKs that restate it.
func (c *Client) SendSubscribe(ctx context.Context, tok Token, to message.OpenID, body []byte) Result {
	return c.sendTo(ctx, PathSubscribe, tok, to, "", "", body)
}

// SendCustom sends a customer-service message (客服消息). WeChat gives it no id, neither ours nor its
// own, and no receipt.
//
// WeChat: /doc/service/api/customer/message/api_sendcustommessage.
func (c *Client) SendCustom(ctx context.Context, tok Token, to message.OpenID, body []byte) Result {
	return c.sendTo(ctx, PathCustom, tok, to, "", "", body)
}

// SendMass submits a mass send (群发): to a list of 2 to 10,000 openids, or, where to is nil, to the
// filter that stands in body. WeChat sends once per clientmsgid within 24 hours and answers a
// repetition with 45065 and the msg_id of the first, which is Sent.
//
// WeChat: /doc/service/api/notify/message/api_masssend, …/api_sendall.
func (c *Client) SendMass(ctx context.Context, tok Token, to []message.OpenID, clientMsgID string, body []byte) Result {
	if to == nil {
		return c.sendTo(ctx, PathMassSendAll, tok, "", "clientmsgid", clientMsgID, body)
	}
	return c.send(ctx, Call{Path: PathMassSend, Token: tok.Value, Body: spliceList(body, to, clientMsgID)})
}

// spliced are buffers of requests' bodies, which are of no use when their calls have ended.
var spliced = sync.Pool{New: func() any { return new([]byte) }}

func (c *Client) sendTo(ctx context.Context, path string, tok Token, to message.OpenID, idName, id string, body []byte) Result {
	b := spliced.Get().(*[]byte)
	*b = splice((*b)[:0], body, to, idName, id)
	r := c.send(ctx, Call{Path: path, Token: tok.Value, Body: *b})
	if cap(*b) <= keptBytes { // a mass send's may be of megabytes
		spliced.Put(b)
	}
	return r
}

// splice appends body to b, which is empty, with touser and a client id, where they are not empty, before the fields of the
// object, without reading it. It returns nil if body is no object.
func splice(b, body []byte, to message.OpenID, idName, id string) []byte {
	b = append(b, '{')
	if to != "" {
		b = append(b, `"touser":`...)
		b = append(appendString(b, string(to)), ',')
	}
	return closeSplice(appendID(b, idName, id), body)
}

func spliceList(body []byte, to []message.OpenID, id string) []byte {
	size := len(body) + len(id) + len(`{"touser":[],"clientmsgid":"",`)
	for _, o := range to {
		size += len(o) + 3
	}
	b := append(make([]byte, 0, size), `{"touser":[`...)
	for i, o := range to {
		if i > 0 {
			b = append(b, ',')
		}
		b = appendString(b, string(o))
	}
	return closeSplice(appendID(append(b, "],"...), "clientmsgid", id), body)
}

func appendID(b []byte, name, id string) []byte {
	if id == "" {
		return b
	}
	b = append(appendString(b, name), ':')
	return append(appendString(b, id), ',')
}

// closeSplice appends the fields of body to b, which is "{" or ends in a comma.
func closeSplice(b, body []byte) []byte {
	body = bytes.TrimSpace(body)
	if len(body) < 2 || body[0] != '{' || body[len(body)-1] != '}' {
		return nil
	}
	fields := bytes.TrimSpace(body[1:])
	if len(fields) == 1 && len(b) > 1 {
		b = b[:len(b)-1] // no fields follow the comma
	}
	return append(b, fields...)
}

// appendString appends s as a JSON string; an openid or an id of ours needs no escape.
func appendString(b []byte, s string) []byte {
	for i := range len(s) {
		if c := s[i]; c < ' ' || c == '"' || c == '\\' || c >= 0x7f {
			quoted, _ := encode(s) // a string never fails
			return append(b, quoted...)
		}
	}
	b = append(b, '"')
	b = append(b, s...)
	return append(b, '"')
}

// hasMiniprogram says whether a send named a mini program; asked only when it was refused.
func hasMiniprogram(c Call) bool { return bytes.Contains(c.Body, []byte(`"miniprogram"`)) }
