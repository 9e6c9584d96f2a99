package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"
	"time"

	"github.com/klauspost/compress/gzip"

	"github.com/hongyan-dispatch/hongyan/client"
	"github.com/hongyan-dispatch/hongyan/internal/lines"
	"github.com/hongyan-dispatch/hongyan/message"
)

// fileFlags are those of commands that read a file of lines.
type fileFlags struct {
	File     string `arg:"" help:"JSON Lines, also packed with gzip; - is standard input."`
	Rejects  string `help:"Where refused lines go; another number is put into the name of a file that exists. Default: FILE.rejects.jsonl." placeholder:"PATH"`
	FromLine int    `help:"Begin with this line." default:"1" placeholder:"N"`
}

type batchCommand struct{ fileFlags }

func (*batchCommand) Help() string {
	return `One message in each line, as docs/messages.md says; in the bulk lane unless it says otherwise. A line that is refused stops no
other: it goes to a file of its own, with number and reason, and the exit code is 2. Ends with a summary as JSON.

Examples:

  enqueue batch orders.jsonl
  zcat campaign.jsonl.gz | enqueue batch - --rejects refused.jsonl
  enqueue batch orders.jsonl --from-line 40001`
}

// Run enqueues the file.
func (c *batchCommand) Run(ctx context.Context, s *session) error {
	return c.stream(ctx, s, message.MaxMassBytes, runtime.GOMAXPROCS(0)+2, enqueueLines)
}

// enqueueLines parses and enqueues the lines of a slab.
func enqueueLines(ctx context.Context, c *client.Client, b *lines.Slab) []verdict {
	verdicts := make([]verdict, len(b.Lines))
	batch := make([]message.Message, 0, len(b.Lines))
	places := make([]int, 0, len(b.Lines))
	for i, l := range b.Lines {
		if l.TooLong {
			verdicts[i].err = refuse("longer than %d KiB", message.MaxMassBytes>>10)
			continue
		}
		m, err := message.Parse(b.At(l))
		if err != nil {
			verdicts[i].err = err
			continue
		}
		batch, places = append(batch, *m), append(places, i)
	}
	for i, r := range c.EnqueueBatch(ctx, batch) {
		verdicts[places[i]] = verdict{duplicate: r.Duplicate, err: r.Err}
	}
	return verdicts
}

// stream takes the file's lines through work and writes the summary.
func (c *fileFlags) stream(ctx context.Context, s *session, limit, workers int,
	work func(context.Context, *client.Client, *lines.Slab) []verdict,
) error {
	if c.FromLine < 1 {
		return refuse("--from-line: want 1 or more, got %d", c.FromLine)
	}
	enqueuer, _, err := s.enqueuer(ctx)
	if err != nil {
		return err
	}
	defer enqueuer.Close()
	f, err := s.open("FILE", c.File)
	if err != nil {
		return err
	}
	defer f.Close()
	in, err := lines.NewReader(f, limit, c.FromLine)
	if err != nil {
		return c.badFile(err)
	}
	refused, err := openRejects(c.rejectsPath())
	if err != nil {
		return err
	}
	t := &tally{
		name: c.File, start: time.Now(), stderr: s.stderr, rejects: refused, last: c.FromLine - 1,
		bar: newBar(s.stderr, f, c.File), summary: summary{Durability: enqueuer.Durability()},
	}
	through := lines.Stream[verdict]{
		Lines: in, Workers: workers, Report: t.report,
		Work:  func(ctx context.Context, b *lines.Slab) []verdict { return work(ctx, enqueuer, b) },
		Stops: func(v verdict) bool { return v.err != nil && !v.refused() },
	}
	if err := through.Run(ctx); err != nil {
		return t.finish(s, c.badFile(err), true)
	}
	return t.finish(s, nil, !through.Ended)
}

func (c *fileFlags) rejectsPath() string {
	switch {
	case c.Rejects != "":
		return c.Rejects
	case c.File == "-":
		return "rejects.jsonl"
	default:
		return c.File + ".rejects.jsonl"
	}
}

// badFile says what is wrong with a file that cannot be read to the line asked for.
func (c *fileFlags) badFile(err error) error {
	switch {
	case errors.Is(err, io.EOF):
		return refuse("--from-line: %s has fewer than %d lines", c.File, c.FromLine)
	case errors.Is(err, gzip.ErrHeader), errors.Is(err, gzip.ErrChecksum), errors.Is(err, io.ErrUnexpectedEOF):
		return refuse("%s: not whole: %w", c.File, err)
	}
	return fmt.Errorf("%s: %w", c.File, err)
}
