package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/hongyan-dispatch/hongyan/client"
	"github.com/hongyan-dispatch/hongyan/message"
)

// A Replayer sends ended messages again, each once, whoever asks and however often. After an error the result says what
// went until then.
type Replayer interface {
	Replay(ctx context.Context, r client.Replay) (client.ReplayResult, error)
}

// Bounds of a replay.
const (
	maxReplayIDs  = MaxArray
	maxReplayBody = 64 << 10
	replayMemory  = 8 << 20 // and so there are few at a time
	replayTells   = time.Second
)

// replay sends ended messages again. The answer is one line of JSON; where it takes longer, it has a line a second, of which
// the last one says that it is done.
func (h *Handler) replay(c *call) error {
	var wanted client.Replay
	if err := h.readObject(c, maxReplayBody, &wanted); err != nil {
		return err
	}
	if len(wanted.IDs) > maxReplayIDs {
		return invalid(message.Invalid{{Path: "ids", Rule: fmt.Sprintf("at most %d; make several requests of more", maxReplayIDs), Got: fmt.Sprint(len(wanted.IDs))}})
	}
	if err := h.allowReplay(c.key, &wanted); err != nil {
		return err
	}
	if err := h.hold(c, replayMemory); err != nil {
		return err
	}
	if !wanted.DryRun {
		if err := h.audit.now(c.ctx(), c.entry("replay", strings.Join(wanted.Accounts, ","), "", told(wanted), 0)); err != nil {
			return err
		}
	}
	ctx, cancel := context.WithCancel(c.ctx())
	defer cancel()
	defer context.AfterFunc(h.closing, cancel)()
	out := &replayed{h: h, c: c, dryRun: wanted.DryRun, again: wanted.Again && len(wanted.IDs) == 0, last: time.Now()}
	wanted.Progress = out.tell
	result, err := h.options.Replays.Replay(ctx, wanted)
	if !wanted.DryRun {
		for account, n := range byAccount(result) {
			h.audit.later(c.entry("replayed", account, "", "", n))
		}
	}
	if err != nil && h.closing.Err() != nil && !errors.Is(err, ErrInDoubt) {
		err = unavailable("the server is closing")
	}
	return out.end(result, err)
}

// told is what a request asks for, for the audit.
func told(r client.Replay) string {
	ids := len(r.IDs)
	r.IDs = nil
	text, err := json.Marshal(r)
	if err != nil {
		return ""
	}
	if ids > 0 {
		return fmt.Sprintf("%d ids %s", ids, text)
	}
	return string(text)
}

func byAccount(r client.ReplayResult) map[string]int {
	all := map[string]int{}
	for _, n := range r.Counts {
		if n.Spared == "" {
			all[n.Account] += n.Messages
		}
	}
	return all
}

// allowReplay bounds a replay to what the key may send again. Who names something else is told so.
func (h *Handler) allowReplay(k *holder, r *client.Replay) error {
	var bad message.Invalid
	refuse := func(path, rule string, got string) {
		bad = append(bad, message.FieldError{Path: path, Rule: rule, Got: got})
	}
	for i, given := range r.Accounts {
		path := fmt.Sprintf("accounts[%d]", i)
		name, known := h.options.Accounts.Name(given)
		if !known || !k.knows(name) {
			refuse(path, "want an account that this key is for", quote(given))
			continue
		}
		r.Accounts[i] = name
		if len(k.kindsFor(name, Replay)) == 0 {
			refuse(path, "the key may not replay messages of "+name, "")
			continue
		}
		for j, kind := range r.Kinds {
			switch {
			case !k.May(name, kind, Replay):
				refuse(fmt.Sprintf("kinds[%d]", j), fmt.Sprintf("the key may not replay %s messages of %s", kind, name), "")
			case kind == message.Mass && h.options.Accounts.WantsApproval(name):
				refuse(fmt.Sprintf("kinds[%d]", j), "mass messages of "+name+" want a second key's approval: an operator replays them with enqueue replay", "")
			}
		}
	}
	replays := slices.DeleteFunc(slices.Clone(k.Scopes), func(s Scope) bool { return !matches(s.Action, string(Replay)) })
	for j, kind := range r.Kinds {
		if len(r.Accounts) == 0 && !slices.ContainsFunc(replays, func(s Scope) bool { return matches(s.Kind, string(kind)) }) {
			refuse(fmt.Sprintf("kinds[%d]", j), fmt.Sprintf("the key may not replay %s messages", kind), "")
		}
	}
	switch {
	case bad != nil:
		p := forbidden(few(bad).Error())
		p.Errors = few(bad)
		return p
	case len(replays) == 0:
		return forbidden("the key may not replay messages")
	}
	r.Only = func(account string, kind message.Kind) bool {
		return k.May(account, kind, Replay) && (kind != message.Mass || !h.options.Accounts.WantsApproval(account))
	}
	return nil
}

// replayed is the answer about a replay that goes on.
type replayed struct {
	h      *Handler
	c      *call
	dryRun bool
	again  bool      // the same request may find what this one makes
	last   time.Time // when the last line was written, or the request came
}

// A replayLine says how far a replay is.
type replayLine struct {
	Done   bool `json:"done"`
	DryRun bool `json:"dry_run"`
	client.ReplayResult
	RetryAfter int    `json:"retry_after,omitempty"`
	Detail     string `json:"detail,omitempty"` // why it broke off
}

// tell writes a line when the last one is old.
func (o *replayed) tell(r client.ReplayResult) {
	if now := time.Now(); now.Sub(o.last) >= replayTells {
		o.last = now
		o.write(replayLine{DryRun: o.dryRun, ReplayResult: r})
	}
}

func (o *replayed) write(l replayLine) {
	_ = o.c.rc.SetWriteDeadline(time.Now().Add(o.h.options.Patience))
	if o.c.w.status == 0 {
		o.c.w.Header().Set("Content-Type", typeLines)
		o.c.w.WriteHeader(http.StatusOK)
	}
	if l.Counts == nil {
		l.Counts = []client.ReplayCount{}
	}
	_ = json.NewEncoder(o.c.w).Encode(l) // whoever reads no more asks again
	_ = o.c.rc.Flush()
}

// end writes the last line. Where nothing went yet a failure is the answer.
func (o *replayed) end(r client.ReplayResult, err error) error {
	if err != nil && o.c.w.status == 0 && (r.Replayed == 0 || o.dryRun) {
		return refused(err)
	}
	l := replayLine{Done: err == nil, DryRun: o.dryRun, ReplayResult: r}
	if err != nil {
		p, next := problemOf(err), "broken off, and goes on when the same request is made again: "
		if o.again {
			next = "broken off, and goes on when the same request is made again with an until before this one: "
		}
		l.Detail, l.RetryAfter = next+p.Detail, seconds(p.after)
		o.h.options.Log.Warn("a replay broke off", "key", o.c.keyID(), "replayed", r.Replayed, "error", err)
	}
	o.write(l)
	return nil
}
