package report

import (
	"fmt"
	"slices"
	"time"

	"github.com/hongyan-dispatch/hongyan/message"
)

// An Explanation is how a message stands, and why.
type Explanation struct {
	Message
	Why     string     `json:"why"`
	HeldBy  []string   `json:"held_by,omitempty"` // names of checks
	Until   time.Time  `json:"until,omitzero"`    // zero: ended, or nobody knows
	Checks  []Check    `json:"checks,omitempty"`
	Instead message.ID `json:"fallback_id,omitzero"`
}

// A check is one thing that may hold a message.
type Check struct {
	Name  string    `json:"check"`
	Holds bool      `json:"holds"`
	Until time.Time `json:"until,omitzero"` // of one that holds; zero: nobody knows
	Text  string    `json:"text"`
}

// explain reasons from what is known; it asks nobody.
func explain(f facts) Explanation {
	e := Explanation{Message: MessageOf(f.status), Instead: f.around.Instead}
	if f.status.State.Terminal() {
		e.Why = ended(f)
		return e
	}
	for _, look := range []func(facts) (Check, bool){
		worker, expiry, suppression, gates, schedule, parts, turn, queue, claim, windowCheck, quotaCheck, redisCheck,
	} {
		if c, applies := look(f); applies {
			e.Checks = append(e.Checks, c)
		}
	}
	e.Why = fmt.Sprintf("The message is %s, and nothing holds it: it goes any moment.", f.status.State)
	if i := slices.IndexFunc(e.Checks, func(c Check) bool { return c.Holds }); i >= 0 {
		e.Why = fmt.Sprintf("The message is %s, and waits: %s.", f.status.State, e.Checks[i].Text)
	}
	var ends []time.Time
	for _, c := range e.Checks {
		if c.Holds {
			e.HeldBy, ends = append(e.HeldBy, c.Name), append(ends, c.Until)
		}
	}
	e.Until = last(ends)
	return e
}
