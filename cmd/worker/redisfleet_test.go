package main

import (
	"context"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/hongyan-dispatch/hongyan/internal/devstack"
	"github.com/hongyan-dispatch/hongyan/internal/postgres"
	"github.com/hongyan-dispatch/hongyan/internal/ratelimit"
	"github.com/hongyan-dispatch/hongyan/internal/tasks"
	"github.com/hongyan-dispatch/hongyan/internal/wechattest"
)

// quick is an account whose pace keeps no test waiting.
func quick() account {
	return shop("limits: {template: {per_day: 100000, per_second: 400}, custom: {per_day: 100000, per_second: 200}}")
}

func redisFleet(t *testing.T, start func(context.Context) (*devstack.RedisFleet, error)) *devstack.RedisFleet {
	t.Helper()
	servers, err := start(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := servers.Close(); err != nil {
			t.Error(err)
		}
	})
	return servers
}

// Replication is asynchronous: the new master may lack the last writes. What is in the ledger is found missing in the
// queue and enqueued again; what ran already is refused by its claim.
func TestSentinelsReplaceTheMaster(t *testing.T) {
	t.Parallel()
	const n = 1200
	servers := redisFleet(t, devstack.StartSentinels)
	f := newFleetOn(t, servers.URL(), devstack.Postgres(t, postgres.Migrate), quick())
	f.sim.SetLatency(wechattest.Latency{Min: 20 * time.Millisecond, Max: 80 * time.Millisecond})
	f.remembers(n)
	f.start(2)
	f.enqueue(mixed(n)...)
	eventually(t, 60*time.Second, "load", func() bool { return f.sim.AcceptedTotal() > n/4 })
	if err := servers.Servers()[0].Kill(); err != nil {
		t.Fatal(err)
	}
	before := f.sim.AcceptedTotal()
	if before == n {
		t.Fatal("everything was sent before the master died: the test tests nothing")
	}
	f.await(3*time.Minute, map[string]int{"sent": n}, "true")
	f.sentOnce(n)
	t.Logf("the master died after %d of %d", before, n)
	if err := servers.Servers()[0].Restart(t.Context()); err != nil { // it comes back as a replica
		t.Fatal(err)
	}
	f.nothingLeftInQueues()
}

// The old master is cut off from its replicas and from the sentinels, together with one worker, which goes on writing to it
// for ten seconds; the other worker follows the new master. What the old one took is lost when the two sides meet again.
func TestSentinelsAndAPartition(t *testing.T) {
	t.Parallel()
	const n = 3200
	servers := redisFleet(t, devstack.StartSentinels)
	password, everywhere := besides(t, servers)
	const pace = 60
	f := newFleetOn(t, everywhere, devstack.Postgres(t, postgres.Migrate),
		shop(fmt.Sprintf("limits: {template: {per_day: 100000, per_second: %d}, custom: {per_day: 100000, per_second: 40}}", pace)))
	f.sim.SetLatency(wechattest.Latency{Min: 20 * time.Millisecond, Max: 80 * time.Millisecond})
	f.remembers(n)
	cutOff := everywhere
	var lines []*devstack.Link
	for _, s := range servers.Sentinels() {
		line, err := devstack.OpenLink(s.Addr())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = line.Close() })
		lines = append(lines, line)
		cutOff = strings.Replace(cutOff, s.Addr(), line.Addr(), 1)
	}
	f.start(1)
	p := startProcess(f, nil, []string{"HONGYAN_REDIS_URL=" + cutOff}, "--config", f.config)
	p.ready()
	f.workers = append(f.workers, p)
	for i := 0; i < n/4; i += 100 {
		f.enqueue(mixed(n)[i : i+100]...)
	}
	eventually(t, 60*time.Second, "load", func() bool { return f.sim.AcceptedTotal() > n/8 })

	old := redis.NewClient(&redis.Options{Addr: servers.Servers()[0].Addr(), Username: "keeper", Password: password})
	t.Cleanup(func() { old.Close() })
	for _, line := range lines {
		line.Cut()
	}
	must := func(args ...any) {
		t.Helper()
		if err := old.Do(f.background(), args...).Err(); err != nil {
			t.Fatalf("%v: %v", args, err)
		}
	}
	must("ACL", "SETUSER", "default", "off") // sentinels and replicas
	must("CLIENT", "KILL", "USER", "default")
	before := f.number("SELECT count(*)::int FROM message WHERE state = 'sent'")
	written, err := old.Info(t.Context(), "stats").Result()
	if err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	counted := f.wechat("shop").Calls(wechattest.PathTemplate)
	eventually(t, 60*time.Second, "new master", func() bool {
		s := redis.NewSentinelClient(&redis.Options{Addr: servers.Sentinels()[0].Addr(), Password: password})
		defer s.Close()
		at, err := s.GetMasterAddrByName(t.Context(), "hongyan").Result()
		return err == nil && strings.Join(at, ":") != servers.Servers()[0].Addr()
	})
	replaced := time.Since(began)
	for i := n / 4; i < n; i += 100 { // the producer follows the new master, too
		f.enqueue(mixed(n)[i : i+100]...)
	}
	eventually(t, time.Minute, "ten seconds of partition", func() bool { return time.Since(began) > 10*time.Second })
	more, err := old.Info(t.Context(), "stats").Result()
	if err != nil {
		t.Fatal(err)
	}
	if commandsIn(more) < commandsIn(written)+100 { // some are our own
		t.Error("nobody wrote to the old master: the test tests nothing")
	}
	must("ACL", "SETUSER", "default", "on")
	for _, line := range lines {
		line.Mend()
	}
	partition := time.Since(began)
	t.Logf("replaced after %v, sent by then %d, commands on the old master meanwhile %d",
		replaced.Round(time.Millisecond), before, commandsIn(more)-commandsIn(written))

	f.await(3*time.Minute, map[string]int{"sent": n}, "true")
	f.sentOnce(n)
	f.overshot(everywhere, pace, partition, counted)
	eventually(t, 30*time.Second, "the old master as a replica", func() bool {
		text, err := old.Info(f.background(), "replication").Result()
		return err == nil && strings.Contains(text, "role:slave")
	})
}

