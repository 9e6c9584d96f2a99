package message

import (
	"bytes"
	"fmt"
)

// customShape is the body of a customer-service message (客服消息): msgtype, and one object of that name.
// The link and businessid types of the sister page belong to mini programs.
// https://developers.weixin.qq.com/doc/service/api/customer/message/api_sendcustommessage (read 2026-11-22)
var customShape = shape{
	{name: "msgtype", need: required, rule: msgtype},
	{name: "text", of: "text", rule: object(shape{{name: "content", need: required, rule: customText}})},
	{name: "image", of: "image", rule: object(mediaShape)},
	{name: "voice", of: "voice", rule: object(mediaShape)},
	{name: "video", of: "video", rule: object(shape{
		{name: "media_id", need: required, rule: identifier},
		{name: "thumb_media_id", need: required, rule: identifier},
		{name: "title", rule: anyText},
		{name: "description", rule: anyText},
	})},
	{name: "music", of: "music", rule: object(shape{
		{name: "title", need: required, rule: anyText},
		{name: "description", need: required, rule: anyText},
		{name: "musicurl", need: required, rule: mustLink},
		{name: "hqmusicurl", rule: link},
		{name: "thumb_media_id", need: required, rule: identifier},
	})},
	{name: "news", of: "news", rule: object(shape{
		{name: "articles", need: required, rule: list(maxArticles, object(shape{
			{name: "title", need: required, rule: words},
			{name: "description", need: required, rule: anyText},
			{name: "url", need: required, rule: mustLink},
			{name: "picurl", need: required, rule: link},
		}))},
	})},
	{name: "mpnews", of: "mpnews", rule: object(mediaShape)},
	{name: "mpnewsarticle", of: "mpnewsarticle", rule: object(shape{{name: "article_id", need: required, rule: identifier}})},
	{name: "msgmenu", of: "msgmenu", rule: object(shape{
		{name: "head_content", rule: anyText},
		{name: "list", need: required, rule: list(0, object(shape{
			{name: "id", need: required, rule: words},
			{name: "content", need: required, rule: words},
		}))},
		{name: "tail_content", rule: anyText},
	})},
	{name: "wxcard", of: "wxcard", rule: object(cardShape)},
	{name: "miniprogrampage", of: "miniprogrampage", rule: object(shape{
		{name: "title", need: required, rule: anyText},
		{name: "appid", need: required, rule: identifier},
		{name: "pagepath", need: required, rule: words},
		{name: "thumb_media_id", need: required, rule: identifier},
	})},
	{name: "customservice", rule: object(shape{{name: "kf_account", need: required, rule: kfAccount}})},
	{name: "aimsgcontext", rule: object(shape{{name: "is_ai_msg", need: required, rule: flag}})},
}

// Shapes that customer-service messages and mass sends share.
var (
	mediaShape = shape{{name: "media_id", need: required, rule: identifier}}
	cardShape  = shape{{name: "card_id", need: required, rule: identifier}}
)

// maxArticles is how many articles a news message may link to; old pages say 8.
const maxArticles = 1

// customText is the text that the user reads, its length judged in bytes.
func customText(c *checker) {
	text, ok := c.readText()
	switch limit := c.rules.customTextBytes(); {
	case !ok:
	case len(text) == 0:
		c.find("must not be empty", "")
	case len(text) > limit:
		c.find(fmt.Sprintf("at most %d bytes", limit), fmt.Sprint(len(text)))
	}
}

// kfAccount is the customer-service account that the message seems to come from, such as test1@kftest.
func kfAccount(c *checker) {
	text, ok := c.readText()
	if !ok {
		return
	}
	name, home, found := bytes.Cut(text, []byte("@"))
	if !found || len(name) == 0 || len(home) == 0 || len(text) > maxIDBytes || hasSpace(text) {
		c.find("want a customer-service account such as test1@kftest", quoted(text))
	}
}
