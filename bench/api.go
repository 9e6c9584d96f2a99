package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/valyala/fasthttp"

	"github.com/hongyan-dispatch/hongyan/client"
	"github.com/hongyan-dispatch/hongyan/internal/api"
	"github.com/hongyan-dispatch/hongyan/internal/lines"
	"github.com/hongyan-dispatch/hongyan/internal/postgres"
	"github.com/hongyan-dispatch/hongyan/message"
)

// What producers do with the API.
const (
	apiBody      = 100 // messages of a list
	apiProducers = 16
	apiSingles   = 500 // posts a second
	apiHold      = 10_000
	apiStream    = 1 << 30 // bytes of JSON Lines
)

// httpAPI measures the HTTP API beside enqueue batch, which parses the same lines and writes the same rows without it.
func httpAPI(ctx context.Context, e *environment, rounds int, r *Report) error {
	n := 40_000
	if e.flags.Quick {
		n /= 10
	}
	var batch, lists, streamed, quotients, singles []float64
	for round := range rounds {
		if err := e.reset(ctx, 0); err != nil {
			return err
		}
		file, err := e.batchFile(ctx, n)
		if err != nil {
			return err
		}
		for _, s := range []struct {
			rates *[]float64
			post  func(*apiServer) error
		}{{&lists, postLists(n)}, {&streamed, postLines(n)}} {
			rate, err := e.measureAPI(ctx, n, s.post)
			if err != nil {
				return fmt.Errorf("round %d: %w", round+1, err)
			}
			*s.rates = append(*s.rates, rate)
		}
		batch = append(batch, file)
		quotients = append(quotients, lists[round]/file)
		p99, err := e.pacedSingles(ctx, n/8)
		if err != nil {
			return fmt.Errorf("round %d: %w", round+1, err)
		}
		singles = append(singles, p99)
		fmt.Fprintf(os.Stderr, "round %d/%d  enqueue batch %.0f/s, API lists %.0f/s, lines %.0f/s, p99 of singles %.1f ms\n",
			round+1, rounds, file, lists[round], streamed[round], p99)
	}
	r.add("API, enqueue batch of the same lines, ledger and keys", median(batch), "/s")
	r.add("API, lists of 100 messages with keys", median(lists), "/s")
	r.add("API, lists of 100 beside enqueue batch", 100*median(quotients), "%")
	r.add("API, JSON Lines with keys, one request", median(streamed), "/s")
	r.add("API, single posts at 500/s, p99", median(singles), "ms")
	return e.apiMemory(ctx, r)
}

// batchFile answers with the lines a second that enqueue batch does with a ledger.
func (e *environment) batchFile(ctx context.Context, n int) (float64, error) {
	c, err := client.New(ctx, client.Options{Redis: e.stack.RedisURL(), Database: e.stack.DatabaseURL()})
	if err != nil {
		return 0, err
	}
	defer c.Close()
	text := linesOf(messages(n, true, message.Bulk))
	start := time.Now()
	in, err := lines.NewReader(bytes.NewReader(text), message.MaxMassBytes, 1)
	if err != nil {
		return 0, err
	}
	through := lines.Stream[error]{
		Lines: in, Workers: runtime.GOMAXPROCS(0) + 2,
		Work: func(ctx context.Context, b *lines.Slab) []error {
			verdicts := make([]error, len(b.Lines))
			list := make([]message.Message, len(b.Lines))
			for i, l := range b.Lines {
				m, err := message.Parse(b.At(l))
				if err != nil {
					verdicts[i] = err
					return verdicts
				}
				list[i] = *m
			}
			for i, r := range c.EnqueueBatch(ctx, list) {
				verdicts[i] = r.Err
			}
			return verdicts
		},
		Stops:  func(err error) bool { return err != nil },
		Report: func(_ *lines.Slab, verdicts []error) error { return errors.Join(verdicts...) },
	}
	if err := through.Run(ctx); err != nil {
		return 0, err
	}
	return float64(n) / time.Since(start).Seconds(), nil
}

func linesOf(list []message.Message) []byte {
	var text []byte
	for i := range list {
		text = append(list[i].AppendJSON(text), '\n')
	}
	return text
}

// An apiServer is a server with a key for it.
type apiServer struct {
	*child
	address, key string
	client       *fasthttp.Client
}

