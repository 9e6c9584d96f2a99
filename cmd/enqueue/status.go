package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/hongyan-dispatch/hongyan/client"
	"github.com/hongyan-dispatch/hongyan/internal/postgres"
	"github.com/hongyan-dispatch/hongyan/message"
	"github.com/hongyan-dispatch/hongyan/outcome"
)

type statusCommand struct {
	ID string `arg:"" help:"The message's id."`
}

func (*statusCommand) Help() string {
	return `Asks the ledger, so it needs a database (postgres.url or HONGYAN_DATABASE_URL).

Example:

  enqueue status 0198c0de-0000-7000-8000-000000000001 --json`
}

// statusView is what --json writes; its names are those of the SQL view outcomes.
type statusView struct {
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
	Receipt    *receiptView      `json:"receipt,omitempty"`
	Timeline   []stepView        `json:"timeline,omitempty"`
}

// receiptView is WeChat's last report on the message.
type receiptView struct {
	At        time.Time       `json:"at"`
	Delivered bool            `json:"delivered"`
	Reason    string          `json:"reason,omitempty"`
	Inferred  bool            `json:"inferred,omitempty"` // by user and time
	Job       json.RawMessage `json:"job,omitempty"`
}

func (r receiptView) String() string {
	text := "undelivered"
	if r.Delivered {
		text = "delivered"
	} else if r.Reason != "" {
		text += ": " + r.Reason
	}
	if r.Inferred {
		text += " (by user and time)"
	}
	return text + ", " + clock(r.At)
}

// counts is what a mass send's receipt tells besides; empty where it has none.
func (r receiptView) counts() string {
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

// lastReceipt is the last that came of a message; nil: none.
func lastReceipt(st postgres.Status) *receiptView {
	if len(st.Receipts) == 0 {
		return nil
	}
	r := receiptView(st.Receipts[len(st.Receipts)-1])
	return &r
}

type stepView struct {
	At      time.Time      `json:"at"`
	Status  outcome.Status `json:"status"`
	Reason  outcome.Reason `json:"reason,omitempty"`
	ErrCode int            `json:"errcode,omitempty"`
	ErrMsg  string         `json:"errmsg,omitempty"`
	RID     string         `json:"rid,omitempty"`
	Note    string         `json:"note,omitempty"`
}

// Run prints the message's state.
func (c *statusCommand) Run(ctx context.Context, s *session) error {
	id, err := message.ParseID(c.ID)
	if err != nil {
		return refuse("%w", err)
	}
	store, err := s.ledger(ctx)
	if err != nil {
		return err
	}
	defer store.Close()
	st, err := store.Status(ctx, id)
	if err != nil {
		return ledgerError(err, id)
	}
	view := viewOf(st)
	if s.json {
		return s.printJSON(view)
	}
	return view.table(s)
}

func viewOf(st postgres.Status) statusView {
	m := st.Message
	v := statusView{
		ID: m.ID, ParentID: m.Parent, ReplayOf: st.ReplayOf, ReplayedAs: st.ReplayedAs, Account: m.Account, Kind: m.Kind, Recipient: m.Recipient(), Key: m.Key, Lane: m.Lane,
		Status: st.State, Reason: st.Reason, ErrCode: st.ErrCode, MsgID: st.MsgID, Attempts: st.Attempts,
		AcceptedAt: m.ID.Time(), DueAt: st.Due, FinishedAt: st.Finished, Labels: m.Labels,
		Receipt: lastReceipt(st),
	}
	for _, step := range st.Timeline {
		v.Timeline = append(v.Timeline, stepView{step.At, step.State, step.Reason, step.ErrCode, step.ErrMsg, step.RID, step.Note})
	}
	return v
}

func (v statusView) table(s *session) error {
	w := tabwriter.NewWriter(s.stdout, 0, 0, 2, ' ', 0)
	row := func(name string, value any) {
		if text := strings.TrimSpace(fmt.Sprint(value)); text != "" && text != "0" {
			_, _ = fmt.Fprintf(w, "%s\t%s\n", name, text) // Flush tells
		}
	}
	row("id", v.ID)
	row("status", fmt.Sprintf("%s %s", v.Status, v.Reason))
	row("message", fmt.Sprintf("%s to %s of %s, %s", v.Kind, v.Recipient, v.Account, v.Lane))
	row("key", v.Key)
	if !v.ReplayOf.IsZero() {
		row("replay of", v.ReplayOf)
	}
	if !v.ReplayedAs.IsZero() {
		row("replayed as", v.ReplayedAs)
	}
	row("accepted", clock(v.AcceptedAt))
	row("due", clock(v.DueAt))
	row("finished", clock(v.FinishedAt))
	row("attempts", v.Attempts)
	row("errcode", v.ErrCode)
	row("msgid", v.MsgID)
	if v.Receipt != nil {
		row("receipt", v.Receipt)
	}
	for _, step := range v.Timeline {
		line := fmt.Sprintf("%s %s %s", step.Status, step.Reason, step.ErrMsg)
		if step.ErrCode != 0 {
			line += fmt.Sprintf(" (%d)", step.ErrCode)
		}
		row(clock(step.At), strings.Join(strings.Fields(line+" "+step.Note), " "))
	}
	return w.Flush()
}

// clock is a time for people; empty for none.
func clock(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.Local().Format("2006-01-02 15:04:05.000 MST")
}

// ledgerError says what an error of the ledger means for a message.
func ledgerError(err error, id message.ID) error {
	if errors.Is(err, postgres.ErrNotFound) {
		return fmt.Errorf("%s: %w", id, client.ErrNotFound)
	}
	return err
}
