package message

import (
	"encoding/json"
	"strings"
	"testing"
)

func TestCustomBody(t *testing.T) {
	news := func(articles ...string) string {
		return `{"msgtype":"news","news":{"articles":[` + strings.Join(articles, ",") + `]}}`
	}
	const article = `{"title":"T","description":"D","url":"https://e.com","picurl":"https://e.com/a.jpg"}`
	checkBodies(t, Custom, []bodyCase{
		{"text", `{"msgtype":"text","text":{"content":"<a href=\"https://e.com\">您好</a>"}}`, ""},
		{"image", `{"msgtype":"image","image":{"media_id":"m"}}`, ""},
		{"voice", `{"msgtype":"voice","voice":{"media_id":"m"}}`, ""},
		{"video", `{"msgtype":"video","video":{"media_id":"m","thumb_media_id":"t","title":"T"}}`, ""},
		{"music", `{"msgtype":"music","music":{"title":"T","description":"D","musicurl":"http://e.com/a.mp3","hqmusicurl":"http://e.com/b.mp3","thumb_media_id":"t"}}`, ""},
		{"news", news(article), ""},
		{"mpnews", `{"msgtype":"mpnews","mpnews":{"media_id":"m"}}`, ""},
		{"mpnewsarticle", `{"msgtype":"mpnewsarticle","mpnewsarticle":{"article_id":"a"}}`, ""},
		{"msgmenu", `{"msgtype":"msgmenu","msgmenu":{"head_content":"满意吗？","list":[{"id":"101","content":"满意"},{"id":"102","content":"不满意"}],"tail_content":"谢谢"}}`, ""},
		{"wxcard", `{"msgtype":"wxcard","wxcard":{"card_id":"c"}}`, ""},
		{"miniprogrampage", `{"msgtype":"miniprogrampage","miniprogrampage":{"title":"T","appid":"wx1","pagepath":"p","thumb_media_id":"t"}}`, ""},
		{"an account of customer service and the mark of an AI", `{"text":{"content":"x"},"msgtype":"text","customservice":{"kf_account":"test1@kftest"},"aimsgcontext":{"is_ai_msg":1}}`, ""},
		{"a msgtype is required", `{"text":{"content":"x"}}`, "custom.msgtype: required"},
		{"a msgtype is one of the list", `{"msgtype":"link","text":{"content":"x"}}`, `custom.msgtype: want one of text, image, voice, video, music, news, mpnews, mpnewsarticle, msgmenu, wxcard, miniprogrampage (got "link")`},
		{"a msgtype is text", `{"msgtype":1,"text":{"content":"x"}}`, "custom.msgtype: want a string (got a number)"},
		{"the object of the msgtype is required", `{"msgtype":"text"}`, "custom.text: required: msgtype is text"},
		{"another msgtype's object is refused", `{"msgtype":"text","text":{"content":"x"},"image":{"media_id":"m"}}`, "custom.image: leave it out: msgtype is text"},
		{"a text is not empty", `{"msgtype":"text","text":{"content":""}}`, "custom.text.content: must not be empty"},
		{"a text of 2048 bytes", `{"msgtype":"text","text":{"content":"` + strings.Repeat("x", 2048) + `"}}`, ""},
		{"a text of more bytes", `{"msgtype":"text","text":{"content":"` + strings.Repeat("字", 683) + `"}}`, "custom.text.content: at most 2048 bytes (got 2049)"},
		{"a text's bytes are counted without escapes", `{"msgtype":"text","text":{"content":"` + strings.Repeat(`\n`, 2048) + `"}}`, ""},
		{"an id has no white space", `{"msgtype":"image","image":{"media_id":"m 1"}}`, `custom.image.media_id: no white space (got "m 1")`},
		{"a video has a thumb", `{"msgtype":"video","video":{"media_id":"m"}}`, "custom.video.thumb_media_id: required"},
		{"hqmusicurl is all lower case", `{"msgtype":"music","music":{"title":"T","description":"D","musicurl":"http://e.com/a","hqMusicUrl":"http://e.com/b","thumb_media_id":"t"}}`, "custom.music.hqMusicUrl: unknown field; want title, description, musicurl, hqmusicurl"},
		{"one article at most", news(article, article), "custom.news.articles: at most 1 (got 2)"},
		{"one article at least", news(), "custom.news.articles: must not be empty"},
		{"an article's url", news(`{"title":"T","description":"","url":"","picurl":""}`), "custom.news.articles[0].url: want a URL"},
		{"a menu's list", `{"msgtype":"msgmenu","msgmenu":{"list":[]}}`, "custom.msgmenu.list: must not be empty"},
		{"a menu's items", `{"msgtype":"msgmenu","msgmenu":{"list":[{"id":"1","content":"a"},{"id":2}]}}`, "custom.msgmenu.list[1].id: want a string (got a number); custom.msgmenu.list[1].content: required"},
		{"a customer-service account has an @", `{"msgtype":"text","text":{"content":"x"},"customservice":{"kf_account":"test1"}}`, `custom.customservice.kf_account: want a customer-service account such as test1@kftest (got "test1")`},
		{"is_ai_msg is 0 or 1", `{"msgtype":"text","text":{"content":"x"},"aimsgcontext":{"is_ai_msg":true}}`, "custom.aimsgcontext.is_ai_msg: want 0 or 1 (got true or false)"},
		{"clientmsgid is refused", `{"msgtype":"text","text":{"content":"x"},"clientmsgid":"1"}`, "custom.clientmsgid: leave it out"},
	})
}

func TestRulesSetTheLengthOfATextMessage(t *testing.T) {
	m := mustParse(t, textLine)
	m.Body = json.RawMessage(`{"msgtype":"text","text":{"content":"12345"}}`)
	wantError(t, Rules{CustomTextBytes: 5}.Validate(m, noon), "")
	wantError(t, Rules{CustomTextBytes: 4}.Validate(m, noon), "custom.text.content: at most 4 bytes (got 5)")
}
