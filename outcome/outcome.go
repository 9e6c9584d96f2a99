package outcome

import "time"

// A Status is the state of a message. The first three are passing; of the others exactly one ends it.
type Status string

// Every status.
const (
	Accepted Status = "accepted" // in the ledger or handed over; Redis has it, or will
	Parked   Status = "parked"   // in Postgres until a time or until a gate opens
	Sending  Status = "sending"  // claimed: may be on the wire

	Sent      Status = "sent"      // WeChat accepted it
	Skipped   Status = "skipped"   // we made no call, and never will
	Failed    Status = "failed"    // WeChat refused, retries ran out, or no worker can send it
	Expired   Status = "expired"   // its time was over before it could go
	Cancelled Status = "cancelled" // by its producer or an operator
	Dead      Status = "dead"      // it ended several processes
	Unknown   Status = "unknown"   // the request left, its answer was lost, and nobody can know
)

// Statuses lists every status.
func Statuses() []Status {
	return []Status{Accepted, Parked, Sending, Sent, Skipped, Failed, Expired, Cancelled, Dead, Unknown}
}

// Terminal says whether nothing more happens to a message by itself.
func (s Status) Terminal() bool { return s != Accepted && s != Parked && s != Sending && s != "" }

// A Reason says why: a closed list, fit for metrics and reports.
type Reason string

// The reasons of terminal outcomes.
const (
	WindowClosed     Reason = "window_closed"     // skipped: the user did not act lately
	WindowUsed       Reason = "window_used"       // skipped: the answers the user's action allows are used up
	MassCap          Reason = "mass_cap"          // skipped: the mass-send cap is reached
	FrequencyCap     Reason = "frequency_cap"     // skipped: this user gets enough from us
	Suppressed       Reason = "suppressed"        // skipped: the user refuses our messages
	Duplicate        Reason = "duplicate"         // skipped: the key was used by an earlier, equal message
	ReasonExpired    Reason = "expired"           //
	ReasonCancelled  Reason = "cancelled"         //
	RefusedRecipient Reason = "refused_recipient" // failed: WeChat refuses this user
	RefusedRequest   Reason = "refused_request"   // failed: WeChat refuses the content
	RefusedAccount   Reason = "refused_account"   // failed: WeChat refuses the account
	KeyConflict      Reason = "key_conflict"      // failed: the key was used by another message
	RetriesExhausted Reason = "retries_exhausted" // failed
	Invalid          Reason = "invalid"           // failed: no worker can send it
	Poison           Reason = "poison"            // dead
	InDoubt          Reason = "in_doubt"          // unknown
)

// The reasons of a parked message.
const (
	NotBefore  Reason = "not_before"
	QuietHours Reason = "quiet_hours"
	Backoff    Reason = "backoff"
	Quota      Reason = "quota"
	Pace       Reason = "pace"
	Gate       Reason = "gate"
)

// Reasons lists every reason.
func Reasons() []Reason {
	return []Reason{
		WindowClosed, WindowUsed, MassCap, FrequencyCap, Suppressed, Duplicate, ReasonExpired, ReasonCancelled,
		RefusedRecipient, RefusedRequest, RefusedAccount, KeyConflict, RetriesExhausted, Invalid, Poison, InDoubt,
		NotBefore, QuietHours, Backoff, Quota, Pace, Gate,
	}
}

// An Outcome is what a run of the pipeline decided about a message. The zero Outcome decides nothing:
// the message passes on.
type Outcome struct {
	Status Status
	Reason Reason    // empty for a plain Sent
	Until  time.Time // Parked: not before then
	// What WeChat answered, if it did.
	ErrCode int
	ErrMsg  string // without a URL, token or secret
	RID     string
	MsgID   int64 // msgid of a template message, msg_id of a mass send
	DataID  int64 // msg_data_id of a mass send of articles
}

// Decided says whether the outcome ends the run.
func (o Outcome) Decided() bool { return o.Status != "" }
