package postgres

import (
	"context"
	"encoding/json"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/hongyan-dispatch/hongyan/internal/devstack"
	"github.com/hongyan-dispatch/hongyan/message"
	"github.com/hongyan-dispatch/hongyan/outcome"
)

func TestMain(m *testing.M) { devstack.Main(m) }

// A bundle is a database of a test's own.
type bundle struct {
	*testing.T
	store *Store
	url   string
	ctx   context.Context
}

func setup(t *testing.T) *bundle {
	t.Helper()
	t.Parallel()
	return setupAlone(t)
}

// setupAlone is setup for a test that no other may disturb.
func setupAlone(t *testing.T) *bundle {
	t.Helper()
	url := devstack.Postgres(t, Migrate)
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	t.Cleanup(cancel)
	return &bundle{T: t, store: open(t, url), url: url, ctx: ctx}
}

func open(t testing.TB, url string) *Store {
	t.Helper()
	s, err := Open(context.Background(), url, Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

// committer starts a pod with a committer, which stops when the test ends.
func (b *bundle) committer(o CommitterOptions) *Committer {
	b.Helper()
	pod, err := b.store.StartPod(b.ctx, b.Name(), "test")
	if err != nil {
		b.Fatal(err)
	}
	c := b.store.NewCommitter(pod.ID, o)
	run(b.T, c)
	return c
}

func run(t testing.TB, c *Committer) (stop func() error) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- c.Run(ctx) }()
	stop = sync.OnceValue(func() error { cancel(); return <-done })
	t.Cleanup(func() { stop() })
	return stop
}

var sequence struct {
	sync.Mutex
	n int
}

// newMessage makes a template message to a user of its own.
func newMessage() *message.Message {
	sequence.Lock()
	sequence.n++
	n := sequence.n
	sequence.Unlock()
	return &message.Message{
		ID: message.NewID(time.Now()), Account: "shop", Kind: message.Template, Lane: message.Normal,
		To:   message.OpenID(fmt.Sprintf("oTest%024d", n)),
		Body: json.RawMessage(`{"template_id":"T1","data":{"thing1":{"value":"茶"}}}`),
	}
}

func parcelOf(list ...*message.Message) *message.Parcel {
	return &message.Parcel{ID: message.NewID(time.Now()), Account: list[0].Account, Kind: list[0].Kind, Lane: list[0].Lane, Messages: list}
}

func newParcel(n int) *message.Parcel {
	list := make([]*message.Message, n)
	for i := range list {
		list[i] = newMessage()
	}
	return parcelOf(list...)
}

func (b *bundle) accept(parcels ...*message.Parcel) []Acceptance {
	b.Helper()
	answers, err := b.store.Accept(b.ctx, parcels, time.Now())
	if err != nil {
		b.Fatal(err)
	}
	return answers
}

func (b *bundle) claim(c *Committer, m *message.Message, parcel message.ID) Claim {
	b.Helper()
	claim, err := c.Claim(b.ctx, m, parcel)
	if err != nil {
		b.Fatal(err)
	}
	return claim
}

func (b *bundle) claimFor(c *Committer, run *Chunk, m *message.Message) Claim {
	b.Helper()
	claim, err := c.ClaimRecipient(b.ctx, m, run)
	if err != nil {
		b.Fatal(err)
	}
	return claim
}

func (b *bundle) verdictFor(c *Committer, run *Chunk, m *message.Message, o outcome.Outcome) bool {
	b.Helper()
	took, err := c.VerdictOnRecipient(b.ctx, m, run, o, Effects{})
	if err != nil {
		b.Fatal(err)
	}
	return took
}

func (b *bundle) settle(c *Committer, m *message.Message, claim Claim, o outcome.Outcome, e Effects) bool {
	b.Helper()
	took, err := c.Settle(b.ctx, m, claim, o, e)
	if err != nil {
		b.Fatal(err)
	}
	return took
}

func (b *bundle) verdict(c *Committer, m *message.Message, parcel message.ID, o outcome.Outcome, e Effects) bool {
	b.Helper()
	took, err := c.Verdict(b.ctx, m, parcel, o, e)
	if err != nil {
		b.Fatal(err)
	}
	return took
}

func (b *bundle) status(id message.ID) Status {
	b.Helper()
	s, err := b.store.Status(b.ctx, id)
	if err != nil {
		b.Fatal(err)
	}
	return s
}

// wantState checks a message's state and reason.
func (b *bundle) wantState(id message.ID, state outcome.Status, reason outcome.Reason) Status {
	b.Helper()
	s := b.status(id)
	if s.State != state || s.Reason != reason {
		b.Fatalf("message is %s (%s), want %s (%s)", s.State, s.Reason, state, reason)
	}
	return s
}

// count is the one number that a query gives.
func (b *bundle) count(sql string, args ...any) int {
	b.Helper()
	var n int
	if err := b.store.pool.QueryRow(b.ctx, sql, args...).Scan(&n); err != nil {
		b.Fatal(err)
	}
	return n
}

func (b *bundle) strings(sql string, args ...any) []string {
	b.Helper()
	rows, err := b.store.pool.Query(b.ctx, sql, args...)
	if err != nil {
		b.Fatal(err)
	}
	list, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		b.Fatal(err)
	}
	return list
}

func sent(msgid int64) outcome.Outcome { return outcome.Outcome{Status: outcome.Sent, MsgID: msgid} }