// overshot compares what the simulator counted with what the new master knows. Each master gives out the whole pace, so while
// there are two of them calls go at twice the pace at most. Of the day's quota no more is forgotten than the leases that
// were in flight when they parted: a worker reports the sum of what it has spent, so the new master hears of calls that
// were counted by the old one.
func (f *fleet) overshot(url string, pace float64, partition time.Duration, before wechattest.Calls) {
	f.Helper()
	rdb, err := tasks.Redis(url)
	if err != nil {
		f.Fatal(err)
	}
	defer rdb.Close()
	limits := ratelimit.Limits{PerDay: 100_000, PerSecond: pace}
	q := ratelimit.New(rdb, "witness", func(ratelimit.Key) ratelimit.Limits { return limits })
	var known ratelimit.Usage
	eventually(f.T, 30*time.Second, "leases that are given back", func() bool {
		known, err = q.Usage(f.background(), ratelimit.Key{App: "wx00000000000000f1", API: wechattest.PathTemplate})
		return err == nil && known.Known && known.Leased == 0
	})
	const inFlight = 0.25 // seconds of pace: a block of leases, and a burst
	calls := f.wechat("shop").Calls(wechattest.PathTemplate)
	forgotten := calls.Arrived - known.Used
	most := int64(2 * 2 * inFlight * pace) // two workers, each with a lease for urgent messages and one for all
	f.Logf("partition of %v: %d calls of %d are not known to the new master (at most %d); most in a second %d, before %d",
		partition.Round(time.Millisecond), forgotten, calls.Arrived, most, calls.Max1s, before.Max1s)
	if forgotten > most {
		f.Errorf("%d calls of the day are forgotten, want at most %d", forgotten, most)
	}
	if most := int64(2 * (pace + inFlight*pace)); calls.Max1s > most {
		f.Errorf("%d calls within a second, want at most %d: twice the pace and its burst", calls.Max1s, most)
	}
	if most := int64(60*pace + partition.Seconds()*pace); calls.Max60s > most {
		f.Errorf("%d calls within a minute, want at most %d", calls.Max60s, most)
	}
}

// besides makes users beside the one by which the fleet's servers know each other: the workers', whose URL it says, and keeper.
func besides(t *testing.T, servers *devstack.RedisFleet) (password, url string) {
	t.Helper()
	rest := strings.TrimPrefix(servers.URL(), "redis-sentinel://:")
	password, _, _ = strings.Cut(rest, "@")
	for _, s := range servers.Servers() {
		rdb := redis.NewClient(&redis.Options{Addr: s.Addr(), Password: password})
		for user, may := range map[string]string{
			"keeper":  "~* &* +@all",
			"hongyan": "~asynq:* ~hongyan:* &* +@all -@admin -@dangerous +info", // as docs/operations.md advises
		} {
			args := []any{"ACL", "SETUSER", user, "on", ">" + password}
			for _, rule := range strings.Fields(may) {
				args = append(args, rule)
			}
			if err := rdb.Do(t.Context(), args...).Err(); err != nil {
				t.Fatal(err)
			}
		}
		rdb.Close()
	}
	return password, "redis-sentinel://hongyan:" + rest
}

