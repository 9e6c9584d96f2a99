package main

import (
	"errors"
	"fmt"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/hongyan-dispatch/hongyan/internal/devstack"
	"github.com/hongyan-dispatch/hongyan/internal/postgres"
	"github.com/hongyan-dispatch/hongyan/internal/wechattest"
)

func TestMain(m *testing.M) {
	testscript.Main(servers{m}, map[string]func(){"enqueue": main})
}

// servers stops the test servers when the tests have run.
type servers struct{ *testing.M }

func (s servers) Run() int { return devstack.Run(s.M) }

// TestScripts runs the command as a user types it. Each script has stores of its own in $REDIS and $DATABASE, a
// database without a schema in $EMPTY, a simulator of WeChat, and two configurations: hongyan.yaml with both stores, redis.yaml without a ledger.
func TestScripts(t *testing.T) {
	scripts, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(scripts) == 0 {
		t.Fatalf("no scripts: %v", err)
	}
	for _, script := range scripts {
		t.Run(strings.TrimSuffix(filepath.Base(script), ".txtar"), func(t *testing.T) {
			t.Parallel()
			testscript.Run(t, testscript.Params{
				Files:               []string{script},
				RequireExplicitExec: true,
				Setup:               func(env *testscript.Env) error { return prepare(t, env) },
				Cmds:                map[string]func(*testscript.TestScript, bool, []string){"exits": exits},
			})
		})
	}
}

// exits CODE COMMAND… runs a command that must end with the code.
func exits(ts *testscript.TestScript, _ bool, args []string) {
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	code := 0
	if err := ts.Exec(args[1], args[2:]...); err != nil {
		exit, ok := errors.AsType[*exec.ExitError](err)
		if !ok {
			ts.Fatalf("%v", err)
		}
		code = exit.ExitCode()
	}
	if code != want {
		ts.Fatalf("exit code %d, want %d", code, want)
	}
}

const accountsYAML = `
accounts:
  - {name: shop, appid: wx0000000000000001, secret: secret-of-shop, type: service, base_url: %[1]s}
  - {name: club, appid: wx0000000000000002, secret: secret-of-club, type: subscription, base_url: %[1]s}
`

func prepare(t *testing.T, env *testscript.Env) error {
	sim := wechattest.New(wechattest.Options{})
	sim.MustAddAccount(wechattest.Settings{
		AppID: "wx0000000000000001", Secret: "secret-of-shop", AnyOpenID: true, AnyMedia: true,
		WxNames: map[string]string{"editor": "oEDITOR"}, Tags: []wechattest.Tag{{ID: 2, Name: "会员"}},
		Templates: []wechattest.Template{{ID: "order_paid", Title: "订单支付成功通知", Content: "商品：{{thing2.DATA}}\n金额：{{amount3.DATA}}"}},
	}).Tag(2, "oAnn", "oBob")
	sim.MustAddAccount(wechattest.Settings{
		AppID: "wx0000000000000002", Secret: "secret-of-club", Type: wechattest.Subscription, AnyOpenID: true, AnyMedia: true,
	})
	server := httptest.NewServer(sim)
	env.Defer(func() {
		sim.Close()
		server.Close()
	})
	env.Setenv("REDIS", devstack.Redis(t))
	env.Setenv("DATABASE", devstack.Postgres(t, postgres.Migrate))
	env.Setenv("EMPTY", devstack.Postgres(t, nil))
	accounts := fmt.Sprintf(accountsYAML, server.URL)
	return errors.Join(
		write(env, "redis.yaml", "redis: {url: '%s'}\n%s", env.Getenv("REDIS"), accounts),
		write(env, "hongyan.yaml", "redis: {url: '%s'}\npostgres: {url: '%s'}\n%s", env.Getenv("REDIS"), env.Getenv("DATABASE"), accounts),
	)
}

func write(env *testscript.Env, name, format string, args ...any) error {
	return os.WriteFile(filepath.Join(env.WorkDir, name), fmt.Appendf(nil, format, args...), 0o600)
}
