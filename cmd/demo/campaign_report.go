package main

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/hongyan-dispatch/hongyan/internal/wechattest"
	"github.com/hongyan-dispatch/hongyan/outcome"
)

// A campaignView is how the campaign went.
type campaignView struct {
	Name       string         `json:"name"`
	Rows       int64          `json:"rows"`
	Recipients int            `json:"recipients"`
	Duplicates int            `json:"duplicates"`
	Refused    int            `json:"refused"`
	Suppressed int            `json:"suppressed"`
	ImportMS   int64          `json:"import_ms"`
	Rejects    []rejectView   `json:"rejects"`
	Forecast   time.Time      `json:"forecast_done"`
	Started    time.Time      `json:"started_at"`
	Ended      time.Time      `json:"ended_at"`
	PausedAt   int            `json:"paused_at"` // recipients whose messages had ended
	PausedMS   int64          `json:"paused_ms"`
	StoppedMS  int64          `json:"stopped_ms"` // from the pause to the last send before the resumption
	PerSecond  float64        `json:"per_second"` // but for the pause
	Outcomes   []campaignLine `json:"outcomes"`
	Receipts   receiptLine    `json:"receipts"`
	checked    string
	imported   string
}

type rejectView struct {
	Line   int64  `json:"line"`
	Reason string `json:"reason"`
}

// A campaignLine counts recipients with one end.
type campaignLine struct {
	Status  outcome.Status `json:"status"`
	Reason  outcome.Reason `json:"reason,omitempty"`
	ErrCode int            `json:"errcode,omitempty"`
	Count   int            `json:"count"`
	Meaning string         `json:"meaning"`
}

// codes explain WeChat's refusals of a recipient.
var codes = map[int]string{
	40003: "WeChat refuses the user: no such openid",
	43004: "WeChat refuses the user: has left, of which nobody told us",
	43101: "WeChat refuses the user: has switched messages off",
}

func (t *tour) view(sends []wechattest.Accept) campaignView {
	a := t.imported
	v := campaignView{
		Name: t.name, Rows: t.crowd.lines - 1, Recipients: a.Recipients, Duplicates: a.Duplicates, Refused: a.Refused, Suppressed: a.Suppressed,
		ImportMS: t.took.Milliseconds(), Forecast: t.check.Forecast.Done, Started: t.started, Ended: t.ended, PausedAt: t.atPause,
		PausedMS: t.resumed.Sub(t.paused).Milliseconds(), StoppedMS: t.stopped(sends).Milliseconds(),
		checked: checkedText(t.check), imported: importedText(a),
	}
	for _, r := range t.rejects {
		v.Rejects = append(v.Rejects, rejectView{r.Line, r.Reason})
	}
	if took := t.ended.Sub(t.started) - t.resumed.Sub(t.paused); took > 0 {
		v.PerSecond = float64(a.Recipients) / took.Seconds()
	}
	counts := map[campaignLine]int{}
	for _, r := range t.rows {
		counts[campaignLine{Status: r.Status, Reason: r.Reason, ErrCode: r.ErrCode}]++
	}
	for l, n := range counts {
		l.Count = n
		if l.Meaning = codes[l.ErrCode]; l.Status == outcome.Sent || l.Meaning == "" {
			l.Meaning = meaning(t.rows[0].Kind, l.Status, l.Reason)
		}
		v.Outcomes = append(v.Outcomes, l)
	}
	slices.SortFunc(v.Outcomes, func(a, b campaignLine) int {
		return cmp.Or(cmp.Compare(place(a.Status), place(b.Status)), -cmp.Compare(a.Count, b.Count), cmp.Compare(a.ErrCode, b.ErrCode))
	})
	if lines := receiptLines(t.rows); len(lines) > 0 {
		v.Receipts = lines[0]
	}
	return v
}

func (v campaignView) write(b *strings.Builder) {
	fmt.Fprintf(b, "\nThe campaign %s:\n\n", v.Name)
	fmt.Fprintf(b, "  import  %d rows in %d ms: %s\n", v.Rows, v.ImportMS, v.imported)
	fmt.Fprintf(b, "  check   %s\n", v.checked)
	fmt.Fprintf(b, "  sent    from %s to %s, %.0f a second; paused after %d: the last one left %d ms later, nothing for the rest of %.1f s, then on\n\n",
		wall(v.Started), wall(v.Ended), v.PerSecond, v.PausedAt, v.StoppedMS, float64(v.PausedMS)/1000)
	rows := [][]string{{" ", "status", "reason", "errcode", "recipients", "which means"}}
	for _, l := range v.Outcomes {
		code := ""
		if l.ErrCode != 0 {
			code = fmt.Sprint(l.ErrCode)
		}
		rows = append(rows, []string{" ", string(l.Status), string(l.Reason), code, fmt.Sprint(l.Count), l.Meaning})
	}
	align(b, rows, 3, 4)
	fmt.Fprintf(b, "\n  receipts: %d delivered, %d undelivered (%s), %d none yet\n", v.Receipts.Delivered, v.Receipts.Undelivered,
		strings.Join(v.Receipts.Reasons, ", "), v.Receipts.NoneYet)
}

func wall(t time.Time) string { return t.In(wechattest.Beijing).Format("15:04:05") }
