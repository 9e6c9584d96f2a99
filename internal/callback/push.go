package callback

import (
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/hongyan-dispatch/hongyan/message"
)

// A Push is what WeChat told, of either form: a message of a user, or an event. Fields that it does not have are
// empty. Events that we do not know have their Event and EventKey; their whole body is [Delivery.Plain].
//
// developers.weixin.qq.com/doc/service/guide/product/message/Receiving_standard_messages.html and
// …/Receiving_event_pushes.html.
type Push struct {
	ToUserName   string         // the account's gh_ name
	FromUserName message.OpenID // who did it; of a mass job, nobody
	CreateTime   time.Time      // whole seconds
	MsgType      string         // text, image, …, or event
	MsgID        int64          // MsgId of a message, MsgID of a job that is done; 0 for none

	Content      string // of a text
	BizMsgMenuID string // of a text that is a tap on a menu that we sent as a message (msgmenu)
	Event        string // as WeChat writes it; compared without case
	EventKey     string // the menu's key, the scene of a QR code
	Ticket       string // of a QR code

	Status        string         // of a job that is done, such as success or err(30003)
	Subscriptions []Subscription // of subscribe_msg_* events
	Mass          *MassJob       // of MASSSENDJOBFINISH
}

// A Subscription is a List of a subscribe_msg_* event: a template that the user accepted or refused, or a notice that
// arrived or did not. developers.weixin.qq.com/doc/service/guide/product/template_message/ (订阅通知).
type Subscription struct {
	TemplateID  string
	Choice      string // SubscribeStatusString: accept, reject
	PopupScene  string
	MsgID       int64
	ErrorCode   int32 // of a sent event; 0 is success, -1 means that there was none
	ErrorStatus string
}

// A MassJob is the rest of MASSSENDJOBFINISH. The counts are pushed when the job is about to end, and deviate slightly.
// developers.weixin.qq.com/doc/service/guide/product/message/Batch_Sends.html.
type MassJob struct {
	TotalCount  int64 // followers under the tag, or openids of the list
	FilterCount int64 // of these, those to whom it could go
	SentCount   int64
	ErrorCount  int64
	CheckState  int64 // 1 no reprint, 2 reprint that may be sent, 3 reprint that may not; 0 for no articles
	Copyright   []CopyrightCheck
	URLs        []ArticleURL
}

// A CopyrightCheck is an item of CopyrightCheckResult.
type CopyrightCheck struct {
	ArticleIdx          int64  // from 1
	UserDeclareState    int64  // 0 none, 1 original, 2 reprint
	AuditState          int64  // 0 not checked, 1 checking, 11 passed, others not passed
	OriginalArticleURL  string // of the article that it is like
	OriginalArticleType int64  // 1 original, 2 old and not original, 3 news, 4 black
	CanReprint          bool
	NeedReplaceContent  bool
	NeedShowReprint     bool
}

// An ArticleURL is an item of ArticleUrlResult.
type ArticleURL struct {
	ArticleIdx int64 // from 1
	URL        string
}

// Is says whether the push is that event. WeChat's case varies; documents and pushes disagree.
func (p *Push) Is(event string) bool {
	return p.MsgType == typeEvent && strings.EqualFold(p.Event, event)
}

