package config

import (
	"cmp"
	"fmt"
	"net"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// The shapes of names.
var (
	accountName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$`)
	appID       = regexp.MustCompile(`^wx[0-9A-Za-z]{16}$`)
)

// A checker asks every rule about a configuration that was read.
type checker struct{ *decoder }

// rule notes a finding at path unless ok holds, or the value could not even be read.
func (c *checker) rule(ok bool, path, rule, remedy string) {
	if !ok && !c.spoiled[path] {
		c.add(path, rule, remedy)
	}
}

func (c *checker) config(v *Config, needs []Need) {
	c.need(v, needs)
	c.storeURL("redis.url", v.Redis.URL,
		"redis", "rediss", "redis-cluster", "rediss-cluster", "redis-sentinel", "rediss-sentinel")
	c.storeURL("postgres.url", v.Postgres.URL, "postgres", "postgresql")
	c.storeURL("campaigns.database", v.Campaigns.Database, "postgres", "postgresql")
	c.listen("server.listen", v.Server.Listen)
	atLeast(c, "server.max_parallel", v.Server.MaxParallel, 1, "512 is the default")
	atLeast(c, "server.max_backlog", v.Server.MaxBacklog, 1, "1000000 is the default")
	atLeast(c, "server.linger", v.Server.Linger, 0, "5s is the default")
	c.listen("worker.metrics_listen", v.Worker.MetricsListen)
	within(c, "worker.senders", v.Worker.Senders, 1, 10_000, "")
	c.rule(len(v.Worker.Name) <= 64, "worker.name", "longer than 64 bytes", "shorten it")
	within(c, "retention.keys", v.Retention.Keys, 24*time.Hour, 10*365*24*time.Hour, "")
	within(c, "retention.messages", v.Retention.Messages, max(v.Retention.Keys, 24*time.Hour), 10*365*24*time.Hour,
		"a message is kept at least as long as its key")
	c.traces("telemetry.traces", v.Telemetry.Traces)
	for i := range v.Accounts {
		c.account(fmt.Sprintf("accounts[%d]", i), &v.Accounts[i])
	}
	c.distinct(v.Accounts)
}

func (c *checker) need(v *Config, needs []Need) {
	file := "give --config FILE or set " + EnvFile
	if c.file != "" {
		file = "add it to the file"
	}
	for _, need := range needs {
		switch need {
		case NeedRedis:
			c.rule(!v.Redis.URL.IsZero(), string(need), "missing", file+", or set "+EnvRedisURL)
		case NeedPostgres:
			c.rule(!v.Postgres.URL.IsZero(), string(need), "missing", file+", or set "+EnvDatabaseURL)
		case NeedAccounts:
			c.rule(len(v.Accounts) > 0, string(need), "no account is configured", file)
		}
	}
}

func (c *checker) account(at string, a *Account) {
	c.rule(accountName.MatchString(a.Name), at+".name",
		fmt.Sprintf("%q is no name: 1 to 64 of letters, digits, dot, dash and _, a letter or digit first", a.Name),
		"choose an alias for producers, such as shop")
	c.rule(appID.MatchString(a.AppID), at+".appid",
		fmt.Sprintf("%q is no appid: wx and 16 letters or digits", a.AppID),
		"copy it from the account's console; the id that begins with gh_ is another one")
	c.rule(!a.Secret.IsZero(), at+".secret", "missing",
		"give secret: ${VARIABLE} or secret_file: FILE")
	c.rule(a.Type != "", at+".type", "missing", "one of: service, subscription")
	c.baseURL(at+".base_url", a)
	c.callback(at+".callback", &a.Callback)
	c.webhook(at+".webhook", &a.Webhook)
	c.limits(at+".limits", &a.Limits)
	c.reserve(at+".reserve", a.Reserve)
	c.token(at+".token", a.Token)
	c.window(at+".window", &a.Window)
	c.policy(at+".policy", &a.Policy)
}

// distinct: a producer's word for an account must mean one account.
func (c *checker) distinct(accounts []Account) {
	names := map[string]string{}
	for i, a := range accounts {
		for _, key := range []string{"name", "appid"} {
			at, word := fmt.Sprintf("accounts[%d].%s", i, key), a.Name
			if key == "appid" {
				word = a.AppID
			}
			first, taken := names[word]
			c.rule(word == "" || !taken, at, fmt.Sprintf("%q is taken by %s already", word, first), "each account once")
			if !taken {
				names[word] = at
			}
		}
	}
}

func (c *checker) baseURL(at string, a *Account) {
	u, err := url.Parse(a.BaseURL)
	if err != nil || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" || strings.Trim(u.Path, "/") != "" {
		c.rule(false, at, "want scheme and host alone", "such as https://api.weixin.qq.com")
		return
	}
	c.rule(u.Scheme == "https" || u.Scheme == "http" && isLoopback(u.Hostname()), at,
		"want https, because the token travels there", "plain http is for a simulator on a loopback address only")
	a.BaseURL = strings.TrimRight(a.BaseURL, "/")
}

func isLoopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

func (c *checker) limits(at string, l *Limits) {
	apis := []struct {
		name string
		APILimit
	}{{"template", l.Template}, {"custom", l.Custom}, {"subscribe", l.Subscribe}}
	for _, api := range apis {
		atLeast(c, at+"."+api.name+".per_day", api.PerDay, 0, "0 allows nothing")
		atLeast(c, at+"."+api.name+".per_second", api.PerSecond, 0, "0 allows nothing")
	}
	atLeast(c, at+".mass.calls_per_day", l.Mass.CallsPerDay, 0, "0 allows nothing")
	atLeast(c, at+".mass.calls_per_minute", l.Mass.CallsPerMinute, 0, "0 allows nothing")
	const remedy = "-1 for no such cap"
	atLeast(c, at+".mass.per_day", l.Mass.PerDay, NoCap, remedy)
	atLeast(c, at+".mass.user_per_month", l.Mass.UserPerMonth, NoCap, remedy)
	atLeast(c, at+".mass.all_per_day", l.Mass.AllPerDay, NoCap, remedy)
	atLeast(c, at+".mass.all_per_month", l.Mass.AllPerMonth, NoCap, remedy)
}

func (c *checker) reserve(at string, r Reserve) {
	within(c, at+".urgent_day", r.UrgentDay, 0, 1, "a share, such as 0.10")
	within(c, at+".urgent_pace", r.UrgentPace, 0, 1, "a share, such as 0.20")
	within(c, at+".margin", r.Margin, 0, 1, "a share, such as 0.01")
	c.rule(max(r.UrgentDay, r.Margin) > 1 || r.UrgentDay+r.Margin <= 1, at, "urgent_day and margin are more than the whole day", "lower one of them")
}

// token: the bounds are WeChat's, developers.weixin.qq.com/doc/service/api/base/api_getstableaccesstoken.
func (c *checker) token(at string, t Token) {
	most := 5 * time.Minute // a stable token asked for earlier is still the old one
	if t.Mode == "legacy" {
		most = time.Hour
	}
	within(c, at+".refresh_margin", t.RefreshMargin, 30*time.Second, most, "")
	within(c, at+".forced_per_day", t.ForcedPerDay, 0, 20, "WeChat allows 20 forced refreshes a day")
	within(c, at+".forced_gap", t.ForcedGap, 30*time.Second, 24*time.Hour, "WeChat wants 30 s between forced refreshes")
}

func (c *checker) window(at string, w *Window) {
	rows := []struct {
		name string
		Allowance
	}{{"message", w.Message}, {"menu", w.Menu}, {"follow", w.Follow}, {"scan", w.Scan}, {"pay", w.Pay}}
	for _, row := range rows {
		at := at + "." + row.name
		atLeast(c, at+".messages", row.Messages, NoCap, "0 allows nothing, -1 any number")
		c.rule(row.Messages == 0 || row.For > 0, at+".for", "want more than 0", "such as 48h")
		c.rule(row.Margin >= 0 && row.Margin <= row.For, at+".margin", "want 0 up to the window's own length", "such as 10s")
	}
}

func (c *checker) policy(at string, p *Policy) {
	within(c, at+".resend_younger_than", p.ResendYoungerThan, 0, time.Hour, "")
	within(c, at+".unknown_code_attempts", p.UnknownCodeAttempts, 1, 100, "the first attempt counts")
	c.rule(len(p.RetryAfter) <= 100, at+".retry_after", "more than 100 waits", "shorten the list")
	for i, wait := range p.RetryAfter {
		within(c, fmt.Sprintf("%s.retry_after[%d]", at, i), wait, 0, 24*time.Hour, "")
	}
}

// storeURL never shows the URL, nor what url.Parse says of it: both may hold a password.
func (c *checker) storeURL(at string, secret Secret, schemes ...string) {
	text := secret.Reveal()
	if text == "" {
		return
	}
	scheme, rest, _ := strings.Cut(text, "://")
	remedy := "such as " + schemes[0] + "://127.0.0.1"
	if !slices.Contains(schemes, scheme) {
		c.rule(false, at, "want a URL that begins with "+strings.Join(schemes, ":// or ")+"://", remedy)
		return
	}
	_, err := url.Parse(scheme + "://" + firstHost(rest))
	c.rule(err == nil && strings.Trim(rest, "/") != "", at, "the URL has no host, or a character that must be written as %XX", remedy)
}

// firstHost is what follows a URL's scheme, without the hosts after the first: net/url knows no list of them.
func firstHost(rest string) string {
	end := len(rest)
	if i := strings.IndexAny(rest, "/?#"); i >= 0 {
		end = i
	}
	from := strings.LastIndexByte(rest[:end], '@') + 1
	if i := strings.IndexByte(rest[from:end], ','); i >= 0 {
		return rest[:from+i] + rest[end:]
	}
	return rest
}

func (c *checker) traces(at string, t Traces) {
	within(c, at+".ratio", t.Ratio, 0, 1, "a share of the messages, such as 0.01")
	if t.Endpoint == "" {
		return
	}
	u, err := url.Parse(t.Endpoint)
	ok := err == nil && u.Host != "" && (u.Scheme == "http" || u.Scheme == "https") && u.User == nil && u.RawQuery == "" && u.Fragment == ""
	c.rule(ok, at+".endpoint", "want the http or https URL of a collector, without user, query or fragment",
		"such as http://127.0.0.1:4318; a collector beside us can add what a service wants")
}

func (c *checker) listen(at, address string) {
	if address == "" {
		return
	}
	_, port, err := net.SplitHostPort(address)
	n, portErr := strconv.Atoi(port)
	c.rule(err == nil && portErr == nil && n >= 0 && n <= 65535, at,
		fmt.Sprintf("%q is no address of host and port", address), "such as 127.0.0.1:9090")
}

func atLeast[T cmp.Ordered](c *checker, at string, value, least T, remedy string) {
	c.rule(value >= least, at, fmt.Sprintf("%v is less than %v", value, least), remedy)
}

func within[T cmp.Ordered](c *checker, at string, value, least, most T, remedy string) {
	c.rule(value >= least && value <= most, at, fmt.Sprintf("%v is not between %v and %v", value, least, most), remedy)
}
