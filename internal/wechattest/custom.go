package wechattest

import (
	"time"
)

// sendCustom is POST /cgi-bin/message/custom/send
// (/doc/service/api/customer/message/api_sendcustommessage).
func sendCustom(c *call) *refusal {
	m := readCustom(c.body)
	if bad := c.mayBeAnswered(m.to); bad != nil {
		return bad
	}
	if bad := c.checkCustom(&m); bad != nil {
		return bad
	}
	if bad := c.takeWindow(m.to); bad != nil {
		return bad
	}
	c.accepted(m.to, nil, contentHash([]byte(m.kind), m.content), 1, 0, 0)
	c.ok()
	return nil
}

func (c *call) ok() { c.out = append(c.out, `{"errcode":0,"errmsg":"ok"}`...) }

type custom struct {
	to      []byte
	kind    string
	content []byte // the object under the name of the kind
}

func readCustom(body []byte) custom {
	m := custom{to: text(field(body, "touser")), kind: string(text(field(body, "msgtype")))}
	if m.kind != "" {
		m.content = field(body, m.kind)
	}
	return m
}

// mayBeAnswered judges the recipient of a customer-service message: one who does not follow is told by
// 45015, with the window.
func (c *call) mayBeAnswered(openid []byte) *refusal {
	bad := c.mayReceive(openid, false)
	if bad == nil && c.set.AnyOpenID {
		c.account.mu.Lock()
		defer c.account.mu.Unlock()
		c.account.user(string(openid))
	}
	return bad
}

// takeWindow uses up one answer of the user's window; only sends that are accepted use one up.
func (c *call) takeWindow(openid []byte) *refusal {
	a := c.account
	a.mu.Lock()
	defer a.mu.Unlock()
	u := a.users[string(openid)]
	code := outOfTime
	if c.set.AnyWindow {
		code = 0
	} else if u.follows && u.windows != nil {
		code = u.windows.take(c.now)
	}
	if code != 0 {
		u.closed++
		return refuse(code)
	}
	u.spoke = c.now
	return nil
}

// customKinds are the message types and the members that their object needs.
var customKinds = map[string][]string{
	"text":            {"content"},
	"image":           {"media_id"},
	"voice":           {"media_id"},
	"video":           {"media_id"},
	"music":           {"musicurl", "thumb_media_id"},
	"news":            {"articles"},
	"mpnews":          {"media_id"},
	"mpnewsarticle":   {"article_id"},
	"msgmenu":         {"list"},
	"wxcard":          {"card_id"},
	"miniprogrampage": {"appid", "pagepath", "thumb_media_id"},
}

func (c *call) checkCustom(m *custom) *refusal {
	needed, ok := customKinds[m.kind]
	if !ok {
		return refuse(badMsgType)
	}
	for _, name := range needed {
		value := field(m.content, name)
		if len(value) == 0 || string(value) == `""` || string(value) == "[]" || string(value) == "null" {
			return refuse(missing(m.kind, name))
		}
	}
	switch m.kind {
	case "text":
		if len(text(field(m.content, "content"))) > c.set.TextBytes {
			return refuse(textTooLong)
		}
	case "news":
		if len(elements(field(m.content, "articles"))) > 1 {
			return refuse(tooManyArticles)
		}
	case "miniprogrampage":
		if bad := c.checkMiniProgram(m.content, badPagePath); bad != nil {
			return bad
		}
	}
	for _, name := range []string{"media_id", "thumb_media_id"} {
		if id := text(field(m.content, name)); len(id) > 0 && !c.hasMedia(string(id)) {
			return refuse(badMediaID)
		}
	}
	return nil
}

func missing(kind, member string) int {
	switch {
	case kind == "text":
		return textEmpty
	case kind == "news":
		return articlesEmpty
	case member == "media_id", member == "thumb_media_id":
		return mediaIDMissing
	default:
		return badArgs
	}
}

// medium is temporary material.
type medium struct {
	kind string
	made time.Time
}

// hasMedia says whether the account has the material: permanent, or uploaded less than 3 days ago.
func (c *call) hasMedia(id string) bool {
	if c.set.AnyMedia || c.set.materials[id] {
		return true
	}
	c.account.mu.Lock()
	defer c.account.mu.Unlock()
	m, ok := c.account.media[id]
	return ok && c.now.Sub(m.made) < mediaLife
}

const (
	typingShows  = 15 * time.Second // how long the phone shows it; not documented
	typingWithin = 30 * time.Second // of the last exchange
)

// showTyping is POST /cgi-bin/message/custom/typing.
func showTyping(c *call) *refusal {
	to := text(field(c.body, "touser"))
	if bad := c.mayReceive(to, true); bad != nil {
		return bad
	}
	command := string(text(field(c.body, "command")))
	a := c.account
	a.mu.Lock()
	defer a.mu.Unlock()
	u := a.user(string(to))
	switch {
	case command != "Typing" && command != "CancelTyping":
		return refuse(badTypingCommand)
	case command == "CancelTyping":
		u.typing = time.Time{}
	case u.spoke.IsZero() || c.now.Sub(u.spoke) > typingWithin:
		return refuse(noRecentExchange)
	case c.now.Before(u.typing):
		return refuse(typingAlready)
	default:
		u.typing = c.now.Add(typingShows)
	}
	c.ok()
	return nil
}
