package wechattest

import (
	"fmt"
	"time"
)

// The words of receipts. System failures of a notice have no documented code.
const (
	statusSuccess      = "success"
	statusBlocked      = "failed:user block"
	statusSystemFailed = "failed: system failed"
	massSent           = "send success"
	massRefused        = "err(40001)" // by the administrator
	noticeFailed       = 1
)

// receipt makes the push about a message that was accepted. An early one has come when the call is answered.
func (c *call) receipt(e event) {
	e.at, e.early = c.now, c.sim.chance(c.set.callback.Receipts.Early)
	first := c.sim.pushes.add(c.account, e, c.set.callback.Receipts.Fortune)
	if e.early {
		c.early = first
	}
}

// templateReceipt is TEMPLATESENDJOBFINISH.
func (c *call) templateReceipt(n *notice, id int64) {
	if c.set.callback == nil {
		return
	}
	r := c.set.callback.Receipts
	status := statusSuccess
	switch {
	case c.blocked(n.to):
		status = statusBlocked
	case c.sim.chance(r.Failed):
		status = statusSystemFailed
	}
	told := id
	if len(n.clientID) > 0 && c.sim.chance(r.NoMsgID) {
		told = 0
	}
	c.receipt(event{user: string(n.to), msgID: id, status: status, nodes: []node{
		textNode("MsgType", "event"), textNode("Event", "TEMPLATESENDJOBFINISH"), numberNode("MsgID", told), textNode("Status", status),
	}})
}

func (c *call) blocked(openid []byte) bool {
	c.account.mu.Lock()
	defer c.account.mu.Unlock()
	u := c.account.users[string(openid)]
	return u != nil && u.blocks
}

// noticeReceipt is subscribe_msg_sent_event.
func (c *call) noticeReceipt(n *notice, id int64) {
	if c.set.callback == nil {
		return
	}
	code, status := int64(0), statusSuccess
	if c.sim.chance(c.set.callback.Receipts.Failed) {
		code, status = noticeFailed, "system failed"
	}
	c.receipt(event{user: string(n.to), msgID: id, status: status, nodes: []node{
		textNode("MsgType", "event"), textNode("Event", "subscribe_msg_sent_event"),
		list("SubscribeMsgSentEvent", []node{group("List",
			textNode("TemplateId", string(n.template)), numberNode("MsgID", id),
			numberNode("ErrorCode", code), textNode("ErrorStatus", status),
		)}),
	}})
}

// massEvent is MASSSENDJOBFINISH. It needs Account.mu, under which it is also added.
func (j *job) massEvent(set *settings, at time.Time, status string) event {
	failed := int64(0)
	sent := int64(j.sent)
	if status == massSent && set.callback != nil {
		failed = int64(set.callback.Receipts.Failed * float64(sent))
	}
	articles := set.Mass.Articles
	if j.kind != "mpnews" {
		articles = 0
	}
	return event{
		user: "mphelper", at: at, msgID: j.id, status: status, nodes: append([]node{
			textNode("MsgType", "event"), textNode("Event", "MASSSENDJOBFINISH"),
			numberNode("MsgID", j.id), textNode("Status", status),
			numberNode("TotalCount", int64(j.total)), numberNode("FilterCount", sent),
			numberNode("SentCount", sent-failed), numberNode("ErrorCount", failed),
		}, articleResults(articles, status, j.dataID)...),
	}
}

// articleResults are what a mass job says of its articles; of what is none, empty lists.
func articleResults(n int, status string, dataID int64) []node {
	var checks, urls []node
	state := int64(0)
	for i := range n {
		idx := numberNode("ArticleIdx", int64(i+1))
		declared, verdict, like := int64(0), int64(0), ""
		if status != massSent {
			declared, verdict, like = 2, 2, "http://mp.weixin.qq.com/s?original"
		}
		checks = append(checks, group("item",
			idx, numberNode("UserDeclareState", declared), numberNode("AuditState", verdict),
			textNode("OriginalArticleUrl", like), numberNode("OriginalArticleType", declared/2),
			numberNode("CanReprint", declared/2), numberNode("NeedReplaceContent", declared/2), numberNode("NeedShowReprintSource", declared/2),
		))
		if state = 1; status != massSent {
			state = 3
		} else {
			urls = append(urls, group("item", idx, textNode("ArticleUrl", fmt.Sprintf("http://mp.weixin.qq.com/s?__biz=SIM&mid=%d&idx=%d", dataID, i+1))))
		}
	}
	return []node{
		group("CopyrightCheckResult", numberNode("Count", int64(n)), list("ResultList", checks), numberNode("CheckState", state)),
		group("ArticleUrlResult", numberNode("Count", int64(len(urls))), list("ResultList", urls)),
	}
}

// massReceipt tells of a job that has ended, after the time that jobs take. It needs Account.mu.
func (a *Account) massReceipt(j *job, set *settings, now time.Time, status string, early bool) (first <-chan struct{}) {
	if set.callback == nil {
		return nil
	}
	f := set.callback.Receipts.Fortune
	f.Delay.Min += set.Mass.JobTime
	f.Delay.Max = max(f.Delay.Max+set.Mass.JobTime, f.Delay.Min)
	e := j.massEvent(set, now, status)
	e.early = early
	return a.sim.pushes.add(a, e, f)
}
