package callback

import (
	"errors"
	"fmt"
)

// Success is the answer that acknowledges a push and says nothing to the user. It is never encrypted.
const Success = "success"

// A Reply is a passive reply (被动回复): an answer to a push that the user sees at once, outside every quota and
// window. It is one of [Text], [Image], [Voice], [Video], [Music], [News], [Transfer].
//
// developers.weixin.qq.com/doc/service/guide/product/message/Passive_user_reply_message.html.
type Reply interface {
	msgType() string
	check() error
	nodes() []out
}

// Text replies with words.
type Text struct{ Content string }

// Image replies with a picture that was uploaded.
type Image struct{ MediaID string }

// Voice replies with a recording that was uploaded.
type Voice struct{ MediaID string }

// Video replies with a film that was uploaded. Title and description may be empty.
type Video struct{ MediaID, Title, Description string }

// Music replies with a link to music. All but the thumbnail, which was uploaded, may be empty.
type Music struct{ Title, Description, URL, HQURL, ThumbMediaID string }

// News replies with cards: one to a message, up to eight to an event.
type News struct{ Articles []Article }

// An Article is a card of News.
type Article struct{ Title, Description, PicURL, URL string }

// Transfer hands the conversation to human customer service, to one account of it or, if empty, to any.
// developers.weixin.qq.com/doc/service/guide/product/kf/transfer.html.
type Transfer struct{ KfAccount string }

// maxArticles is how many cards an event may be answered with.
const maxArticles = 8

// CheckReply says what a reply lacks, for whoever reads one from a configuration.
func CheckReply(r Reply) error { return r.check() }

func (Text) msgType() string     { return "text" }
func (Image) msgType() string    { return "image" }
func (Voice) msgType() string    { return "voice" }
func (Video) msgType() string    { return "video" }
func (Music) msgType() string    { return "music" }
func (News) msgType() string     { return "news" }
func (Transfer) msgType() string { return "transfer_customer_service" }

func need(field, value string) error {
	if value == "" {
		return errors.New(field + ": missing")
	}
	return nil
}

func (r Text) check() error   { return need("content", r.Content) }
func (r Image) check() error  { return need("media_id", r.MediaID) }
func (r Voice) check() error  { return need("media_id", r.MediaID) }
func (r Video) check() error  { return need("media_id", r.MediaID) }
func (r Music) check() error  { return need("thumb_media_id", r.ThumbMediaID) }
func (Transfer) check() error { return nil }

func (r News) check() error {
	if n := len(r.Articles); n < 1 || n > maxArticles {
		return fmt.Errorf("articles: want 1 to %d, got %d", maxArticles, n)
	}
	return nil
}

func (r Text) nodes() []out  { return []out{text("Content", r.Content)} }
func (r Image) nodes() []out { return []out{group("Image", text("MediaId", r.MediaID))} }
func (r Voice) nodes() []out { return []out{group("Voice", text("MediaId", r.MediaID))} }

func (r Video) nodes() []out {
	return []out{group("Video", text("MediaId", r.MediaID), optional("Title", r.Title), optional("Description", r.Description))}
}

func (r Music) nodes() []out {
	return []out{group(
		"Music", optional("Title", r.Title), optional("Description", r.Description),
		optional("MusicUrl", r.URL), optional("HQMusicUrl", r.HQURL), text("ThumbMediaId", r.ThumbMediaID),
	)}
}

func (r News) nodes() []out {
	items := out{name: "Articles", items: true}
	for _, a := range r.Articles {
		items.children = append(items.children, group(
			"item", text("Title", a.Title), text("Description", a.Description), text("PicUrl", a.PicURL), text("Url", a.URL),
		))
	}
	return []out{number("ArticleCount", int64(len(r.Articles))), items}
}

func (r Transfer) nodes() []out {
	if r.KfAccount == "" {
		return nil
	}
	return []out{group("TransInfo", text("KfAccount", r.KfAccount))}
}

// envelope is the reply to a push, made at a Unix time. It goes to the user who sent the push, from the account.
func envelope(p *Push, r Reply, at int64) (out, error) {
	if err := r.check(); err != nil {
		return out{}, fmt.Errorf("reply %s: %w", r.msgType(), err)
	}
	if news, ok := r.(News); ok && p.MsgType != typeEvent && len(news.Articles) > 1 {
		return out{}, fmt.Errorf("reply news: articles: want 1 in reply to a message, got %d", len(news.Articles))
	}
	return group("xml", append([]out{
		text("ToUserName", string(p.FromUserName)),
		text("FromUserName", p.ToUserName),
		number("CreateTime", at),
		text("MsgType", r.msgType()),
	}, r.nodes()...)...), nil
}
