package client

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/hongyan-dispatch/hongyan/internal/postgres"
	"github.com/hongyan-dispatch/hongyan/message"
	"github.com/hongyan-dispatch/hongyan/outcome"
)

// A Replay says which ended messages are to go again. Each goes as a new message with an id, and so a client id, of its
// own, without the first one's key; it waits for its turn at the account's pace.
type Replay struct {
	IDs []message.ID `json:"ids,omitempty"` // these and no others; then the next six fields must be empty

	Statuses []outcome.Status `json:"statuses,omitempty"` // failed, skipped, expired, cancelled, dead, unknown: at least one
	Reasons  []outcome.Reason `json:"reasons,omitempty"`  // none: any
	Accounts []string         `json:"accounts,omitempty"` // by name or AppID; none: any
	Kinds    []message.Kind   `json:"kinds,omitempty"`    // none: any
	Since    time.Time        `json:"since,omitzero"`     // accepted at or after this: needed
	Until    time.Time        `json:"until,omitzero"`     // and before this; zero: now

	Again            bool         `json:"again,omitempty"`             // also messages that are replays themselves
	AcceptDuplicates bool         `json:"accept_duplicates,omitempty"` // also messages that the user may have: those that are unknown
	Lane             message.Lane `json:"lane,omitempty"`              // of the new messages, but for mass sends; empty: bulk
	PerSecond        float64      `json:"per_second,omitempty"`        // how many come due in a second; 0: as many as the account's pace lets through
	DryRun           bool         `json:"dry_run,omitempty"`           // count, and change nothing

	// Progress, which may be nil, hears of what was found so far, and again where nothing was for a while.
	Progress func(ReplayResult) `json:"-"`
	// Only, which may be nil, says of which messages this may know: others are as if they were not there.
	Only func(account string, kind message.Kind) bool `json:"-"`
}

// A ReplayResult is what was found so far.
type ReplayResult struct {
	Replayed int           `json:"replayed"` // messages that go again; in a dry run: that would
	Spared   int           `json:"spared"`   // messages that match and do not
	Counts   []ReplayCount `json:"counts"`   // by account, kind, status, reason
}

// A ReplayCount counts messages of one sort.
type ReplayCount struct {
	Account  string         `json:"account,omitempty"`
	Kind     message.Kind   `json:"kind,omitempty"`
	Status   outcome.Status `json:"status,omitempty"`
	Reason   outcome.Reason `json:"reason,omitempty"`
	Spared   string         `json:"spared,omitempty"` // why they do not go again; empty: they do
	Messages int            `json:"messages"`
}

// Replay sends ended messages again, each once: whoever calls it, however often, and wherever a call was broken off.
// After an error the same call may be made again, with Again only where Until is over: what the first call made is else found by the second. The result says what was found up to then.
func (c *Client) Replay(ctx context.Context, r Replay) (ReplayResult, error) {
	var result ReplayResult
	if c.ledger == nil {
		return result, ErrNoLedger
	}
	if err := r.check(); err != nil {
		return result, err
	}
	ask := postgres.Replay{
		Statuses: r.Statuses, Reasons: r.Reasons, Kinds: r.Kinds, Since: r.Since, Until: r.Until, Again: r.Again,
		AcceptDuplicates: r.AcceptDuplicates, Lane: r.Lane, PerSecond: r.PerSecond, DryRun: r.DryRun,
		Only: r.Only,
	}
	for _, name := range r.Accounts {
		a, err := c.account(name)
		if err != nil {
			return result, err
		}
		ask.Accounts = append(ask.Accounts, a.Name)
	}
	told := func(counts []postgres.ReplayCount, _ []postgres.Replayed) {
		for _, n := range counts {
			result.add(n)
		}
		if r.Progress != nil {
			r.Progress(result)
		}
	}
	now, err := c.ledger.Now(ctx) // not this machine's: what it makes comes due by that, and it must not find it again
	if err != nil {
		return result, err
	}
	if len(r.IDs) > 0 {
		err = c.ledger.ReplayOnly(ctx, ask, r.IDs, now, told)
	} else {
		err = c.ledger.Replay(ctx, ask, now, told)
	}
	return result, err
}

// replayable are the statuses of messages that may go again.
var replayable = []outcome.Status{outcome.Failed, outcome.Skipped, outcome.Expired, outcome.Cancelled, outcome.Dead, outcome.Unknown}

// check says what is wrong with the request, by its fields.
func (r Replay) check() error {
	var wrong message.Invalid
	add := func(path, rule string, got any) {
		wrong = append(wrong, message.FieldError{Path: path, Rule: rule, Got: fmt.Sprint(got)})
	}
	selects := len(r.Statuses)+len(r.Reasons)+len(r.Accounts)+len(r.Kinds) > 0 || !r.Since.IsZero() || !r.Until.IsZero()
	switch {
	case len(r.IDs) > 0 && selects:
		add("ids", "give ids, or say which messages, not both", len(r.IDs))
	case len(r.IDs) > 0:
	case len(r.Statuses) == 0:
		add("status", "want at least one of failed, skipped, expired, cancelled, dead, unknown", "none")
	case r.Since.IsZero():
		add("since", "want the time from which on messages were accepted", "none")
	case !r.Until.IsZero() && !r.Until.After(r.Since):
		add("until", "want a time after since", r.Until.Format(time.RFC3339))
	}
	for _, s := range r.Statuses {
		if !slices.Contains(replayable, s) {
			add("status", "want failed, skipped, expired, cancelled, dead or unknown: other messages go, or went", s)
		}
	}
	for _, reason := range r.Reasons {
		if !slices.Contains(outcome.Reasons(), reason) {
			add("reason", "want a reason from the list in docs/operations.md", reason)
		}
	}
	for _, k := range r.Kinds {
		if !slices.Contains(message.Kinds(), k) {
			add("kind", "want template, subscribe, custom or mass", k)
		}
	}
	if r.Lane != "" && !slices.Contains(message.Lanes(), r.Lane) {
		add("lane", "want urgent, normal or bulk", r.Lane)
	}
	if r.PerSecond < 0 {
		add("per_second", "want a number from 0", r.PerSecond)
	}
	if len(wrong) > 0 {
		return wrong
	}
	return nil
}

// add counts messages of one sort with those before.
func (r *ReplayResult) add(n postgres.ReplayCount) {
	if n.Spared == "" {
		r.Replayed += n.N
	} else {
		r.Spared += n.N
	}
	c := ReplayCount{Account: n.Account, Kind: n.Kind, Status: n.Status, Reason: n.Reason, Spared: string(n.Spared)}
	for i := range r.Counts {
		known := r.Counts[i]
		if known.Messages = 0; known == c {
			r.Counts[i].Messages += n.N
			return
		}
	}
	c.Messages = n.N
	r.Counts = append(r.Counts, c)
}
