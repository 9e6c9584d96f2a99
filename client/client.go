package client

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/hongyan-dispatch/hongyan/internal/postgres"
	"github.com/hongyan-dispatch/hongyan/internal/tasks"
	"github.com/hongyan-dispatch/hongyan/internal/window"
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
	// Remember is how long the users' last actions matter: the longest customer-service window that the workers
	// are configured with. Zero is WeChat's 48 hours.
	Remember time.Duration
}

// Options says where messages go.
type Options struct {
	Redis    string        // URL of the queue: redis://, rediss://, redis-cluster:// or redis-sentinel://
	Database string        // URL of the ledger; empty for none
	Accounts []Account     // if given, messages for others are refused, and an AppID serves as a name
	Rules    message.Rules // limits of content that WeChat may change; zero for the defaults

	// Trace, optional, is told of each parcel that is about to go into the queue, and by what it returns, unless that is nil,
	// whether it went. It may set the parcel's Traceparent, which workers that trace link to; anything else it must leave.
	Trace func(*message.Parcel) func(error)
}

// Errors of a receipt, for errors.Is. Beside them there is [message.Invalid], for errors.As.
var (
	// ErrKeyConflict says that the key was used before, by a message with another content.
	ErrKeyConflict = errors.New("key: used before by another message; use a new key for a new message")
	// ErrUnavailable says that a store does not answer, and that nothing of the message was accepted.
	ErrUnavailable = errors.New("nothing was accepted")
	// ErrInDoubt says that a store stopped answering while the message was on its way there. Enqueue it again with
	// the same key: it is sent once.
	ErrInDoubt = errors.New("whether it was accepted is not known; enqueue it again with the same key")
)

// ErrNotAll says that a message was not accepted because another one of those that were to be accepted together is not.
var ErrNotAll = errors.New("not accepted, because another message that came with it is refused")

// A Client enqueues messages. Its methods may be called concurrently; calls that wait at the same time travel
// together.
type Client struct {
	rdb      redis.UniversalClient
	queue    *tasks.Enqueuer
	ledger   *postgres.Store // nil for none
	windows  *window.Ledger
	accounts map[string]Account // by name and by AppID; nil where any name will do
	rules    message.Rules

	heard atomic.Int64 // when Redis last answered, in Unix nanoseconds

	mu       sync.Mutex
	waiting  []*single // calls of Enqueue for the next round
	flushing bool
}

// New prepares a client, and connects to the ledger if there is one. Close the client when done.
func New(ctx context.Context, o Options) (*Client, error) {
	rdb, err := tasks.Redis(o.Redis)
	if err != nil {
		return nil, err
	}
	c := &Client{rdb: rdb, rules: o.Rules, accounts: byName(o.Accounts)}
	c.windows = window.New(rdb, c.windowRules)
	if c.queue, err = tasks.NewEnqueuer(rdb); err == nil && o.Database != "" {
		c.ledger, err = postgres.Open(ctx, o.Database, postgres.Options{Name: "hongyan-client"})
	}
	if err != nil {
		_ = rdb.Close()
		return nil, err
	}
	c.queue.Trace = o.Trace
	return c, nil
}

func byName(accounts []Account) map[string]Account {
	if len(accounts) == 0 {
		return nil
	}
	all := make(map[string]Account, 2*len(accounts))
	for _, a := range accounts {
		all[a.Name], all[string(a.AppID)] = a, a
	}
	return all
}

// Close releases the connections. Calls that are under way fail.
func (c *Client) Close() error {
	if c.ledger != nil {
		c.ledger.Close()
	}
	return c.rdb.Close()
}

// Durability says what messages that this client accepts depend on.
func (c *Client) Durability() Durability {
	if c.ledger != nil {
		return InPostgres
	}
	return InRedis
}

// account finds the account that a message or an event names.
func (c *Client) account(name string) (Account, error) {
	if c.accounts == nil {
		return Account{Name: name}, nil
	}
	a, known := c.accounts[name]
	if !known || name == "" {
		return Account{}, message.Invalid{{Path: "account", Rule: "want one of the configured accounts: " + c.names(), Got: fmt.Sprintf("%q", name)}}
	}
	return a, nil
}

// names lists the first few accounts.
func (c *Client) names() string {
	const few = 8
	names := []string{}
	for key, a := range c.accounts {
		if key == a.Name {
			names = append(names, key)
		}
	}
	slices.Sort(names)
	if len(names) > few {
		names = append(names[:few], "…")
	}
	return strings.Join(names, ", ")
}

// fresh is how long an answer of Redis lets us believe that the next call will be answered too.
const fresh = time.Second

// reach makes sure that Redis answers, before anything is sent that might be accepted. In front of a commit it asks
// each time: what is in the ledger and not in the queue waits for a worker to find it.
func (c *Client) reach(ctx context.Context, now time.Time) error {
	if c.ledger == nil && now.Sub(time.Unix(0, c.heard.Load())) < fresh {
		return nil
	}
	if err := c.rdb.Ping(ctx).Err(); err != nil {
		return fmt.Errorf("%w: redis: %w", ErrUnavailable, err)
	}
	c.heard.Store(time.Now().UnixNano())
	return nil
}
