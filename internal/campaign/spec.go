package campaign

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/hongyan-dispatch/hongyan/message"
)

// Spec is what an operator writes, checked. Its JSON is the ledger's form, which stays readable; operators write what
// [ParseSpec] reads.
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
	File string `json:"file,omitempty"`
	Tag  int    `json:"tag,omitempty"`
	SQL  string `json:"sql,omitempty"`
}

// Pulled says that workers fetch the audience, anew for each firing.
func (s Source) Pulled() bool {
	return s.Kind == FromTag || s.Kind == FromFollowers || s.Kind == FromSQL
}

// String is the source as an audience's row has it; a file's name is known when it is imported.
func (s Source) String() string {
	if s.Kind == FromTag {
		return fmt.Sprintf("%s:%d", FromTag, s.Tag)
	}
	return s.Kind
}

// FrequencyCap is how many campaign messages a user gets.
type FrequencyCap struct {
	Messages int    `json:"messages,omitempty"`
	Per      string `json:"per,omitempty"` // day, week
}

// Since is when the cap's day or week began, in Beijing; weeks begin on Monday.
func (c FrequencyCap) Since(now time.Time) time.Time {
	if c.Messages <= 0 {
		return now
	}
	day := message.Day(now)
	if c.Per != "week" {
		return day
	}
	return day.AddDate(0, 0, -(int(message.Beijing(day).Weekday())+6)%7)
}

// timezone is the campaign's; one that is started by hand has it for its calendar and its texts alone.
func (s *Spec) timezone() string { return cmp.Or(s.Schedule.Timezone, s.Calendar.Timezone) }

// Columns lists the columns that the body and the fallback ask for, sorted, without openid.
func (s *Spec) Columns() []string {
	asked := map[string]bool{}
	for _, text := range []json.RawMessage{s.Body, s.Fallback} {
		for _, name := range columnsOf(text) {
			asked[name] = true
		}
	}
	return slices.Sorted(maps.Keys(asked))
}
