package postgres

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hongyan-dispatch/hongyan/internal/campaign"
	"github.com/hongyan-dispatch/hongyan/internal/devstack"
	"github.com/hongyan-dispatch/hongyan/message"
)

// The benchmarks have a Postgres of their own that waits for the disk. Beside messages per second they tell the
// processor time of ours and of Postgres for each message, which a busy machine disturbs less:
//
//	go test -run - -bench . -benchtime 100000x ./internal/postgres/

// A benchServer is a Postgres for one benchmark.
type benchServer struct {
	*testing.B
	store *Store
	pid   int
}

func setupBench(b *testing.B) *benchServer {
	b.Helper()
	ctx := context.Background()
	stack, err := devstack.Start(ctx, devstack.Options{
		Postgres: true, Private: true,
		PostgresSettings: map[string]string{"shared_buffers": "512MB", "max_wal_size": "8GB"},
	})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { stack.Close() })
	if err := Migrate(ctx, stack.DatabaseURL()); err != nil {
		b.Fatal(err)
	}
	return &benchServer{B: b, store: open(b, stack.DatabaseURL()), pid: stack.Postgres().PID()}
}

// ticks is the processor time of a process and its children in hundredths of a second. The sessions of Postgres are
// children of its first process.
func (b *benchServer) ticks() (n int) {
	stats, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, path := range stats {
		text, err := os.ReadFile(path)
		if err != nil {
			continue
		}
		_, after, _ := strings.Cut(string(text), ") ")
		f := strings.Fields(after)
		if len(f) < 15 {
			continue
		}
		pid, parent := filepath.Base(filepath.Dir(path)), f[1]
		sum := func(fields ...string) {
			for _, s := range fields {
				t, _ := strconv.Atoi(s)
				n += t
			}
		}
		switch strconv.Itoa(b.pid) {
		case parent:
			sum(f[11], f[12])
		case pid:
			sum(f[11:15]...)
		}
	}
	return n
}

func ownTicks() (n int) {
	text, _ := os.ReadFile("/proc/self/stat")
	_, after, _ := strings.Cut(string(text), ") ")
	for _, s := range strings.Fields(after)[11:13] {
		t, _ := strconv.Atoi(s)
		n += t
	}
	return n
}

// measure runs f over b.N messages.
func (b *benchServer) measure(f func()) {
	b.Helper()
	server, own, wal := b.ticks(), ownTicks(), b.wal()
	b.ResetTimer()
	f()
	b.StopTimer()
	n := float64(b.N)
	b.ReportMetric(n/b.Elapsed().Seconds(), "msg/s")
	b.ReportMetric(float64(b.ticks()-server)*10_000/n, "postgres-µs/msg")
	b.ReportMetric(float64(ownTicks()-own)*10_000/n, "own-µs/msg")
	b.ReportMetric(float64(b.wal()-wal)/n, "wal-B/msg")
	b.ReportMetric(0, "ns/op")
}

func (b *benchServer) wal() (n int64) {
	if err := b.store.pool.QueryRow(context.Background(), `SELECT pg_current_wal_lsn() - '0/0'::pg_lsn`).Scan(&n); err != nil {
		b.Fatal(err)
	}
	return n
}

func benchMessages(n int, keys bool) []*message.Message {
	filler := strings.Repeat("x", 320)
	list := make([]*message.Message, n)
	for i := range list {
		list[i] = newMessage()
		list[i].Body = json.RawMessage(`{"template_id":"TM00000001","data":{"thing1":{"value":"` + filler + `"},"n":"` + strconv.Itoa(i) + `"}}`)
		if keys {
			list[i].Key = fmt.Sprintf("order-%d-%s", i, list[i].ID.Hex()[24:])
		}
	}
	return list
}

func parcels(list []*message.Message) []*message.Parcel {
	var out []*message.Parcel
	for len(list) > 0 {
		n := min(len(list), message.MaxParcel)
		out = append(out, parcelOf(list[:n:n]...))
		list = list[n:]
	}
	return out
}

