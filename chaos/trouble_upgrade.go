package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

// migrate brings the schema to a worker's version, by the worker's own command.
func (r *rig) migrate(ctx context.Context, program string) error {
	file := filepath.Join(r.dir, "migrate.yaml")
	if err := os.WriteFile(file, r.configuration("migrate", "127.0.0.1:0"), 0o600); err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, program, "migrate", "--config", file)
	cmd.Env = environment()
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s migrate: %w: %s", filepath.Base(program), err, out)
	}
	return nil
}

// schema is the migration at which the schema is.
func (r *rig) schema(ctx context.Context) (version int, err error) {
	err = r.db.QueryRow(ctx, "SELECT version::int FROM schema_migrations").Scan(&version)
	return version, err
}

// upgrade migrates the schema under workers of an earlier version, lets as many new ones work beside them, and replaces
// the old ones by new ones.
func upgrade(ctx context.Context, r *rig) error {
	old := r.crew.alive()
	before, err := r.schema(ctx)
	if err != nil {
		return err
	}
	r.crew.upgraded()
	if err := r.flowing(ctx, 300); err != nil {
		return err
	}
	if err := r.migrate(ctx, r.home.workers[r.plan.tags]); err != nil {
		return err
	}
	after, err := r.schema(ctx)
	if err != nil {
		return err
	}
	r.figure("schema before", before)
	r.figure("schema after", after)
	if err := r.flowing(ctx, 600); err != nil { // the old ones alone on the new schema
		return err
	}
	if err := r.crew.hire(ctx, len(old)); err != nil {
		return err
	}
	for i, w := range old {
		if err := r.flowing(ctx, 900+300*i); err != nil {
			return err
		}
		if err := r.crew.hire(ctx, 1); err != nil {
			return err
		}
		if err := r.crew.retire(ctx, w); err != nil {
			return err
		}
	}
	if !r.producing() {
		r.finding("everything was enqueued before the last worker was replaced: the scenario tests nothing")
	}
	return nil
}
