package report

import (
	"time"

	"github.com/hongyan-dispatch/hongyan/internal/postgres"
	"github.com/hongyan-dispatch/hongyan/internal/wechat"
	"github.com/hongyan-dispatch/hongyan/message"
)

// A Forecast says how long the day's calls and the pace make the messages wait that are here now, and no others. It
// knows no gates and no not_before: it is the earliest.
type Forecast struct {
	Waiting int64     `json:"waiting"` // messages in queues and parked; those parked are counted to 100,000
	Today   int64     `json:"today"`   // of these, what the day's calls allow
	DoneAt  time.Time `json:"done_at,omitzero"`
}

// Waiting is how many messages of an API of an account wait.
func Waiting(stocks []postgres.Stock, account, api string) (n int64) {
	for _, st := range stocks {
		if st.Account == account && wechat.PathOf(st.Kind) == api {
			n += st.Queued + st.Parked
		}
	}
	return n
}

// Foretell reckons for so many messages by what is left of the day's calls, without the share of urgent ones.
func Foretell(waiting, left int64, q Quota, urgent float64, now time.Time) Forecast {
	kept := int64(urgent * float64(q.Limit))
	left = max(0, left-kept)
	f := Forecast{Waiting: waiting, Today: min(waiting, left)}
	daily := q.Limit - kept
	if waiting == 0 || q.Pace <= 0 || daily <= 0 {
		return f
	}
	begins, rest := now, waiting
	for rest > left {
		rest, left = rest-left, daily
		begins = message.NextDay(begins)
	}
	f.DoneAt = begins.Add(time.Duration(float64(rest) / q.Pace * float64(time.Second))).Truncate(time.Second)
	return f
}
