package app

import (
	"context"
	"errors"

	"github.com/hongyan-dispatch/hongyan/client"
	"github.com/hongyan-dispatch/hongyan/internal/api"
	"github.com/hongyan-dispatch/hongyan/message"
)

type apiReplays struct{ *client.Client }

// Replay sends ended messages again.
func (a apiReplays) Replay(ctx context.Context, r api.ReplayRequest, told func(api.ReplayResult)) (api.ReplayResult, error) {
	result, err := a.Client.Replay(ctx, client.Replay{
		IDs: r.IDs, Statuses: r.Statuses, Reasons: r.Reasons, Accounts: r.Accounts, Kinds: r.Kinds, Since: r.Since, Until: r.Until,
		Again: r.Again, AcceptDuplicates: r.AcceptDuplicates, Lane: r.Lane, PerSecond: r.PerSecond, DryRun: r.DryRun, Only: r.Only,
		Progress: func(r client.ReplayResult) { told(apiReplayed(r)) },
	})
	if wrong, ok := errors.AsType[message.Invalid](err); ok {
		for i := range wrong {
			wrong[i].Path = replayFields[wrong[i].Path]
		}
		return api.ReplayResult{}, wrong
	}
	if r.DryRun {
		return apiReplayed(result), apiError(err)
	}
	return apiReplayed(result), changed(err)
}

// replayFields are the fields of a request by the flags of enqueue replay, after which the client's findings are named.
var replayFields = map[string]string{
	"ids": "ids", "status": "statuses", "reason": "reasons", "account": "accounts", "kind": "kinds", "since": "since", "lane": "lane", "per_second": "per_second",
}

func apiReplayed(r client.ReplayResult) api.ReplayResult {
	result := api.ReplayResult{Replayed: r.Replayed, Spared: r.Spared, Counts: make([]api.ReplayCount, len(r.Counts))}
	for i, n := range r.Counts {
		result.Counts[i] = api.ReplayCount(n)
	}
	return result
}
