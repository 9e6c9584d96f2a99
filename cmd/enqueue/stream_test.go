package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/hongyan-dispatch/hongyan/internal/devstack"
	"github.com/hongyan-dispatch/hongyan/internal/tasks"
	"github.com/hongyan-dispatch/hongyan/message"
)

// A command is a run of the command in this process, whose standard input the test writes.
type command struct {
	t              *testing.T
	in             *io.PipeWriter
	stdout, stderr bytes.Buffer
	code           chan int
	interrupt      context.CancelFunc
}

func start(t *testing.T, args ...string) *command {
	ctx, cancel := context.WithCancel(t.Context())
	r, w := io.Pipe()
	c := &command{t: t, in: w, code: make(chan int, 1), interrupt: cancel}
	t.Cleanup(func() { w.Close() })
	go func() { c.code <- run(ctx, args, r, &c.stdout, &c.stderr) }()
	return c
}

func (c *command) write(lines string) {
	c.t.Helper()
	if _, err := io.WriteString(c.in, lines); err != nil {
		c.t.Fatal(err)
	}
}

// wait returns the summary of the command, which must end with the code.
func (c *command) wait(code int) summary {
	c.t.Helper()
	if got := <-c.code; got != code {
		c.t.Fatalf("exit code %d, want %d\n%s\n%s", got, code, &c.stdout, &c.stderr)
	}
	var s summary
	if err := json.Unmarshal(c.stdout.Bytes(), &s); err != nil {
		c.t.Fatalf("summary %q: %v", &c.stdout, err)
	}
	return s
}

