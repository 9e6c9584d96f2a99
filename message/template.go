package message

import (
	"bytes"
	"strconv"
)

// templateShape is the body of a template message (模板消息).
// https://developers.weixin.qq.com/doc/service/api/notify/template/api_sendtemplatemessage.md (read 2026-11-22)
var templateShape = shape{
	{name: "template_id", need: required, rule: identifier},
	{name: "url", rule: link},
	{name: "miniprogram", rule: object(miniprogramShape)},
	{name: "data", need: required, rule: keywords},
}

// subscribeShape is the body of a subscription notice (订阅通知), POST /cgi-bin/message/subscribe/bizsend
// (read 2026-11-22). Its page is a path of a mini program or a URL.
var subscribeShape = shape{
	{name: "template_id", need: required, rule: identifier},
	{name: "page", rule: page},
	{name: "miniprogram", rule: object(miniprogramShape)},
	{name: "data", need: required, rule: keywords},
	{name: "miniprogram_state", rule: among("developer", "trial", "formal")},
	{name: "lang", rule: identifier},
}

var miniprogramShape = shape{
	{name: "appid", need: required, rule: identifier},
	{name: "pagepath", rule: page},
}

// page is the path of a page, or empty for the first one.
func page(c *checker) {
	if text, ok := c.readText(); ok && len(text) > maxURLBytes {
		c.find("at most 1024 bytes", "")
	}
}

// keywords is the data of both: what the template's keywords say, each {"value": …}.
func keywords(c *checker) {
	if !c.expect('{', "an object of keywords") {
		return
	}
	n := 0
	c.open()
	for ; c.next('}'); n++ {
		key := c.key()
		if bad := badKeyword(key); bad != "" {
			c.find(bad, "")
			c.skip()
		} else {
			c.keyword(keywordRule(key))
		}
		c.endMember()
	}
	if n == 0 && !c.failed {
		c.find("want at least one keyword of the template", "")
	}
}

const maxKeywordBytes = 64 // a sanity check; WeChat's own are shorter than 30

func badKeyword(key []byte) string {
	switch {
	case bytes.HasSuffix(key, []byte(".DATA")) || bytes.ContainsAny(key, "{}"):
		return "write the keyword without .DATA and braces: {{thing1.DATA}} is thing1"
	case len(key) == 0 || len(key) > maxKeywordBytes || hasSpace(key):
		return "a keyword is 1 to 64 bytes without white space, such as thing1"
	}
	return ""
}

// keyword reads {"value": …}, where check is nil for a keyword of which we know no rule.
func (c *checker) keyword(check valueRule) {
	if !c.expect('{', `{"value": …}`) {
		return
	}
	given := false
	c.open()
	for c.next('}') {
		key := c.key()
		if string(key) == "value" {
			given = true
			c.keywordValue(check)
		} else {
			c.find(unknownField(key, []string{"value"}), "")
			c.skip()
		}
		c.endMember()
	}
	if !given && !c.failed {
		c.findIn("value", "required", "")
	}
}

func (c *checker) keywordValue(check valueRule) {
	var value []byte
	switch ch := c.peek(); {
	case ch == '"':
		value, _ = c.text()
	case ch == '-' || isDigit(ch):
		value = c.number()
		if _, err := strconv.ParseFloat(string(value), 64); err != nil && !c.failed {
			c.find("a number that is too large for JSON's readers; write it as a string", "")
			return
		}
	default:
		c.expect('"', "a string or a number")
		return
	}
	if check == nil || c.failed {
		return
	}
	if len(value) == 0 {
		c.find("must not be empty", "")
		return
	}
	if bad, got := check(value); bad != "" {
		c.find(bad, got)
	}
}
