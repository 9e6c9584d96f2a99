package client

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/hongyan-dispatch/hongyan/message"
)

// Replay sends ended messages again, as [Client.Replay] does: those that the key may replay, whatever Only says, which must be
// nil. At most 1,000 IDs go in a call. Where the connection breaks it asks again; what went before is then counted as spared. With
// Again it does so only where nothing went: a second try would find what the first one made, and replay what of it has failed.
func (r *Remote) Replay(ctx context.Context, ask Replay) (ReplayResult, error) {
	var result ReplayResult
	if err := ask.check(); err != nil {
		return result, err
	}
	if ask.Only != nil {
		return result, message.Invalid{{Path: "only", Rule: "the server bounds a replay to what the key may replay; name accounts and kinds"}}
	}
	body, err := json.Marshal(ask)
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
		if ask.growing() && !nothingDone(err) {
			return result, fmt.Errorf("asked once more it would find what it has made, unless until is over: %w", doubted(err))
		}
		if again, last := t.again(err); !again {
			return result, last
		}
	}
}

// growing says that what the replay makes may be found by the same replay, made again.
func (r Replay) growing() bool { return r.Again && len(r.IDs) == 0 && !r.DryRun }

// nothingDone says that the server did nothing of a request, by its own word.
func nothingDone(err error) bool {
	p, answered := errors.AsType[*Problem](err)
	return answered && (strings.HasSuffix(p.Type, "problem-unavailable") || strings.HasSuffix(p.Type, "problem-too-many"))
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
			Done bool `json:"done"`
			ReplayResult
			RetryAfter int    `json:"retry_after"`
			Detail     string `json:"detail"`
		}
		if err := lines.Decode(&l); err != nil {
			return result, errors.Join(errCut, err)
		}
		w.moved()
		result = l.ReplayResult
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
