package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/hongyan-dispatch/hongyan/internal/devstack"
	"github.com/hongyan-dispatch/hongyan/internal/wechattest"
)

// closedPort is an address at which nobody listens.
const closedPort = "127.0.0.1:1"

func TestCheck(t *testing.T) {
	t.Parallel()
	// A Redis of its own: its settings are changed.
	stack, err := devstack.Start(t.Context(), devstack.Options{Redis: true, Private: true, RedisAppendOnly: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = stack.Close() })
	opt, err := redis.ParseURL(stack.RedisURL())
	if err != nil {
		t.Fatal(err)
	}
	rdb := redis.NewClient(opt)
	t.Cleanup(func() { rdb.Close() })
	f := newFleet(t, shop(), club())
	set := func(name, value string) func() error {
		return func() error { return rdb.ConfigSet(t.Context(), name, value).Err() }
	}
	change := func(how func(*wechattest.Settings)) func() error {
		return func() error { return f.wechat("shop").Change(how) }
	}
	migrations := func(set string, value any) func() error {
		return func() error {
			_, err := f.db.Exec(t.Context(), "UPDATE schema_migrations SET "+set, value)
			return err
		}
	}
	version := func(by int) func() error { return migrations("version = version + $1", by) }
	dirty := func(is bool) func() error { return migrations("dirty = $1", is) }
	pods := func(versions ...string) func() error {
		return func() error {
			f.exec("DELETE FROM pod")
			for _, v := range versions {
				f.exec("INSERT INTO pod (name, version) VALUES ('w', '" + v + "')")
			}
			return nil
		}
	}
	postgresURL := "HONGYAN_DATABASE_URL=" + f.database
	for _, c := range []struct {
		claim    string
		arrange  func() error
		env      []string
		code     int
		contains []string
		putBack  func() error
	}{
		{claim: "all is well on healthy servers", contains: []string{
			"noeviction", "append-only file on", "schema is at migration", "workers: none runs", "account shop: access token had", "account club: access token had", "all well",
		}},
		{
			claim: "workers of two versions: advice", arrange: pods("v1.0.0", "v1.0.0", "v1.1.0"), putBack: pods(),
			contains: []string{"note  workers: 2 of version v1.0.0, 1 of version v1.1.0 live side by side", "→ finish the upgrade", "all well"},
		},
		{
			claim: "queued messages could be evicted", arrange: set("maxmemory-policy", "allkeys-lru"), putBack: set("maxmemory-policy", "noeviction"),
			code: 1, contains: []string{"allkeys-lru", "→ CONFIG SET maxmemory-policy noeviction", "1 to mend"},
		},
		{
			claim: "the append-only file is off: advice, for a ledger makes it good", arrange: set("appendonly", "no"), putBack: set("appendonly", "yes"),
			contains: []string{"note  redis: append-only file off", "→ CONFIG SET appendonly yes"},
		},
		{
			claim: "a wrong secret", arrange: change(func(s *wechattest.Settings) { s.Secret = "canary-secret-of-the-shop-changed" }),
			putBack: change(func(s *wechattest.Settings) { s.Secret = shop().wechat.Secret }),
			code:    1, contains: []string{"BAD   account shop", "40001", "→ copy the AppSecret anew", "ok    account club"},
		},
		{
			claim: "an address that is not whitelisted", arrange: change(func(s *wechattest.Settings) { s.Whitelist = []string{"203.0.113.7"} }),
			putBack: change(func(s *wechattest.Settings) { s.Whitelist = nil }),
			code:    1, contains: []string{"BAD   account shop", "127.0.0.1", "→ add the IP that WeChat names"},
		},
		{
			claim: "Redis is down", env: []string{"HONGYAN_REDIS_URL=redis://:canary-password@" + closedPort + "/0"},
			code: 1, contains: []string{"BAD   redis", "refused", "→ start Redis", closedPort, "ok    postgres", "ok    account shop"},
		},
		{
			claim: "Postgres is down", env: []string{"HONGYAN_DATABASE_URL=postgres://hongyan:canary-password@" + closedPort + "/hongyan"},
			code: 1, contains: []string{"BAD   postgres", "refused", "→ start Postgres", closedPort, "ok    redis", "ok    account shop"},
		},
		{
			claim: "the schema was never made", env: []string{"HONGYAN_DATABASE_URL=" + devstack.Postgres(t, nil)},
			code: 1, contains: []string{"BAD   postgres", "migration 0", "→ run `worker migrate`"},
		},
		{
			claim: "the schema is of an older version", arrange: version(-1), putBack: version(+1),
			code: 1, contains: []string{"BAD   postgres: the schema is at migration ", "→ run `worker migrate`"},
		},
		{
			claim: "a migration was broken off half-way", arrange: dirty(true), putBack: dirty(false),
			code: 1, contains: []string{"BAD   postgres: migration ", "broken off half-way", "→ restore the schema"},
		},
		{
			claim: "clocks differ: advice, for only days and windows suffer", arrange: func() error { f.sim.Clock.Advance(20 * time.Second); return nil },
			putBack:  func() error { f.sim.Clock.Real(); return nil },
			contains: []string{"note  account shop: WeChat's clock is ", "s from Postgres'", "→ run NTP on the Postgres host", "s from Redis'"},
		},
	} {
		t.Run(c.claim, func(t *testing.T) { // one after another: they share servers
			if c.arrange != nil {
				if err := c.arrange(); err != nil {
					t.Fatal(err)
				}
				defer func() {
					if err := c.putBack(); err != nil {
						t.Error(err)
					}
				}()
			}
			code, stdout, stderr := typed(t, append([]string{"HONGYAN_REDIS_URL=" + stack.RedisURL(), postgresURL}, c.env...), "check", "--config", f.config)
			if code != c.code {
				t.Errorf("exit code %d, want %d", code, c.code)
			}
			for _, want := range c.contains {
				if !strings.Contains(stdout, want) {
					t.Errorf("no %q in what it prints", want)
				}
			}
			for _, secret := range []string{"canary-", opt.Password} {
				if strings.Contains(stdout+stderr, secret) {
					t.Error("it prints a secret")
				}
			}
			if t.Failed() {
				t.Logf("stdout:\n%s\nstderr:\n%s", stdout, stderr)
			}
		})
	}
}

