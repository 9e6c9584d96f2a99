package app

import (
	"context"
	"errors"

	"github.com/hongyan-dispatch/hongyan/client"
	"github.com/hongyan-dispatch/hongyan/message"
)

type apiReplays struct{ *client.Client }

// Replay sends ended messages again.
func (a apiReplays) Replay(ctx context.Context, r client.Replay) (client.ReplayResult, error) {
	result, err := a.Client.Replay(ctx, r)
	if wrong, ok := errors.AsType[message.Invalid](err); ok {
		for i := range wrong {
			wrong[i].Path = replayFields[wrong[i].Path]
		}
		return client.ReplayResult{}, wrong
	}
	if r.DryRun {
		return result, apiError(err)
	}
	return result, changed(err)
}

// replayFields are the fields of a request by the flags of enqueue replay, after which the client's findings are named.
var replayFields = map[string]string{
	"ids": "ids", "status": "statuses", "reason": "reasons", "account": "accounts", "kind": "kinds", "since": "since", "until": "until", "lane": "lane", "per_second": "per_second",
}
