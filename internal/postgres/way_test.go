package postgres

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/hongyan-dispatch/hongyan/message"
	"github.com/hongyan-dispatch/hongyan/outcome"
)

func TestTheWayOfAMessage(t *testing.T) {
	start := time.Date(2026, 11, 28, 9, 0, 0, 0, time.UTC)
	at := func(seconds int) time.Time { return start.Add(time.Duration(seconds) * time.Second) }
	for name, c := range map[string]struct {
		status Status
		want   string
	}{
		"accepted":       {Status{State: outcome.Accepted}, "0 accepted"},
		"on its way":     {Status{State: outcome.Sending}, "0 accepted"},
		"plain":          {Status{State: outcome.Sent, Finished: at(2)}, "0 accepted, 2 sent"},
		"with a receipt": {Status{State: outcome.Sent, Finished: at(2), Receipts: []Report{{At: at(1), Delivered: true}}}, "0 accepted, 2 sent, 1 delivered"},
		"undelivered":    {Status{State: outcome.Sent, Finished: at(2), Receipts: []Report{{At: at(3), Reason: "user block"}}}, "0 accepted, 2 sent, 3 undelivered user block"},
		"refused": {
			Status{State: outcome.Failed, Reason: outcome.RefusedRequest, Finished: at(2), Timeline: []Event{{At: at(2), State: outcome.Failed, Note: "47003"}}},
			"0 accepted, 2 failed 47003",
		},
		"sent again": {Status{State: outcome.Sent, Finished: at(9), Timeline: []Event{{At: at(3), State: outcome.Parked}}}, "0 accepted, 3 parked, 9 sent"},
		"unknown, with a late result": {
			Status{State: outcome.Unknown, Finished: at(4), Timeline: []Event{{At: at(4), State: outcome.Unknown}, {At: at(9), State: outcome.Sent, Note: "late"}}},
			"0 accepted, 4 unknown, 9 sent late",
		},
	} {
		c.status.Message = &message.Message{ID: message.NewID(start)}
		var steps []string
		for _, e := range c.status.Way() {
			steps = append(steps, strings.TrimSpace(fmt.Sprintf("%.0f %s %s", e.At.Sub(start).Seconds(), e.State, e.Note)))
		}
		if got := strings.Join(steps, ", "); got != c.want {
			t.Errorf("%s: %s, want %s", name, got, c.want)
		}
	}
}
