package config

import (
	"encoding/base64"
	"fmt"
	"net/url"
	"time"
)

// maxForwardTimeout leaves us the time to answer within WeChat's 5 s.
const maxForwardTimeout = 4 * time.Second

func (c *checker) callback(at string, b *Callback) {
	used := !b.AESKey.IsZero() || b.ForwardURL != "" || len(b.Replies) > 0 || !b.TokenPrevious.IsZero()
	c.rule(!used || !b.Token.IsZero(), at+".token", "missing while other keys of callback are given",
		"copy the Token from the console's server settings")
	needKey := !b.Token.IsZero() && b.Mode != "plain"
	c.rule(!needKey || !b.AESKey.IsZero(), at+".aes_key", "missing, although mode is "+b.Mode,
		"copy the EncodingAESKey from the console's server settings")
	c.aesKey(at+".aes_key", b.AESKey)
	c.aesKey(at+".aes_key_previous", b.AESKeyPrevious)
	if b.ForwardURL != "" {
		u, err := url.Parse(b.ForwardURL)
		c.rule(err == nil && u.Host != "" && (u.Scheme == "https" || u.Scheme == "http") && u.User == nil, at+".forward_url",
			"want an absolute http or https URL without a password", "")
		c.rule(b.ForwardTimeout > 0 && b.ForwardTimeout <= maxForwardTimeout, at+".forward_timeout",
			fmt.Sprintf("want more than 0 and at most %v, got %v", maxForwardTimeout, b.ForwardTimeout), "WeChat waits 5 s for us")
	}
	c.rule(b.ForwardURL == "" || len(b.Replies) == 0, at+".replies", "given together with forward_url",
		"leave the replies to the server that forward_url names, or drop it")
	for i, r := range b.Replies {
		c.reply(fmt.Sprintf("%s.replies[%d]", at, i), r)
	}
}

func (c *checker) aesKey(at string, s Secret) {
	key := s.Reveal()
	if key == "" {
		return
	}
	_, err := base64.StdEncoding.DecodeString(key + "=") // not Strict: real keys have spare bits set
	c.rule(len(key) == 43 && err == nil, at,
		fmt.Sprintf("want 43 letters and digits, got %d bytes", len(key)), "copy the EncodingAESKey whole")
}

// maxReplyArticles is how many cards a reply may have; to a message, one.
const maxReplyArticles = 8

func (c *checker) reply(at string, r Reply) {
	c.rule(r.Keyword == "" || r.Event == "", at, "keyword and event are both given", "make two rules of it")
	c.rule(!r.Contains || r.Keyword != "", at+".contains", "given without keyword", "")
	c.rule(r.Key == "" || r.Event != "", at+".key", "given without event", "")
	bodies := 0
	for _, given := range []bool{
		r.Text != "", r.Image != "", r.Voice != "", r.Video != VideoReply{}, r.Music != MusicReply{}, len(r.News) > 0, r.Transfer != TransferReply{},
	} {
		if given {
			bodies++
		}
	}
	c.rule(bodies == 1, at, fmt.Sprintf("want exactly one of text, image, voice, video, music, news, transfer, got %d", bodies), "")
	c.rule(r.Video == VideoReply{} || r.Video.MediaID != "", at+".video.media_id", "missing", "upload the film first")
	c.rule(r.Music == MusicReply{} || r.Music.ThumbMediaID != "", at+".music.thumb_media_id", "missing", "upload the thumbnail first")
	c.rule(r.Transfer == TransferReply{} || r.Transfer.Enabled, at+".transfer.enabled", "not true, although kf_account is given", "set it to true")
	most := maxReplyArticles
	if r.Event == "" {
		most = 1
	}
	c.rule(len(r.News) <= most, at+".news", fmt.Sprintf("want at most %d in answer to this, got %d", most, len(r.News)), "WeChat shows one card in answer to a message")
	for i, a := range r.News {
		c.rule(a.Title != "", fmt.Sprintf("%s.news[%d].title", at, i), "missing", "")
	}
}
