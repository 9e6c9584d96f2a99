package window

import (
	"fmt"
	"time"
)

// A Trigger is a user's action that allows answers.
type Trigger string

// The triggers, by the names that inbound events use.
const (
	Message Trigger = "message"
	Menu    Trigger = "menu"
	Follow  Trigger = "follow"
	Scan    Trigger = "scan"
	Pay     Trigger = "pay"
)

// triggers is in the order in which the scripts get them; a stored answer names its trigger by place.
var triggers = [...]Trigger{Message, Menu, Follow, Scan, Pay}

// Triggers lists every trigger, in the order of WeChat's table.
func Triggers() []Trigger { return triggers[:] }

// ParseTrigger reads the name of a trigger.
func ParseTrigger(s string) (Trigger, error) {
	if Trigger(s).place() < 0 {
		return "", fmt.Errorf("trigger %q: want one of %v", s, Triggers())
	}
	return Trigger(s), nil
}

func (t Trigger) place() int {
	for i, known := range triggers {
		if t == known {
			return i
		}
	}
	return -1
}

// An Allowance is what one action of a user allows.
type Allowance struct {
	Messages int           // answers; negative: unlimited; 0: the trigger is disabled
	For      time.Duration // since the action, by WeChat's rule; whole seconds
	Margin   time.Duration // we stop that much earlier
}

// Rules are the allowances of an account. A trigger without an entry is disabled.
type Rules map[Trigger]Allowance

// DefaultRules are WeChat's rules as of 2026-11-22; see the package's table.
func DefaultRules() Rules {
	minute := Allowance{Messages: 3, For: time.Minute, Margin: 10 * time.Second}
	return Rules{
		Message: {Messages: 5, For: 48 * time.Hour, Margin: time.Minute},
		Menu:    minute,
		Follow:  minute,
		Scan:    minute,
		Pay:     {Messages: 0, For: 48 * time.Hour, Margin: time.Minute},
	}
}

// Check says what is wrong with rules that a person wrote.
func (r Rules) Check() error {
	for t, a := range r {
		switch {
		case t.place() < 0:
			return fmt.Errorf("%s: no such trigger, want one of %v", t, Triggers())
		case a.For < 0 || a.For > MaxFor || a.For%time.Second != 0:
			return fmt.Errorf("%s: for %v: want whole seconds from 0 to %v", t, a.For, MaxFor)
		case a.Margin < 0 || a.Margin%time.Second != 0:
			return fmt.Errorf("%s: margin %v: want whole seconds, not negative", t, a.Margin)
		case a.Messages != 0 && a.Margin >= a.For:
			return fmt.Errorf("%s: margin %v leaves nothing of %v", t, a.Margin, a.For)
		case a.Messages > MaxMessages:
			return fmt.Errorf("%s: messages %d: want at most %d, or a negative number for unlimited", t, a.Messages, MaxMessages)
		}
	}
	return nil
}

// Bounds of a rule, so that a user's record stays small.
const (
	MaxFor      = 31 * 24 * time.Hour
	MaxMessages = 100
)

// WeChat's refusals that correct our belief.
const (
	CodeOutOfTime  = 45015 // response out of time limit or subscription is canceled
	CodeOutOfCount = 45047 // out of response count limit
)

const (
	// Hold is how long a reserved slot waits for [Ledger.Confirm] before it lapses by itself.
	Hold = 120 * time.Second
	// Skew is how far two good clocks may stand apart. An event is dated at most that much after now, and only an
	// event that is later than a refusal by more than that is surely newer.
	Skew = 2 * time.Second
)

// A State says whether a user may be answered.
type State string

// The states.
const (
	Open        State = "open"
	Closed      State = "closed"       // the user did not act lately, left, or WeChat said so
	Used        State = "used"         // in time, but the allowance is used up
	UnknownUser State = "unknown_user" // nothing was ever heard of this user, or it was long ago; the caller decides
)

// A Verdict is the answer to [Ledger.Reserve].
type Verdict struct {
	State State
	Held  bool      // Open: this message had its slot already, and has one still
	Until time.Time // Open: the slot is good for a send before this instant
	// Lost, of a careful ledger: nothing was looked at or taken, for the record may have lost something since this start of
	// Redis. See [Ledger.Restore].
	Lost string
}

// A View is what is known of a user, for people to read.
type View struct {
	State        State     // what Reserve would answer to a new message
	Until        time.Time // Open: when the last allowance that has room ends
	Buckets      []Bucket  // one per trigger that was seen, in the order of Triggers
	Unsubscribed time.Time // zero: not seen
	OutOfTime    time.Time // last 45015; zero: none
	OutOfCount   time.Time // last 45047; zero: none
}

// A Bucket is the allowance that the last action of one kind opened.
type Bucket struct {
	Trigger Trigger
	At      time.Time // of the action
	Until   time.Time // its end, margin taken off
	Used    int
	Left    int  // negative: unlimited
	Open    bool // in time, and no refusal or unsubscribing since
}
