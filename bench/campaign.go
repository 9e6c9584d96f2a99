package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"iter"
	"os"
	"strings"
	"time"

	"github.com/hongyan-dispatch/hongyan/client"
	"github.com/hongyan-dispatch/hongyan/internal/campaign"
	"github.com/hongyan-dispatch/hongyan/internal/postgres"
	"github.com/hongyan-dispatch/hongyan/message"
)

// campaignOf writes a campaign down with an audience of n, ready to start. Its messages are as long as the others'.
func (e *environment) campaignOf(ctx context.Context, s *postgres.Store, n int) (message.ID, error) {
	id := message.NewID(time.Now())
	err := s.CreateCampaign(ctx, &campaign.Spec{
		Name: "bench " + id.String(), Account: "shop", Kind: message.Template, Lane: message.Bulk,
		Body: json.RawMessage(strings.Replace(body, "云南高山小粒咖啡豆500克", "{{.goods}}", 1)),
	}, id)
	if err != nil {
		return id, err
	}
	return id, importAudience(ctx, s, id, n)
}

// importBlock is how many recipients an import writes in a transaction.
const importBlock = 50_000

func importAudience(ctx context.Context, s *postgres.Store, id message.ID, n int) error {
	a, err := s.BeginAudience(ctx, id, "file:bench.csv", []string{"goods"})
	for from := 0; from < n && err == nil; from += importBlock {
		err = s.CopyRecipients(ctx, &a, recipients(from, min(n, from+importBlock)), nil)
	}
	if err != nil {
		return err
	}
	return s.FinishAudience(ctx, &a)
}

func recipients(from, to int) iter.Seq2[message.OpenID, []string] {
	return func(yield func(message.OpenID, []string) bool) {
		vars := []string{"云南高山小粒咖啡豆500克"}
		for i := from; i < to; i++ {
			if !yield(openID(i), vars) {
				return
			}
		}
	}
}

// imports measures the import of a file, with its checks, beside a bare COPY of the same rows, in one statement, into a table of the same shape.
func (e *environment) imports(ctx context.Context, rounds int, r *Report) error {
	n := 1_000_000
	if e.flags.Quick {
		n /= 10
	}
	var bare, ours, shares []float64
	for range rounds {
		if err := e.reset(ctx, 0); err != nil {
			return err
		}
		if _, err := e.db.Exec(ctx, `CREATE TABLE IF NOT EXISTS bench_recipient (LIKE recipient INCLUDING ALL)`); err != nil {
			return err
		}
		took, err := e.bareCopy(ctx, n)
		if err != nil {
			return err
		}
		bare = append(bare, float64(n)/took.Seconds())
		if _, err := e.db.Exec(ctx, `DROP TABLE bench_recipient`); err != nil {
			return err
		}
		if took, err = e.importFile(ctx, n); err != nil {
			return err
		}
		ours = append(ours, float64(n)/took.Seconds())
		shares = append(shares, 100*ours[len(ours)-1]/bare[len(bare)-1])
	}
	r.add("bare COPY of an audience", median(bare), "rows/s")
	r.add("import of an audience (CSV)", median(ours), "rows/s")
	r.add("import, share of bare COPY", median(shares), "%")
	return nil
}

// importFile imports a CSV of n rows as the command does.
func (e *environment) importFile(ctx context.Context, n int) (time.Duration, error) {
	c, err := client.New(ctx, client.Options{Redis: e.stack.RedisURL(), Database: e.stack.DatabaseURL()})
	if err != nil {
		return 0, err
	}
	defer c.Close()
	var file bytes.Buffer
	if err := writeAudience(&file, n); err != nil {
		return 0, err
	}
	_, took, err := imported(ctx, c, &file, n)
	return took, err
}

// imported is a campaign into which the client has imported a file of n, and how long that took.
func imported(ctx context.Context, c *client.Client, file io.Reader, n int) (message.ID, time.Duration, error) {
	created, err := c.CreateCampaign(ctx, fmt.Appendf(nil, `{"name": "import", "account": "shop", "kind": "template", "template": %s}`,
		strings.Replace(body, "云南高山小粒咖啡豆500克", "{{.goods}}", 1)))
	if err != nil {
		return created.ID, 0, err
	}
	start := time.Now()
	a, err := c.ImportAudience(ctx, created.ID.String(), "bench.csv", file, client.ImportOptions{})
	if err == nil && a.Recipients != n {
		err = fmt.Errorf("%d recipients of %d were imported", a.Recipients, n)
	}
	return created.ID, time.Since(start), err
}

// writeAudience writes a CSV of n rows.
func writeAudience(w io.Writer, n int) error {
	b := bufio.NewWriter(w)
	_, _ = b.WriteString("openid,goods\n") // Flush tells
	for i := range n {
		_, _ = fmt.Fprintf(b, "%s,云南高山小粒咖啡豆500克\n", openID(i))
	}
	return b.Flush()
}

