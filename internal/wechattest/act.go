package wechattest

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"time"
)

// An Action is what a user, or the account about a user, does.
type Action string

// The actions; those that are also a [Trigger] open its window.
const (
	Message     Action = "message"
	Menu        Action = "menu"
	Follow      Action = "follow"
	Scan        Action = "scan"
	Pay         Action = "pay"         // of which no push tells
	Tap         Action = "tap"         // on an item of a msgmenu: opens the window of a menu
	View        Action = "view"        // a menu button that leads to a page: opens none
	Unsubscribe Action = "unsubscribe" // closes every window
	Refuse      Action = "refuse"      // switches messages off: 43101; no push tells of it
	Allow       Action = "allow"       // and on again
	Block       Action = "block"       // the same, found out late: template messages are accepted, and their receipt says failed:user block
	Unblock     Action = "unblock"
	Agree       Action = "agree"     // subscribes to notices of the templates (subscribe_msg_popup_event), one of each
	Decline     Action = "decline"   // refuses them when asked (subscribe_msg_popup_event)
	SwitchOff   Action = "switchoff" // refuses them later, in the settings (subscribe_msg_change_event)
	Blacklist   Action = "blacklist" // the account bans the user
	Unblacklist Action = "unblacklist"
)

var actions = []Action{
	Message, Menu, Follow, Scan, Pay, Tap, View, Unsubscribe, Refuse, Allow, Block, Unblock,
	Agree, Decline, SwitchOff, Blacklist, Unblacklist,
}

// A Deed is an action with what belongs to it. What is left out is something plausible.
type Deed struct {
	Action    Action   `yaml:"action"`
	Type      string   `yaml:"type"`      // of a message: text, image, voice, video, shortvideo, location or link
	Text      string   `yaml:"text"`      // of a text, or of the item that was tapped
	Key       string   `yaml:"key"`       // of a menu's button or item; the scene of a QR code
	Templates []string `yaml:"templates"` // of agree, decline and switchoff
}

// Act lets a user act now. A user who writes, clicks or scans follows the account. An account with a
// callback is told.
func (a *Account) Act(openid string, action Action) error { return a.Do(openid, Deed{Action: action}) }

// Do is Act with what belongs to the action.
func (a *Account) Do(openid string, d Deed) error {
	if err := d.check(); err != nil {
		return err
	}
	if openid == "" {
		return errors.New("openid is missing")
	}
	now, set := a.sim.Clock.Now(), a.set.Load()
	a.mu.Lock()
	defer a.mu.Unlock()
	u := a.user(openid)
	switch d.Action {
	case Unsubscribe:
		u.follows, u.windows = false, nil
	case Refuse, Allow:
		u.refuses = d.Action == Refuse
	case Block, Unblock:
		u.blocks = d.Action == Block
	case Blacklist, Unblacklist:
		u.blacklist = d.Action == Blacklist
	case Agree, Decline, SwitchOff:
		u.choose(d)
	case View:
		u.follows = true
	default:
		u.act(d.trigger(), set, now)
	}
	if nodes := d.nodes(a.sim); set.callback != nil && nodes != nil { // under the lock: pushes come in the order of the deeds
		a.sim.pushes.add(a, event{user: openid, at: now, nodes: nodes}, set.callback.Actions)
	}
	return nil
}

func (d Deed) check() error {
	if !slices.Contains(actions, d.Action) {
		return fmt.Errorf("action %q is none of %v", d.Action, actions)
	}
	if d.Action == Message && d.Type != "" && messageNodes[d.Type] == nil {
		return fmt.Errorf("type %q is none of text, image, voice, video, shortvideo, location, link", d.Type)
	}
	if len(d.Templates) == 0 && (d.Action == Agree || d.Action == Decline || d.Action == SwitchOff) {
		return fmt.Errorf("action %s: templates are missing", d.Action)
	}
	return nil
}

// trigger is the window that the deed opens.
func (d Deed) trigger() Trigger {
	if d.Action == Tap {
		return ByMenu
	}
	return Trigger(d.Action)
}

