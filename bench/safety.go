package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/hongyan-dispatch/hongyan/internal/fault"
)

// unsafely is what the comparison does without.
const unsafely = fault.Claim + "," + fault.Fence + "," + fault.Reconciler

// safety measures what claim, fence and reconciler cost: the same program sends by batch with them and without. Only a
// program that was built for it can do without.
func safety(ctx context.Context, e *environment, rounds int, r *Report) error {
	program := filepath.Join(e.dir, "bench-chaos")
	build := exec.CommandContext(ctx, "go", "build", "-tags", "chaos", "-o", program, "github.com/hongyan-dispatch/hongyan/bench")
	build.Stderr = os.Stderr
	if err := build.Run(); err != nil {
		return fmt.Errorf("build with the tag chaos: %w", err)
	}
	e.program = program
	defer func() { e.program = "" }()
	c := cells[0]
	n := c.n[batches]
	if e.flags.Quick {
		n /= 10
	}
	var with, without []Run
	for round := range rounds {
		for _, s := range []struct {
			name    string
			without fault.Safety
			runs    *[]Run
		}{{"with", "", &with}, {"without", unsafely, &without}} {
			e.without = s.without
			run, err := e.measure(ctx, batches, c, n)
			e.without = ""
			if err != nil {
				return fmt.Errorf("%s claim, fence and reconciler, round %d: %w", s.name, round+1, err)
			}
			*s.runs = append(*s.runs, run)
			fmt.Fprintf(os.Stderr, "round %d/%d  %s claim, fence and reconciler %8.0f/s\n", round+1, rounds, s.name, run.Rate)
		}
	}
	rate := func(r Run) float64 { return r.Rate }
	r.add("by batch, without claim, fence and reconciler", medianOf(without, rate), "/s")
	r.add("by batch, with them", medianOf(with, rate), "/s")
	r.add("what they cost of the rate", 100*(1-quotient(with, without)), "%")
	return nil
}