// runCampaign starts a campaign of n.
func (e *environment) runCampaign(ctx context.Context, n int) error {
	s, err := postgres.Open(ctx, e.stack.DatabaseURL(), postgres.Options{Name: "bench"})
	if err != nil {
		return err
	}
	defer s.Close()
	id, err := e.campaignOf(ctx, s, n)
	if err != nil {
		return err
	}
	_, err = s.StartCampaign(ctx, id, time.Now(), time.Time{})
	return err
}

// measureCampaign measures a campaign from its start to its last outcome.
func (e *environment) measureCampaign(ctx context.Context, n int, config string) (Run, error) {
	s, err := postgres.Open(ctx, e.stack.DatabaseURL(), postgres.Options{Name: "bench"})
	if err != nil {
		return Run{}, err
	}
	defer s.Close()
	id, err := e.campaignOf(ctx, s, n)
	if err != nil {
		return Run{}, err
	}
	start := func() error {
		_, err := s.StartCampaign(ctx, id, time.Now(), time.Time{})
		return err
	}
	return e.measureWorker(ctx, n, `SELECT count(*) FROM message WHERE state = 'sent'`, start, "worker", "--config", config, "--cpu-profile", e.flags.Profile)
}

// bareCopy is the least that n rows cost: their text is ready in memory.
func (e *environment) bareCopy(ctx context.Context, n int) (time.Duration, error) {
	var text bytes.Buffer
	for i := range n {
		fmt.Fprintf(&text, "1\t%d\t%s\t{云南高山小粒咖啡豆500克}\n", i+1, openID(i))
	}
	conn, err := e.db.Acquire(ctx)
	if err != nil {
		return 0, err
	}
	defer conn.Release()
	start := time.Now()
	_, err = conn.Conn().PgConn().CopyFrom(ctx, &text, "COPY bench_recipient (audience, n, openid, vars) FROM STDIN")
	return time.Since(start), err
}

// campaigns measures an import, and what a running campaign holds in Redis and in its worker: the same at any size.
func campaigns(ctx context.Context, e *environment, rounds int, r *Report) error {
	if err := e.imports(ctx, rounds, r); err != nil {
		return fmt.Errorf("import: %w", err)
	}
	sizes := []int{100_000, e.flags.Recipients}
	if e.flags.Quick {
		sizes = []int{10_000, 100_000}
	}
	for _, n := range sizes {
		if err := e.campaignMemory(ctx, r, n); err != nil {
			return fmt.Errorf("%d recipients: %w", n, err)
		}
	}
	return nil
}

func (e *environment) campaignMemory(ctx context.Context, r *Report, n int) error {
	// At 20 ms and 64 senders the worker is saturated: the most it ever has in hand.
	if err := e.reset(ctx, 20*time.Millisecond); err != nil {
		return err
	}
	c, err := client.New(ctx, client.Options{Redis: e.stack.RedisURL(), Database: e.stack.DatabaseURL()})
	if err != nil {
		return err
	}
	defer c.Close()
	file, writer := io.Pipe() // ten million rows are no text in memory
	written := make(chan struct{})
	go func() {
		defer close(written)
		_ = writer.CloseWithError(writeAudience(writer, n)) // the reader gets it
	}()
	id, took, err := imported(ctx, c, file, n)
	_ = file.Close() // and so the writer ends
	<-written
	if err != nil {
		return err
	}
	path, err := e.configuration(64, 1_000_000)
	if err != nil {
		return err
	}
	worker, err := spawn("worker", "--config", path)
	if err != nil {
		return err
	}
	defer worker.stop()
	if _, err := worker.line(); err != nil {
		return err
	}
	idle, err := e.redisMemory(ctx)
	if err != nil {
		return err
	}
	if _, err := c.StartCampaign(ctx, id.String()); err != nil {
		return err
	}
	var most int64
	for range 50 { // 10 s
		used, err := e.redisMemory(ctx)
		if err != nil {
			return err
		}
		most = max(most, used)
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(200 * time.Millisecond):
		}
	}
	sent, err := e.accepted()
	if err != nil {
		return err
	}
	if sent == 0 {
		return fmt.Errorf("nothing was sent")
	}
	fmt.Fprintf(os.Stderr, "campaign of %d: %d sent while Redis was looked at\n", n, sent)
	r.add(fmt.Sprintf("import of an audience of %d (CSV, written meanwhile)", n), float64(n)/took.Seconds(), "rows/s")
	r.add(fmt.Sprintf("Redis KiB above idle, running campaign of %d", n), float64(most-idle)/1024, "KiB")
	r.add(fmt.Sprintf("worker peak RSS, running campaign of %d", n), peakRSS(worker.pid()), "MiB")
	return nil
}
