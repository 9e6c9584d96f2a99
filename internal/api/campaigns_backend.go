package api

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"time"

	"github.com/hongyan-dispatch/hongyan/internal/campaign"
	"github.com/hongyan-dispatch/hongyan/message"
	"github.com/hongyan-dispatch/hongyan/outcome"
)

// ErrUnreadable says that an uploaded file cannot be read as an audience.
var ErrUnreadable = errors.New("not an audience")

// Why a campaign does not allow something now: the last part of the problem's type.
const (
	WrongState     = "state"
	NotReady       = "not-ready"
	AudienceThere  = "audience-there"
	OtherAudience  = "other-audience"
	NothingToRetry = "nothing-to-retry"
)

// A Standing error says that a campaign does not stand so that it can be done: which of these it is, why, and what to do.
type Standing struct{ Kind, Why, Remedy string }

func (e *Standing) Error() string { return e.Why }

// A Campaign is what the ledger knows of a campaign.
type Campaign struct {
	ID       message.ID     `json:"id"`
	Name     string         `json:"name"`
	Account  string         `json:"account"`
	Kind     message.Kind   `json:"kind"`
	State    campaign.State `json:"state"`
	Reason   string         `json:"reason,omitempty"`
	Until    time.Time      `json:"until,omitzero"`
	NextTick time.Time      `json:"next_tick,omitzero"`
	Created  time.Time      `json:"created_at"`
	Changed  time.Time      `json:"changed_at"`
	From     CampaignSource `json:"from,omitzero"`
}

// A CampaignSource says where a campaign's audience comes from; none: a file is uploaded.
type CampaignSource struct {
	File      string `json:"file,omitempty"`
	Tag       int    `json:"tag,omitempty"`
	Followers bool   `json:"followers,omitempty"`
	SQL       string `json:"sql,omitempty"`
}

// CampaignProgress is how far a campaign's last firing has come.
type CampaignProgress struct {
	Campaign
	Firings   int            `json:"firings"`
	Tick      time.Time      `json:"tick,omitzero"`
	Started   time.Time      `json:"started_at,omitzero"`
	Finished  time.Time      `json:"ended_at,omitzero"`
	Now       time.Time      `json:"now"` // of the counts
	Total     int            `json:"total"`
	Ended     int            `json:"ended"`
	Waiting   int            `json:"waiting"`
	Outcomes  []OutcomeCount `json:"outcomes"`
	PerSecond float64        `json:"per_second"`
	ETA       time.Time      `json:"eta,omitzero"`
	Audience  *Audience      `json:"audience,omitempty"`
}

// An OutcomeCount is how many messages of a firing have this outcome.
type OutcomeCount struct {
	Status outcome.Status `json:"status"`
	Reason outcome.Reason `json:"reason,omitempty"`
	Count  int            `json:"count"`
}

// An Audience is how far an import has come.
type Audience struct {
	Source     string    `json:"source"`
	State      string    `json:"state"`
	Columns    []string  `json:"columns"`
	Recipients int       `json:"recipients"`
	Duplicates int       `json:"duplicates"`
	Refused    int       `json:"refused"`
	Suppressed int       `json:"suppressed"`
	Lines      int64     `json:"lines"`
	Bytes      int64     `json:"bytes"`
	Since      time.Time `json:"since,omitzero"`
}

// A Reject is a row of an upload that was not taken.
type Reject struct {
	Line   int64          `json:"line"`
	OpenID message.OpenID `json:"openid,omitempty"`
	Reason string         `json:"reason"`
}

// An Upload is a file that is to be an audience.
type Upload struct {
	Name, Format, Encoding string
	Body                   io.Reader
	MaxWorkbook            int64 // bytes of an Excel file
	Resume, Restart        bool
	Rejected               func(Reject)
}

// CheckOptions say how a campaign is checked.
type CheckOptions struct {
	Samples int              `json:"samples"`
	TestTo  []message.OpenID `json:"test_to"`
}

// A CampaignCheck is what a check found.
type CampaignCheck struct {
	ID         message.ID      `json:"id"`
	Name       string          `json:"name"`
	Fits       bool            `json:"fits"`
	Recipients int             `json:"recipients"`
	Good       int             `json:"good"`
	AtCap      int             `json:"at_cap"`
	Problems   []Misfit        `json:"problems"`
	Notes      []string        `json:"notes"`
	Samples    []Sample        `json:"samples"`
	Forecast   *Forecast       `json:"forecast,omitempty"`
	Tests      []CampaignTrial `json:"tests,omitempty"`
}

// A Misfit is something that does not fit.
type Misfit struct {
	What  string  `json:"what"`
	Count int     `json:"count,omitempty"`
	First []int32 `json:"first,omitempty"`
}

// A Sample is one recipient's message.
type Sample struct {
	N        int32           `json:"n"`
	OpenID   message.OpenID  `json:"openid,omitempty"`
	Body     json.RawMessage `json:"body"`
	Problems []string        `json:"problems,omitempty"`
}

// A Forecast is what becomes of the quota if the campaign starts now.
type Forecast struct {
	Needs     int64         `json:"needs"`
	LeftToday int64         `json:"left_today"`
	Reserve   int64         `json:"reserve"`
	Today     bool          `json:"today"`
	Done      time.Time     `json:"done,omitzero"`
	Days      []ForecastDay `json:"days"`
}

// A ForecastDay is what goes on one of WeChat's days.
type ForecastDay struct {
	Day      time.Time `json:"day"`
	From     time.Time `json:"from"`
	To       time.Time `json:"to"`
	Messages int64     `json:"messages"`
}

// A CampaignTrial is a test message to a tester.
type CampaignTrial struct {
	To    message.OpenID `json:"to"`
	ID    message.ID     `json:"id,omitzero"`
	Error string         `json:"error,omitempty"`
}

// A CampaignFilter says which campaigns are meant.
type CampaignFilter struct {
	Account, Name string
	States        []campaign.State
	Before        message.ID
	Limit         int
}

// Campaigns are campaigns, as the Go client knows them. Beside the errors of the door's other stores there are
// [Standing] and [ErrUnreadable]; what is wrong with a spec is [message.Invalid].
type Campaigns interface {
	// Create writes a draft down. duplicate: it is there already, made of the same spec.
	Create(ctx context.Context, spec []byte) (c Campaign, duplicate bool, err error)
	Campaign(ctx context.Context, id message.ID) (Campaign, error)
	List(ctx context.Context, f CampaignFilter) ([]Campaign, error)
	Progress(ctx context.Context, id message.ID) (CampaignProgress, error)
	// Import imports a file. What it returns beside an error is what is committed.
	Import(ctx context.Context, id message.ID, u Upload) (Audience, error)
	RollBack(ctx context.Context, id message.ID) (Audience, error)
	Check(ctx context.Context, c Campaign, o CheckOptions) (CampaignCheck, error)
	Move(ctx context.Context, id message.ID, v campaign.Verb, reason string) (campaign.State, error)
	// Retry sends again to those whose messages failed, or counts them only.
	Retry(ctx context.Context, id message.ID, reasons []outcome.Reason, countOnly bool) (int, error)
	Export(ctx context.Context, id message.ID, w io.Writer) error
	// Authors are the names of the keys that created the campaign or imported its audience.
	Authors(ctx context.Context, c Campaign) ([]string, error)
}
