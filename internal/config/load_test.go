package config

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// environment is an Env of pairs.
func environment(pairs ...string) Env {
	values := map[string]string{}
	for i := 0; i < len(pairs); i += 2 {
		values[pairs[i]] = pairs[i+1]
	}
	return func(name string) (string, bool) { v, ok := values[name]; return v, ok }
}

// write puts text into a file of its own and returns its path.
func write(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "hongyan.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func load(t *testing.T, text string, env Env, needs ...Need) *Config {
	t.Helper()
	c, err := Load(write(t, text), env, needs...)
	if err != nil {
		t.Fatalf("Load: %v", err)
	}
	return c
}

// shop is an account that nothing is wrong with.
const shop = `
accounts:
  - name: shop
    appid: wx0000000000000001
    secret: s3cret
    type: service
`

func TestExampleFileLoads(t *testing.T) {
	c, err := Load("../../hongyan.example.yaml", environment("SHOP_SECRET", "a", "NEWS_SECRET", "b"),
		NeedRedis, NeedPostgres, NeedAccounts)
	if err != nil {
		t.Fatal(err)
	}
	if got := c.Redis.URL.Reveal(); got != "redis://127.0.0.1:6379/0" {
		t.Errorf("redis.url = %q", got)
	}
	news, ok := c.Account("wx0000000000000002")
	if !ok || news.Name != "news" || news.Secret.Reveal() != "b" || news.Limits.Mass.PerDay != 1 {
		t.Errorf("account news = %+v, %v", news, ok)
	}
}

func TestStoresOfSeveralHosts(t *testing.T) {
	for _, url := range []string{
		"redis-cluster://:p@a:7000,b:7001,c", "rediss-cluster://a:7000,b:7001?tls_ca=/ca.pem",
		"redis-sentinel://:p@a:26379,b:26379/0?master=m", "rediss-sentinel://a,b/0?master=m",
	} {
		if _, err := Load("", environment(EnvRedisURL, url), NeedRedis); err != nil {
			t.Errorf("%s: %v", url, err)
		}
	}
	const two = "postgres://u:p@a:5432,b:5433/db?target_session_attrs=read-write"
	if _, err := Load("", environment(EnvDatabaseURL, two), NeedPostgres); err != nil {
		t.Errorf("%s: %v", two, err)
	}
}

func TestNoFileIsEnoughForAProducer(t *testing.T) {
	c, err := Load("", environment(EnvRedisURL, "redis://r:1/2", EnvDatabaseURL, ""), NeedRedis)
	if err != nil {
		t.Fatal(err)
	}
	want := Default()
	want.Redis.URL = NewSecret("redis://r:1/2")
	if diff := cmp.Diff(want, c, cmp.Comparer(func(a, b Secret) bool { return a.Reveal() == b.Reveal() })); diff != "" {
		t.Error(diff)
	}
}

func TestPathPrefersTheFlag(t *testing.T) {
	env := environment(EnvFile, "/etc/hongyan.yaml")
	for _, c := range []struct {
		flag string
		env  Env
		want string
	}{{"mine.yaml", env, "mine.yaml"}, {"", env, "/etc/hongyan.yaml"}, {"", environment(), ""}} {
		if got := Path(c.flag, c.env); got != c.want {
			t.Errorf("Path(%q) = %q, want %q", c.flag, got, c.want)
		}
	}
}

func TestEnvironmentGoesBeforeTheFile(t *testing.T) {
	c := load(t, "redis: {url: \"${GONE}\", url_file: gone}\npostgres: {url: postgres://file/db}\n",
		environment(EnvRedisURL, "rediss://env:6379", EnvDatabaseURL, "postgresql://env/db"))
	if c.Redis.URL.Reveal() != "rediss://env:6379" || c.Postgres.URL.Reveal() != "postgresql://env/db" {
		t.Errorf("got %q, %q", c.Redis.URL.Reveal(), c.Postgres.URL.Reveal())
	}
}

