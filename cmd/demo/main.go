// Command demo shows the main job of Hongyan on one machine, in one process: private stores, a simulated WeChat,
// a worker, the server that WeChat calls back and producers post to, and a producer; some 2,000 messages, a campaign of
// 20,000 that is paused and resumed; and a table of what became of them, checked against the simulator's own log.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/alecthomas/kong"

	"github.com/hongyan-dispatch/hongyan/internal/devstack"
)

// The exit codes of all commands.
const (
	exitDone     = 0
	exitFailed   = 1
	exitBadInput = 2
)

type flags struct {
	Stay      bool   `help:"Keep everything running afterwards, and say what to try, until Ctrl-C."`
	JSON      bool   `name:"json" help:"Print the result as JSON; progress goes to standard error."`
	Examples  string `default:"examples" placeholder:"FOLDER" help:"Folder of the *.jsonl files and the campaign, whose messages and audience are multiplied: edit them and see."`
	InProcess bool   `hidden:"" name:"redis-in-process" help:"Do without redis-server even where there is one."`
	Seed      uint64 `default:"20261122" help:"Another number makes other users and other faults."`
}

const help = `Sends some 2,000 messages and a campaign of 20,000 through private servers and a simulated WeChat, shows them on their way,
and checks the outcomes against what the simulator accepted.

Exit codes: 0 done, 1 failed or the check found a difference, 2 bad input (flags, examples).`

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	os.Exit(run(ctx, os.Args[1:], os.Stdout, os.Stderr))
}

func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	var f flags
	exited := -1
	parser, err := kong.New(&f, kong.Name("demo"), kong.Description(help),
		kong.Writers(stdout, stderr), kong.Exit(func(code int) { exited = code }))
	if err != nil {
		panic(err) // a mistake in the struct above
	}
	_, err = parser.Parse(args)
	if exited >= 0 { // --help
		return exited
	}
	if err != nil {
		fmt.Fprintf(stderr, "demo: %v (try demo --help)\n", err)
		return exitBadInput
	}
	err = f.demo(ctx, stdout, stderr)
	var bad inputError
	var left *leftError
	switch {
	case err == nil:
		return exitDone
	case ctx.Err() != nil && !errors.As(err, &left):
		fmt.Fprintln(stderr, "demo: interrupted; everything that it started is stopped and removed")
	case errors.As(err, &bad):
		fmt.Fprintf(stderr, "demo: %v\n", err)
		return exitBadInput
	default:
		fmt.Fprintf(stderr, "demo: %v\n", err)
	}
	return exitFailed
}

// inputError says what a person has to change.
type inputError string

func badInput(format string, args ...any) error { return inputError(fmt.Sprintf(format, args...)) }

func (e inputError) Error() string { return string(e) }

// leftError says that something could not be stopped or removed.
type leftError struct{ err error }

func (e *leftError) Error() string { return "stop what was started: " + e.err.Error() }
func (e *leftError) Unwrap() error { return e.err }

// errDiffers says that the check found differences; the report has named them.
var errDiffers = errors.New("the outcomes differ from what the simulator saw")

// demo runs the whole of it. What was started is stopped when it returns.
func (f *flags) demo(ctx context.Context, stdout, stderr io.Writer) (err error) {
	shown := stdout
	if f.JSON {
		shown = stderr
	}
	p := newProgress(shown)
	defer p.stop()
	s, err := f.start(ctx, p)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.close()) }()

	d := &director{servers: s, generator: newGenerator(s.examples, f.Seed), progress: p}
	p.watch(s.look)
	if err := s.whileWorking(ctx, d.play); err != nil {
		return err
	}
	p.stop()

	r, err := d.result(ctx)
	if err != nil {
		return err
	}
	if f.JSON {
		err = r.writeJSON(stdout)
	} else {
		err = r.write(stdout)
	}
	if err == nil && f.Stay {
		err = s.whileWorking(ctx, func(ctx context.Context) error { return s.stay(ctx, shown, r.example.row.ID, r.Campaign.Name) })
	}
	if err == nil && len(r.Differences) > 0 {
		return errDiffers
	}
	return err
}

// remedy adds what to do about an error of starting.
func remedy(err error) error {
	if errors.Is(err, devstack.ErrNoPostgres) {
		return fmt.Errorf("%w (`make demo` installs it where it can)", err)
	}
	return err
}
