package main

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/rivo/uniseg"

	"github.com/hongyan-dispatch/hongyan/internal/wechattest"
	"github.com/hongyan-dispatch/hongyan/message"
	"github.com/hongyan-dispatch/hongyan/outcome"
)

// A result is what the demo found out.
type result struct {
	Messages  int           `json:"messages"` // enqueued, and fallbacks
	Seconds   float64       `json:"seconds"`
	Accepted  int           `json:"accepted_by_simulator"`
	Outcomes  []line        `json:"outcomes"`
	Receipts  []receiptLine `json:"receipts"`
	Course    course        `json:"receipts_course"`
	AtEnqueue atEnqueue     `json:"refused_at_enqueue"`
	Welcomed  int           `json:"welcomed"`  // users who were answered in the callback of their following
	Fallbacks int           `json:"fallbacks"` // messages that went, or tried to go, instead of others
	Kicked    int64         `json:"refused_with_kicked_token"`
	Urgent    span          `json:"urgent_ms"`
	OverHTTP  overHTTPView  `json:"over_http"`
	Campaign  campaignView  `json:"campaign"`
	verdict
	example story
}

// An overHTTPView says what a producer did over the HTTP API.
type overHTTPView struct {
	Accepted int `json:"accepted"`
	Repeated int `json:"repeated"`
	Refused  int `json:"refused"`
	Taken    int `json:"taken_back"`
}

// A line of the table: messages of one kind with one end.
type line struct {
	Account string         `json:"account"`
	Kind    message.Kind   `json:"kind"`
	Status  outcome.Status `json:"status"`
	Reason  outcome.Reason `json:"reason,omitempty"`
	Count   int            `json:"count"`
	Meaning string         `json:"meaning"`
}

// A span is how long the messages of an act took from enqueue to outcome, in milliseconds.
type span struct {
	Median int64 `json:"median"`
	Most   int64 `json:"most"`
}

// result reads both sides and compares them.
func (d *director) result(ctx context.Context) (*result, error) {
	rows, err := d.rows(ctx)
	if err != nil {
		return nil, err
	}
	accepts := d.sim.AllAccepts()
	e := evidence{
		Produced: d.produced, Rows: rows, Accepts: accepts, State: d.sim.State(), Pushes: d.sim.Pushes(0), Kicks: d.kicks,
		Errand: d.errand, Tour: d.tour,
	}
	r := &result{
		Messages: len(rows), Seconds: d.took.Seconds(), Accepted: len(accepts),
		Outcomes: table(rows), Receipts: receiptLines(rows), Course: courseOf(e.Pushes), AtEnqueue: d.refused, Fallbacks: fallbacks(rows),
		Welcomed: welcomed(e.Pushes), Kicked: kicked(e.State), Urgent: spanOf(rows, actUrgent),
		OverHTTP: overHTTPView{d.errand.Accepted, len(d.errand.Again), len(d.errand.Refused), len(d.errand.Taken)},
		Campaign: d.tour.view(e.sendsOf(d.tour)), verdict: verify(e),
	}
	if r.example, err = d.story(ctx, rows, accepts); err != nil {
		return nil, err
	}
	return r, nil
}

func fallbacks(rows []row) int {
	n := 0
	for _, r := range rows {
		if !r.Parent.IsZero() {
			n++
		}
	}
	return n
}

// welcomed is how many users saw the passive reply.
func welcomed(pushes []wechattest.Push) (n int) {
	for _, p := range pushes {
		if strings.Contains(p.Shown, welcome) {
			n++
		}
	}
	return n
}

// kicked is how many calls of shop came with the token that somebody else's refresh had ended (40001).
func kicked(s wechattest.State) (n int64) {
	for _, account := range s.Accounts {
		for _, api := range account.APIs {
			n += api.Refused[40001]
		}
	}
	return n
}

func table(rows []row) []line {
	counts := map[line]int{}
	for _, r := range rows {
		counts[line{Account: r.Account, Kind: r.Kind, Status: r.Status, Reason: r.Reason}]++
	}
	var lines []line
	for l, n := range counts {
		l.Count, l.Meaning = n, meaning(l.Kind, l.Status, l.Reason)
		lines = append(lines, l)
	}
	slices.SortFunc(lines, func(a, b line) int {
		return cmp.Or(
			-strings.Compare(a.Account, b.Account), // shop first
			cmp.Compare(slices.Index(message.Kinds(), a.Kind), slices.Index(message.Kinds(), b.Kind)),
			cmp.Compare(place(a.Status), place(b.Status)),
			-cmp.Compare(a.Count, b.Count),
			strings.Compare(string(a.Reason), string(b.Reason)),
		)
	})
	return lines
}

