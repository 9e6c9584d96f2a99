package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/hongyan-dispatch/hongyan/client"
	"github.com/hongyan-dispatch/hongyan/internal/wechattest"
	"github.com/hongyan-dispatch/hongyan/message"
	"github.com/hongyan-dispatch/hongyan/outcome"
)

// A story is the way of one message.
type story struct {
	row   row
	steps []step
}

type step struct {
	at   time.Time
	text string
}

// story tells of a template message on which the simulator hung up after it had taken it.
func (d *director) story(ctx context.Context, rows []row, accepts []wechattest.Accept) (story, error) {
	taken := map[string]wechattest.Accept{}
	for _, a := range accepts {
		taken[a.ClientID] = a
	}
	for _, r := range rows {
		a, ok := taken[r.ID.Hex()]
		if !ok || r.Kind != message.Template || r.Status != outcome.Sent || r.Attempts < 2 {
			continue
		}
		status, err := d.producer.Status(ctx, r.ID)
		if err != nil {
			return story{}, fmt.Errorf("timeline of %s: %w", r.ID, err)
		}
		if slices.ContainsFunc(status.Timeline, func(s client.Step) bool { return s.Reason == outcome.Backoff && s.At.After(a.At) }) {
			return storyOf(r, status, a), nil
		}
	}
	return story{}, nil
}

func storyOf(r row, status client.Status, a wechattest.Accept) story {
	s := story{row: r}
	s.steps = []step{
		{s.row.Accepted, "accepted: it stands in Postgres before it is queued in Redis"},
		{a.At, fmt.Sprintf("(at the simulator) taken as msgid %d, and the connection closed without an answer", a.MsgID)},
	}
	for _, e := range status.Timeline {
		if e.Status != outcome.Parked {
			continue // told above and below
		}
		text := string(e.Status)
		for _, more := range []string{string(e.Reason), e.ErrMsg, e.Note} {
			if more != "" {
				text += ": " + more
			}
		}
		s.steps = append(s.steps, step{e.At, text})
	}
	s.steps = append(s.steps, step{status.Finished, fmt.Sprintf("sent again under the same client_msg_id; WeChat knows it and answers with msgid %d", status.MsgID)})
	slices.SortStableFunc(s.steps, func(a, b step) int { return a.at.Compare(b.at) })
	return s
}

func (s story) write(b *strings.Builder) {
	if len(s.steps) == 0 {
		return
	}
	fmt.Fprintf(b, "\nThe way of one of them, %s, on which the simulator hung up:\n", s.row.ID)
	for _, step := range s.steps {
		fmt.Fprintf(b, "  %s  %s\n", step.at.In(wechattest.Beijing).Format("15:04:05.000"), step.text)
	}
}
