package campaign

import (
	"fmt"
	"slices"
)

// A State is where a campaign stands.
type State string

// The states. The last three end it.
const (
	Draft     State = "draft"     // being written: its audience may be imported
	Scheduled State = "scheduled" // its next tick will fire it
	Running   State = "running"   // a firing is on its way
	Paused    State = "paused"    // by an operator or by itself; somebody must resume it
	Throttled State = "throttled" // its account may not send now: quota, a gate. It goes on by itself
	Parked    State = "parked"    // quiet hours or a closed day. It goes on by itself
	Done      State = "done"      //
	Cancelled State = "cancelled" // what was not sent is settled as cancelled
	Failed    State = "failed"    // it cannot go on
)

// States lists every state.
func States() []State {
	return []State{Draft, Scheduled, Running, Paused, Throttled, Parked, Done, Cancelled, Failed}
}

// Ended says whether nothing more happens to the campaign.
func (s State) Ended() bool { return s == Done || s == Cancelled || s == Failed }

// A Verb is what an operator does to a campaign.
type Verb string

// The verbs.
const (
	Start  Verb = "start"
	Pause  Verb = "pause"
	Resume Verb = "resume"
	Cancel Verb = "cancel"
)

// From lists the states in which the verb may be used.
func (v Verb) From() []State {
	switch v {
	case Start:
		return []State{Draft}
	case Pause:
		return []State{Scheduled, Running, Throttled, Parked}
	case Resume:
		return []State{Paused}
	case Cancel:
		return []State{Draft, Scheduled, Running, Paused, Throttled, Parked}
	}
	return nil
}

// Allowed is nil where the verb may be used on a campaign in this state.
func (v Verb) Allowed(s State) error {
	if !slices.Contains(v.From(), s) {
		return &MoveError{Verb: v, State: s}
	}
	return nil
}

// A MoveError says that a campaign is not in a state for what was asked.
type MoveError struct {
	Verb  Verb
	State State
}

func (e *MoveError) Error() string {
	return fmt.Sprintf("cannot %s a campaign that is %s", e.Verb, e.State)
}
