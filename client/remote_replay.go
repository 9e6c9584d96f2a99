package client

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"time"

	"github.com/hongyan-dispatch/hongyan/message"
	"github.com/hongyan-dispatch/hongyan/outcome"
)

// A replayRequest is a Replay as the server reads it.
type replayRequest struct {
	IDs              []message.ID     `json:"ids,omitempty"`
	Statuses         []outcome.Status `json:"statuses,omitempty"`
	Reasons          []outcome.Reason `json:"reasons,omitempty"`
	Accounts         []string         `json:"accounts,omitempty"`
	Kinds            []message.Kind   `json:"kinds,omitempty"`
	Since            time.Time        `json:"since,omitzero"`
	Until            time.Time        `json:"until,omitzero"`
	Again            bool             `json:"again,omitempty"`
	AcceptDuplicates bool             `json:"accept_duplicates,omitempty"`
	Lane             message.Lane     `json:"lane,omitempty"`
	PerSecond        float64          `json:"per_second,omitempty"`
	DryRun           bool             `json:"dry_run,omitempty"`
}

// Replay sends ended messages again, as [Client.Replay] does: those that the key may replay, whatever Only says, which must be
// nil. At most 1,000 IDs go in a call. Where the connection breaks it asks again; what went before is then counted as spared.
func (r *Remote) Replay(ctx context.Context, ask Replay) (ReplayResult, error) {
	var result ReplayResult
	if err := ask.check(); err != nil {
		return result, err
	}
	if ask.Only != nil {
		return result, message.Invalid{{Path: "only", Rule: "the server bounds a replay to what the key may replay; name accounts and kinds"}}
	}
	body, err := json.Marshal(replayRequest{
		IDs: ask.IDs, Statuses: ask.Statuses, Reasons: ask.Reasons, Accounts: ask.Accounts, Kinds: ask.Kinds, Since: ask.Since, Until: ask.Until,
		Again: ask.Again, AcceptDuplicates: ask.AcceptDuplicates, Lane: ask.Lane, PerSecond: ask.PerSecond, DryRun: ask.DryRun,
	})
	if err != nil {
		return result, err
	}
	t := newTries(ctx)
	defer t.end()
	for {
		result, err = r.replay(t, body, ask.Progress)
		if err == nil {
			return result, nil
		}
		if again, last := t.again(err); !again {
			return result, last
		}
	}
}

// replay asks once, and follows the answer to its last line.
func (r *Remote) replay(t *tries, body []byte, progress func(ReplayResult)) (result ReplayResult, err error) {
	w := watch(t.ctx, r.try)
	defer w.end()
	res, err := r.send(w.ctx, http.MethodPost, "/v1/replay", typeJSON, bytes.NewReader(body))
	if err != nil {
		return result, err
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return result, problemOf(res)
	}
	lines := json.NewDecoder(res.Body)
	for {
		var l struct {
			Done       bool          `json:"done"`
			Replayed   int           `json:"replayed"`
			Spared     int           `json:"spared"`
			Counts     []ReplayCount `json:"counts"`
			RetryAfter int           `json:"retry_after"`
			Detail     string        `json:"detail"`
		}
		if err := lines.Decode(&l); err != nil {
			return result, errors.Join(errCut, err)
		}
		w.moved()
		result = ReplayResult{Replayed: l.Replayed, Spared: l.Spared, Counts: l.Counts}
		t.goesOn()
		if progress != nil {
			progress(result)
		}
		switch {
		case l.Done:
			return result, nil
		case l.Detail != "":
			return result, &Problem{Status: http.StatusServiceUnavailable, Detail: l.Detail, after: time.Duration(l.RetryAfter) * time.Second}
		}
	}
}

// errCut says that an answer has no last line.
var errCut = errors.New("the answer broke off")
