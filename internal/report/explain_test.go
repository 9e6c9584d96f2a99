package report

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hongyan-dispatch/hongyan/internal/postgres"
	"github.com/hongyan-dispatch/hongyan/internal/ratelimit"
	"github.com/hongyan-dispatch/hongyan/internal/tasks"
	"github.com/hongyan-dispatch/hongyan/internal/wechat"
	"github.com/hongyan-dispatch/hongyan/internal/window"
	"github.com/hongyan-dispatch/hongyan/message"
	"github.com/hongyan-dispatch/hongyan/outcome"
)

func TestExplain(t *testing.T) {
	now := time.Date(2026, 12, 1, 12, 0, 0, 0, time.UTC)
	soon, late := now.Add(time.Minute), now.Add(time.Hour)
	midnight := time.Date(2026, 12, 1, 16, 0, 0, 0, time.UTC) // Beijing's
	id := message.NewID(now)
	custom := wechat.PathOf(message.Custom)

	cases := map[string]struct {
		state  outcome.Status
		reason outcome.Reason
		is     func(*facts)
		held   []string
		until  time.Time
		says   string
	}{
		"nothing holds it": {state: outcome.Accepted, says: "nothing holds it"},
		"a worker has it": {
			state: outcome.Accepted, says: "nothing holds it",
			is: func(f *facts) { f.sight = &tasks.Sight{State: "active"} },
		},
		"no worker lives": {
			state: outcome.Accepted, held: []string{"worker"}, says: "no worker lives",
			is: func(f *facts) { f.around.WorkerSeen = now.Add(-15 * time.Second) },
		},
		"a schedule": {
			state: outcome.Parked, reason: outcome.NotBefore, held: []string{"schedule"}, until: late, says: "not_before",
			is: func(f *facts) { f.status.Due = late },
		},
		"a repetition tells why": {
			state: outcome.Parked, reason: outcome.Backoff, held: []string{"schedule"}, until: soon, says: "attempt 2 failed and may be repeated, WeChat answered -1 system error",
			is: func(f *facts) {
				f.status.Due, f.status.Attempts = soon, 2
				f.status.Timeline = []postgres.Event{{ErrCode: -1, ErrMsg: "system error"}}
			},
		},
		"a closed gate that opens after the schedule": {
			state: outcome.Parked, reason: outcome.Gate, held: []string{"gate", "schedule"}, until: late, says: "the gate of shop custom is closed",
			is: func(f *facts) {
				f.status.Due = soon
				f.gates = []Gate{{Account: "shop", API: custom, State: postgres.GateClosed, Until: late}}
			},
		},
		"a broken gate ends nobody knows when": {
			state: outcome.Parked, reason: outcome.Gate, held: []string{"gate", "schedule"}, says: "the gate of shop all is broken since ",
			is: func(f *facts) {
				f.status.Due = soon
				f.gates = []Gate{
					{Account: "shop", State: postgres.GateBroken, ErrCode: 40125, Since: now},
					{Account: "shop", API: custom, State: postgres.GateClosed, Until: late},
				}
			},
		},
		"a gate shut by hand": {
			state: outcome.Parked, reason: outcome.Gate, held: []string{"gate", "schedule"}, says: "enqueue gate open shop custom",
			is: func(f *facts) {
				f.status.Due = soon
				f.gates = []Gate{{Account: "shop", API: custom, State: postgres.GateClosed, Until: ByHand}}
			},
		},
		"its turn at the account's pace": {
			state: outcome.Parked, reason: outcome.Quota, held: []string{"turn"}, says: "7 custom messages of shop go before it",
			is: func(f *facts) { f.status.Due, f.around.Before = now, 7 },
		},
		"earlier parts": {
			state: outcome.Parked, reason: outcome.Pace, held: []string{"parts"}, says: "2 earlier parts",
			is: func(f *facts) { f.status.Due, f.around.PartsBefore = now, 2 },
		},
		"the day's calls": {
			state: outcome.Accepted, held: []string{"quota"}, until: midnight, says: "none of the day's 1000 calls",
			is: func(f *facts) { f.usage = &ratelimit.Usage{Known: true, Limit: 1000, Left: 100, Used: 890} },
		},
		"urgent has the day's reserve": {
			state: outcome.Accepted, says: "nothing holds it",
			is: func(f *facts) {
				f.status.Message.Lane = message.Urgent
				f.usage = &ratelimit.Usage{Known: true, Limit: 1000, Left: 100, Used: 890}
			},
		},
		"a parcel that came back": {
			state: outcome.Accepted, held: []string{"queue"}, until: soon, says: "its parcel came back",
			is: func(f *facts) { f.sight = &tasks.Sight{State: "retry", Next: soon} },
		},
		"a parcel that Redis lost": {
			state: outcome.Accepted, held: []string{"queue"}, says: "stands in the outbox",
			is: func(f *facts) { f.sight, f.around.Queued = &tasks.Sight{}, now },
		},
		"a parcel that is nowhere": {
			state: outcome.Accepted, held: []string{"queue"}, says: "in no queue and not in the outbox",
			is: func(f *facts) { f.sight = &tasks.Sight{} },
		},
		"Redis is away": {
			state: outcome.Accepted, held: []string{"redis"}, says: "connection refused",
			is: func(f *facts) { f.noRedis = "connection refused" },
		},
		"its worker is at it": {
			state: outcome.Sending, held: []string{"claim"}, says: "worker pod-1 claimed it",
			is: func(f *facts) { f.around.Pod, f.around.PodSeen = "pod-1", now },
		},
		"its worker is dead": {
			state: outcome.Sending, held: []string{"claim"}, says: "ends as unknown, or goes again",
			is: func(f *facts) { f.around.Pod, f.around.PodSeen = "pod-1", now.Add(-time.Minute) },
		},
		"its worker is dead, and WeChat knows repetitions": {
			state: outcome.Sending, held: []string{"claim"}, says: "is sent again under the id",
			is: func(f *facts) { f.around.Pod, f.status.Message.Kind = "pod-1", message.Template },
		},
		"sent":        {state: outcome.Sent, says: "WeChat accepted it at", is: func(f *facts) { f.status.MsgID = 7 }},
		"undelivered": {state: outcome.Sent, says: "undelivered: user block", is: func(f *facts) { f.status.Receipts = []postgres.Report{{Reason: "user block"}} }},
		"refused": {
			state: outcome.Failed, reason: outcome.RefusedRecipient, says: "WeChat answered 43004 require subscribe",
			is: func(f *facts) { f.status.Timeline = []postgres.Event{{ErrCode: 43004, ErrMsg: "require subscribe"}} },
		},
		"in doubt, of a kind that has receipts": {
			state: outcome.Unknown, reason: outcome.InDoubt, says: "a receipt may still tell",
			is: func(f *facts) { f.status.Message.Kind = message.Subscribe },
		},
		"in doubt, of the kind that has none": {state: outcome.Unknown, reason: outcome.InDoubt, says: "sends no receipt for messages of its kind"},
		"a duplicate": {
			state: outcome.Skipped, reason: outcome.Duplicate, says: "enqueue explain " + id.String(),
			is: func(f *facts) { f.around.KeyHolder = id },
		},
		"its fallback": {
			state: outcome.Skipped, reason: outcome.WindowClosed, says: "its fallback " + id.String() + " goes instead",
			is: func(f *facts) { f.around.Instead = id },
		},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			f := facts{account: &Account{}}
			f.account.UrgentDay = 0.1
			f.status = postgres.Status{
				Message: &message.Message{ID: message.NewID(now), Account: "shop", Kind: message.Custom, Lane: message.Normal, To: "oABC"},
				State:   c.state, Reason: c.reason,
			}
			f.around.Now, f.around.WorkerSeen = now, now
			if c.is != nil {
				c.is(&f)
			}
			e := explain(f)
			if !slices.Equal(e.HeldBy, c.held) || !e.Until.Equal(c.until) || !strings.Contains(e.Why, c.says) {
				t.Errorf("held by %v until %v: %q\nwant %v until %v: %q", e.HeldBy, e.Until, e.Why, c.held, c.until, c.says)
			}
		})
	}
}

