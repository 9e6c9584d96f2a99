package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"text/tabwriter"

	"github.com/hongyan-dispatch/hongyan/client"
	"github.com/hongyan-dispatch/hongyan/internal/postgres"
	"github.com/hongyan-dispatch/hongyan/internal/report"
	"github.com/hongyan-dispatch/hongyan/message"
	"github.com/hongyan-dispatch/hongyan/outcome"
)

type statusCommand struct {
	ID string `arg:"" help:"The message's id."`
}

func (*statusCommand) Help() string {
	return `Asks the ledger, so it needs a database (postgres.url or HONGYAN_DATABASE_URL).

Example:

  enqueue status 0198c0de-0000-7000-8000-000000000001 --json`
}

// Run prints the message's state.
func (c *statusCommand) Run(ctx context.Context, s *session) error {
	id, err := message.ParseID(c.ID)
	if err != nil {
		return refuse("%w", err)
	}
	store, err := s.ledger(ctx)
	if err != nil {
		return err
	}
	defer store.Close()
	st, err := store.Status(ctx, id)
	if err != nil {
		return ledgerError(err, id)
	}
	view := report.MessageOf(st)
	if s.json {
		return s.printJSON(view)
	}
	return messageTable(s, view)
}

func messageTable(s *session, v report.Message) error {
	w := tabwriter.NewWriter(s.stdout, 0, 0, 2, ' ', 0)
	row := func(name string, value any) {
		if text := strings.TrimSpace(fmt.Sprint(value)); text != "" && text != "0" {
			_, _ = fmt.Fprintf(w, "%s\t%s\n", name, text) // Flush tells
		}
	}
	row("id", v.ID)
	row("status", fmt.Sprintf("%s %s", v.Status, v.Reason))
	row("message", fmt.Sprintf("%s to %s of %s, %s", v.Kind, v.Recipient, v.Account, v.Lane))
	row("key", v.Key)
	if !v.ReplayOf.IsZero() {
		row("replay of", v.ReplayOf)
	}
	if !v.ReplayedAs.IsZero() {
		row("replayed as", v.ReplayedAs)
	}
	row("accepted", report.Clock(v.AcceptedAt))
	row("due", report.Clock(v.DueAt))
	row("finished", report.Clock(v.FinishedAt))
	row("attempts", v.Attempts)
	row("errcode", v.ErrCode)
	row("msgid", v.MsgID)
	if v.Receipt != nil {
		row("receipt", v.Receipt)
	}
	for _, step := range v.Timeline {
		plain := step.ErrMsg+step.Note == "" && (step.Status == outcome.Accepted || step.Status == outcome.Sent)
		if plain || step.Status == postgres.Delivered || step.Status == postgres.Undelivered {
			continue // said above
		}
		line := fmt.Sprintf("%s %s %s", step.Status, step.Reason, step.ErrMsg)
		if step.ErrCode != 0 {
			line += fmt.Sprintf(" (%d)", step.ErrCode)
		}
		row(report.Clock(step.At), strings.Join(strings.Fields(line+" "+step.Note), " "))
	}
	return w.Flush()
}

// ledgerError says what an error of the ledger means for a message.
func ledgerError(err error, id message.ID) error {
	if errors.Is(err, postgres.ErrNotFound) {
		return fmt.Errorf("%s: %w", id, client.ErrNotFound)
	}
	return err
}