func BenchmarkAccept(b *testing.B) {
	for _, keys := range []bool{false, true} {
		for _, size := range []int{1000, 5000} {
			for _, callers := range []int{1, 2} {
				b.Run(fmt.Sprintf("keys=%t/batch=%d/callers=%d", keys, size, callers), func(b *testing.B) {
					s := setupBench(b)
					s.accept(10*size, size, 1, keys)
					s.measure(func() { s.accept(b.N, size, callers, keys) })
				})
			}
		}
	}
}

// accept writes n messages, size in a call, by several callers.
func (b *benchServer) accept(n, size, callers int, keys bool) {
	var wg sync.WaitGroup
	for c := range callers {
		share := n / callers
		if c == 0 {
			share += n % callers
		}
		wg.Go(func() {
			for share > 0 {
				list := benchMessages(min(size, share), keys)
				share -= len(list)
				if _, err := b.store.Accept(context.Background(), parcels(list), time.Now()); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
}

func BenchmarkClaimAndSettle(b *testing.B) {
	for _, of := range []string{"accepted", "handed-over", "campaign"} {
		for _, senders := range []int{64, 256} {
			b.Run(fmt.Sprintf("%s/senders=%d", of, senders), func(b *testing.B) {
				s := setupBench(b)
				pod, err := s.store.StartPod(context.Background(), "bench", "")
				if err != nil {
					b.Fatal(err)
				}
				commits := 0
				c := s.store.NewCommitter(pod.ID, CommitterOptions{Committed: func(int, time.Duration) { commits++ }})
				stop := run(b, c)
				list := benchMessages(b.N, false)
				claim := c.Claim
				if of == "campaign" {
					run := &Chunk{Firing: 1, No: 1, Fence: 1}
					if _, err := s.store.pool.Exec(context.Background(), `INSERT INTO chunk (firing, no, first, last, state, fence) VALUES (1, 1, 1, $1, 'running', 1)
						ON CONFLICT DO NOTHING`, b.N); err != nil {
						b.Fatal(err)
					}
					claim = func(ctx context.Context, m *message.Message, _ message.ID) (Claim, error) {
						return c.ClaimRecipient(ctx, m, run)
					}
					for i, m := range list {
						m.Firing, m.N = 1, int32(i+1)
						m.ID = campaign.MessageID(time.Now(), m.Firing, m.N)
					}
				}
				work := parcels(list)
				if of == "accepted" {
					for _, p := range work {
						if _, err := s.store.Accept(context.Background(), []*message.Parcel{p}, time.Now()); err != nil {
							b.Fatal(err)
						}
					}
				}
				s.measure(func() { s.dispatch(c, claim, work, senders) })
				if err := stop(); err != nil {
					b.Fatal(err)
				}
				b.ReportMetric(2*float64(b.N)/float64(commits), "rows/commit")
			})
		}
	}
}

// dispatch claims and settles everything, with so many senders.
func (b *benchServer) dispatch(c *Committer, claim func(context.Context, *message.Message, message.ID) (Claim, error), work []*message.Parcel, senders int) {
	type job struct {
		m      *message.Message
		parcel message.ID
	}
	jobs := make(chan job, senders)
	var wg sync.WaitGroup
	for range senders {
		wg.Go(func() {
			for j := range jobs {
				granted, err := claim(context.Background(), j.m, j.parcel)
				if err == nil && granted.OK {
					_, err = c.Settle(context.Background(), j.m, granted, sent(1), Effects{})
				}
				if err != nil || !granted.OK {
					b.Errorf("claim %+v, %v", granted, err)
				}
			}
		})
	}
	for _, p := range work {
		for _, m := range p.Messages {
			jobs <- job{m, p.ID}
		}
		c.ParcelDone(p.ID)
	}
	close(jobs)
	wg.Wait()
}
