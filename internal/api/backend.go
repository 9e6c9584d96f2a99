package api

import (
	"context"
	"errors"
	"time"

	"github.com/hongyan-dispatch/hongyan/internal/report"
	"github.com/hongyan-dispatch/hongyan/message"
	"github.com/hongyan-dispatch/hongyan/outcome"
)

// Errors of what stands behind the door, for errors.Is. Beside them there is [message.Invalid].
var (
	ErrNotFound    = errors.New("not found")
	ErrConflict    = errors.New("the key was used before by another message")
	ErrNotAll      = errors.New("another message of the array is refused")
	ErrUnavailable = errors.New("a store does not answer")
	ErrInDoubt     = errors.New("whether it was accepted is not known")
	ErrDecided     = errors.New("it is decided already")
)

// A Receipt is what became of a message that was posted.
type Receipt struct {
	ID        message.ID
	Parts     []message.ID
	Duplicate bool
	Err       error
}

// An Enqueuer accepts messages: what it gives a receipt for without an error is committed.
type Enqueuer interface {
	Enqueue(ctx context.Context, m message.Message) Receipt
	EnqueueAll(ctx context.Context, messages []message.Message) []Receipt // all or none
	EnqueueBatch(ctx context.Context, messages []message.Message) []Receipt
}

// An Event is what a user did.
type Event struct {
	Account string
	OpenID  message.OpenID
	Type    string
	At      time.Time
}

// Events notes what users did.
type Events interface {
	Parse(text []byte) (Event, error)
	Event(ctx context.Context, e Event) error
}

// A Ledger says what became of messages.
type Ledger interface {
	Message(ctx context.Context, id message.ID) (report.Message, error)
	Explain(ctx context.Context, id message.ID) (report.Explanation, error)
	Find(ctx context.Context, account, key string) (message.ID, error)
	Cancel(ctx context.Context, id message.ID) (outcome.Status, error)
}

// A Quota is an account's day for one kind of message.
type Quota struct {
	Kind message.Kind `json:"kind"`
	API  string       `json:"api"`
	report.Quota
	UsedUpAt time.Time       `json:"used_up_at,omitzero"` // if the day goes on as it went; zero: not today
	Forecast report.Forecast `json:"forecast"`            // of the messages that wait now
}

// Accounts is how accounts stand.
type Accounts interface {
	// Name is the configured name of an account that is called by its name or its appid.
	Name(nameOrAppID string) (name string, known bool)
	// WantsApproval says whether the account's mass sends wait for a second key.
	WantsApproval(account string) bool
	Quotas(ctx context.Context, account string) ([]Quota, error)
	Gates(ctx context.Context, account string) ([]report.Gate, error)
	OpenGate(ctx context.Context, account, api string) (changed bool, due int64, err error)
	CloseGate(ctx context.Context, account, api, reason string, until time.Time) (report.Gate, error)
	Window(ctx context.Context, account string, user message.OpenID) (Window, error)
}

// A Window is whether a user may be answered.
type Window struct {
	Account      string         `json:"account"`
	OpenID       message.OpenID `json:"openid"`
	State        string         `json:"state"`
	Until        time.Time      `json:"until,omitzero"`
	Triggers     []Trigger      `json:"triggers"`
	Unsubscribed time.Time      `json:"unsubscribed_at,omitzero"`
}

// A Trigger is what one action of the user's allows.
type Trigger struct {
	Trigger string    `json:"trigger"`
	At      time.Time `json:"at"`
	Until   time.Time `json:"until"`
	Used    int       `json:"used"`
	Left    int       `json:"left"` // negative: any number
	Open    bool      `json:"open"`
}

// An Approval is a mass message that waits for a second key, or had its word.
type Approval struct {
	ID        message.ID       `json:"id"`
	Status    string           `json:"status"` // waiting, approving, approved, refused, lapsed
	Account   string           `json:"account"`
	Recipient string           `json:"recipient"`
	Message   *message.Message `json:"message"`
	AskedBy   string           `json:"asked_by"`
	Asked     time.Time        `json:"asked_at"`
	DecidedBy string           `json:"decided_by,omitempty"`
	Decided   time.Time        `json:"decided_at,omitzero"`
	Note      string           `json:"note,omitempty"`
	Messages  []message.ID     `json:"messages,omitempty"` // what it became
}

// Approvals are mass messages that wait for a second key.
type Approvals interface {
	// Ask writes a valid message down. The error wraps [ErrConflict] where its key is another message's.
	Ask(ctx context.Context, m message.Message, by string) (a Approval, duplicate bool, err error)
	Approval(ctx context.Context, id message.ID) (Approval, error)
	Waiting(ctx context.Context, account string) ([]Approval, error)
	// Approve enqueues the message; the error wraps [ErrDecided] where it is refused or lapsed.
	Approve(ctx context.Context, a Approval, by string) (Approval, error)
	Refuse(ctx context.Context, a Approval, by, note string) (Approval, error)
}

// An Entry says who did what.
type Entry struct {
	At      time.Time
	Key     string
	Name    string
	Action  string
	Account string
	Target  string
	N       int
	Detail  string
	Address string
}

// A Recorder keeps the audit log.
type Recorder interface {
	// Audit appends entries, and notes that keys were used.
	Audit(ctx context.Context, entries []Entry, used []string) error
}

// Backlog says whether too much waits in a lane of an account's kind, and how long what waits will take.
type Backlog func(account string, kind message.Kind, lane message.Lane) (full bool, after time.Duration)
