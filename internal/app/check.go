package app

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/hongyan-dispatch/hongyan/internal/config"
	"github.com/hongyan-dispatch/hongyan/internal/postgres"
	"github.com/hongyan-dispatch/hongyan/internal/tasks"
	"github.com/hongyan-dispatch/hongyan/internal/wechat"
	"github.com/hongyan-dispatch/hongyan/message"
)

// A Severity says whether a finding must be mended.
type Severity byte

// The severities.
const (
	Fine Severity = iota
	Advice
	Fault
)

// A Finding is one thing that the doctor looked at.
type Finding struct {
	Subject  string // such as redis, or account shop
	Severity Severity
	Text     string
	Remedy   string
}

// checkTimeout bounds each question, so that a silent server is a finding and not a hang.
const checkTimeout = 10 * time.Second

// Check examines an installation and reports each finding as it comes.
func Check(ctx context.Context, c *config.Config, report func(Finding)) {
	bounded := func(ask func(context.Context)) {
		ctx, cancel := context.WithTimeout(ctx, checkTimeout)
		defer cancel()
		ask(ctx)
	}
	var redisTime time.Time
	bounded(func(ctx context.Context) { redisTime = checkRedis(ctx, c, report) })
	var shared func(time.Time) time.Time
	bounded(func(ctx context.Context) { shared = checkPostgres(ctx, c, report) })
	for _, a := range c.Accounts {
		bounded(func(ctx context.Context) { checkAccount(ctx, c, a, redisTime, shared, report) })
	}
}

// checkRedis answers with Redis' clock, by which days and leases are counted.
func checkRedis(ctx context.Context, c *config.Config, report func(Finding)) time.Time {
	say := func(s Severity, text, remedy string) { report(Finding{"redis", s, text, remedy}) }
	rdb, err := tasks.Redis(c.Redis.URL.Reveal())
	if err != nil {
		say(Fault, err.Error(), "mend redis.url in the configuration")
		return time.Time{}
	}
	defer rdb.Close()
	info, err := rdb.Info(ctx, "server", "persistence", "memory").Result()
	if err != nil {
		say(Fault, err.Error(), "start Redis, or mend redis.url ("+config.Where(c.Redis.URL)+")")
		return time.Time{}
	}
	facts := redisFacts(info)
	if version := facts["redis_version"]; olderThan(version, 6, 2) {
		say(Fault, "version "+version, "run Redis 6.2 or newer: the queue needs ZRANGE … BYSCORE")
	} else {
		say(Fine, "version "+version, "")
	}
	if policy := facts["maxmemory_policy"]; policy != "" && policy != "noeviction" {
		say(Fault, "maxmemory-policy "+policy+": queued messages may be evicted", "CONFIG SET maxmemory-policy noeviction, and the same in redis.conf")
	} else {
		say(Fine, "maxmemory-policy noeviction", "")
	}
	if facts["aof_enabled"] == "1" {
		say(Fine, "append-only file on", "")
	} else {
		say(Advice, "append-only file off: a restart of Redis loses what was handed over without a ledger", "CONFIG SET appendonly yes, and the same in redis.conf")
	}
	now, err := rdb.Time(ctx).Result()
	if err != nil {
		say(Fault, err.Error(), "allow TIME to this Redis user")
		return time.Time{}
	}
	if d := time.Since(now).Abs(); d > 2*time.Second {
		say(Advice, fmt.Sprintf("its clock is %v from this machine's", d.Round(time.Millisecond)), "run NTP on both: days and leases are counted by Redis' clock")
	}
	return now
}

func redisFacts(info string) map[string]string {
	facts := map[string]string{}
	for line := range strings.Lines(info) {
		if name, value, ok := strings.Cut(strings.TrimSpace(line), ":"); ok {
			facts[name] = value
		}
	}
	return facts
}

func olderThan(version string, major, minor int) bool {
	parts := strings.SplitN(version, ".", 3)
	if len(parts) < 2 {
		return false // not told: a proxy
	}
	a, errA := strconv.Atoi(parts[0])
	b, errB := strconv.Atoi(parts[1])
	return errA == nil && errB == nil && (a < major || a == major && b < minor)
}

