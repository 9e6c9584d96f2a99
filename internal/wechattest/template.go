package wechattest

import (
	"slices"
	"strconv"
	"time"

	"github.com/cespare/xxhash/v2"
)

// sendTemplate is POST /cgi-bin/message/template/send
// (/doc/service/api/notify/template/api_sendtemplatemessage).
func sendTemplate(c *call) *refusal {
	n := readNotice(c.body)
	if bad := c.mayReceive(n.to, true); bad != nil {
		return bad
	}
	if bad := c.checkNotice(&n); bad != nil {
		return bad
	}
	return c.deliverTemplate(&n)
}

// A notice is the body of a template message or of a subscription notification.
type notice struct {
	to, template, clientID, page []byte
	miniProgram, data            []byte // as they stand
}

func readNotice(body []byte) notice {
	var n notice
	for f := fieldsOf(body); ; {
		name, value, ok := f.next()
		if !ok {
			return n
		}
		switch string(name) {
		case "touser":
			n.to = text(value)
		case "template_id":
			n.template = text(value)
		case "client_msg_id":
			n.clientID = text(value)
		case "page":
			n.page = text(value)
		case "miniprogram":
			n.miniProgram = value
		case "data":
			n.data = value
		}
	}
}

// mayReceive judges the recipient.
func (c *call) mayReceive(openid []byte, followersOnly bool) *refusal {
	if len(openid) == 0 {
		return refuse(openIDMissing)
	}
	a := c.account
	a.mu.Lock()
	defer a.mu.Unlock()
	u := a.users[string(openid)]
	switch {
	case u == nil && c.set.AnyOpenID:
		return nil
	case u == nil:
		return refuse(badOpenID)
	case u.blacklist:
		return refuse(inBlacklist)
	case followersOnly && !u.follows:
		return refuse(notFollowing)
	case u.refuses:
		return refuse(userRefuses)
	default:
		return nil
	}
}

// checkNotice judges template, mini program and values.
func (c *call) checkNotice(n *notice) *refusal {
	if len(n.template) == 0 {
		return refuse(badTemplateIDLength)
	}
	t := c.set.templates[string(n.template)]
	switch {
	case t == nil:
		return refuse(badTemplateID)
	case t.Code != 0:
		return refuse(t.Code)
	}
	if bad := c.checkMiniProgram(n.miniProgram, badPagePath); bad != nil {
		return bad
	}
	return t.checkData(n.data)
}

// checkMiniProgram: it must be bound to the account (40013), and its page must exist.
func (c *call) checkMiniProgram(object []byte, badPage int) *refusal {
	if len(object) == 0 || object[0] != '{' {
		return nil
	}
	appID := string(text(field(object, "appid")))
	page := string(text(field(object, "pagepath")))
	for _, m := range c.set.MiniPrograms {
		if m.AppID != appID {
			continue
		}
		path, _, _ := cutAny(page, "?#")
		if len(m.Pages) > 0 && page != "" && !slices.Contains(m.Pages, path) {
			return refuse(badPage)
		}
		return nil
	}
	return refuse(badAppID)
}

// checkData: every keyword of the template needs a value of its type. Other keys are ignored.
func (t *Template) checkData(data []byte) *refusal {
	if len(data) == 0 || data[0] != '{' {
		return refusef(badArgument, "argument invalid! data is empty")
	}
	for _, key := range t.Keys {
		value := text(field(field(data, key), "value"))
		if len(value) == 0 {
			return refusef(badArgument, "argument invalid! data.%s.value is empty", key)
		}
		if !validValue(key, value, t.Consts[key]) {
			return refusef(badArgument, "argument invalid! data.%s.value invalid", key)
		}
	}
	return nil
}

// deliverTemplate accepts the message, once for each client_msg_id.
func (c *call) deliverTemplate(n *notice) *refusal {
	id := c.sim.newMsgID()
	if len(n.clientID) > 0 {
		a := c.account
		key := duplicateKey{xxhash.Sum64(n.to), xxhash.Sum64(n.clientID)}
		a.mu.Lock()
		first, isNew := a.duplicates.claim(key, id, c.now)
		a.mu.Unlock()
		if !isNew {
			switch c.set.Duplicate {
			case Refused:
				return refuse(duplicateIn60s)
			case NewMsgID:
			default:
				id = first
			}
			c.giveMsgID(id)
			return nil
		}
	}
	c.accepted(n.to, n.clientID, contentHash(n.template, n.data), 1, id, 0)
	c.templateReceipt(n, id)
	c.giveMsgID(id)
	return nil
}

func (c *call) giveMsgID(id int64) {
	c.out = append(c.out, `{"errcode":0,"errmsg":"ok","msgid":`...)
	c.out = strconv.AppendInt(c.out, id, 10)
	c.out = append(c.out, '}')
}

// duplicates remembers client_msg_ids for 10 minutes, in two generations: whatever is asked for is in the
// younger or in the older one, and the older is dropped whole.
type duplicates struct {
	young, old map[duplicateKey]taken
	since      time.Time
}

type duplicateKey struct{ openid, clientID uint64 }

type taken struct {
	msgID int64
	at    int64
}

// claim takes the key for id; if it is taken already, it gives the msgid that has it.
func (d *duplicates) claim(key duplicateKey, id int64, now time.Time) (int64, bool) {
	if d.young == nil || now.Sub(d.since) >= clientIDMemory || now.Before(d.since) {
		d.old, d.young, d.since = d.young, map[duplicateKey]taken{}, now
	}
	t, ok := d.young[key]
	if !ok {
		t, ok = d.old[key]
	}
	if ok && now.UnixNano()-t.at < int64(clientIDMemory) {
		return t.msgID, false
	}
	d.young[key] = taken{id, now.UnixNano()}
	return id, true
}

// listTemplates is GET /cgi-bin/template/get_all_private_template.
func listTemplates(c *call) *refusal {
	c.out = append(c.out, `{"template_list":[`...)
	for i, t := range c.set.Templates {
		if i > 0 {
			c.out = append(c.out, ',')
		}
		c.out = quote(append(c.out, `{"template_id":`...), t.ID)
		c.out = quote(append(c.out, `,"title":`...), t.Title)
		c.out = quote(append(c.out, `,"primary_industry":"","deputy_industry":"","content":`...), t.contentOrKeys())
		c.out = append(c.out, `,"example":""}`...)
	}
	c.out = append(c.out, "]}"...)
	return nil
}

func (t *Template) contentOrKeys() string {
	if t.Content != "" {
		return t.Content
	}
	s := ""
	for _, k := range t.Keys {
		s += "{{" + k + ".DATA}}\n"
	}
	return s
}
