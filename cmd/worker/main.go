// Command worker dispatches messages, migrates the ledger's schema, and checks an installation.
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
	"golang.org/x/sync/errgroup"

	"github.com/hongyan-dispatch/hongyan/internal/app"
	"github.com/hongyan-dispatch/hongyan/internal/config"
	"github.com/hongyan-dispatch/hongyan/internal/postgres"
	"github.com/hongyan-dispatch/hongyan/internal/telemetry"
	"github.com/hongyan-dispatch/hongyan/message"
)

// The exit codes of all commands.
const (
	exitDone     = 0
	exitFailed   = 1
	exitBadInput = 2
)

type command struct {
	Config  string           `placeholder:"FILE" type:"path" help:"Configuration file (or HONGYAN_CONFIG)."`
	Version kong.VersionFlag `help:"Print the version and exit."`

	Run     runCommand     `cmd:"" default:"1" help:"Dispatch messages until SIGTERM or Ctrl-C, then drain and exit (the default)."`
	Migrate migrateCommand `cmd:"" help:"Bring the schema of the ledger up to date."`
	Check   checkCommand   `cmd:"" help:"Examine Redis, Postgres and each account, and say what to do."`
}

const description = `Hongyan's worker takes messages from the queue and sends them through WeChat's API inside every limit,
and writes each outcome into Postgres. Run as many as you like.

Exit codes: 0 done, 1 failed, 2 bad input (flags, configuration).`

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	os.Exit(run(ctx, os.Args[1:], os.Stdout, os.Stderr))
}

// invocation is what a command of this program works with.
type invocation struct {
	path   string
	stdout io.Writer
	stderr io.Writer
}

func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	var c command
	exited := -1
	parser, err := kong.New(&c, kong.Name("worker"), kong.Description(description),
		kong.Writers(stdout, stderr), kong.Exit(func(code int) { exited = code }), kong.Vars{"version": version()})
	if err != nil {
		panic(err) // a mistake in the struct above
	}
	cli, err := parser.Parse(args)
	if exited >= 0 { // --help, --version
		return exited
	}
	if err != nil {
		fmt.Fprintf(stderr, "worker: %v (try worker --help)\n", err)
		return exitBadInput
	}
	cli.BindTo(ctx, (*context.Context)(nil))
	err = cli.Run(invocation{path: config.Path(c.Config, os.LookupEnv), stdout: stdout, stderr: stderr})
	switch bad := (*config.Error)(nil); {
	case err == nil:
		return exitDone
	case errors.As(err, &bad):
		fmt.Fprintf(stderr, "worker: %v\n", err)
		return exitBadInput
	case errors.Is(err, errFindings):
		return exitFailed
	default:
		fmt.Fprintf(stderr, "worker: %s\n", oneLine(err.Error()))
		return exitFailed
	}
}

// oneLine is an error on one line: pgx gives each address that it tried a line of its own.
func oneLine(text string) string { return strings.Join(strings.Fields(text), " ") }

type runCommand struct{}

func (runCommand) Run(ctx context.Context, i invocation) error {
	c, err := config.Load(i.path, os.LookupEnv, config.NeedRedis, config.NeedPostgres, config.NeedAccounts)
	if err != nil {
		return err
	}
	log := telemetry.Logger(i.stderr, c.Log.Level, c.Log.Format)
	telemetry.RedisTo(log)
	metrics := telemetry.NewMetrics(version())
	for _, a := range c.Accounts {
		for _, k := range message.Kinds() {
			metrics.Expect(a.Name, string(k))
		}
	}
	traces, err := telemetry.NewTraces(telemetry.TraceOptions{
		Endpoint: c.Telemetry.Traces.Endpoint, Ratio: c.Telemetry.Traces.Ratio, Program: "worker", Version: version(), Log: log,
	})
	if err != nil {
		return err
	}
	defer traces.Close()
	ready := func() { log.Info("dispatching", "accounts", len(c.Accounts), "senders", c.Worker.Senders) }
	watched, err := telemetry.Listen(c.Worker.MetricsListen, metrics)
	if err != nil {
		return fmt.Errorf("worker.metrics_listen: %w", err)
	}
	g, ctx := errgroup.WithContext(ctx)
	until, drained := context.WithCancel(context.WithoutCancel(ctx)) // the drain is watched, too
	g.Go(func() error { return watched.Run(until) })
	g.Go(func() error {
		defer drained()
		return app.Run(ctx, c, watchedBy(metrics, app.Options{Log: log, Version: version(), Traces: traces, Ready: ready}))
	})
	err = g.Wait()
	if err == nil {
		log.Info("drained")
	}
	return err
}

type migrateCommand struct{}

func (migrateCommand) Run(ctx context.Context, i invocation) error {
	c, err := config.Load(i.path, os.LookupEnv, config.NeedPostgres)
	if err != nil {
		return err
	}
	if err := postgres.Migrate(ctx, c.Postgres.URL.Reveal()); err != nil {
		return fmt.Errorf("migrate: %w", err)
	}
	have, _, _, err := postgres.MigrationState(ctx, c.Postgres.URL.Reveal())
	if err != nil {
		return fmt.Errorf("migrate: %w", err)
	}
	fmt.Fprintf(i.stdout, "the schema is at migration %d\n", have)
	return nil
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
