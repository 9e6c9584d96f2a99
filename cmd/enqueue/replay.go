package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/hongyan-dispatch/hongyan/client"
	"github.com/hongyan-dispatch/hongyan/internal/postgres"
	"github.com/hongyan-dispatch/hongyan/message"
	"github.com/hongyan-dispatch/hongyan/outcome"
)

type replayCommand struct {
	IDs []string `arg:"" optional:"" name:"id" help:"These messages, instead of those that the next flags name."`

	Status  []outcome.Status `help:"With these statuses: failed, skipped, expired, cancelled, dead, unknown." placeholder:"STATUS"`
	Reason  []outcome.Reason `help:"With these reasons." placeholder:"REASON"`
	Account []string         `help:"Of these accounts." placeholder:"NAME"`
	Kind    []message.Kind   `help:"Of these kinds: template, subscribe, custom, mass." placeholder:"KIND"`
	Since   past             `help:"Accepted since then: RFC 3339, or how long ago, such as 2h or 3d." placeholder:"TIME"`
	Until   past             `help:"Accepted before then." placeholder:"TIME"`

	DryRun           bool         `help:"Count what would go again, and change nothing."`
	AcceptDuplicates bool         `help:"Also messages that the user may have (unknown)."`
	Again            bool         `help:"Also messages that are replays themselves and ended badly, too."`
	Lane             message.Lane `help:"Lane of the new messages: urgent, normal or bulk." default:"bulk" placeholder:"LANE"`
	PerSecond        float64      `help:"How many come due in a second; without it, as many as the account's pace lets through." placeholder:"N"`
}

func (*replayCommand) Help() string {
	return `Each message goes again as a new one with the same content for the same user: with an id and a client id of its own, without the first one's
key and without times that are over. It waits in the bulk lane for its turn, at the account's pace. No message is replayed twice, whoever runs
this, however often, and wherever a run was killed: run the same command again to go on. With --again give --until, too: what the first run
made is else found by the second.

Spared are, and counted: those replayed before, and replays (--again takes them); those that the user may have (--accept-duplicates takes them);
those whose fallback went; what killed its workers (dead; by its id and with --accept-duplicates only); those of campaigns.

Examples:

  enqueue replay --status failed --reason retries_exhausted --since 6h --dry-run
  enqueue replay --status failed --reason retries_exhausted --since 6h --per-second 20
  enqueue replay --status unknown --kind custom --since 2026-12-01T09:00:00+08:00 --accept-duplicates
  enqueue replay 0198c0de-0000-7000-8000-000000000001`
}

// replayView is what --json writes.
type replayView struct {
	DryRun bool `json:"dry_run"`
	client.ReplayResult
}

// Run counts, and then replays.
func (c *replayCommand) Run(ctx context.Context, s *session) error {
	now := time.Now()
	ask := client.Replay{
		Statuses: c.Status, Reasons: c.Reason, Accounts: c.Account, Kinds: c.Kind, Since: c.Since.before(now), Until: c.Until.before(now),
		Again: c.Again, AcceptDuplicates: c.AcceptDuplicates, Lane: c.Lane, PerSecond: c.PerSecond, DryRun: true,
	}
	for _, text := range c.IDs {
		id, err := message.ParseID(text)
		if err != nil {
			return refuse("%w", err)
		}
		ask.IDs = append(ask.IDs, id)
	}
	by, _, err := s.enqueuer(ctx)
	if err != nil {
		return err
	}
	defer by.Close()
	result, err := by.Replay(ctx, ask)
	if err != nil {
		return err
	}
	if !s.json {
		if err := replayTable(s.stdout, result); err != nil {
			return err
		}
	}
	if !c.DryRun && result.Replayed > 0 {
		ask.DryRun = false
		if result, err = by.Replay(ctx, ask); err != nil {
			next := "the same command goes on from there"
			if c.Again && len(c.IDs) == 0 {
				next += ", with an --until before this run, whose messages it finds else"
			}
			return fmt.Errorf("broken off after %d messages; %s: %w", result.Replayed, next, err)
		}
	}
	if s.json {
		result.Counts = append([]client.ReplayCount{}, result.Counts...)
		return s.printJSON(replayView{c.DryRun, result})
	}
	if c.DryRun {
		_, err = fmt.Fprintf(s.stdout, "%d messages would go again; nothing was changed\n", result.Replayed)
		return err
	}
	_, err = fmt.Fprintf(s.stdout, "%d messages go again, %d were spared\n", result.Replayed, result.Spared)
	return err
}

// sparedFor says why messages are not replayed.
var sparedFor = map[postgres.Spared]string{
	postgres.SparedReplayed: "no: replayed before",
	postgres.SparedReplay:   "no: a replay itself (--again takes it)",
	postgres.SparedDoubt:    "no: the user may have it (--accept-duplicates takes it)",
	postgres.SparedPoison:   "no: it killed its workers (replay it by its id)",
	postgres.SparedFallback: "no: its fallback went",
	postgres.SparedCampaign: "no: of a campaign",
	postgres.SparedBody:     "no: the ledger has not what it says",
	postgres.SparedEnded:    "no: it has not ended",
	postgres.SparedSent:     "no: it is sent",
	postgres.SparedMissing:  "no: the ledger has no such message",
}

func replayTable(to io.Writer, r client.ReplayResult) error {
	if len(r.Counts) == 0 {
		return nil
	}
	w := tabwriter.NewWriter(to, 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintln(w, "MESSAGES\tACCOUNT\tKIND\tSTATUS\tREASON\tGOES AGAIN") // Flush tells
	counts := slices.Clone(r.Counts)
	slices.SortFunc(counts, func(a, b client.ReplayCount) int {
		return cmp.Or(strings.Compare(a.Spared, b.Spared), cmp.Compare(b.Messages, a.Messages), strings.Compare(fmt.Sprint(a), fmt.Sprint(b)))
	})
	for _, n := range counts {
		goes := "yes"
		if n.Spared != "" {
			goes = sparedFor[postgres.Spared(n.Spared)]
		}
		_, _ = fmt.Fprintf(w, "%d\t%s\t%s\t%s\t%s\t%s\n", n.Messages, n.Account, n.Kind, n.Status, n.Reason, goes)
	}
	return w.Flush()
}