func (u *user) act(t Trigger, set *settings, now time.Time) {
	if u.windows == nil {
		u.windows = &windows{}
	}
	u.follows, u.spoke = true, now
	u.windows.act(t, set.window[t], set.Combine, now)
}

// choose gives or takes permissions for notices.
func (u *user) choose(d Deed) {
	if u.paid == nil {
		u.paid = map[string]int{}
	}
	for _, t := range d.Templates {
		switch {
		case d.Action != Agree:
			delete(u.paid, t)
		case u.paid[t] >= 0:
			u.paid[t]++
		}
	}
}

// messageNodes are the nodes of the types of messages.
var messageNodes = map[string]func(Deed) []node{
	"text": func(d Deed) []node { return []node{textNode("Content", cmp.Or(d.Text, "你好"))} },
	"image": func(Deed) []node {
		return []node{textNode("PicUrl", "http://mmbiz.qpic.cn/sim"), textNode("MediaId", "sim-image")}
	},
	"voice":      func(Deed) []node { return []node{textNode("MediaId", "sim-voice"), textNode("Format", "amr")} },
	"video":      videoNodes,
	"shortvideo": videoNodes,
	"location": func(Deed) []node {
		return []node{
			textNode("Location_X", "39.908"), textNode("Location_Y", "116.397"), numberNode("Scale", 16), textNode("Label", "天安门"),
		}
	},
	"link": func(Deed) []node {
		return []node{textNode("Title", "公众平台"), textNode("Description", "官网"), textNode("Url", "https://mp.weixin.qq.com")}
	},
}

func videoNodes(Deed) []node {
	return []node{textNode("MediaId", "sim-video"), textNode("ThumbMediaId", "sim-thumb")}
}

// nodes are what the push tells of the deed; nil if there is none.
func (d Deed) nodes(s *Sim) []node {
	message := func(kind string, nodes ...node) []node {
		return append(append([]node{textNode("MsgType", kind)}, nodes...), numberNode("MsgId", s.newMsgID()))
	}
	happened := func(name string, nodes ...node) []node {
		return append([]node{textNode("MsgType", "event"), textNode("Event", name)}, nodes...)
	}
	ticket := textNode("Ticket", "gQEz8DwAAAAAAAAAAS5odHRwOi8vd2VpeGluLnFxLmNvbS9xL3NpbQ")
	switch d.Action {
	case Message:
		kind := cmp.Or(d.Type, "text")
		return message(kind, messageNodes[kind](d)...)
	case Tap:
		return message("text", textNode("Content", cmp.Or(d.Text, "满意")), textNode("bizmsgmenuid", cmp.Or(d.Key, "101")))
	case Menu:
		return happened("CLICK", textNode("EventKey", cmp.Or(d.Key, "MENU_1")))
	case View:
		return happened("VIEW", textNode("EventKey", cmp.Or(d.Key, "https://example.com/")), textNode("MenuId", "MENU_2"))
	case Follow:
		if d.Key != "" {
			return happened("subscribe", textNode("EventKey", "qrscene_"+d.Key), ticket)
		}
		return happened("subscribe", textNode("EventKey", ""))
	case Unsubscribe:
		return happened("unsubscribe", textNode("EventKey", ""))
	case Scan:
		return happened("SCAN", textNode("EventKey", cmp.Or(d.Key, "1")), ticket)
	case Agree, Decline:
		word := map[Action]string{Agree: "accept", Decline: "reject"}[d.Action]
		return happened("subscribe_msg_popup_event", list("SubscribeMsgPopupEvent", d.choices(word, numberNode("PopupScene", 1))))
	case SwitchOff:
		return happened("subscribe_msg_change_event", list("SubscribeMsgChangeEvent", d.choices("reject")))
	default:
		return nil
	}
}

func (d Deed) choices(word string, more ...node) []node {
	var all []node
	for _, t := range d.Templates {
		all = append(all, group("List", append([]node{textNode("TemplateId", t), textNode("SubscribeStatusString", word)}, more...)...))
	}
	return all
}
