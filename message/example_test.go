package message_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/hongyan-dispatch/hongyan/message"
)

var now = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

func ExampleParse() {
	m, err := message.Parse([]byte(`{
		"account": "shop", "kind": "template", "to": "oABCdefGHIjklMNOpqrSTUvwxYZ0", "key": "order-1001-paid",
		"template": {"template_id": "TM1", "data": {"thing1": {"value": "\u660e\u524d\u9f99\u4e95"}}}
	}`))
	if err != nil {
		fmt.Println(err)
		return
	}
	m.Defaults(false)
	fmt.Println(m.Kind, m.Recipient(), m.Lane)
	fmt.Println(string(m.Body))
	// Output:
	// template oABCdefGHIjklMNOpqrSTUvwxYZ0 normal
	// {"template_id":"TM1","data":{"thing1":{"value":"明前龙井"}}}
}

func ExampleParse_refused() {
	_, err := message.Parse([]byte(`{"account": "shop", "kind": "sms", "colour": "red"}`))
	fmt.Println(err)
	// Output:
	// kind: want one of template, subscribe, custom, mass (got "sms"); colour: unknown field; want account, kind, to, key, lane, template, subscribe, custom, mass, not_before, expires_at, fallback, labels
}

func ExampleMessage_Validate() {
	body, _ := json.Marshal(map[string]any{
		"template_id": "TM1",
		"data": map[string]any{
			"thing1":       map[string]any{"value": "a text that is too long for a thing"},
			"amount2.DATA": map[string]any{"value": "39.80"},
		},
	})
	m := &message.Message{Account: "shop", Kind: message.Template, To: "o ABC", Body: body}
	m.Defaults(false)

	invalid, _ := errors.AsType[message.Invalid](m.Validate(now))
	for _, finding := range invalid {
		fmt.Println(finding.Path, "→", finding.Rule)
	}
	// Output:
	// template.data.amount2.DATA → write the keyword without .DATA and braces: {{thing1.DATA}} is thing1
	// template.data.thing1.value → at most 20 characters
	// to → an openid has only letters, digits, - and _
}

func ExampleRules() {
	rules := message.Rules{CustomTextBytes: 600}
	m := &message.Message{
		Account: "shop", Kind: message.Custom, To: "oABC",
		Body: json.RawMessage(`{"msgtype":"text","text":{"content":"您好，您的订单已发货。"}}`),
	}
	fmt.Println(rules.Validate(m, now))
	// Output: <nil>
}

func ExampleMessage_Hash() {
	first, _ := message.Parse([]byte(`{"account":"shop","kind":"custom","to":"oABC","custom":{"msgtype":"text","text":{"content":"hi"}}}`))
	again, _ := message.Parse([]byte(`{"custom":{"text":{"content":"hi"},"msgtype":"text"},"to":"oABC","kind":"custom","account":"shop"}`))
	other, _ := message.Parse([]byte(`{"account":"shop","kind":"custom","to":"oABC","custom":{"msgtype":"text","text":{"content":"ho"}}}`))
	fmt.Println(first.Hash() == again.Hash(), first.Hash() == other.Hash())
	// Output: true false
}