// configured writes a configuration for a store of the test's own and returns its path.
func configured(t testing.TB, redis string) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "hongyan.yaml")
	if err := os.WriteFile(name, []byte("redis: {url: '"+redis+"'}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

func messageLine(n int) string {
	return fmt.Sprintf(`{"account":"shop","kind":"template","to":"oUSER%d","key":"k%d","template":{"template_id":"T","data":{"thing1":{"value":"咖啡"}}}}`+"\n", n, n)
}

func messageLines(n int) string {
	var b strings.Builder
	for i := range n {
		b.WriteString(messageLine(i))
	}
	return b.String()
}

func TestLinesGoOnTheirWayWhileTheFileGrows(t *testing.T) {
	t.Parallel()
	config := configured(t, devstack.Redis(t))
	c := start(t, "batch", "-", "--config", config, "--rejects", filepath.Join(t.TempDir(), "r.jsonl"))
	c.write(messageLine(1)) // the pipe takes it when it is read
	c.write(messageLine(2))
	c.write(strings.TrimSpace(messageLine(3))) // no line break at the end
	c.in.Close()
	if s := c.wait(exitDone); s.Lines != 3 || s.Accepted != 3 || s.FromLine != 0 {
		t.Errorf("got %+v, want 3 lines accepted", s)
	}
}

func TestALineThatIsBeingWrittenHoldsUpNoOther(t *testing.T) {
	t.Parallel()
	redis := devstack.Redis(t)
	c := start(t, "batch", "-", "--config", configured(t, redis), "--rejects", filepath.Join(t.TempDir(), "r.jsonl"))
	third := messageLine(3)
	c.write(messageLine(1) + messageLine(2) + third[:20])
	awaitParcels(t, redis, 1) // of the first two: the writer takes his time
	c.write(third[20:])
	c.in.Close()
	if s := c.wait(exitDone); s.Accepted != 3 {
		t.Errorf("got %+v, want 3 lines accepted", s)
	}
}

func TestAnInterruptEndsWithASummary(t *testing.T) {
	t.Parallel()
	config := configured(t, devstack.Redis(t))
	c := start(t, "batch", "-", "--config", config, "--rejects", filepath.Join(t.TempDir(), "r.jsonl"))
	c.write(messageLines(5))
	c.write("") // returns when all of the above was read
	c.interrupt()
	s := c.wait(exitFailed)
	want := fmt.Sprintf("; go on with --from-line %d", s.Accepted+1)
	if s.Lines != s.Accepted || s.FromLine != s.Accepted+1 || !strings.HasPrefix(s.Error, "-: interrupted; ") || !strings.HasSuffix(s.Error, want) {
		t.Errorf("got %+v, want the line to go on with", s)
	}
}

func TestARedisThatIsKilledInTheMiddle(t *testing.T) {
	t.Parallel()
	stack, err := devstack.Start(t.Context(), devstack.Options{Redis: true, Private: true, RedisAppendOnly: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { stack.Close() })
	config, rejects := configured(t, stack.RedisURL()), filepath.Join(t.TempDir(), "r.jsonl")
	c := start(t, "batch", "-", "--config", config, "--rejects", rejects)
	c.write(messageLine(1))
	awaitParcels(t, stack.RedisURL(), 1)
	c.write("x\n") // is refused
	c.write(messageLine(3))
	awaitParcels(t, stack.RedisURL(), 2)
	if err := stack.Redis().Kill(); err != nil {
		t.Fatal(err)
	}
	go func() { // until the command has seen enough
		for i := 4; ; i++ {
			if _, err := io.WriteString(c.in, messageLine(i)); err != nil {
				return
			}
		}
	}()
	s := c.wait(exitFailed)
	if s.FromLine == 0 || s.Accepted == 0 || s.Accepted+s.Refused > s.Lines {
		t.Errorf("got %+v", s)
	}
	if want := fmt.Sprintf("-:%d: ", s.FromLine); !strings.HasPrefix(s.Error, want) || !strings.Contains(s.Error, "redis: ") ||
		!strings.Contains(s.Error, fmt.Sprintf("go on with --from-line %d", s.FromLine)) {
		t.Errorf("error %q, want the line, the store and how to go on", s.Error)
	}
	if err := stack.Redis().Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "messages.jsonl")
	if err := os.WriteFile(file, []byte(messageLines(s.FromLine+10)), 0o600); err != nil {
		t.Fatal(err)
	}
	rest := start(t, "batch", file, "--config", config, "--from-line", fmt.Sprint(s.FromLine))
	if s := rest.wait(exitDone); s.Lines != 11 {
		t.Errorf("got %+v, want the 11 lines that were left", s)
	}
}

// awaitParcels waits until so many parcels of templates stand in the queue. What was put there in an earlier round
// has been answered then.
func awaitParcels(t *testing.T, url string, want int64) {
	t.Helper()
	rdb, err := tasks.Redis(url)
	if err != nil {
		t.Fatal(err)
	}
	defer rdb.Close()
	pending := "asynq:{" + tasks.QueueOf(message.Template, message.Bulk, "shop") + "}:pending"
	for {
		if n, err := rdb.LLen(t.Context(), pending).Result(); err != nil {
			t.Fatal(err)
		} else if n >= want {
			return
		}
	}
}

func TestBatchNeedsLittleMemory(t *testing.T) {
	config := configured(t, devstack.Redis(t))
	c := start(t, "batch", "-", "--config", config, "--rejects", filepath.Join(t.TempDir(), "r.jsonl"))
	var most uint64
	lines := messageLines(1000)
	for range 20 {
		c.write(lines)
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		most = max(most, m.HeapAlloc)
	}
	c.in.Close()
	if s := c.wait(exitDone); s.Accepted != 20_000 {
		t.Errorf("got %+v", s)
	}
	if most > 64<<20 {
		t.Errorf("%d MiB of heap, want less than 64", most>>20)
	}
}

// BenchmarkBatch enqueues a file of the usual messages.
func BenchmarkBatch(b *testing.B) {
	const lines = 50_000
	file := filepath.Join(b.TempDir(), "messages.jsonl")
	var text bytes.Buffer
	for i := range lines {
		fmt.Fprintf(&text, usualLine+"\n", i)
	}
	if err := os.WriteFile(file, text.Bytes(), 0o600); err != nil {
		b.Fatal(err)
	}
	config := configured(b, devstack.Redis(b))
	n := 0
	for b.Loop() {
		if code := run(b.Context(), []string{"batch", file, "--config", config}, nil, io.Discard, os.Stderr); code != exitDone {
			b.Fatal(code)
		}
		n += lines
	}
	b.ReportMetric(float64(n)/b.Elapsed().Seconds(), "lines/s")
}

const usualLine = `{"account":"shop","kind":"template","to":"oBENCH%022d","template":{"template_id":"kXz3n8hPq1sT5vW7yB9dF2gJ4mN6rU8xA0cE3iL5oQ1",` +
	`"url":"https://shop.example.com/orders/2026112200012345","data":{"character_string1":{"value":"2026112200012345"},` +
	`"thing2":{"value":"云南高山小粒咖啡豆500克"},"amount3":{"value":"￥128.00"},"time4":{"value":"2026-11-22 10:00:00"},"phrase5":{"value":"已付款"}}}}`