func TestValuesOfEveryType(t *testing.T) {
	c := load(t, shop+`    base_url: http://127.0.0.1:8081/
    limits: {template: {per_day: 1_000, per_second: "${RATE}"}, custom: {per_second: 0.5}}
    window: {message: {messages: -1, for: 1h30m}, menu: ~}
    policy: {retry_after: [1s, 2s]}
`, environment("RATE", "250"))
	a := c.Accounts[0]
	want := DefaultAccount(ServiceAccount)
	want.Name, want.AppID, want.Secret, want.BaseURL = "shop", "wx0000000000000001", a.Secret, "http://127.0.0.1:8081"
	want.Limits.Template = APILimit{PerDay: 1000, PerSecond: 250}
	want.Limits.Custom.PerSecond = 0.5
	want.Window.Message.Messages, want.Window.Message.For = NoCap, 90*time.Minute
	want.Policy.RetryAfter = []time.Duration{time.Second, 2 * time.Second}
	if diff := cmp.Diff(want, a, cmp.Comparer(func(a, b Secret) bool { return a == b })); diff != "" {
		t.Error(diff)
	}
}

func TestDefaultsOfCapsDependOnTheType(t *testing.T) {
	for _, text := range []string{
		strings.Replace(shop, "service", "subscription", 1),
		strings.Replace(shop, "service", "${TYPE}", 1),
		strings.Replace(shop, "type: service", "<<: {type: subscription}", 1),
	} {
		m := load(t, text, environment("TYPE", "subscription")).Accounts[0].Limits.Mass
		if m.PerDay != 1 || m.UserPerMonth != NoCap {
			t.Errorf("caps = %+v, want those of a subscription account, for %s", m, text)
		}
	}
}

func TestAccountsShareByMerging(t *testing.T) {
	c := load(t, shop+`    limits: &limits {template: {per_day: 7}, custom: {per_day: 8}}
  - name: other
    appid: wx0000000000000002
    secret: x
    type: service
    limits: {<<: *limits, template: {per_day: 9}}
`, environment())
	l := c.Accounts[1].Limits
	if l.Template.PerDay != 9 || l.Custom.PerDay != 8 || l.Custom.PerSecond != 100 {
		t.Errorf("limits = %+v", l)
	}
}

