package main

import (
	"encoding/json"
	"fmt"

	"github.com/hongyan-dispatch/hongyan/message"
)

// user is the n-th user's openid; whole ones are searched for where they must not stand.
func user(n int) message.OpenID { return message.OpenID(fmt.Sprintf("oFLEET%022d", n)) }

func users(from, n int) []message.OpenID {
	list := make([]message.OpenID, n)
	for i := range list {
		list[i] = user(from + i)
	}
	return list
}

func template(account string, n int) message.Message {
	return message.Message{
		Account: account, Kind: message.Template, To: user(n), Lane: message.Normal,
		Body: json.RawMessage(fmt.Sprintf(`{"template_id":"order_paid","data":{"thing2":{"value":"订单 %d"}}}`, n)),
	}
}

func templates(account string, from, n int) []message.Message {
	all := make([]message.Message, n)
	for i := range all {
		all[i] = template(account, from+i)
	}
	return all
}

func custom(account string, n int) message.Message {
	return message.Message{
		Account: account, Kind: message.Custom, To: user(n), Lane: message.Normal,
		Body: json.RawMessage(fmt.Sprintf(`{"msgtype":"text","text":{"content":"您好，第 %d 位"}}`, n)),
	}
}

func massList(account string, list []message.OpenID, content string) message.Message {
	return message.Message{
		Account: account, Kind: message.Mass, List: list,
		Body: json.RawMessage(fmt.Sprintf(`{"msgtype":"text","text":{"content":%q}}`, content)),
	}
}

func massAll(account, content string) message.Message {
	return message.Message{
		Account: account, Kind: message.Mass,
		Body: json.RawMessage(fmt.Sprintf(`{"filter":{"is_to_all":true},"msgtype":"text","text":{"content":%q}}`, content)),
	}
}