var processed = regexp.MustCompile(`total_commands_processed:(\d+)`)

func commandsIn(info string) int {
	n, _ := strconv.Atoi(processed.FindStringSubmatch(info)[1]) // digits
	return n
}

// In a cluster a command or script whose keys lie in several slots is refused, so what runs here is safe: enqueue in
// pipelines, tokens, quota, windows, mass caps, the reconciler's looks.
func TestClusterTakesEverything(t *testing.T) {
	t.Parallel()
	const n = 600
	servers := redisFleet(t, devstack.StartCluster)
	mart := quick() // in another slot
	mart.name, mart.wechat.AppID, mart.wechat.Secret = "mart", "wx00000000000000f3", "canary-secret-of-the-mart-0000003"
	f := newFleetOn(t, servers.URL(), devstack.Postgres(t, postgres.Migrate), quick(), mart)
	f.remembers(n)
	workers := f.start(2)
	f.enqueue(mixed(n)...)
	f.enqueue(massList("mart", users(0, 3), "一周要闻"))
	f.enqueueBy(f.handOver(), templates("mart", n, 20)...)
	f.await(90*time.Second, map[string]int{"sent": n}, "account = 'shop'")
	f.await(90*time.Second, map[string]int{"sent": 21}, "account = 'mart'")
	f.nothingLeftInQueues()
	for _, w := range workers {
		if text := w.stderr(); strings.Contains(text, "CROSSSLOT") || strings.Contains(text, "same slot") {
			t.Errorf("a worker met keys of several slots:\n%s", tail(text, 20))
		}
	}
	for _, server := range servers.Servers() { // else it was a cluster of one
		if keys := f.keysOf(server); keys == 0 {
			t.Errorf("%s holds no key", server.Addr())
		}
	}
}

func TestTLSToBothStores(t *testing.T) {
	t.Parallel()
	const n = 200
	stack, err := devstack.Start(t.Context(), devstack.Options{Redis: true, Postgres: true, Private: true, NoFsync: true, TLS: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := stack.Close(); err != nil {
			t.Error(err)
		}
	})
	if err := postgres.Migrate(t.Context(), stack.DatabaseURL()); err != nil {
		t.Fatal(err)
	}
	f := newFleetOn(t, stack.RedisURL(), stack.DatabaseURL(), quick())
	f.remembers(n)
	f.start(1)
	f.enqueue(mixed(n)...)
	f.await(60*time.Second, map[string]int{"sent": n}, "true")
	if plain := f.number("SELECT count(*)::int FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) WHERE usename = current_user AND client_addr IS NOT NULL AND NOT ssl"); plain > 0 {
		t.Errorf("%d sessions of ours with Postgres are without TLS", plain)
	}

	t.Run("a server of another authority is refused", func(t *testing.T) {
		url, _, _ := strings.Cut(stack.RedisURL(), "?")
		code, out, _ := typed(t, []string{"HONGYAN_REDIS_URL=" + url}, "check", "--config", f.config)
		if code != 1 || !strings.Contains(out, "certificate") {
			t.Errorf("exit code %d, want 1 and a word about the certificate:\n%s", code, out)
		}
	})
	t.Run("plain text is not answered", func(t *testing.T) {
		url := strings.Replace(stack.RedisURL(), "rediss://", "redis://", 1)
		url, _, _ = strings.Cut(url, "?")
		if code, out, _ := typed(t, []string{"HONGYAN_REDIS_URL=" + url}, "check", "--config", f.config); code != 1 {
			t.Errorf("exit code %d, want 1:\n%s", code, out)
		}
	})
}

// keysOf counts the keys of one server of a cluster.
func (f *fleet) keysOf(server *devstack.Server) (n int64) {
	f.Helper()
	cluster := f.rdb.(*redis.ClusterClient)
	err := cluster.ForEachMaster(f.Context(), func(ctx context.Context, rdb *redis.Client) error {
		if rdb.Options().Addr == server.Addr() {
			n = rdb.DBSize(ctx).Val()
		}
		return nil
	})
	if err != nil {
		f.Fatal(err)
	}
	return n
}
