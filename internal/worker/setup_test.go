package worker

import (
	"context"
	"encoding/json"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/hibiken/asynq"

	"github.com/hongyan-dispatch/hongyan/internal/devstack"
	"github.com/hongyan-dispatch/hongyan/internal/pipeline"
	"github.com/hongyan-dispatch/hongyan/internal/tasks"
	"github.com/hongyan-dispatch/hongyan/message"
	"github.com/hongyan-dispatch/hongyan/outcome"
)

func TestMain(m *testing.M) { devstack.Main(m) }

// A decide is a pipeline made of one function.
type decide func(ctx context.Context, a *pipeline.Attempt) (outcome.Outcome, error)

func (d decide) Run(ctx context.Context, a *pipeline.Attempt) (outcome.Outcome, error) {
	return d(ctx, a)
}

// Take decides at once; a decide is for messages that are not claimed ahead.
func (d decide) Take(ctx context.Context, a *pipeline.Attempt) (o outcome.Outcome, ended bool, err error) {
	o, err = d(ctx, a)
	return o, true, err
}

func (d decide) Send(*pipeline.Attempt, error) (outcome.Outcome, error) {
	panic("it was claimed ahead")
}

// inParts is a pipeline whose messages are claimed ahead: take decides before the claim, if it wants to, send after it.
type inParts struct {
	take func(ctx context.Context, a *pipeline.Attempt) (outcome.Outcome, bool, error)
	send func(a *pipeline.Attempt, err error) (outcome.Outcome, error)
}

func (inParts) Run(context.Context, *pipeline.Attempt) (outcome.Outcome, error) {
	panic("it was not claimed ahead")
}

func (p inParts) Take(ctx context.Context, a *pipeline.Attempt) (outcome.Outcome, bool, error) {
	if p.take == nil {
		return outcome.Outcome{}, false, nil
	}
	return p.take(ctx, a)
}

func (p inParts) Send(a *pipeline.Attempt, err error) (outcome.Outcome, error) {
	return p.send(a, err)
}

var sent = outcome.Outcome{Status: outcome.Sent}

func always(o outcome.Outcome) decide {
	return func(context.Context, *pipeline.Attempt) (outcome.Outcome, error) { return o, nil }
}

// A book is a ledger that remembers what it was told.
type book struct {
	mu       sync.Mutex
	settled  map[message.ID]outcome.Outcome
	done     []message.ID
	rejected []string
	fails    map[message.ID]error // settles that cannot be written
	lost     map[message.ID]bool  // messages that somebody else has decided about
	away     error                // of Reject

	claimed   []message.ID // ahead of a sender
	unclaimed error        // of ClaimLater
}

func (b *book) Settle(ctx context.Context, a *pipeline.Attempt, o outcome.Outcome) (took bool, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if ctx.Err() != nil {
		return false, fmt.Errorf("settled under a context that is over: %w", ctx.Err())
	}
	if err := b.fails[a.Message.ID]; err != nil {
		return false, err
	}
	if b.lost[a.Message.ID] {
		return false, nil
	}
	if before, ok := b.settled[a.Message.ID]; ok {
		return false, fmt.Errorf("%s was settled before, %v", a.Message.ID, before)
	}
	b.settled[a.Message.ID] = o
	return true, nil
}

func (b *book) ClaimLater(_ context.Context, a *pipeline.Attempt, then func(pipeline.Claim, error)) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.claimed = append(b.claimed, a.Message.ID)
	go then(pipeline.Claim{Number: 1}, b.unclaimed)
}

func (b *book) SettleLater(ctx context.Context, a *pipeline.Attempt, o outcome.Outcome, then func(took bool, err error)) {
	go func() { then(b.Settle(ctx, a, o)) }()
}

func (b *book) ParcelDone(_ context.Context, parcel message.ID) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.done = append(b.done, parcel)
}

func (b *book) Reject(_ context.Context, queue, task, kind string, payload []byte, reason string) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.away != nil {
		return b.away
	}
	b.rejected = append(b.rejected, fmt.Sprintf("%s|%s|%s|%s|%s", queue, task, kind, payload, reason))
	return nil
}

// accounts is a configuration with one account.
type accounts struct{}

func (accounts) Account(name string) (*pipeline.Account, pipeline.WeChat, bool) {
	return &pipeline.Account{Name: "shop", AppID: "wx1"}, nil, name == "shop" || name == "wx1"
}

func setup(p Pipeline) (*Handler, *book) {
	b := &book{settled: map[message.ID]outcome.Outcome{}, fails: map[message.ID]error{}, lost: map[message.ID]bool{}}
	return &Handler{
		Pipeline: p, Ledger: b, Accounts: accounts{}, Retention: 24 * time.Hour, Drain: make(chan struct{}),
	}, b
}

// parcelOf makes a parcel of n messages.
func parcelOf(n int) *message.Parcel {
	p := &message.Parcel{ID: message.NewID(time.Now()), Account: "shop", Kind: message.Template, Lane: message.Normal}
	for i := range n {
		p.Messages = append(p.Messages, &message.Message{
			ID: message.NewID(time.Now()), Account: p.Account, Kind: p.Kind, Lane: p.Lane,
			To: message.OpenID(fmt.Sprintf("o%d", i)), Body: json.RawMessage(`{"template_id":"T1"}`),
		})
	}
	return p
}

func taskOf(t *testing.T, p *message.Parcel) *asynq.Task {
	t.Helper()
	task, err := tasks.Encode(p)
	if err != nil {
		t.Fatal(err)
	}
	return task
}
