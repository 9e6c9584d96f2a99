// Command server takes WeChat's callbacks, which it verifies, decrypts and writes down, and producers' messages over HTTP.
package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime/debug"
	"strings"
	"syscall"

	"github.com/alecthomas/kong"

	"github.com/hongyan-dispatch/hongyan/internal/app"
	"github.com/hongyan-dispatch/hongyan/internal/callback"
	"github.com/hongyan-dispatch/hongyan/internal/config"
	"github.com/hongyan-dispatch/hongyan/internal/telemetry"
)

// The exit codes of all commands.
const (
	exitDone     = 0
	exitFailed   = 1
	exitBadInput = 2
)

type command struct {
	Config  string           `placeholder:"FILE" type:"path" help:"Configuration file (or HONGYAN_CONFIG)."`
	JSON    bool             `help:"Write JSON."`
	Version kong.VersionFlag `help:"Print the version and exit."`

	Run runCommand  `cmd:"" default:"1" help:"Serve until SIGTERM or Ctrl-C, then finish what is under way and exit (the default)."`
	Key keyCommands `cmd:"" help:"Keys of the HTTP API: create, list, revoke."`
}

const description = `Hongyan's server is the URL that WeChat's console (服务器配置) asks for: /wechat/{account}. What users do opens their
customer-service window, receipts say which messages arrived. Producers post their messages to /v1 with a key (server key
create), as /docs says. Run as many as you like.

Exit codes: 0 done, 1 failed, 2 bad input (flags, configuration).`

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	os.Exit(run(ctx, os.Args[1:], os.Stdout, os.Stderr))
}

// invocation is what a command of this program works with.
type invocation struct {
	path           string
	json           bool
	stdout, stderr io.Writer
}

func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	var c command
	exited := -1
	parser, err := kong.New(&c, kong.Name("server"), kong.Description(description),
		kong.Writers(stdout, stderr), kong.Exit(func(code int) { exited = code }), kong.Vars{"version": version()})
	if err != nil {
		panic(err) // a mistake in the struct above
	}
	cli, err := parser.Parse(args)
	if exited >= 0 { // --help, --version
		return exited
	}
	if err != nil {
		fmt.Fprintf(stderr, "server: %v (try server --help)\n", err)
		return exitBadInput
	}
	cli.BindTo(ctx, (*context.Context)(nil))
	err = cli.Run(invocation{path: config.Path(c.Config, os.LookupEnv), json: c.JSON, stdout: stdout, stderr: stderr})
	_, typed := errors.AsType[badInput](err)
	switch bad := (*config.Error)(nil); {
	case err == nil:
		return exitDone
	case typed, errors.As(err, &bad):
		fmt.Fprintf(stderr, "server: %v\n", err)
		return exitBadInput
	default:
		fmt.Fprintf(stderr, "server: %s\n", strings.Join(strings.Fields(err.Error()), " ")) // pgx gives each address a line
		return exitFailed
	}
}

type runCommand struct{}

func (runCommand) Run(ctx context.Context, i invocation) error {
	c, err := config.Load(i.path, os.LookupEnv, config.NeedRedis, config.NeedPostgres, config.NeedAccounts)
	if err != nil {
		return err
	}
	log := telemetry.Logger(i.stderr, c.Log.Level, c.Log.Format)
	telemetry.RedisTo(log)
	metrics := telemetry.NewServerMetrics(version())
	traces, err := telemetry.NewTraces(telemetry.TraceOptions{
		Endpoint: c.Telemetry.Traces.Endpoint, Ratio: c.Telemetry.Traces.Ratio, Program: "server", Version: version(), Log: log,
	})
	if err != nil {
		return err
	}
	defer traces.Close()
	err = app.Serve(ctx, c, app.ServeOptions{
		Log: log, Metrics: metrics.Handler(), Stores: &metrics.Stores, Traces: traces,
		Ready:     func(address string) { log.Info("listening", "address", address) },
		Observe:   metrics.Answered,
		Forwarded: metrics.Forwarded,
		Requested: metrics.Requested,
		Pushed:    func(account string, m callback.Meaning) { count(metrics, account, m) },
	})
	if err == nil {
		log.Info("closed")
	}
	return err
}

// count counts a push by what it tells.
func count(metrics *telemetry.ServerMetrics, account string, m callback.Meaning) {
	tells := cmp.Or(string(m.Trigger), string(m.Presence))
	switch {
	case tells != "":
	case len(m.Choices) > 0:
		tells = "choice"
	case len(m.Receipts) > 0 || m.Mass != nil:
		tells = "receipt"
	case m.Known:
		tells = "other"
	default:
		tells = "unknown"
	}
	metrics.Pushed(account, tells)
	for _, r := range m.Receipts {
		metrics.Receipt(account, string(r.Kind), r.Delivered)
	}
	if m.Mass != nil {
		metrics.Receipt(account, "mass", m.Mass.Sent)
	}
}

// release is the version where the build says one: go build -ldflags "-X main.release=v1.2.3". A build from a clone
// knows its own.
var release string

func version() string {
	if info, ok := debug.ReadBuildInfo(); ok {
		return cmp.Or(release, info.Main.Version, "devel")
	}
	return cmp.Or(release, "devel")
}
