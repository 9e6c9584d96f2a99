package message

import (
	"fmt"
	"strings"
	"testing"
)

func TestTemplateBody(t *testing.T) {
	with := func(fields string) string {
		return `{"template_id":"T","data":{"thing1":{"value":"x"}}` + fields + `}`
	}
	checkBodies(t, Template, []bodyCase{
		{"id and data are enough", with(""), ""},
		{"data may be a number", `{"template_id":"T","data":{"number1":{"value":39.8}}}`, ""},
		{"old industry templates have free keywords", `{"template_id":"T","data":{"first":{"value":""},"keyword1":{"value":"a text far beyond twenty characters"},"remark":{"value":"x"}}}`, ""},
		{"url and miniprogram", with(`,"url":"https://example.com/?a=1","miniprogram":{"appid":"wx1","pagepath":"index?foo=bar"}`), ""},
		{"an empty url is none", with(`,"url":""`), ""},
		{"an id is required", `{"data":{"thing1":{"value":"x"}}}`, "template.template_id: required"},
		{"an id is not empty", `{"template_id":"","data":{"thing1":{"value":"x"}}}`, "template.template_id: must not be empty"},
		{"an id is a string", `{"template_id":1,"data":{"thing1":{"value":"x"}}}`, "template.template_id: want a string (got a number)"},
		{"data is required", `{"template_id":"T"}`, "template.data: required"},
		{"data has a keyword", `{"template_id":"T","data":{}}`, "template.data: want at least one keyword"},
		{"data is an object", `{"template_id":"T","data":[]}`, "template.data: want an object of keywords (got a list)"},
		{"a keyword is an object", `{"template_id":"T","data":{"thing1":"x"}}`, `template.data.thing1: want {"value": …} (got a string)`},
		{"a keyword has a value", `{"template_id":"T","data":{"thing1":{}}}`, "template.data.thing1.value: required"},
		{"a value is a string or number", `{"template_id":"T","data":{"thing1":{"value":true}}}`, "template.data.thing1.value: want a string or a number (got true or false)"},
		{"a number is one that JSON's readers hold", `{"template_id":"T","data":{"thing1":{"value":1e999}}}`, "template.data.thing1.value: a number that is too large"},
		{"a value is not null", `{"template_id":"T","data":{"thing1":{"value":null}}}`, "want a string or a number (got null)"},
		{"a value of a known keyword is not empty", `{"template_id":"T","data":{"thing1":{"value":""}}}`, "template.data.thing1.value: must not be empty"},
		{"a keyword is written without .DATA", `{"template_id":"T","data":{"thing1.DATA":{"value":"x"}}}`, "template.data.thing1.DATA: write the keyword without .DATA"},
		{"a keyword is written without braces", `{"template_id":"T","data":{"{{thing1.DATA}}":{"value":"x"}}}`, "without .DATA and braces"},
		{"a keyword is not empty", `{"template_id":"T","data":{"":{"value":"x"}}}`, "a keyword is 1 to 64 bytes"},
		{"colours are refused", `{"template_id":"T","data":{"thing1":{"value":"x","color":"#173177"}}}`, "template.data.thing1.color: leave it out"},
		{"topcolor is refused", with(`,"topcolor":"#FF0000"`), "template.topcolor: leave it out"},
		{"touser is refused", with(`,"touser":"oABC"`), "template.touser: leave it out: the recipient stands in the message's to"},
		{"client_msg_id is refused", with(`,"client_msg_id":"1"`), "template.client_msg_id: leave it out"},
		{"access_token is refused", with(`,"access_token":"1"`), "template.access_token: leave it out"},
		{"an unknown field is refused", with(`,"page":"x"`), "template.page: unknown field; want template_id, url, miniprogram, data"},
		{"a url has http or https", with(`,"url":"weixin://x"`), "template.url: want a URL with http:// or https://"},
		{"a url has at most 1024 bytes", with(`,"url":"https://e.com/` + strings.Repeat("x", 1011) + `"`), "template.url: at most 1024 bytes (got 1025)"},
		{"a url has no spaces", with(`,"url":"https://e.com/a b"`), "template.url: no white space"},
		{"a mini program has an appid", with(`,"miniprogram":{"pagepath":"index"}`), "template.miniprogram.appid: required"},
		{"a mini program has no other fields", with(`,"miniprogram":{"appid":"wx1","path":"index"}`), "template.miniprogram.path: unknown field; want appid, pagepath"},
	})
}

