package campaign

import (
	"encoding/json"
	"slices"
	"testing"

	"github.com/hongyan-dispatch/hongyan/message"
)

func TestLint(t *testing.T) {
	def := Template{Title: "订单发货", Content: "商品名称:{{thing1.DATA}}\n金额:{{ amount2.DATA }}\n再次:{{thing1.DATA}}"}
	if got := def.Keywords(); !slices.Equal(got, []string{"thing1", "amount2"}) {
		t.Errorf("keywords are %q", got)
	}
	for body, want := range map[string][]string{
		`{"template_id":"T1","data":{"amount2":{"value":"39.80元"},"thing1":{"value":"咖啡"}}}`: nil,
		`{"template_id":"T1","data":{"thing1":{"value":"咖啡"},"thing9":{"value":"x"}}}`: {
			`amount2: the template "订单发货" asks for it and the message has none`, `thing9: the template "订单发货" has no such keyword; it has thing1, amount2`,
		},
		`{"template_id":"T1","data":{"amount2":{"value":"很多"},"thing1":{"value":"一二三四五六七八九十一二三四五六七八九十一"}}}`: {
			"amount2: want an amount such as 39.80, ¥39.80 or 39.80元", "thing1: at most 20 characters (got 21)",
		},
		`{"template_id":"T1","data":{"amount2":{"value":"1","data":{"x":1}},"thing1":{}}}`: {"amount2.data: unknown field; want value", "thing1: required"},
	} {
		m := &message.Message{Kind: message.Template, Body: json.RawMessage(body)}
		if got := Lint(def, m); !slices.Equal(got, want) {
			t.Errorf("%s:\ngot  %q\nwant %q", body, got, want)
		}
	}
	if got := Lint(def, &message.Message{Kind: message.Custom, Body: json.RawMessage(`{"msgtype":"text","text":{"content":"x"}}`)}); got != nil {
		t.Errorf("a message without a template: %q", got)
	}
}