// place orders the table: what went well first.
func place(s outcome.Status) int {
	return slices.Index([]outcome.Status{
		outcome.Sent, outcome.Unknown, outcome.Skipped, outcome.Failed, outcome.Expired, outcome.Cancelled, outcome.Parked,
	}, s)
}

func spanOf(rows []row, act string) span {
	var took []time.Duration
	for _, r := range rows {
		if r.Act == act && r.Status == outcome.Sent {
			took = append(took, r.Finished.Sub(r.Accepted))
		}
	}
	if len(took) == 0 {
		return span{}
	}
	slices.Sort(took)
	return span{Median: took[len(took)/2].Milliseconds(), Most: took[len(took)-1].Milliseconds()}
}

func (r *result) writeJSON(w io.Writer) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	e.SetEscapeHTML(false)
	return e.Encode(r)
}

// write prints the result for people.
func (r *result) write(w io.Writer) error {
	b := &strings.Builder{}
	fmt.Fprintf(b, "\nWhat became of %d messages, beside the campaign's, in %.1f s (the view outcomes in Postgres):\n\n", r.Messages, r.Seconds)
	rows := [][]string{{"", "kind", "status", "reason", "messages", "which means"}}
	account, kind := "", message.Kind("")
	for _, l := range r.Outcomes {
		cells := []string{
			l.Account + " " + chinese[l.Account], string(l.Kind) + " " + chinese[string(l.Kind)],
			string(l.Status), string(l.Reason), fmt.Sprint(l.Count), l.Meaning,
		}
		if l.Account == account { // said once
			cells[0] = ""
			if l.Kind == kind {
				cells[1] = ""
			}
		}
		account, kind = l.Account, l.Kind
		rows = append(rows, cells)
	}
	align(b, rows, 4)
	writeReceipts(b, r.Receipts, r.Course)
	if n := r.AtEnqueue; n.Duplicates+n.Conflicts > 0 {
		fmt.Fprintf(b, "\nTold at enqueue, and no message of their own: %d with the key and the body of an earlier message (its id came\n"+
			"back), %d with its key and another body (refused).\n", n.Duplicates, n.Conflicts)
	}
	fmt.Fprintf(b, "%d users who followed %s were welcomed in the answer to the callback itself (被动回复).\n", r.Welcomed, club)
	fmt.Fprintf(b, "%d of the template messages are fallbacks: they went instead of replies outside the window.\n", r.Fallbacks)
	o := r.OverHTTP
	fmt.Fprintf(b, "%d of them came over the HTTP API: %d were posted again and answered with the first id, %d taken back; %d requests were refused.\n",
		o.Accepted+o.Taken, o.Repeated, o.Taken, o.Refused)
	fmt.Fprintf(b, "Urgent messages took %d ms from enqueue to outcome (median; at most %d), in the midst of the campaign.\n", r.Urgent.Median, r.Urgent.Most)
	fmt.Fprintf(b, "%d calls were on their way with the access token that was refused: each was repeated with the new one.\n", r.Kicked)
	r.example.write(b)
	r.Campaign.write(b)

	fmt.Fprintf(b, "\nChecked against the simulator's own log of %d accepted sends:\n", r.Accepted)
	for _, held := range r.Held {
		fmt.Fprintf(b, "  ok    %s\n", held)
	}
	for i, difference := range r.Differences {
		const most = 20
		if i == most {
			fmt.Fprintf(b, "  …     and %d more\n", len(r.Differences)-most)
			break
		}
		fmt.Fprintf(b, "  WRONG %s\n", difference)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

var chinese = map[string]string{
	shop: "服务号", club: "订阅号",
	string(message.Template): "模板消息", string(message.Subscribe): "订阅通知",
	string(message.Custom): "客服消息", string(message.Mass): "群发",
}

// align writes a table; a Chinese character is two columns wide. The columns right are flush right.
func align(b *strings.Builder, rows [][]string, right ...int) {
	widths := make([]int, len(rows[0]))
	for _, cells := range rows {
		for i, cell := range cells {
			widths[i] = max(widths[i], uniseg.StringWidth(cell))
		}
	}
	for _, cells := range rows {
		var text strings.Builder
		for i, cell := range cells {
			space := strings.Repeat(" ", widths[i]-uniseg.StringWidth(cell))
			if slices.Contains(right, i) {
				text.WriteString(space + cell + "  ")
			} else {
				text.WriteString(cell + space + "  ")
			}
		}
		fmt.Fprintln(b, strings.TrimRight(text.String(), " "))
	}
}