// checkPostgres answers with what makes Postgres' time of this machine's: all but days and leases is counted by Postgres'
// clock. It is nil where Postgres does not tell.
func checkPostgres(ctx context.Context, c *config.Config, report func(Finding)) (shared func(local time.Time) time.Time) {
	say := func(s Severity, text, remedy string) { report(Finding{"postgres", s, text, remedy}) }
	url := c.Postgres.URL.Reveal()
	store, err := postgres.Open(ctx, url, postgres.Options{Name: "hongyan-check"})
	if err != nil {
		say(Fault, err.Error(), "start Postgres, or mend postgres.url ("+config.Where(c.Postgres.URL)+")")
		return nil
	}
	defer store.Close()
	version, major, err := store.ServerVersion(ctx)
	switch {
	case err != nil:
		say(Fault, err.Error(), "")
		return nil
	case major < 14:
		say(Fault, "version "+version, "run Postgres 14 or newer: older ones do not prune partitions in updates")
	default:
		say(Fine, "version "+version, "")
	}
	asked := time.Now()
	if now, err := store.Now(ctx); err != nil {
		say(Fault, err.Error(), "")
	} else {
		behind := now.Sub(asked.Add(time.Since(asked) / 2))
		shared = func(local time.Time) time.Time { return local.Add(behind) }
		if behind.Abs() > 2*time.Second {
			say(Advice, fmt.Sprintf("its clock is %v from this machine's", behind.Abs().Round(time.Millisecond)), "run NTP on both: workers and servers go by Postgres' clock")
		}
	}
	have, want, dirty, err := postgres.MigrationState(ctx, url)
	switch {
	case err != nil:
		say(Fault, err.Error(), "")
	case dirty:
		say(Fault, fmt.Sprintf("migration %d was broken off half-way", have), "restore the schema from a backup or mend it by hand, then run `worker migrate`")
	case have < want:
		say(Fault, fmt.Sprintf("the schema is at migration %d of %d", have, want), "run `worker migrate`")
	default:
		say(Fine, fmt.Sprintf("the schema is at migration %d", have), "")
		checkWorkers(ctx, store, report)
		checkCallbacks(ctx, c, store, report)
		checkWebhooks(ctx, c, store, report)
	}
	return shared
}

// checkWorkers says which workers live, and notes when an upgrade seems unfinished.
func checkWorkers(ctx context.Context, store *postgres.Store, report func(Finding)) {
	say := func(s Severity, text, remedy string) { report(Finding{"workers", s, text, remedy}) }
	alive, err := store.Workers(ctx)
	if err != nil {
		say(Fault, err.Error(), "")
		return
	}
	var versions []string
	for _, v := range slices.Sorted(maps.Keys(alive)) {
		versions = append(versions, fmt.Sprintf("%d of version %s", alive[v], v))
	}
	switch len(versions) {
	case 0:
		say(Fine, "none runs", "")
	case 1:
		say(Fine, versions[0], "")
	default:
		say(Advice, strings.Join(versions, ", ")+" live side by side", "finish the upgrade: old and new work together, but nobody wants that for long")
	}
}

// When silence is worth a note: an account with a callback is without a push for so long, or so many of its template messages
// are without a receipt, of which WeChat itself loses some.
const (
	quiet        = 48 * time.Hour
	missingOf    = 20
	missingShare = 0.2
)

// checkCallbacks says where pushes do not seem to arrive.
func checkCallbacks(ctx context.Context, c *config.Config, store *postgres.Store, report func(Finding)) {
	for _, a := range c.Accounts {
		say := func(s Severity, text, remedy string) { report(Finding{"account " + a.Name, s, text, remedy}) }
		s, err := store.Silence(ctx, a.Name, time.Now())
		switch {
		case err != nil:
			say(Fault, err.Error(), "")
			continue
		case s.Disagreed > 0:
			say(Advice, fmt.Sprintf("WeChat refused %d customer-service messages of the last two days whose window we thought open", s.Disagreed),
				"see whether all of WeChat's pushes arrive, also unsubscribing: docs/callbacks.md")
		}
		if a.Callback.Token.IsZero() {
			continue
		}
		const remedy = "run server, and compare the console's server settings: docs/callbacks.md"
		switch {
		case s.Heard.IsZero():
			say(Advice, "no push of WeChat's has arrived yet", remedy)
		case time.Since(s.Heard) > quiet:
			say(Advice, "no push of WeChat's has arrived since "+message.Beijing(s.Heard).Format(time.DateTime), remedy)
		default:
			say(Fine, "WeChat's pushes arrive, the last at "+message.Beijing(s.Heard).Format(time.DateTime), "")
		}
		if s.Templates >= missingOf && float64(s.Missing) >= missingShare*float64(s.Templates) {
			say(Advice, fmt.Sprintf("of the last %d template messages %d have no receipt", s.Templates, s.Missing), remedy)
		}
		if s.Mass > 0 {
			say(Advice, fmt.Sprintf("%d mass sends of the last two days have no receipt, nor did WeChat say when asked that they have ended", s.Mass),
				"ask with `enqueue mass status ID`, and look into the console")
		}
	}
}

