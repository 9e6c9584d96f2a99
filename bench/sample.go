package main

import (
	"encoding/json"
	"fmt"

	"github.com/hongyan-dispatch/hongyan/message"
)

// body is a template message of the usual size: about 400 bytes on the wire.
const body = `{"template_id":"kXz3n8hPq1sT5vW7yB9dF2gJ4mN6rU8xA0cE3iL5oQ1","url":"https://shop.example.com/orders/2026112200012345","data":` +
	`{"character_string1":{"value":"2026112200012345"},"thing2":{"value":"云南高山小粒咖啡豆500克"},"amount3":{"value":"￥128.00"},` +
	`"time4":{"value":"2026-11-22 10:00:00"},"phrase5":{"value":"已付款"}}}`

func openID(n int) message.OpenID { return message.OpenID(fmt.Sprintf("oBENCH%022d", n)) }

func messages(n int, keys bool, lane message.Lane) []message.Message {
	all := make([]message.Message, n)
	for i := range all {
		all[i] = message.Message{Account: "shop", Kind: message.Template, To: openID(i), Lane: lane, Body: json.RawMessage(body)}
		if keys {
			all[i].Key = fmt.Sprintf("order-%d-paid", i)
		}
	}
	return all
}

// wire is the request's body as a sender without Hongyan would write it.
func wire(n int) []byte {
	return fmt.Appendf(nil, `{"touser":"%s","client_msg_id":"%032x",%s`, openID(n), n, body[1:])
}
