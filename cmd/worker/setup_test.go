package main

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/redis/go-redis/v9"

	"github.com/hongyan-dispatch/hongyan/client"
	"github.com/hongyan-dispatch/hongyan/internal/devstack"
	"github.com/hongyan-dispatch/hongyan/internal/postgres"
	"github.com/hongyan-dispatch/hongyan/internal/tasks"
	"github.com/hongyan-dispatch/hongyan/internal/wechattest"
	"github.com/hongyan-dispatch/hongyan/message"
)

// An account as the tests need it: what WeChat knows of it, and what our configuration says beside name and secret.
type account struct {
	name   string
	wechat wechattest.Settings
	yaml   string // such as "limits: {template: {per_day: 400}}", one key a line
	secret string // ours, where it differs from WeChat's
}

// shop is a 服务号, club a 订阅号.
func shop(yaml ...string) account {
	return account{name: "shop", yaml: strings.Join(yaml, "\n"), wechat: wechattest.Settings{
		AppID: "wx00000000000000f1", Secret: "canary-secret-of-the-shop-0000001",
		AnyOpenID: true, AnyMedia: true, AnyWindow: true,
		Templates: []wechattest.Template{{ID: "order_paid", Keys: []string{"thing2"}}},
		Limits:    map[string]wechattest.Limit{},
	}}
}

func club(yaml ...string) account {
	a := shop(yaml...)
	a.name, a.wechat.AppID, a.wechat.Secret = "club", "wx00000000000000f2", "canary-secret-of-the-club-0000002"
	a.wechat.Type = wechattest.Subscription
	return a
}

// A fleet is everything that some worker processes need: stores and a simulator of its own.
type fleet struct {
	*testing.T
	sim             *wechattest.Sim
	redis, database string
	config          string // file
	door            string // the server's URL, if there is one
	db              *pgxpool.Pool
	rdb             redis.UniversalClient
	producer        *client.Client // writes the ledger first
	accounts        []account
	workers         []*process

	mu      sync.Mutex
	secrets map[string]bool // every appsecret and access token that went over the wire
}

// senders is how many calls each worker makes at a time.
const senders = 16

func newFleet(t *testing.T, accounts ...account) *fleet {
	t.Helper()
	return newFleetOn(t, devstack.Redis(t), devstack.Postgres(t, postgres.Migrate), accounts...)
}

// newFleetOn makes a fleet on stores that the test has brought.
func newFleetOn(t *testing.T, redisURL, database string, accounts ...account) *fleet {
	t.Helper()
	f := &fleet{T: t, accounts: accounts, secrets: map[string]bool{}, sim: wechattest.New(wechattest.Options{})}
	server := httptest.NewServer(http.HandlerFunc(f.overhear))
	t.Cleanup(func() { f.sim.Close(); server.Close() })
	f.redis, f.database = redisURL, database
	f.config = filepath.Join(t.TempDir(), "hongyan.yaml")
	text := fmt.Sprintf("redis: {url: %q}\npostgres: {url: %q}\nworker: {senders: %d}\naccounts:\n", f.redis, f.database, senders)
	options := client.Options{Redis: f.redis, Database: f.database}
	for _, a := range accounts {
		f.sim.MustAddAccount(a.wechat)
		ours := a.wechat.Secret
		if a.secret != "" {
			ours = a.secret
		}
		f.secrets[ours], f.secrets[a.wechat.Secret] = true, true
		kind := "service"
		if a.wechat.Type == wechattest.Subscription {
			kind = "subscription"
		}
		text += fmt.Sprintf("  - name: %s\n    appid: %s\n    secret: %s\n    type: %s\n    base_url: %s\n", a.name, a.wechat.AppID, ours, kind, server.URL)
		for line := range strings.Lines(a.yaml) {
			text += "    " + strings.TrimRight(line, "\n") + "\n"
		}
		options.Accounts = append(options.Accounts, client.Account{Name: a.name, AppID: message.AppID(a.wechat.AppID)})
	}
	if err := os.WriteFile(f.config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	var err error
	if f.producer, err = client.New(t.Context(), options); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.producer.Close() })
	pool, err := pgxpool.ParseConfig(f.database)
	if err != nil {
		t.Fatal(err)
	}
	pool.MaxConns = 3
	if f.db, err = pgxpool.NewWithConfig(t.Context(), pool); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(f.db.Close)
	if f.rdb, err = tasks.Redis(f.redis); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.rdb.Close() })
	t.Cleanup(f.searchForCanaries)
	return f
}

