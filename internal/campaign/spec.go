package campaign

import (
	"encoding/json"
	"time"

	"github.com/hongyan-dispatch/hongyan/message"
)

// Spec is what an operator writes, checked.
type Spec struct {
	Name     string            `json:"name"`
	Account  string            `json:"account"`
	Kind     message.Kind      `json:"kind"`
	Lane     message.Lane      `json:"lane"`
	Body     json.RawMessage   `json:"body"`               // the object under the kind's name, with placeholders
	Fallback json.RawMessage   `json:"fallback,omitempty"` // optional message, also with placeholders
	Audience Source            `json:"audience,omitzero"`  //
	Schedule Schedule          `json:"schedule,omitzero"`  // zero: started by hand
	Pace     float64           `json:"pace,omitempty"`     // per second; 0: the account's
	Calendar Calendar          `json:"calendar,omitzero"`  // quiet hours and closed days
	Cap      FrequencyCap      `json:"cap,omitzero"`       //
	Dedupe   bool              `json:"dedupe,omitempty"`   // same content to the same user goes once in 24 h
	Weight   int               `json:"weight,omitempty"`   // share among campaigns of an account; 0: 1
	Expires  time.Duration     `json:"expires,omitempty"`  // from the start of a firing; 0: never
	StopAt   float64           `json:"stop_at,omitempty"`  // share of failures that pauses it; 0: 0.3, 1: never
	Canary   int               `json:"canary,omitempty"`   // first n recipients, then pause for a look; 0: none
	Labels   map[string]string `json:"labels,omitempty"`   //
}

// Source says where an audience comes from.
type Source struct {
	Kind string `json:"kind,omitempty"` // file (imported), tag, followers, sql
	Tag  int    `json:"tag,omitempty"`
	SQL  string `json:"sql,omitempty"`
}

// Schedule says when a campaign fires.
type Schedule struct {
	Cron     string    `json:"cron,omitempty"`
	At       time.Time `json:"at,omitzero"`
	Timezone string    `json:"timezone,omitempty"`
	CatchUp  string    `json:"catch_up,omitempty"` // skip, once, all
}

// Calendar says when messages may go.
type Calendar struct {
	From     string   `json:"from,omitempty"` // quiet from
	To       string   `json:"to,omitempty"`   // quiet to
	Closed   []string `json:"closed,omitempty"`
	Timezone string   `json:"timezone,omitempty"`
}

// FrequencyCap is how many campaign messages a user gets.
type FrequencyCap struct {
	Messages int    `json:"messages,omitempty"`
	Per      string `json:"per,omitempty"` // day, week
}

// IsZero says that the campaign is started by hand.
func (s Schedule) IsZero() bool { return s.Cron == "" && s.At.IsZero() }

// Next is the first tick after an instant; zero: there is none.
func (s Schedule) Next(after time.Time) time.Time {
	if s.At.After(after) {
		return s.At
	}
	return time.Time{}
}

// Due are the ticks after last, up to now, that are to be fired.
func (s Schedule) Due(last, now time.Time) []time.Time {
	if next := s.Next(last); !next.IsZero() && !next.After(now) {
		return []time.Time{next}
	}
	return nil
}

// Opens says whether messages may go now, and else when.
func (c Calendar) Opens(time.Time) (time.Time, bool) { return time.Time{}, true }
