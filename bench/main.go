package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/alecthomas/kong"
)

type flags struct {
	Rounds int      `help:"Rounds; each figure is their median." default:"5"`
	Quick  bool     `help:"One short round: shows that the benchmark works, not how fast anything is."`
	JSON   bool     `help:"Print the figures as JSON."`
	Only   []string `help:"Only these parts: dispatch, enqueue, memory, campaigns, urgent, callbacks, api, safety." sep:","`

	Recipients int `help:"Campaigns: recipients of the larger one, whose Redis and worker are compared with those of 100,000." default:"10000000"`

	Subjects []string      `help:"Dispatch: only these subjects, by a part of their names." sep:","`
	Cells    int           `help:"Dispatch: only the first so many settings." default:"4"`
	Latency  time.Duration `help:"Dispatch: only settings whose API takes so long: 0s or 20ms." default:"-1s"`
	Profile  string        `help:"Dispatch: write a CPU profile of Hongyan's worker to this file." type:"path"`

	Child childFlags `cmd:"" hidden:"" help:"A process of the benchmark."`
	Run   struct{}   `cmd:"" default:"1" help:"Run the benchmark."`
}

func main() {
	var f flags
	cli := kong.Parse(&f, kong.Name("bench"), kong.Description("Measures Hongyan beside its limit and a naive build."), kong.UsageOnError())
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	var err error
	if cli.Command() == "child" {
		err = f.Child.run(ctx)
	} else {
		err = run(ctx, f)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, f flags) error {
	if f.Quick {
		f.Rounds = 1
	}
	env, err := start(ctx)
	if err != nil {
		return err
	}
	defer env.close()
	env.flags = f

	report := &Report{Machine: machine(), Rounds: f.Rounds}
	parts := []struct {
		name    string
		measure func(context.Context, *environment, int, *Report) error
	}{
		{"dispatch", dispatch}, {"enqueue", enqueue}, {"memory", memory}, {"campaigns", campaigns}, {"urgent", urgent}, {"callbacks", callbacks}, {"api", httpAPI}, {"safety", safety},
	}
	for _, part := range parts {
		if !wanted(f.Only, part.name) {
			continue
		}
		if err := part.measure(ctx, env, f.Rounds, report); err != nil {
			report.write(os.Stderr) // minutes of work
			return fmt.Errorf("%s: %w", part.name, err)
		}
	}
	if f.JSON {
		out := json.NewEncoder(os.Stdout)
		out.SetIndent("", "  ")
		return out.Encode(report)
	}
	report.write(os.Stdout)
	return nil
}

func wanted(only []string, part string) bool {
	for _, o := range only {
		if o == part {
			return true
		}
	}
	return len(only) == 0
}