// overhear serves the simulator and remembers each token.
func (f *fleet) overhear(w http.ResponseWriter, r *http.Request) {
	if token := r.URL.Query().Get("access_token"); token != "" {
		f.mu.Lock()
		f.secrets[token] = true
		f.mu.Unlock()
	}
	f.sim.ServeHTTP(w, r)
}

// handOver makes a client that knows no ledger.
func (f *fleet) handOver() *client.Client {
	f.Helper()
	c, err := client.New(f.Context(), client.Options{Redis: f.redis})
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { c.Close() })
	return c
}

// start starts n workers and returns when all take parcels.
func (f *fleet) start(n int) []*process {
	f.Helper()
	var started []*process
	for range n {
		started = append(started, startProcess(f, nil, nil, "--config", f.config))
	}
	for _, p := range started {
		p.ready()
	}
	f.workers = append(f.workers, started...)
	return started
}

// background is for what a test does after its end.
func (f *fleet) background() context.Context { return context.WithoutCancel(f.Context()) }

// wechat is an account of the simulator.
func (f *fleet) wechat(name string) *wechattest.Account {
	i := slices.IndexFunc(f.accounts, func(a account) bool { return a.name == name })
	return f.sim.Account(f.accounts[i].wechat.AppID)
}

// enqueue enqueues messages that must be accepted.
func (f *fleet) enqueue(messages ...message.Message) []client.Receipt {
	f.Helper()
	return f.enqueueBy(f.producer, messages...)
}

func (f *fleet) enqueueBy(c *client.Client, messages ...message.Message) []client.Receipt {
	f.Helper()
	receipts := c.EnqueueBatch(f.Context(), messages)
	for i, r := range receipts {
		if r.Err != nil {
			f.Fatalf("message %d: %v", i, r.Err)
		}
	}
	return receipts
}

// number asks the database for one number.
func (f *fleet) number(query string, args ...any) (n int) {
	f.Helper()
	if err := f.db.QueryRow(f.Context(), query, args...).Scan(&n); err != nil {
		f.Fatalf("%s: %v", query, err)
	}
	return n
}

// exec changes the database, where the clock would take too long.
func (f *fleet) exec(query string, args ...any) {
	f.Helper()
	if _, err := f.db.Exec(f.Context(), query, args...); err != nil {
		f.Fatalf("%s: %v", query, err)
	}
}

// outcomes counts the rows of the view that meet a condition by status and reason: "sent", "parked quota".
func (f *fleet) outcomes(where string, args ...any) map[string]int {
	f.Helper()
	rows, err := f.db.Query(f.Context(),
		"SELECT trim(status || ' ' || coalesce(reason, '')), count(*)::int FROM outcomes WHERE "+where+" GROUP BY 1", args...)
	if err != nil {
		f.Fatal(err)
	}
	defer rows.Close()
	counts := map[string]int{}
	for rows.Next() {
		var what string
		var n int
		if err := rows.Scan(&what, &n); err != nil {
			f.Fatal(err)
		}
		counts[what] = n
	}
	if err := rows.Err(); err != nil {
		f.Fatal(err)
	}
	return counts
}

// await polls the outcomes until they are as wanted, and fails with what they are.
func (f *fleet) await(within time.Duration, want map[string]int, where string, args ...any) {
	f.Helper()
	var got map[string]int
	within += comesBack
	deadline := time.Now().Add(within)
	eventually(f, within+time.Minute, "end of the wait", func() bool {
		got = f.outcomes(where, args...)
		return maps.Equal(got, want) || time.Now().After(deadline)
	})
	if !maps.Equal(got, want) {
		f.Fatalf("after %v: got outcomes %v, want %v; %s", within, got, want, f.queued())
	}
}

// nextDay is the next Beijing midnight; a test that might run across it does not begin.
func nextDay(t *testing.T) time.Time {
	t.Helper()
	midnight := message.NextDay(time.Now())
	if time.Until(midnight) < 3*time.Minute+comesBack {
		t.Skip("a new day begins in Beijing within five minutes: the quota would begin anew half-way")
	}
	return midnight
}

// addConfig adds to the workers' configuration, before they start.
func (f *fleet) addConfig(text string) {
	f.Helper()
	file, err := os.OpenFile(f.config, os.O_APPEND|os.O_WRONLY, 0)
	if err == nil {
		_, err = file.WriteString(text)
	}
	if err == nil {
		err = file.Close()
	}
	if err != nil {
		f.Fatal(err)
	}
}
