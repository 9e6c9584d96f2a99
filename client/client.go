package client

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/hongyan-dispatch/hongyan/internal/postgres"
	"github.com/hongyan-dispatch/hongyan/internal/tasks"
	"github.com/hongyan-dispatch/hongyan/message"
)

// Durability says what an accepted message depends on.
type Durability string

// The durabilities.
const (
	InPostgres Durability = "postgres" // committed in the ledger
	InRedis    Durability = "redis"    // handed over to the queue alone
)

// An Account is an Official Account that messages may be sent for.
type Account struct {
	Name  string
	AppID message.AppID
}

// Options says where messages go.
type Options struct {
	Redis    string        // URL of the queue: redis://, rediss://, redis-cluster:// or redis-sentinel://
	Database string        // URL of the ledger; empty for none
	Accounts []Account     // if given, messages for others are refused, and an AppID serves as a name
	Rules    message.Rules // limits of content that WeChat may change; zero for the defaults
}

// A Receipt is what became of enqueueing one message.
type Receipt struct {
	ID         message.ID   // of the message; of the first one with this key, if Duplicate
	Parts      []message.ID // mass lists over WeChat's 10,000: the ids of all parts, ID first
	Duplicate  bool         // the same message was enqueued before under the same key
	Durability Durability
	Err        error // message.Invalid, ErrKeyConflict, or why nothing was accepted; nil if accepted
}

// ErrKeyConflict says that the key was used before, by a message with another content.
var ErrKeyConflict = errors.New("key: used before by another message; use a new key for a new message")

// A Client enqueues messages. Its methods may be called concurrently; calls that wait at the same time travel
// together.
type Client struct {
	rdb      redis.UniversalClient
	queue    *tasks.Enqueuer
	ledger   *postgres.Store // nil for none
	accounts map[string]string
	rules    message.Rules

	mu       sync.Mutex
	waiting  []*single
	flushing bool
}

// New connects to the queue, and to the ledger if there is one. Close the client when done.
func New(ctx context.Context, o Options) (*Client, error) {
	rdb, err := tasks.Redis(o.Redis)
	if err != nil {
		return nil, fmt.Errorf("redis: %w", err)
	}
	c := &Client{rdb: rdb, queue: tasks.NewEnqueuer(rdb), rules: o.Rules}
	if len(o.Accounts) > 0 {
		c.accounts = make(map[string]string, 2*len(o.Accounts))
		for _, a := range o.Accounts {
			c.accounts[a.Name] = a.Name
			c.accounts[string(a.AppID)] = a.Name
		}
	}
	if o.Database != "" {
		if c.ledger, err = postgres.Open(ctx, o.Database, postgres.Options{}); err != nil {
			_ = rdb.Close()
			return nil, fmt.Errorf("postgres: %w", err)
		}
	}
	return c, nil
}

// Close releases the connections.
func (c *Client) Close() error {
	if c.ledger != nil {
		c.ledger.Close()
	}
	return c.rdb.Close()
}

// Ledger gives access to the ledger's rows; nil without one.
func (c *Client) Ledger() *postgres.Store { return c.ledger }

// Enqueue enqueues one message, in the normal lane unless it says otherwise. The error is that of the receipt.
func (c *Client) Enqueue(ctx context.Context, m message.Message) (Receipt, error) {
	m.Defaults(false)
	prepared, r := c.prepare(m, time.Now())
	if r.Err != nil {
		return r, r.Err
	}
	if len(prepared) > 1 {
		receipts := []Receipt{r}
		c.enqueue(ctx, [][]*message.Message{prepared}, receipts)
		return receipts[0], receipts[0].Err
	}
	return c.together(ctx, prepared[0], r)
}

// EnqueueBatch enqueues many messages, in the bulk lane unless they say otherwise. A message that is refused
// stops no other: see the receipts, which stand in the order of the messages.
func (c *Client) EnqueueBatch(ctx context.Context, messages []message.Message) []Receipt {
	now := time.Now()
	receipts := make([]Receipt, len(messages))
	groups := make([][]*message.Message, len(messages))
	for i := range messages {
		m := messages[i]
		m.Defaults(true)
		groups[i], receipts[i] = c.prepare(m, now)
	}
	c.enqueue(ctx, groups, receipts)
	return receipts
}

// prepare validates a message, gives it its id, and takes a long mass list apart.
func (c *Client) prepare(m message.Message, now time.Time) ([]*message.Message, Receipt) {
	if c.accounts != nil {
		name, known := c.accounts[m.Account]
		if !known && m.Account != "" {
			return nil, Receipt{Err: message.Invalid{{Path: "account", Rule: "one of the configured accounts", Got: m.Account}}}
		}
		m.Account = name
	}
	if err := c.rules.Validate(&m, now); err != nil {
		return nil, Receipt{Err: err}
	}
	parts := split(&m, now)
	r := Receipt{ID: parts[0].ID, Durability: InRedis}
	if c.ledger != nil {
		r.Durability = InPostgres
	}
	if len(parts) > 1 {
		for _, p := range parts {
			r.Parts = append(r.Parts, p.ID)
		}
	}
	return parts, r
}
