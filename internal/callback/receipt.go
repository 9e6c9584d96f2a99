package callback

import (
	"strconv"
	"strings"

	"github.com/hongyan-dispatch/hongyan/message"
)

// Blocked is the reason of a receipt whose user refuses the account's messages.
const Blocked = "user block"

// A Receipt says whether a message that WeChat accepted arrived.
type Receipt struct {
	Kind       message.Kind // Template or Subscribe
	MsgID      int64        // as the send was answered; 0 where WeChat forgot it, as it was seen to with client_msg_id
	TemplateID string       // of a subscription notice
	Delivered  bool
	Reason     string // why not, in WeChat's words; not all are documented. [Blocked] suppresses the user
	Code       int32  // ErrorCode of a subscription notice; -1 for none
}

// templateReceipt reads Status: success, failed:user block, failed: system failed, and undocumented ones such as
// failed:freq limit. What is not success is a failure.
// developers.weixin.qq.com/doc/service/guide/product/template_message/Template_Message_Interface.html.
func (p *Push) templateReceipt() Receipt {
	r := Receipt{Kind: message.Template, MsgID: p.MsgID}
	status := strings.TrimSpace(p.Status)
	word, reason, split := strings.Cut(status, ":")
	switch {
	case strings.EqualFold(status, "success"):
		r.Delivered = true
	case split && strings.EqualFold(strings.TrimSpace(word), "failed"):
		r.Reason = strings.TrimSpace(reason)
		if strings.EqualFold(r.Reason, Blocked) {
			r.Reason = Blocked
		}
	default:
		r.Reason = status
	}
	return r
}

// noticeReceipts reads the Lists of subscribe_msg_sent_event, one per notice. Refusals were answered at the send; what
// fails here is the system's failure.
func (p *Push) noticeReceipts() []Receipt {
	var all []Receipt
	for _, s := range p.Subscriptions {
		success := strings.EqualFold(strings.TrimSpace(s.ErrorStatus), "success")
		r := Receipt{
			Kind: message.Subscribe, MsgID: s.MsgID, TemplateID: s.TemplateID, Code: s.ErrorCode,
			Delivered: s.ErrorCode == 0 || s.ErrorCode < 0 && success,
		}
		if !r.Delivered {
			r.Reason = strings.TrimSpace(s.ErrorStatus)
		}
		all = append(all, r)
	}
	return all
}

// A MassReceipt says how a mass job ended. Even one that was sent may have missed a few users.
type MassReceipt struct {
	MsgID  int64 // msg_id of the send's answer
	Sent   bool
	Code   int32  // of Status err(code); 0 for none
	Reason string // why not: our words for a known code, else WeChat's Status
	Status string // as it came
	Job    MassJob
}

// massReasons are the codes of a mass job's Status.
// developers.weixin.qq.com/doc/service/guide/product/message/Batch_Sends.html (事件推送群发结果).
var massReasons = map[int32]string{
	10001: "suspected advertising",
	20001: "suspected politics",
	20002: "suspected pornography",
	20004: "suspected social harm",
	20006: "suspected crime",
	20008: "suspected fraud",
	20013: "suspected copyright infringement",
	21000: "suspected other violation",
	22000: "suspected mutual promotion",
	30001: "error of the originality check, and reprints were not to be sent",
	30002: "the originality check forbids sending",
	30003: "judged a reprint, and reprints were not to be sent",
	40001: "refused by an administrator",
	40002: "no administrator answered within 30 minutes",
}

// massReceipt reads Status. The words are compared without spaces, which differ between pushes.
func (p *Push) massReceipt() *MassReceipt {
	r := &MassReceipt{MsgID: p.MsgID, Status: p.Status}
	if p.Mass != nil {
		r.Job = *p.Mass
	}
	words := strings.ToLower(strings.Join(strings.Fields(p.Status), ""))
	switch inside, isErr := strings.CutPrefix(words, "err("); {
	case words == "sendsuccess":
		r.Sent = true
	case words == "sendfail":
		r.Reason = "failed"
	case isErr:
		if code, err := strconv.ParseInt(strings.TrimSuffix(inside, ")"), 10, 32); err == nil {
			r.Code = int32(code)
		}
		fallthrough
	default:
		if r.Reason = massReasons[r.Code]; r.Reason == "" {
			r.Reason = strings.TrimSpace(p.Status)
		}
	}
	return r
}
