package app

import (
	"context"
	"log/slog"
	"time"

	"github.com/hongyan-dispatch/hongyan/internal/gate"
	"github.com/hongyan-dispatch/hongyan/internal/wechat"
)

// health is the breaker as the pipeline sees it.
type health struct {
	*gate.Breaker
	log *slog.Logger
}

func (h health) Troubled(ctx context.Context, account, api string, r wechat.Result, now time.Time) {
	why := r.Class.String()
	if r.Err != nil {
		why = r.Err.Error()
	}
	rests, err := h.Failed(ctx, account, api, why, now)
	if rests {
		h.log.Warn("WeChat is out of order for the account; its messages wait", "account", account, "api", api, "error", why)
	}
	if err != nil {
		h.log.Error("write gate", "error", err)
	}
}