func TestBadConfiguration(t *testing.T) {
	t.Parallel()
	const good = "redis: {url: redis://127.0.0.1:1/0}\npostgres: {url: postgres://127.0.0.1:1/x}\n"
	const one = "accounts: [{name: shop, appid: wx00000000000000f1, secret: s, type: service}]\n"
	for _, c := range []struct {
		claim, text string
		lines       []string // one clear line for each finding
	}{
		{"what is no YAML", "redis: {url: [}\n", []string{"hongyan.yaml"}},
		{"a key that nobody knows", good + one + "retenton: {messages: 720h}\n", []string{"hongyan.yaml:4: retenton"}},
		{"a variable that is not set", good + "accounts: [{name: shop, appid: wx00000000000000f1, secret: '${NO_SUCH_SECRET}', type: service}]\n", []string{"NO_SUCH_SECRET"}},
		{
			"several mistakes at once", good + "accounts: [{name: shop, appid: gh_1, secret: s, type: serivce, limits: {template: {per_day: -1}}}]\n",
			[]string{"accounts[0].appid", "accounts[0].type", "accounts[0].limits.template.per_day"},
		},
		{"nothing at all", "", []string{"redis.url", "postgres.url", "accounts"}},
	} {
		for _, args := range [][]string{nil, {"check"}} {
			t.Run(strings.Join(append([]string{c.claim, "worker"}, args...), " "), func(t *testing.T) {
				t.Parallel()
				file := filepath.Join(t.TempDir(), "hongyan.yaml")
				if err := os.WriteFile(file, []byte(c.text), 0o600); err != nil {
					t.Fatal(err)
				}
				code, stdout, stderr := typed(t, nil, append(args, "--config", file)...)
				if code != 2 || stdout != "" {
					t.Errorf("exit code %d and stdout %q, want 2 and nothing", code, stdout)
				}
				lines := strings.Split(strings.TrimSpace(stderr), "\n")
				if len(lines) > 1 {
					lines = lines[1:] // the first counts them
				}
				if len(lines) != len(c.lines) {
					t.Errorf("%d lines for %d mistakes", len(lines), len(c.lines))
				}
				for _, want := range c.lines {
					if !strings.Contains(stderr, want) {
						t.Errorf("no %q in what it prints", want)
					}
				}
				if t.Failed() {
					t.Log(stderr)
				}
			})
		}
	}
	t.Run("a flag that nobody knows, and a file that is not there", func(t *testing.T) {
		t.Parallel()
		for _, args := range [][]string{{"--confg", "x"}, {"chekc"}, {"--config", "/no/such/file.yaml"}} {
			code, _, stderr := typed(t, nil, args...)
			if code != 2 || strings.Count(stderr, "\n") != 1 {
				t.Errorf("worker %v: exit code %d and %q, want 2 and one line", args, code, stderr)
			}
		}
	})
}