func TestSecretsComeFromFiles(t *testing.T) {
	path := write(t, strings.Replace(shop, "secret: s3cret", "secret_file: shop.secret", 1))
	beside := filepath.Join(filepath.Dir(path), "shop.secret")
	if err := os.WriteFile(beside, []byte("from a file\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := Load(path, environment())
	if err != nil {
		t.Fatal(err)
	}
	if got := c.Accounts[0].Secret.Reveal(); got != "from a file" {
		t.Errorf("secret = %q", got)
	}
}

func TestEveryMistakeIsReportedAtOnce(t *testing.T) {
	path := write(t, `redis: {url: http://u:hunter2@r}
worker: {senders: many, colour: red}
accounts:
  - name: a b
    appid: gh_123456789012
    secret: ${SHOP_SECRET}
    type: big
  - name: shop
    appid: wx0000000000000001
    secret: x
    type: service
    base_url: http://10.0.0.1
    limits: {custom: {per_day: -1}}
`)
	_, err := Load(path, environment(), NeedPostgres)
	var all *Error
	if !errors.As(err, &all) {
		t.Fatalf("got %v, want an *Error", err)
	}
	var got []string
	for _, f := range all.Findings {
		got = append(got, strings.TrimPrefix(f.String(), path))
	}
	want := []string{
		`: postgres.url: missing (add it to the file, or set HONGYAN_DATABASE_URL)`,
		`:1: redis.url: want a URL that begins with redis:// or rediss:// or redis-cluster:// or rediss-cluster:// or redis-sentinel:// or rediss-sentinel:// (such as redis://127.0.0.1)`,
		`:2: worker.senders: "many" is no whole number`,
		`:2: worker.colour: unknown key (known here: metrics_listen, senders, name)`,
		`:4: accounts[0].name: "a b" is no name: 1 to 64 of letters, digits, dot, dash and _, a letter or digit first (choose an alias for producers, such as shop)`,
		`:5: accounts[0].appid: "gh_123456789012" is no appid: wx and 16 letters or digits (copy it from the account's console; the id that begins with gh_ is another one)`,
		`:6: accounts[0].secret: the environment variable SHOP_SECRET is not set; export it, or write ${SHOP_SECRET:-default}`,
		`:7: accounts[0].type: unknown value "big" (one of: service, subscription)`,
		`:12: accounts[1].base_url: want https, because the token travels there (plain http is for a simulator on a loopback address only)`,
		`:13: accounts[1].limits.custom.per_day: -1 is less than 0 (0 allows nothing)`,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if strings.Contains(err.Error(), "hunter2") {
		t.Error("the error holds a password")
	}
}

func TestMistakes(t *testing.T) {
	account := func(lines string) string { return shop + lines }
	for name, c := range map[string]struct{ text, want string }{
		"a second document":          {"log: {level: info}\n---\nlog: {level: warn}\n", "a second YAML document"},
		"no YAML":                    {"redis: [", "line 1: did not find expected node content"},
		"a tab":                      {"redis:\n\turl: x\n", "line 2: found character that cannot start any token (YAML indents with spaces"},
		"a key twice":                {"log: {level: info, level: warn}", "log.level: the key stands here twice"},
		"a list for a mapping":       {"log: [info]", "log: want keys and values, got a list"},
		"a mapping for a list":       {"accounts: {a: b}", "accounts: want a list, got keys and values"},
		"a mapping for a value":      {"server: {listen: {a: b}}", "server.listen: want one value, got keys and values"},
		"a key that is a list":       {"log: {[a]: b}", "unknown key"},
		"a bare number of time":      {"retention: {keys: 5}", `"5" is no duration`},
		"not a number":               {account("    reserve: {margin: .nan}\n"), `".nan" is no number`},
		"keys outlive messages":      {"retention: {keys: 48h, messages: 24h}", "retention.messages: 24h0m0s is not between 48h0m0s"},
		"keys forgotten too soon":    {"retention: {keys: 1h}", "retention.keys: 1h0m0s is not between 24h0m0s"},
		"neither true nor false":     {shop + "    policy: {mass_approval: maybe}\n", `accounts[0].policy.mass_approval: "maybe" is neither true nor false`},
		"an anchor in itself":        {"accounts: [&a {<<: *a}]", "an anchor's value contains itself"},
		"an endless variable":        {"log: {level: '${LEVEL'}", "${ without its }"},
		"a variable without a name":  {"log: {level: '${}'}", "holds no variable's name"},
		"a listen without a port":    {"server: {listen: localhost}", `"localhost" is no address of host and port`},
		"a listen with a wide port":  {"worker: {metrics_listen: ':70000'}", `":70000" is no address`},
		"no senders":                 {"worker: {senders: 0}", "worker.senders: 0 is not between 1 and 10000"},
		"a store without a host":     {"redis: {url: 'redis://'}", "redis.url: the URL has no host"},
		"a database that is a DSN":   {"postgres: {url: host=db password=hunter2}", "postgres.url: want a URL that begins with postgres://"},
		"a password with a percent":  {"postgres: {url: 'postgres://u:hunter2%zz@h/db'}", "a character that must be written as %XX"},
		"a name twice":               {account(strings.TrimPrefix(strings.ReplaceAll(shop, "01\n", "02\n"), "\naccounts:\n")), `accounts[1].name: "shop" is taken by accounts[0].name`},
		"an appid twice":             {account(strings.TrimPrefix(strings.ReplaceAll(shop, "shop", "two"), "\naccounts:\n")), `accounts[1].appid: "wx0000000000000001" is taken by accounts[0].appid`},
		"no secret":                  {strings.Replace(shop, "secret: s3cret", "", 1), "accounts[0].secret: missing"},
		"no type":                    {strings.Replace(shop, "type: service", "", 1), "accounts[0].type: missing"},
		"a secret and its file":      {account("    secret_file: x\n"), "accounts[0].secret_file: the secret is given here and under accounts[0].secret"},
		"a base_url with a path":     {account("    base_url: https://api.weixin.qq.com/cgi-bin\n"), "accounts[0].base_url: want scheme and host alone"},
		"a base_url with a password": {account("    base_url: https://u:hunter2@h\n"), "accounts[0].base_url: want scheme and host alone"},
		"a callback without token":   {account("    callback: {forward_url: https://h}\n"), "callback.token: missing"},
		"a callback without a key":   {account("    callback: {token: x}\n"), "callback.aes_key: missing, although mode is encrypted"},
		"a short aes_key":            {account("    callback: {token: x, aes_key: hunter2}\n"), "callback.aes_key: want 43 letters and digits, got 7 bytes"},
		"a forward_url without host": {account("    callback: {token: x, mode: plain, forward_url: here}\n"), "forward_url: want an absolute http or https URL"},
		"yes for true":               {account("    webhook: {openid: yes}\n"), `webhook.openid: "yes" is neither true nor false`},
		"a share over 1":             {account("    reserve: {urgent_day: 1.5}\n"), "reserve.urgent_day: 1.5 is not between 0 and 1"},
		"shares over the whole":      {account("    reserve: {urgent_day: 0.9, margin: 0.2}\n"), "urgent_day and margin are more than the whole day"},
		"a collector's password":     {"telemetry: {traces: {endpoint: 'http://u:hunter2@h:4318'}}", "telemetry.traces.endpoint: want the http or https URL of a collector"},
		"a share of spans over 1":    {"telemetry: {traces: {ratio: 2}}", "telemetry.traces.ratio: 2 is not between 0 and 1"},
		"a cap of -2":                {account("    limits: {mass: {per_day: -2}}\n"), "limits.mass.per_day: -2 is less than -1 (-1 for no such cap)"},
		"a late stable refresh":      {account("    token: {refresh_margin: 10m}\n"), "token.refresh_margin: 10m0s is not between 30s and 5m0s"},
		"a window of no length":      {account("    window: {menu: {for: 0s, margin: 0s}}\n"), "window.menu.for: want more than 0"},
		"a margin over the window":   {account("    window: {menu: {margin: 2m}}\n"), "window.menu.margin: want 0 up to the window's own length"},
		"a wait below zero":          {account("    policy: {retry_after: [1s, -1s]}\n"), "policy.retry_after[1]: -1s is not between 0s and"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := Load(write(t, c.text), environment())
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Fatalf("got %v\nwant %s", err, c.want)
			}
			if n := len(err.(*Error).Findings); n != 1 {
				t.Errorf("got %d findings for one mistake: %v", n, err)
			}
			if strings.Contains(err.Error(), "hunter2") {
				t.Errorf("the error holds a secret: %v", err)
			}
		})
	}
}

func TestMissingFilesAreNamed(t *testing.T) {
	_, err := Load("gone.yaml", environment())
	if want := "configuration: gone.yaml: cannot be read: no such file or directory"; err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
	_, err = Load(write(t, strings.Replace(shop, "secret: s3cret", "secret_file: /gone/shop", 1)), environment())
	if want := "accounts[0].secret_file: open /gone/shop: no such file"; err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("got %v, want %s", err, want)
	}
}

