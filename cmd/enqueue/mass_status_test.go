package main

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/hongyan-dispatch/hongyan/internal/postgres"
	"github.com/hongyan-dispatch/hongyan/internal/report"
	"github.com/hongyan-dispatch/hongyan/outcome"
)

func TestMassStatusShowsTheReceipt(t *testing.T) {
	at := time.Now()
	job := json.RawMessage(`{"total": 80, "filtered": 75, "sent": 70, "failed": 5}`)
	for _, c := range []struct {
		name     string
		receipts []postgres.Report
		want     string // of its line; empty for no line
	}{
		{"none yet", nil, ""},
		{"sent, with counts", []postgres.Report{{At: at, Delivered: true, Job: job}}, "receipt: delivered, " + report.Clock(at) + "; of 80 users, 75 after filters, it went to 70 and failed for 5"},
		{"only WeChat's word, asked for", []postgres.Report{{At: at, Delivered: true}}, "receipt: delivered, " + report.Clock(at)},
		{"a job of nothing", []postgres.Report{{At: at, Delivered: true, Job: json.RawMessage(`null`)}}, "receipt: delivered, " + report.Clock(at)},
		{"refused", []postgres.Report{{At: at, Reason: "refused by an administrator"}}, "receipt: undelivered: refused by an administrator, " + report.Clock(at)},
		{"the last of two", []postgres.Report{{At: at.Add(-time.Hour), Delivered: true}, {At: at, Reason: "SEND_FAIL"}}, "receipt: undelivered: SEND_FAIL, " + report.Clock(at)},
	} {
		t.Run(c.name, func(t *testing.T) {
			st := massStatus{Status: outcome.Sent, MsgID: 31415, WeChat: "SEND_SUCCESS", Receipt: report.LastReceipt(postgres.Status{Receipts: c.receipts})}
			got := ""
			for line := range strings.Lines(st.String()) {
				if strings.HasPrefix(line, "receipt") {
					got = strings.TrimSpace(line)
				}
			}
			if got != c.want {
				t.Errorf("got %q\nwant %q", got, c.want)
			}
			text, err := json.Marshal(st)
			if err != nil || strings.Contains(string(text), `"receipt"`) != (c.want != "") {
				t.Errorf("%v, %s", err, text)
			}
		})
	}
}
