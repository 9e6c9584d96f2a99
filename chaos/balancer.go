package main

import (
	"context"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httputil"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// probeEvery is how often the balancer asks each server at /readyz: servers go on for some seconds after their no.
const probeEvery = 500 * time.Millisecond

// A balancer stands before servers, as a load balancer does: it sends each request to one that says it is ready, and tries
// no other where that fails.
type balancer struct {
	addr    string
	server  *http.Server
	cancel  context.CancelFunc
	probing sync.WaitGroup
	next    atomic.Int64
	back    http.RoundTripper

	mu       sync.Mutex
	ready    []string       // addresses
	statuses map[int]int    // of all answers
	bad      map[string]int // requests that failed and should not
}

// balance stands before the servers at these addresses.
func balance(addresses []string) (*balancer, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("balancer: %w", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	b := &balancer{
		addr: l.Addr().String(), cancel: cancel, statuses: map[int]int{}, bad: map[string]int{},
		back: &http.Transport{MaxIdleConnsPerHost: 32, IdleConnTimeout: 30 * time.Second},
	}
	b.server = &http.Server{Handler: b.proxy(), ReadHeaderTimeout: 10 * time.Second}
	for _, address := range addresses {
		b.probing.Go(func() { b.probe(ctx, address) })
	}
	go func() { _ = b.server.Serve(l) }()
	return b, nil
}

func (b *balancer) close() {
	_ = b.server.Close()
	b.cancel()
	b.probing.Wait()
}

// probe asks one server whether it is ready, until the context ends.
func (b *balancer) probe(ctx context.Context, address string) {
	asks := http.Client{Timeout: 2 * time.Second}
	for ctx.Err() == nil {
		yes := false
		if res, err := asks.Get("http://" + address + "/readyz"); err == nil {
			_, _ = io.Copy(io.Discard, res.Body)
			_ = res.Body.Close()
			yes = res.StatusCode == http.StatusOK
		}
		b.mu.Lock()
		b.ready = slices.DeleteFunc(b.ready, func(a string) bool { return a == address })
		if yes {
			b.ready = append(b.ready, address)
		}
		b.mu.Unlock()
		_ = pause(ctx, probeEvery)
	}
}

// knows says whether the balancer sends requests to a server.
func (b *balancer) knows(address string) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Contains(b.ready, address)
}

func (b *balancer) proxy() http.Handler {
	return &httputil.ReverseProxy{
		Transport: b.back, FlushInterval: -1, ErrorLog: log.New(io.Discard, "", 0),
		Rewrite: func(q *httputil.ProxyRequest) {
			b.mu.Lock()
			defer b.mu.Unlock()
			q.Out.URL.Scheme, q.Out.URL.Host = "http", "none.invalid"
			if n := len(b.ready); n > 0 {
				q.Out.URL.Host = b.ready[int(b.next.Add(1))%n]
			}
		},
		ModifyResponse: func(res *http.Response) error {
			b.mu.Lock()
			defer b.mu.Unlock()
			b.statuses[res.StatusCode]++
			if asked := res.Header.Get("Retry-After") != ""; res.StatusCode >= 400 && (res.StatusCode != http.StatusServiceUnavailable || !asked) {
				b.bad[fmt.Sprintf("answered %d, Retry-After: %v", res.StatusCode, asked)]++
			}
			return nil
		},
		ErrorHandler: func(w http.ResponseWriter, q *http.Request, err error) {
			if q.Context().Err() == nil { // the producer is still there
				b.mu.Lock()
				b.bad[err.Error()]++
				b.mu.Unlock()
			}
			w.WriteHeader(http.StatusBadGateway)
		},
	}
}

// failed are the requests that failed and should not.
func (b *balancer) failed() (found []string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for what, n := range b.bad {
		found = append(found, fmt.Sprintf("%d requests through the balancer failed: %s", n, what))
	}
	return found
}
