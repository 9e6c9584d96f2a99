package feed

import (
	"context"
	"log/slog"
	"time"
)

// Settling is what firings' chunks need that no worker ends.
type Settling interface {
	// Settle has a turn with each firing that has not ended: it closes chunks whose messages have all ended, cancels what is
	// left where the campaign has ended, and with its last chunk ends the firing. more says that another turn finds more.
	Settle(ctx context.Context) (more bool, err error)
}

// A Settler settles firings. It goes beside the feeder, which must not wait for it: a campaign of ten million that is
// cancelled keeps it busy for minutes. Its Run is called by the pod that leads.
type Settler struct {
	Firings Settling
	Log     *slog.Logger
}

// settleEvery is how often chunks are looked after that have not ended.
const settleEvery = time.Second

// Run settles until the context ends.
func (s *Settler) Run(ctx context.Context) error {
	for {
		more, err := s.Firings.Settle(ctx)
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			s.Log.Warn("settle campaigns", "error", err)
		} else if more {
			continue
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(settleEvery):
		}
	}
}