// checkWebhooks says which endpoints fail.
func checkWebhooks(ctx context.Context, c *config.Config, store *postgres.Store, report func(Finding)) {
	for _, a := range c.Accounts {
		if a.Webhook.URL == "" {
			continue
		}
		say := func(s Severity, text, remedy string) { report(Finding{"account " + a.Name, s, text, remedy}) }
		w, err := store.WebhookState(ctx, a.Name)
		switch {
		case err != nil:
			say(Fault, err.Error(), "")
		case !w.Disabled.IsZero():
			say(Fault, "its webhook is disabled: "+w.Reason, "mend the endpoint, then run `enqueue webhook enable "+a.Name+"`")
		case !w.Failing.IsZero():
			say(Advice, fmt.Sprintf("its webhook fails since %s, %d events wait: %s", message.Beijing(w.Failing).Format(time.DateTime), w.Waiting, w.Reason), "mend the endpoint")
		default:
			say(Fine, fmt.Sprintf("its webhook takes events, %d wait", w.Waiting), "")
		}
	}
}

func checkAccount(ctx context.Context, c *config.Config, a config.Account, redisTime time.Time, shared func(time.Time) time.Time, report func(Finding)) {
	say := func(s Severity, text, remedy string) { report(Finding{"account " + a.Name, s, text, remedy}) }
	client := newAccounts(c)[a.Name].client
	asked := time.Now()
	token, err := fetchToken(ctx, client, a)
	if err != nil {
		say(Fault, err.Error(), remedyFor(err, a))
		return
	}
	say(Fine, "access token had, valid until "+message.Beijing(token.ExpiresAt).Format("15:04:05 MST"), "")
	if !token.Date.IsZero() {
		if shared != nil {
			if d := token.Date.Sub(shared(asked)).Abs(); d > 3*time.Second { // the Date header counts whole seconds
				say(Advice, fmt.Sprintf("WeChat's clock is %v from Postgres'", d.Round(time.Second)), "run NTP on the Postgres host: customer-service windows are counted by its clock")
			}
		}
		if d := token.Date.Sub(redisTime).Abs(); !redisTime.IsZero() && d > 15*time.Second {
			say(Advice, fmt.Sprintf("WeChat's clock is %v from Redis'", d.Round(time.Second)), "run NTP on the Redis host: quota days are counted by its clock")
		}
	}
	for _, kind := range message.Kinds() {
		api := wechat.PathOf(kind)
		q, err := client.QuotaGet(ctx, token.Token, api)
		switch {
		case err != nil:
			say(Advice, fmt.Sprintf("quota of kind %s: %v", kind, err), remedyFor(err, a))
		case q.DailyLimit > 0:
			say(Fine, fmt.Sprintf("kind %s: %d of %d calls left today, by WeChat's count and limit", kind, q.Remain, q.DailyLimit), "")
		}
	}
}

// remedyFor says what to do about WeChat's refusal.
func remedyFor(err error, a config.Account) string {
	refused, ok := errors.AsType[*wechat.Error](err)
	if !ok {
		return "check that this machine reaches " + a.BaseURL
	}
	switch refused.Code {
	case wechat.CodeCredential, wechat.CodeAppSecret:
		return "copy the AppSecret anew from the account's console (设置与开发 → 开发接口管理); resetting it there ends the old one"
	case wechat.CodeAppID:
		return "compare accounts[].appid with the console"
	case wechat.CodeIPNotWhitelisted:
		return "add the IP that WeChat names to the account's IP whitelist (IP白名单) in the console"
	case wechat.CodeUnauthorized:
		return "this account has no right to this API: see the console's 接口权限 (verified accounts only for most message kinds)"
	default:
		return "look up errcode " + strconv.Itoa(refused.Code) + " in WeChat's list of return codes"
	}
}
