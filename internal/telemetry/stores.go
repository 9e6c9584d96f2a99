package telemetry

import (
	"context"
	"fmt"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// A Store is something that a process cannot do without. WeChat is none: an account that it refuses waits behind its gate.
type Store struct {
	Name string // such as redis; it stands in answers and labels
	Ask  func(context.Context) error
}

// Stores says whether a process's stores answer: to readiness probes and as a metric. The zero Stores knows none, and is
// not ready. Its methods may be called concurrently.
type Stores struct {
	list  atomic.Pointer[[]Store]
	asked atomic.Int64 // when a probe came last, in Unix nanoseconds
}

// askWithin bounds the question to one store.
const askWithin = 2 * time.Second

// Watch says what there is to ask from now on; nothing: the process is not ready any more.
func (s *Stores) Watch(list ...Store) { s.list.Store(&list) }

// Asked says whether a probe came within that time.
func (s *Stores) Asked(within time.Duration) bool {
	return time.Since(time.Unix(0, s.asked.Load())) < within
}

func (s *Stores) all() []Store {
	if list := s.list.Load(); list != nil {
		return *list
	}
	return nil
}

func (o Store) ask(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, askWithin)
	defer cancel()
	return o.Ask(ctx)
}

// ServeHTTP answers /readyz: 200 when all stores answer, else 503 and which one does not. What it says of the error goes
// to no stranger.
func (s *Stores) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.asked.Store(time.Now().UnixNano())
	list := s.all()
	if len(list) == 0 {
		http.Error(w, "not ready: starting or stopping", http.StatusServiceUnavailable)
		return
	}
	for _, store := range list {
		if err := store.ask(r.Context()); err != nil {
			http.Error(w, store.Name+" does not answer", http.StatusServiceUnavailable)
			return
		}
	}
	fmt.Fprintln(w, "ready")
}

var storeUp = describe("store_up", "1: the store answers this process.", "store")

// Describe is for Prometheus.
func (s *Stores) Describe(to chan<- *prometheus.Desc) { to <- storeUp }

// Collect asks the stores.
func (s *Stores) Collect(to chan<- prometheus.Metric) {
	for _, store := range s.all() {
		err := store.ask(context.Background())
		to <- prometheus.MustNewConstMetric(storeUp, prometheus.GaugeValue, flag(err == nil), store.Name)
	}
}