func TestSubscribeBody(t *testing.T) {
	with := func(fields string) string {
		return `{"template_id":"T","data":{"thing1":{"value":"x"}}` + fields + `}`
	}
	checkBodies(t, Subscribe, []bodyCase{
		{"id and data are enough", with(""), ""},
		{"every field", with(`,"page":"pages/x","miniprogram":{"appid":"wx1","pagepath":"p"},"miniprogram_state":"formal","lang":"zh_CN"`), ""},
		{"data is required", `{"template_id":"T"}`, "subscribe.data: required"},
		{"values have the same rules", `{"template_id":"T","data":{"phrase1":{"value":"一二三四五六"}}}`, "subscribe.data.phrase1.value: at most 5 characters (got 6)"},
		{"the state is one of three", with(`,"miniprogram_state":"release"`), `subscribe.miniprogram_state: want one of developer, trial, formal (got "release")`},
		{"a url is called page here", with(`,"url":"https://example.com"`), "subscribe.url: unknown field; want template_id, page"},
	})
}

func TestKeywordValues(t *testing.T) {
	for _, tt := range []struct{ key, value, want string }{
		{"thing1", strings.Repeat("字", 20), ""},
		{"thing1", strings.Repeat("字", 21), "at most 20 characters (got 21)"},
		{"thing", strings.Repeat("x", 21), ""}, // no digits: not a category template's keyword
		{"something1", strings.Repeat("x", 21), ""},
		{"thing12", strings.Repeat("x", 21), "at most 20 characters (got 21)"},
		{"number1", "-12.50", ""},
		{"number1", strings.Repeat("1", 33), "at most 32 digits (got 33)"},
		{"number1", "12a", "want digits"},
		{"number1", "1e5", "want digits"},
		{"number1", "12.", "want digits"},
		{"letter1", strings.Repeat("a", 33), "at most 32 characters (got 33)"},
		{"symbol1", "!!!!!!", "at most 5 characters (got 6)"},
		{"character_string1", "SF-1001_2#", ""},
		{"character_string1", "单号1001", "no Chinese characters"},
		{"character_string1", strings.Repeat("1", 33), "at most 32 characters (got 33)"},
		{"time1", "15:01", ""},
		{"time1", "2019年10月1日 15:01", ""},
		{"time1", "2026-11-22 10:00:00", ""},
		{"time1", "2026-11-22 10:00~2026-11-22 11:00", ""},
		{"time1", "10:00 ~ 11:00", ""},
		{"time1", "25:00", "want a 24-hour time"},
		{"time1", "10:60", "want a 24-hour time"},
		{"time1", "2026-11-22", "want a 24-hour time"},
		{"time1", "tomorrow 10:00", "want a 24-hour time"},
		{"date1", "2019年10月1日", ""},
		{"date1", "2019年10月1日 15:01", ""},
		{"date1", "2026-11-22", ""},
		{"date1", "2026/1/2", ""},
		{"date1", "2026.01.02", ""},
		{"date1", "2026-11-22~2026-11-25", ""},
		{"date1", "2026-02-29", "want a date"},
		{"date1", "2024-02-29", ""},
		{"date1", "22-11-2026", "want a date"},
		{"date1", "15:01", "want a date"},
		{"date1", "", "must not be empty"},
		{"amount1", "39.80", ""},
		{"amount1", "¥39.80", ""},
		{"amount1", "￥39.80元", ""},
		{"amount1", "$1234567890", ""},
		{"amount1", "$12345678901", "at most 10 digits (got 11)"},
		{"amount1", "1,234.00", "want an amount"},
		{"amount1", "免费", "want an amount"},
		{"phone_number1", "+86-0766-66888866", ""},
		{"phone_number1", "+86-0766-668888666", "at most 17 characters (got 18)"},
		{"car_number1", "粤A8Z888挂", ""},
		{"car_number1", "粤A8Z8888挂", "at most 8 characters (got 9)"},
		{"name1", "一二三四五六七八九十", ""},
		{"name1", "一二三四五六七八九十一", "at most 10 Chinese characters or 20 letters (got 11)"},
		{"name1", strings.Repeat("a", 20), ""},
		{"name1", strings.Repeat("a", 21), "at most 10 Chinese characters or 20 letters (got 21)"},
		{"phrase1", "配送中", ""},
		{"phrase1", "一二三四五六", "at most 5 characters (got 6)"},
		{"const1", "任何", ""},
		{"const1", "", "must not be empty"},
		{"keyword1", "", ""},
	} {
		t.Run(tt.key+" "+tt.value, func(t *testing.T) {
			line := fmt.Sprintf(`{"account":"shop","kind":"template","to":"oA","template":{"template_id":"T","data":{%q:{"value":%q}}}}`, tt.key, tt.value)
			wantError(t, mustParse(t, line).Validate(noon), tt.want)
		})
	}
}
