package callback

import (
	"crypto/sha256"
	"encoding/hex"
	"strconv"
	"strings"
	"time"

	"github.com/hongyan-dispatch/hongyan/message"
)

// The MsgType of events, and the events that we know by name; compared without case.
// developers.weixin.qq.com/doc/service/guide/product/message/Receiving_event_pushes.html and, of menus,
// …/guide/product/menu/Custom_Menu_Push_Events.html.
const (
	typeEvent = "event"

	eventFollow       = "subscribe"
	eventUnfollow     = "unsubscribe"
	eventScan         = "SCAN"
	eventClick        = "CLICK"
	eventTemplateDone = "TEMPLATESENDJOBFINISH"
	eventMassDone     = "MASSSENDJOBFINISH"
	eventNoticeChoice = "subscribe_msg_popup_event"
	eventNoticeChange = "subscribe_msg_change_event"
	eventNoticeSent   = "subscribe_msg_sent_event"
)

// Far beyond what WeChat makes: an openid has 28 characters, a template's id 43. An index could not hold much longer ones.
const (
	maxOpenID     = 64
	maxTemplateID = 128
)

// scenePrefix stands before a QR code's scene in the EventKey of subscribe, not in that of SCAN.
const scenePrefix = "qrscene_"

// A Trigger is a user's action that allows customer-service messages. Its names are those of package window.
type Trigger string

// The triggers that a push can be. Paying is none: WeChat's pages disagree on it, and name no event of it.
const (
	NoTrigger      Trigger = ""
	MessageTrigger Trigger = "message"
	MenuTrigger    Trigger = "menu"
	FollowTrigger  Trigger = "follow"
	ScanTrigger    Trigger = "scan"
)

// A Presence is what a push says of the user's being there.
type Presence string

// The presences. Of two at one instant, Left counts.
const (
	NoPresence Presence = ""
	Followed   Presence = "followed" // lifts every older suppression of the user, but for refused templates
	Active     Presence = "active"   // lifts every older one that is not from leaving, nor a refused template
	Left       Presence = "left"     // closes the window, suppresses until Followed; the user's data must be deleted
)

// A Meaning is what a push changes.
type Meaning struct {
	Key      string         // equal for repetitions of one push; unique within the account; 32 hex digits, no openid in it
	User     message.OpenID // empty where the push names none, as of a mass job
	At       time.Time      // CreateTime: the order in which things happened, however they arrive
	Trigger  Trigger
	Presence Presence
	Scene    string   // of the QR code of a follow or scan
	Choices  []Choice // of templates that the user accepted or refused
	Receipts []Receipt
	Mass     *MassReceipt
	Known    bool // false: an event or message type that we have no rule for; it is kept and acknowledged
}

// A Choice is a user's acceptance or refusal of a template of subscription notices. Of two at one instant, the
// refusal counts.
type Choice struct {
	TemplateID string
	Refused    bool
}

// Meaning is what the push changes. It depends on the push alone.
func (p *Push) Meaning() Meaning {
	m := Meaning{Key: p.key(), User: p.FromUserName, At: p.CreateTime, Known: true}
	if p.MsgType == typeEvent {
		p.fromEvent(&m)
	} else {
		p.fromMessage(&m)
	}
	if !isToken(string(m.User), maxOpenID) { // nobody's window, nobody's choice; a receipt has its MsgID
		m.User, m.Trigger, m.Presence, m.Choices = "", NoTrigger, NoPresence, nil
	}
	return m
}

// fromEvent is the meaning of an event.
func (p *Push) fromEvent(m *Meaning) {
	switch strings.ToLower(p.Event) {
	case eventFollow:
		// With a QR code's scene it is one action, not two.
		m.Trigger, m.Presence = FollowTrigger, Followed
		m.Scene, _ = strings.CutPrefix(p.EventKey, scenePrefix)
	case eventUnfollow:
		m.Presence = Left
	case strings.ToLower(eventScan):
		m.Trigger, m.Presence, m.Scene = ScanTrigger, Active, p.EventKey
	case strings.ToLower(eventClick), "scancode_push", "scancode_waitmsg":
		m.Trigger, m.Presence = MenuTrigger, Active
	case "view", "view_miniprogram", "pic_sysphoto", "pic_photo_or_album", "pic_weixin", "location_select":
		m.Presence = Active // menus, too, but such as open no window
	case strings.ToLower(eventTemplateDone):
		m.Receipts = []Receipt{p.templateReceipt()}
	case eventNoticeSent:
		m.Receipts = p.noticeReceipts()
	case eventNoticeChoice, eventNoticeChange:
		m.Choices = p.choices()
	case strings.ToLower(eventMassDone):
		m.Mass, m.User = p.massReceipt(), "" // FromUserName is a helper account, or anybody
	case "location": // reported by the app by itself
	default:
		m.Known = false
	}
}

// fromMessage is the meaning of a user's message. A tap on an item of a msgmenu comes as a text and opens what a menu
// does, explicitly not what a message does (developers.weixin.qq.com/doc/service/guide/product/kf/intro.html).
func (p *Push) fromMessage(m *Meaning) {
	switch p.MsgType {
	case "text", "image", "voice", "video", "shortvideo", "location", "link":
		m.Trigger, m.Presence = MessageTrigger, Active
		if p.BizMsgMenuID != "" {
			m.Trigger = MenuTrigger
		}
	default:
		m.Known = false
	}
}

// choices are what the user accepted or refused; words that we do not know change nothing.
func (p *Push) choices() []Choice {
	var all []Choice
	for _, s := range p.Subscriptions {
		choice := strings.ToLower(strings.TrimSpace(s.Choice))
		if s.TemplateID != "" && len(s.TemplateID) <= maxTemplateID && (choice == "accept" || choice == "reject") {
			all = append(all, Choice{s.TemplateID, choice == "reject"})
		}
	}
	return all
}

// key tells pushes apart: a message by its MsgId, a job that is done by its event and MsgID, another event by its user,
// second, name and key, and by what its Lists name, since notices of one second differ in nothing else.
// developers.weixin.qq.com/doc/service/guide/product/message/Receiving_standard_messages.html (排重).
func (p *Push) key() string {
	event := strings.ToLower(p.Event)
	done := p.Is(eventTemplateDone) || p.Is(eventMassDone)
	switch {
	case p.MsgID != 0 && p.MsgType != typeEvent:
		return digest("message", strconv.FormatInt(p.MsgID, 10))
	case p.MsgID != 0 && done:
		return digest("done", event, strconv.FormatInt(p.MsgID, 10))
	}
	parts := []string{"event", p.MsgType, string(p.FromUserName), strconv.FormatInt(p.CreateTime.Unix(), 10), event, p.EventKey}
	if done { // MsgID 0: WeChat was seen to forget it
		parts = append(parts, strings.TrimSpace(p.Status))
	}
	for _, s := range p.Subscriptions {
		parts = append(parts, s.TemplateID, s.Choice, strconv.FormatInt(s.MsgID, 10))
	}
	return digest(parts...)
}

// digest is a short name of the parts; texts of pushes hold no NUL.
func digest(parts ...string) string {
	sum := sha256.Sum256([]byte(strings.Join(parts, "\x00")))
	return hex.EncodeToString(sum[:16])
}