// newPush reads a tree. Numbers must be numbers where we know the push; of an unknown event they are left alone.
func newPush(n *node) (*Push, error) {
	p := &Push{
		ToUserName:   n.get("ToUserName"),
		FromUserName: message.OpenID(n.get("FromUserName")),
		MsgType:      n.get("MsgType"),
		Content:      n.get("Content"),
		BizMsgMenuID: n.get("bizmsgmenuid"),
		Event:        n.get("Event"),
		EventKey:     n.get("EventKey"),
		Ticket:       n.get("Ticket"),
		Status:       n.get("Status"),
	}
	if p.MsgType == "" {
		return nil, errIncomplete
	}
	r := numbers{}
	created := r.read(n, "CreateTime")
	if r.bad || created <= 0 || created > math.MaxInt32*4 { // until 2242; far from where time's own forms end
		return nil, errNoTime
	}
	p.CreateTime = time.Unix(created, 0)
	switch {
	case p.MsgType != typeEvent:
		p.MsgID = r.read(n, "MsgId")
	case p.Is(eventTemplateDone):
		p.MsgID = r.read(n, "MsgID")
	case p.Is(eventMassDone):
		p.MsgID = r.read(n, "MsgID")
		p.Mass = r.mass(n)
	case p.Is(eventNoticeChoice):
		p.Subscriptions = r.subscriptions(n, "SubscribeMsgPopupEvent")
	case p.Is(eventNoticeChange):
		p.Subscriptions = r.subscriptions(n, "SubscribeMsgChangeEvent")
	case p.Is(eventNoticeSent):
		p.Subscriptions = r.subscriptions(n, "SubscribeMsgSentEvent")
	}
	if r.bad {
		return nil, errNumber
	}
	return p, nil
}

// numbers reads whole numbers and remembers whether one was none.
type numbers struct{ bad bool }

// read is the number of a child; 0 without one.
func (r *numbers) read(n *node, name string) int64 { return r.parse(n, name, 0, 64) }

// code is the error code of a child; -1 without one.
func (r *numbers) code(n *node, name string) int32 { return int32(r.parse(n, name, -1, 32)) }

func (r *numbers) parse(n *node, name string, missing int64, bits int) int64 {
	text := strings.TrimSpace(n.get(name))
	if text == "" {
		return missing
	}
	v, err := strconv.ParseInt(text, 10, bits)
	if err != nil {
		r.bad = true
	}
	return v
}

// subscriptions reads the List nodes; the JSON form was seen without the wrapper, too.
func (r *numbers) subscriptions(n *node, wrapper string) []Subscription {
	var all []Subscription
	for _, l := range append(n.child(wrapper).all("List"), n.all("List")...) {
		all = append(all, Subscription{
			TemplateID:  l.get("TemplateId"),
			Choice:      l.get("SubscribeStatusString"),
			PopupScene:  l.get("PopupScene"),
			MsgID:       r.read(l, "MsgID"),
			ErrorCode:   r.code(l, "ErrorCode"),
			ErrorStatus: l.get("ErrorStatus"),
		})
	}
	return all
}

// mass reads a mass job. Where no articles were sent the ResultLists are empty, or missing.
func (r *numbers) mass(n *node) *MassJob {
	check := n.child("CopyrightCheckResult")
	job := &MassJob{
		TotalCount:  r.read(n, "TotalCount"),
		FilterCount: r.read(n, "FilterCount"),
		SentCount:   r.read(n, "SentCount"),
		ErrorCount:  r.read(n, "ErrorCount"),
		CheckState:  r.read(check, "CheckState"),
	}
	for _, item := range results(check) {
		job.Copyright = append(job.Copyright, CopyrightCheck{
			ArticleIdx:          r.read(item, "ArticleIdx"),
			UserDeclareState:    r.read(item, "UserDeclareState"),
			AuditState:          r.read(item, "AuditState"),
			OriginalArticleURL:  item.get("OriginalArticleUrl"),
			OriginalArticleType: r.read(item, "OriginalArticleType"),
			CanReprint:          r.read(item, "CanReprint") != 0,
			NeedReplaceContent:  r.read(item, "NeedReplaceContent") != 0,
			NeedShowReprint:     r.read(item, "NeedShowReprintSource") != 0,
		})
	}
	for _, item := range results(n.child("ArticleUrlResult")) {
		job.URLs = append(job.URLs, ArticleURL{r.read(item, "ArticleIdx"), item.get("ArticleUrl")})
	}
	return job
}

// results are the items of a ResultList: item nodes of the XML form, an array of the JSON form.
func results(n *node) []*node {
	var items []*node
	for _, list := range n.all("ResultList") {
		if list.has("item") {
			items = append(items, list.all("item")...)
		} else if len(list.children) > 0 {
			items = append(items, list)
		}
	}
	return items
}
