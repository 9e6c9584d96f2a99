package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/alecthomas/kong"
)

type flags struct {
	Only      []string      `help:"Only these scenarios: ${scenarios}." sep:","`
	Long      bool          `help:"The long forms: for quiet machines and nights."`
	Messages  int           `help:"Messages of each scenario, in place of its own number."`
	Duration  time.Duration `help:"How long the producer works, in place of each scenario's own time."`
	Seed      uint64        `help:"Repeats the messages and the schedule of faults of an earlier run."`
	Parallel  int           `help:"Scenarios that run side by side." default:"2"`
	Subject   string        `help:"What the faults strike: hongyan, or the naive build." enum:"hongyan,naive" default:"hongyan"`
	Mutations bool          `help:"Take the safeties away, one at a time: the suite must notice each."`
	JSON      bool          `help:"Print the figures as JSON."`
	Old       string        `help:"A worker that was built from an earlier version: for the scenario upgrade." type:"existingfile" placeholder:"PATH"`

	Worker naiveFlags `cmd:"" hidden:"" help:"A worker of the naive build."`
	Run    struct{}   `cmd:"" default:"1" help:"Run the fault suite."`
}

// errBreach says that a promise was broken.
var errBreach = errors.New("a promise was broken")

func main() {
	var f flags
	cli := kong.Parse(&f, kong.Name("chaos"), kong.Description("Breaks what can break and checks that nothing is lost and nothing sent twice."),
		kong.UsageOnError(), kong.Vars{"scenarios": names()})
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	var err error
	if cli.Command() == "worker" {
		err = f.Worker.run(ctx)
	} else {
		err = run(ctx, f, os.Stdout, os.Stderr)
	}
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "chaos:", err)
		os.Exit(1)
	}
}

// run runs what the flags ask for, tells of it, and answers with an error if a promise was broken.
func run(ctx context.Context, f flags, stdout, stderr io.Writer) error {
	chosen, err := choose(f)
	if err != nil {
		return err
	}
	if f.Seed == 0 {
		f.Seed = rand.Uint64N(1_000_000) + 1
	}
	fmt.Fprintf(stderr, "seed %d\n", f.Seed)
	if f.Old == "" && len(f.Only) == 0 && !f.Mutations && f.Subject == hongyan {
		fmt.Fprintln(stderr, "upgrade is left out: it wants --old PATH, a worker that was built from an earlier version")
	}
	if len(f.Only) == 0 && !f.Mutations && f.Subject == hongyan && !mayMount() {
		fmt.Fprintln(stderr, "postgres-full is left out: only root may mount the small disk that is to be full")
	}
	report := &Report{Seed: f.Seed, Subject: f.Subject, Machine: machine(), Commit: commit()}
	report.Results, err = play(ctx, f, chosen, newProgress(stderr))
	if f.JSON {
		out := json.NewEncoder(stdout)
		out.SetIndent("", "  ")
		err = errors.Join(err, out.Encode(report))
	} else {
		report.write(stdout)
	}
	if err == nil && report.broken() && f.Subject == hongyan {
		err = errBreach
	}
	return err
}