func (e *environment) startAPI(ctx context.Context) (*apiServer, error) {
	path := filepath.Join(e.dir, "api.yaml")
	text := fmt.Sprintf("redis: {url: %q}\npostgres: {url: %q}\nlog: {level: error}\nserver: {max_backlog: 1000000000}\naccounts:\n"+
		"  - {name: shop, appid: %s, secret: s, type: service}\n", e.stack.RedisURL(), e.stack.DatabaseURL(), callbackApp)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		return nil, err
	}
	store, err := postgres.Open(ctx, e.stack.DatabaseURL(), postgres.Options{MaxConns: 1})
	if err != nil {
		return nil, err
	}
	defer store.Close()
	id, key, hash := api.NewKey()
	err = store.CreateAPIKey(ctx, postgres.APIKey{ID: id, Name: id, Hash: hash[:], Scopes: []string{"*:*:*"}}, postgres.AuditEntry{At: time.Now()})
	if err != nil {
		return nil, err
	}
	server, err := spawn("server", "--config", path)
	if err != nil {
		return nil, err
	}
	address, err := server.line()
	if err != nil {
		return nil, err
	}
	return &apiServer{server, address, key, &fasthttp.Client{MaxConnsPerHost: 4096, ReadTimeout: 30 * time.Second, MaxIdemponentCallAttempts: 1}}, nil
}

// measureAPI answers with messages a second. What is posted stands ready before, as the lines of enqueue batch do.
func (e *environment) measureAPI(ctx context.Context, n int, post func(*apiServer) error) (float64, error) {
	if err := e.reset(ctx, 0); err != nil {
		return 0, err
	}
	s, err := e.startAPI(ctx)
	if err != nil {
		return 0, err
	}
	defer s.stop()
	start := time.Now()
	if err := post(s); err != nil {
		return 0, err
	}
	rate := float64(n) / time.Since(start).Seconds()
	var rows int
	if err := e.db.QueryRow(ctx, "SELECT count(*) FROM message").Scan(&rows); err != nil || rows != n {
		return 0, fmt.Errorf("%d rows of %d messages: %w", rows, n, err)
	}
	return rate, nil
}

func postLists(n int) func(*apiServer) error {
	all := messages(n, true, message.Bulk)
	bodies := make([][]byte, n/apiBody)
	for i := range bodies {
		body := []byte{'['}
		for k, m := range all[i*apiBody : (i+1)*apiBody] {
			if k > 0 {
				body = append(body, ',')
			}
			body = m.AppendJSON(body)
		}
		bodies[i] = append(body, ']')
	}
	return func(s *apiServer) error {
		return inParallel(apiProducers, len(bodies), func(i int) error { return s.post(bodies[i]) })
	}
}

func (s *apiServer) post(body []byte) error {
	request, reply := fasthttp.AcquireRequest(), fasthttp.AcquireResponse()
	defer fasthttp.ReleaseRequest(request)
	defer fasthttp.ReleaseResponse(reply)
	request.SetRequestURI("http://" + s.address + "/v1/messages")
	request.Header.SetMethod(http.MethodPost)
	request.Header.SetContentType("application/json")
	request.Header.Set("Authorization", "Bearer "+s.key)
	request.SetBodyRaw(body)
	if err := s.client.Do(request, reply); err != nil {
		return err
	}
	if reply.StatusCode() != http.StatusAccepted {
		return fmt.Errorf("the server answered %d %s", reply.StatusCode(), reply.Body())
	}
	return nil
}

func postLines(n int) func(*apiServer) error {
	text := linesOf(messages(n, true, message.Bulk))
	return func(s *apiServer) error {
		total, err := s.stream(bytes.NewReader(text))
		if err == nil && total.Accepted != n {
			err = fmt.Errorf("%d of %d lines were accepted", total.Accepted, n)
		}
		return err
	}
}

// A total is the last line of an answer to JSON Lines.
type total struct {
	Done                                 bool
	Lines, Accepted, Duplicates, Refused int
}

func (s *apiServer) stream(body io.Reader) (total, error) {
	request, err := http.NewRequest(http.MethodPost, "http://"+s.address+"/v1/messages", body)
	if err != nil {
		return total{}, err
	}
	request.Header.Set("Authorization", "Bearer "+s.key)
	request.Header.Set("Content-Type", "application/x-ndjson")
	reply, err := http.DefaultClient.Do(request)
	if err != nil {
		return total{}, err
	}
	defer reply.Body.Close()
	var last []byte
	for results := bufio.NewScanner(reply.Body); results.Scan(); {
		last = append(last[:0], results.Bytes()...)
	}
	var t total
	if err := json.Unmarshal(last, &t); err != nil || !t.Done {
		return t, fmt.Errorf("the answer ended with %q: %w", last, err)
	}
	return t, nil
}