// What ends a message at its turn does not hold it, and is said.
func TestExplainForetells(t *testing.T) {
	now := time.Now()
	f := facts{account: &Account{}}
	f.status = postgres.Status{
		State: outcome.Accepted,
		Message: &message.Message{
			ID: message.NewID(now), Account: "shop", Kind: message.Custom, ExpiresAt: now.Add(time.Hour), Fallback: &message.Message{},
		},
	}
	f.around = postgres.Around{Now: now, WorkerSeen: now, Refusal: &postgres.Suppression{ErrCode: 43004, Since: now}}
	want := map[string]string{"expiry": "if it has not gone by", "suppression": "refuses all messages of the account", "window": ""}
	for state, says := range map[window.State]string{
		window.Open: "may be answered until", window.Used: "its fallback goes instead", window.UnknownUser: "no action", window.Closed: "may not be answered now",
	} {
		f.window, want["window"] = &window.View{State: state, Until: now}, says
		e := explain(f)
		if len(e.HeldBy) > 0 || len(e.Checks) != len(want) {
			t.Errorf("%s: held by %v, checks %+v", state, e.HeldBy, e.Checks)
		}
		for _, c := range e.Checks {
			if says, known := want[c.Name]; !known || !strings.Contains(c.Text, says) {
				t.Errorf("%s: %s says %q, want %q", state, c.Name, c.Text, says)
			}
		}
	}
}

func TestEveryReasonIsExplained(t *testing.T) {
	for _, r := range outcome.Reasons() {
		_, ends := endedFor[r]
		_, parks := parkedFor[r]
		if !ends && !parks && r != outcome.Backoff {
			t.Errorf("%s: no words for it", r)
		}
	}
}
