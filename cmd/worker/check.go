package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"

	"github.com/hongyan-dispatch/hongyan/internal/app"
	"github.com/hongyan-dispatch/hongyan/internal/config"
	"github.com/hongyan-dispatch/hongyan/internal/telemetry"
)

// errFindings says that the check found what must be mended; it has printed it.
var errFindings = errors.New("the check has findings")

type checkCommand struct{}

func (checkCommand) Run(ctx context.Context, i invocation) error {
	c, err := config.Load(i.path, os.LookupEnv, config.NeedRedis, config.NeedPostgres, config.NeedAccounts)
	if err != nil {
		return err
	}
	telemetry.RedisTo(slog.New(slog.DiscardHandler)) // what it says is in the findings
	bad := 0
	app.Check(ctx, c, func(f app.Finding) {
		mark := map[app.Severity]string{app.Fine: "ok  ", app.Advice: "note", app.Fault: "BAD "}[f.Severity]
		fmt.Fprintf(i.stdout, "%s  %s: %s\n", mark, f.Subject, oneLine(f.Text))
		if f.Remedy != "" {
			fmt.Fprintf(i.stdout, "      → %s\n", f.Remedy)
		}
		if f.Severity == app.Fault {
			bad++
		}
	})
	if bad > 0 {
		fmt.Fprintf(i.stdout, "\n%d to mend\n", bad)
		return errFindings
	}
	fmt.Fprintln(i.stdout, "\nall well")
	return nil
}