func TestMistakesOfTheEnvironmentNameTheVariable(t *testing.T) {
	_, err := Load(write(t, "redis: {url: redis://h}"), environment(EnvRedisURL, "h:6379"))
	if want := "configuration: HONGYAN_REDIS_URL: want a URL that begins with redis://"; err == nil || !strings.HasPrefix(err.Error(), want) {
		t.Errorf("got %v, want %s", err, want)
	}
	_, err = Load("", environment(), NeedRedis)
	if want := "configuration: redis.url: missing (give --config FILE or set HONGYAN_CONFIG, or set HONGYAN_REDIS_URL)"; err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
}

func TestExpand(t *testing.T) {
	env := environment("A", "1", "EMPTY", "", "TRICKY", "${A}")
	for text, want := range map[string]string{
		"plain $5 {x}": "plain $5 {x}", "${A}": "1", "x${A}y${A}": "x1y1", "$${A}": "${A}", "$$${A}": "$${A}",
		"${EMPTY}": "", "${EMPTY:-d}": "d", "${GONE:-}": "", "${GONE:-a:-b}": "a:-b", "${TRICKY}": "${A}", "$": "$",
	} {
		if got, err := expand(text, env); err != nil || got != want {
			t.Errorf("expand(%q) = %q, %v; want %q", text, got, err, want)
		}
	}
}

func TestTrueIsRead(t *testing.T) {
	c := load(t, shop+"    policy: {mass_approval: true}\n", environment())
	if !c.Accounts[0].Policy.MassApproval {
		t.Error("mass_approval: true is not read")
	}
}