// pacedSingles posts single messages at a pace whatever the answers take, and answers with the p99 in ms.
func (e *environment) pacedSingles(ctx context.Context, n int) (float64, error) {
	if err := e.reset(ctx, 0); err != nil {
		return 0, err
	}
	s, err := e.startAPI(ctx)
	if err != nil {
		return 0, err
	}
	defer s.stop()
	all := messages(n+apiSingles, true, message.Normal)
	took := make([]float64, len(all))
	var failed atomic.Pointer[error]
	var wg sync.WaitGroup
	begin := time.Now()
	for i := range all {
		due := begin.Add(time.Duration(i) * time.Second / apiSingles)
		time.Sleep(time.Until(due)) // the pace of strangers
		wg.Go(func() {
			if err := s.post(all[i].AppendJSON(nil)); err != nil {
				failed.Store(&err)
			}
			took[i] = float64(time.Since(due).Microseconds()) / 1000
		})
	}
	wg.Wait()
	if err := failed.Load(); err != nil {
		return 0, *err
	}
	return percentile(took[apiSingles:], 0.99), nil // the first second makes connections
}

// apiMemory is what the server holds at most with many connections in the middle of a post, and with a body of a gigabyte.
func (e *environment) apiMemory(ctx context.Context, r *Report) error {
	connections, bytes := apiHold, int64(apiStream)
	if e.flags.Quick {
		connections, bytes = connections/10, bytes/32
	}
	if err := e.reset(ctx, 0); err != nil {
		return err
	}
	s, err := e.startAPI(ctx)
	if err != nil {
		return err
	}
	defer s.stop()
	before := peakRSS(s.pid())
	if err := s.hold(connections); err != nil {
		return err
	}
	r.add("API, peak memory at rest", before, "MiB")
	r.add(fmt.Sprintf("API, peak memory with %d connections in a post", connections), peakRSS(s.pid()), "MiB")

	t, err := e.startAPI(ctx)
	if err != nil {
		return err
	}
	defer t.stop()
	// The same thousand messages again and again: their keys are known, and the stores do not grow.
	again := linesOf(messages(1000, true, message.Bulk))
	start := time.Now()
	sum, err := t.stream(io.LimitReader(&repeated{text: again}, bytes/int64(len(again))*int64(len(again))))
	if err != nil {
		return err
	}
	if sum.Accepted+sum.Duplicates != sum.Lines || sum.Lines == 0 {
		return fmt.Errorf("lines that were posted again: %+v", sum)
	}
	r.add(fmt.Sprintf("API, peak memory with %d MiB of JSON Lines", bytes>>20), peakRSS(t.pid()), "MiB")
	r.add("API, that body", float64(sum.Lines)/time.Since(start).Seconds(), "lines/s")
	return nil
}

// repeated is a text without end.
type repeated struct {
	text []byte
	at   int
}

func (r *repeated) Read(p []byte) (int, error) {
	n := copy(p, r.text[r.at:])
	r.at = (r.at + n) % len(r.text)
	return n, nil
}

// hold opens connections, each of which posts half of a message, and lets them end when all are there.
func (s *apiServer) hold(connections int) error {
	all := messages(connections, true, message.Normal)
	open := make([]net.Conn, connections)
	err := inParallel(64, connections, func(i int) error {
		conn, err := net.Dial("tcp", s.address)
		if err != nil {
			return err
		}
		open[i] = conn
		body := all[i].AppendJSON(nil)
		_, err = fmt.Fprintf(conn, "POST /v1/messages HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s",
			s.key, len(body), body[:len(body)/2])
		return err
	})
	defer func() {
		for _, conn := range open {
			if conn != nil {
				_ = conn.Close()
			}
		}
	}()
	if err != nil {
		return err
	}
	return inParallel(256, connections, func(i int) error {
		body := all[i].AppendJSON(nil)
		if _, err := open[i].Write(body[len(body)/2:]); err != nil {
			return err
		}
		_ = open[i].SetReadDeadline(time.Now().Add(time.Minute))
		status, err := bufio.NewReader(open[i]).ReadString('\n')
		if err == nil && !strings.Contains(status, " 202 ") {
			err = fmt.Errorf("a held connection was answered %q", status)
		}
		return err
	})
}
