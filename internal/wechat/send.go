package wechat

import (
	"bytes"
	"context"

	"github.com/hongyan-dispatch/hongyan/message"
)

// SendTemplate sends a template message (模板消息). body is WeChat's JSON object without touser and
// client_msg_id. WeChat sends one message per openid and client_msg_id within 10 minutes; an empty
// clientMsgID gives no such promise.
//
// WeChat: /doc/service/api/notify/template/api_sendtemplatemessage.md.
func (c *Client) SendTemplate(ctx context.Context, tok Token, to message.OpenID, clientMsgID string, body []byte) Result {
	return c.send(ctx, Call{Path: PathTemplate, Token: tok.Value, Body: splice(body, to, "client_msg_id", clientMsgID)})
}

// SendSubscribe sends a subscription notice (订阅通知). WeChat documents no anti-duplicate id for it.
//
// WeChat: 订阅通知, message/subscribe/bizsend; the page was read through SDKs that restate it.
func (c *Client) SendSubscribe(ctx context.Context, tok Token, to message.OpenID, body []byte) Result {
	return c.send(ctx, Call{Path: PathSubscribe, Token: tok.Value, Body: splice(body, to, "", "")})
}

// SendCustom sends a customer-service message (客服消息). WeChat gives it no id, neither ours nor its
// own, and no receipt.
//
// WeChat: /doc/service/api/customer/message/api_sendcustommessage.
func (c *Client) SendCustom(ctx context.Context, tok Token, to message.OpenID, body []byte) Result {
	return c.send(ctx, Call{Path: PathCustom, Token: tok.Value, Body: splice(body, to, "", "")})
}

// SendMass submits a mass send (群发): to a list of 2 to 10,000 openids, or, where to is nil, to the
// filter that stands in body. WeChat sends once per clientmsgid within 24 hours and answers a
// repetition with 45065 and the msg_id of the first, which is Sent.
//
// WeChat: /doc/service/api/notify/message/api_masssend, …/api_sendall.
func (c *Client) SendMass(ctx context.Context, tok Token, to []message.OpenID, clientMsgID string, body []byte) Result {
	if to == nil {
		return c.send(ctx, Call{Path: PathMassSendAll, Token: tok.Value, Body: splice(body, "", "clientmsgid", clientMsgID)})
	}
	return c.send(ctx, Call{Path: PathMassSend, Token: tok.Value, Body: spliceList(body, to, clientMsgID)})
}

// splice puts touser and a client id, where they are not empty, before the fields of the object body,
// without reading it. It returns nil if body is no object.
func splice(body []byte, to message.OpenID, idName, id string) []byte {
	b := make([]byte, 0, len(body)+len(to)+len(idName)+len(id)+len(`{"touser":"","":"",`))
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
