package worker

import (
	"context"
	"fmt"

	"github.com/hongyan-dispatch/hongyan/internal/clock"
	"github.com/hongyan-dispatch/hongyan/internal/pipeline"
	"github.com/hongyan-dispatch/hongyan/message"
	"github.com/hongyan-dispatch/hongyan/outcome"
)

// maxLost is how often a parcel may come back because its worker was lost; asynq counts nothing else, see isFailure.
const maxLost = 3

// separate looks at no message of a parcel that may have killed its workers: each goes on in a parcel of its own, so
// that the one that kills takes no other with it; and one that came alone is not tried again. What was claimed or
// decided meanwhile stays as it is.
func (h *Handler) separate(ctx context.Context, parcel *message.Parcel) error {
	o := outcome.Outcome{Status: outcome.Dead, Reason: outcome.Poison}
	effects := pipeline.Effects{Note: fmt.Sprintf("its workers were lost %d times before they could claim it", maxLost)}
	if len(parcel.Messages) > 1 {
		o = outcome.Outcome{Status: outcome.Parked, Reason: outcome.Backoff, Until: clock.Now()}
		effects = pipeline.Effects{Alone: true, Note: fmt.Sprintf("its parcel lost its worker %d times; it goes on alone", maxLost)}
	}
	for _, m := range parcel.Messages {
		a := &pipeline.Attempt{Message: m, Parcel: parcel.ID, Now: clock.Now(), Effects: effects}
		if _, err := h.Ledger.Settle(context.WithoutCancel(ctx), a, o); err != nil {
			return fmt.Errorf("separate %s: %w", m.ID, err)
		}
		if h.Observe != nil {
			h.Observe(a, o, 0)
		}
	}
	return nil
}
