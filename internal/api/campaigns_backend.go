package api

import (
	"context"
	"errors"
	"io"

	"github.com/hongyan-dispatch/hongyan/client"
	"github.com/hongyan-dispatch/hongyan/internal/campaign"
	"github.com/hongyan-dispatch/hongyan/internal/report"
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

// An Upload is a file that is to be an audience.
type Upload struct {
	Name, Format, Encoding string
	Body                   io.Reader
	MaxWorkbook            int64 // bytes of an Excel file
	Resume, Restart        bool
	Rejected               func(client.Reject)
}

// Campaigns are campaigns, as the Go client knows them. Beside the errors of the door's other stores there are
// [Standing] and [ErrUnreadable]; what is wrong with a spec is [message.Invalid].
type Campaigns interface {
	// Create writes a draft down. duplicate: it is there already, made of the same spec.
	Create(ctx context.Context, spec []byte) (c client.Campaign, duplicate bool, err error)
	Campaign(ctx context.Context, id message.ID) (client.Campaign, error)
	List(ctx context.Context, f client.CampaignFilter) ([]client.Campaign, error)
	Progress(ctx context.Context, id message.ID) (report.CampaignProgress, error)
	// Import imports a file. What it returns beside an error is what is committed.
	Import(ctx context.Context, id message.ID, u Upload) (client.AudienceState, error)
	RollBack(ctx context.Context, id message.ID) (client.AudienceState, error)
	Check(ctx context.Context, c client.Campaign, o report.CheckOptions) (report.CampaignCheck, error)
	Move(ctx context.Context, id message.ID, v campaign.Verb, reason string) (client.CampaignState, error)
	// Retry sends again to those whose messages failed, or counts them only.
	Retry(ctx context.Context, id message.ID, reasons []outcome.Reason, countOnly bool) (int, error)
	Export(ctx context.Context, id message.ID, w io.Writer) error
	// Authors are the names of the keys that created the campaign or imported its audience.
	Authors(ctx context.Context, c client.Campaign) ([]string, error)
}
