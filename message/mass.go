package message

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strconv"
)

// massShape is the body of a mass send (群发), by filter or to the list of the envelope.
// https://developers.weixin.qq.com/doc/service/api/notify/message/api_sendall and api_masssend (read 2026-11-22)
var massShape = shape{
	{name: "filter", rule: massFilter},
	{name: "msgtype", need: required, rule: msgtype},
	{name: "mpnews", of: "mpnews", rule: object(mediaShape)},
	{name: "text", of: "text", rule: object(shape{{name: "content", need: required, rule: words}})},
	{name: "voice", of: "voice", rule: object(mediaShape)},
	{name: "images", of: "image", rule: object(shape{
		{name: "media_ids", need: required, rule: list(0, identifier)},
		{name: "recommend", rule: anyText},
		{name: "title", rule: anyText},
		{name: "need_open_comment", rule: flag},
		{name: "only_fans_can_comment", rule: flag},
	})},
	{name: "image", of: "image", rule: object(mediaShape)}, // the older form, still taken
	{name: "mpvideo", of: "mpvideo", rule: object(shape{
		{name: "media_id", need: required, rule: identifier},
		{name: "title", rule: anyText},
		{name: "description", rule: anyText},
	})},
	{name: "wxcard", of: "wxcard", rule: object(cardShape)},
	{name: "send_ignore_reprint", rule: flag},
}

var hasFilter = massShape.bit("filter")

// Bounds of a mass send's list. WeChat takes up to 10,000 openids in a call; a longer list becomes
// several calls when it is accepted.
const (
	minMassList = 2
	maxMassList = 1_000_000
)

// massFilter is everybody or one tag. WeChat's page leaves open what both together would mean, and a
// message to everybody is not the place to find out.
func massFilter(c *checker) {
	if !c.expect('{', "an object") {
		return
	}
	var toAll, tagged bool
	c.open()
	for c.next('}') {
		switch key := c.key(); string(key) {
		case "is_to_all":
			toAll = c.readBool()
		case "tag_id":
			tagged = true
			c.tagID()
		default:
			c.find(unknownField(key, []string{"is_to_all", "tag_id"}), "")
			c.skip()
		}
		c.endMember()
	}
	switch {
	case c.failed:
	case toAll && tagged:
		c.find("either is_to_all or tag_id, not both", "")
	case !toAll && !tagged:
		c.find("want is_to_all: true, or a tag_id", "")
	}
}

func (c *checker) readBool() bool {
	if ch := c.peek(); ch != 't' && ch != 'f' {
		c.expect('t', "true or false")
		return false
	}
	return string(c.literal()) == "true"
}

// tagID is a number, which WeChat's examples also write as a string.
func (c *checker) tagID() {
	var id []byte
	switch ch := c.peek(); {
	case ch == '"':
		id, _ = c.text()
	case ch == '-' || isDigit(ch):
		id = c.number()
	default:
		c.expect('0', "the number of a tag")
		return
	}
	if !allDigits(id) || len(id) > 18 {
		c.find("want the number of a tag", quoted(id))
	}
}

// massRecipients checks that the message goes to a list or by filter.
func (c *checker) massRecipients(m *Message, filtered bool) {
	switch {
	case m.To != "":
		c.findIn("to", "want a list of openids for mass", "a string")
	case m.List == nil && !filtered:
		c.findIn("to", "required: a list of openids, or a filter in the body", "")
	case m.List != nil && filtered:
		c.findIn("to", "either a list or mass.filter, not both", "")
	case filtered:
	case len(m.List) < minMassList:
		c.findIn("to", fmt.Sprintf("at least %d openids", minMassList), strconv.Itoa(len(m.List)))
	case len(m.List) > c.rules.maxList():
		c.findIn("to", fmt.Sprintf("at most %d openids", c.rules.maxList()), strconv.Itoa(len(m.List)))
	default:
		c.massList(m.List)
	}
}

func (c *checker) massList(list []OpenID) {
	places := make(map[OpenID]int, len(list))
	c.path.push("to")
	for i, openid := range list {
		c.path.pushIndex(i)
		c.openid(openid)
		if first, twice := places[openid]; twice {
			c.find(fmt.Sprintf("the same openid as to[%d]", first), "")
		} else {
			places[openid] = i
		}
		c.path.pop()
	}
	c.path.pop()
}

// massRange reads from a valid body whom its filter means.
func massRange(body []byte) string {
	var b struct {
		Filter struct {
			ToAll bool            `json:"is_to_all"`
			TagID json.RawMessage `json:"tag_id"`
		} `json:"filter"`
	}
	_ = json.Unmarshal(body, &b) // what is not valid has no range
	tag := string(bytes.Trim(b.Filter.TagID, `"`))
	switch {
	case b.Filter.ToAll:
		return "all"
	case tag != "":
		return "tag:" + tag
	}
	return ""
}