func TestMigrate(t *testing.T) {
	t.Parallel()
	f := newFleet(t, shop())
	f.database = devstack.Postgres(t, nil)
	env := []string{"HONGYAN_DATABASE_URL=" + f.database}

	code, _, stderr := typed(t, env, "--config", f.config)
	if code != 1 || !strings.Contains(stderr, "run `worker migrate`") || strings.Count(stderr, "\n") != 1 {
		t.Errorf("without a schema: exit code %d and %q, want 1 and one line that names worker migrate", code, stderr)
	}
	for range 2 {
		code, stdout, stderr := typed(t, env, "migrate", "--config", f.config)
		if code != 0 || !strings.Contains(stdout, "the schema is at migration") {
			t.Errorf("migrate: exit code %d, %q, %q", code, stdout, stderr)
		}
	}
	p := startProcess(t, nil, env, "--config", f.config)
	p.ready()
	if code, took := p.terminate(); code != 0 || took > 5*time.Second {
		t.Errorf("an idle worker ended with %d after %v, want 0 at once", code, took)
	}
}

func TestStoresDown(t *testing.T) {
	t.Parallel()
	f := newFleet(t, shop())
	for _, env := range []string{
		"HONGYAN_REDIS_URL=redis://:canary-password@" + closedPort + "/0",
		"HONGYAN_DATABASE_URL=postgres://hongyan:canary-password@" + closedPort + "/hongyan",
	} {
		code, _, stderr := typed(t, []string{env}, "--config", f.config)
		if code != 1 || strings.Count(stderr, "\n") != 1 || strings.Contains(stderr, "canary") || !strings.Contains(stderr, "refused") {
			t.Errorf("exit code %d and %q, want 1 and one line that says what is down", code, stderr)
		}
	}
	p := f.start(1)[0]
	_ = p.cmd.Process.Signal(os.Interrupt)
	select {
	case <-p.ended:
	case <-time.After(20 * time.Second):
		t.Fatal("Ctrl-C does not end the worker")
	}
	if p.code() != 0 {
		t.Errorf("Ctrl-C: exit code %d, want 0", p.code())
	}
}

// The doctor says where WeChat's pushes do not seem to arrive.
func TestCheckOfCallbacks(t *testing.T) {
	t.Parallel()
	const n = 30
	f := newFleet(t, shop("callback: {token: "+callbackToken+", aes_key: "+callbackKey+"}"))
	says := func(want ...string) {
		t.Helper()
		code, stdout, stderr := typed(t, nil, "check", "--config", f.config)
		for _, w := range want {
			if !strings.Contains(stdout, w) {
				t.Errorf("no %q in what it prints", w)
			}
		}
		if code != 0 || strings.Contains(stdout+stderr, callbackToken) || strings.Contains(stdout+stderr, callbackKey) {
			t.Errorf("exit code %d, or a secret", code)
		}
		if t.Failed() {
			t.Fatalf("stdout:\n%s\nstderr:\n%s", stdout, stderr)
		}
	}
	says("note  account shop: no push of WeChat's has arrived yet", "→ run server, and compare the console's server settings")
	f.start(1)
	f.enqueue(templates("shop", 0, n)...)
	f.await(30*time.Second, map[string]int{"sent": n}, "true")
	f.exec("UPDATE message SET finished_at = now() - interval '16 minutes'")
	says("of the last 30 template messages 30 have no receipt")
	f.exec(`INSERT INTO receipt (account, key, kind, msgid, openid, template_id, at, delivered, reason, code, sealed, message)
		SELECT account, message.id::text, kind, msgid, '', '', now(), true, '', 0, true, message.id FROM message ORDER BY message.id LIMIT 29`)
	code, stdout, _ := typed(t, nil, "check", "--config", f.config)
	if code != 0 || strings.Contains(stdout, "no receipt") || !strings.Contains(stdout, "ok    account shop: WeChat's pushes arrive, the last at") {
		t.Errorf("with receipts, and no user who acted: exit code %d\n%s", code, stdout)
	}
	f.exec("UPDATE receipt SET received_at = now() - interval '3 days'")
	says("no push of WeChat's has arrived since ")
	f.exec("UPDATE message SET kind = 'custom', errcode = 45015, state = 'failed' WHERE id = (SELECT max(id::text)::uuid FROM message)")
	f.exec("UPDATE message SET kind = 'mass', finished_at = now() - interval '41 minutes' WHERE id = (SELECT max(id::text)::uuid FROM message WHERE kind = 'template')")
	f.exec("DELETE FROM receipt WHERE message = (SELECT id FROM message WHERE kind = 'mass')")
	says("WeChat refused 1 customer-service messages of the last two days", "1 mass sends of the last two days have no receipt")
}
