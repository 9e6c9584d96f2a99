package report

import (
	"encoding/json"
	"fmt"
	"strconv"
	"time"

	"github.com/hongyan-dispatch/hongyan/internal/postgres"
	"github.com/hongyan-dispatch/hongyan/message"
	"github.com/hongyan-dispatch/hongyan/outcome"
)

// A Message is how a message stands; its names are those of the SQL view outcomes.
type Message struct {
	ID         message.ID        `json:"id"`
	ParentID   message.ID        `json:"parent_id,omitzero"`
	ReplayOf   message.ID        `json:"replay_of,omitzero"`
	ReplayedAs message.ID        `json:"replayed_as,omitzero"`
	Account    string            `json:"account"`
	Kind       message.Kind      `json:"kind"`
	Recipient  string            `json:"recipient"`
	Key        string            `json:"key,omitempty"`
	Lane       message.Lane      `json:"lane"`
	Status     outcome.Status    `json:"status"`
	Reason     outcome.Reason    `json:"reason,omitempty"`
	ErrCode    int               `json:"errcode,omitempty"`
	MsgID      int64             `json:"wechat_msgid,omitempty"`
	Attempts   int               `json:"attempts"`
	AcceptedAt time.Time         `json:"accepted_at"`
	DueAt      time.Time         `json:"due_at,omitzero"`
	FinishedAt time.Time         `json:"finished_at,omitzero"`
	Labels     map[string]string `json:"labels,omitempty"`
	Receipt    *Receipt          `json:"receipt,omitempty"`
	Timeline   []Step            `json:"timeline"` // its whole way: accepted first, WeChat's receipts last
}

// A Receipt is WeChat's last report on the message.
type Receipt struct {
	At        time.Time       `json:"at"`
	Delivered bool            `json:"delivered"`
	Reason    string          `json:"reason,omitempty"`
	Inferred  bool            `json:"inferred,omitempty"` // by user and time
	Job       json.RawMessage `json:"job,omitempty"`
}

func (r Receipt) String() string {
	text := "undelivered"
	if r.Delivered {
		text = "delivered"
	} else if r.Reason != "" {
		text += ": " + r.Reason
	}
	if r.Inferred {
		text += " (by user and time)"
	}
	return text + ", " + Clock(r.At)
}

// Counts is what a mass send's receipt tells besides; empty where it has none.
func (r Receipt) Counts() string {
	var job *struct {
		Total    int64 `json:"total"`
		Filtered int64 `json:"filtered"`
		Sent     int64 `json:"sent"`
		Failed   int64 `json:"failed"`
	}
	if len(r.Job) == 0 || json.Unmarshal(r.Job, &job) != nil || job == nil {
		return ""
	}
	return fmt.Sprintf("; of %d users, %d after filters, it went to %d and failed for %d", job.Total, job.Filtered, job.Sent, job.Failed)
}

// LastReceipt is the last that came of a message; nil: none.
func LastReceipt(st postgres.Status) *Receipt {
	if len(st.Receipts) == 0 {
		return nil
	}
	r := Receipt(st.Receipts[len(st.Receipts)-1])
	return &r
}

// A Step is one step of its way. Beside the message's statuses there are delivered and undelivered.
type Step struct {
	At      time.Time      `json:"at"`
	Status  outcome.Status `json:"status"`
	Reason  outcome.Reason `json:"reason,omitempty"`
	ErrCode int            `json:"errcode,omitempty"`
	ErrMsg  string         `json:"errmsg,omitempty"`
	RID     string         `json:"rid,omitempty"`
	Note    string         `json:"note,omitempty"`
}

// MessageOf is the message as the ledger knows it.
func MessageOf(st postgres.Status) Message {
	m := st.Message
	v := Message{
		ID: m.ID, ParentID: m.Parent, ReplayOf: st.ReplayOf, ReplayedAs: st.ReplayedAs, Account: m.Account, Kind: m.Kind, Recipient: m.Recipient(), Key: m.Key, Lane: m.Lane,
		Status: st.State, Reason: st.Reason, ErrCode: st.ErrCode, MsgID: st.MsgID, Attempts: st.Attempts,
		AcceptedAt: m.ID.Time(), DueAt: st.Due, FinishedAt: st.Finished, Labels: m.Labels,
		Receipt: LastReceipt(st),
	}
	for _, step := range st.Way() {
		v.Timeline = append(v.Timeline, Step{step.At, step.State, step.Reason, step.ErrCode, step.ErrMsg, step.RID, step.Note})
	}
	return v
}

// Rate is a number of calls in a second for people, to three digits.
func Rate(perSecond float64) string {
	if perSecond >= 100 {
		return strconv.FormatFloat(perSecond, 'f', 0, 64)
	}
	return strconv.FormatFloat(perSecond, 'g', 3, 64)
}

// Clock is a time for people; empty for none.
func Clock(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.Local().Format("2006-01-02 15:04:05.000 MST")
}
