package telemetry

import (
	"context"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
)

// inventory is what the board, the alerts and the autoscaler may ask for: deploy/check reads it, for it is a module of
// its own and links nothing of ours.
const inventory = "../../deploy/metrics.txt"

// Everything is counted once, so that each metric is gathered with its type and its labels.
func TestInventoryIsWhatIsExported(t *testing.T) {
	worker, server := NewMetrics("v1"), NewServerMetrics("v1")
	up := Store{Name: "redis", Ask: func(context.Context) error { return nil }}
	worker.Stores.Watch(up)
	server.Stores.Watch(up)
	worker.Expect("shop", "custom")
	worker.Decided("shop", "custom", "normal", "sent", "", time.Second)
	worker.Called("/cgi-bin/message/custom/send", "not sent", "backoff", -1, time.Second)
	worker.Claimed("shop", "custom", true)
	worker.WindowShut("shop", 45015)
	worker.Resolved("shop", "custom", "unknown")
	worker.Requeued(1)
	worker.Joined("shop", "template", "msgid", time.Second)
	worker.Webhook("shop", "told")
	worker.Tokens(func() []Token { return []Token{{Account: "shop", Left: time.Hour}} })
	worker.Fleet(&Fleet{
		At: time.Now(), Workers: map[string]int{"v1": 1}, Queues: []Queue{{Class: "urgent", Tasks: map[string]int64{"pending": 1}}},
		Stocks: []Stock{{Account: "shop", Kind: "custom"}}, Quotas: []Quota{{Account: "shop", Kind: "custom"}},
		Gates: []Gate{{Account: "shop", API: "all", State: "open"}}, Webhooks: []Webhooks{{Account: "shop"}},
	})
	server.Answered("shop", "recorded", time.Second)
	server.Pushed("shop", "message")
	server.Receipt("shop", "template", true)
	server.Forwarded("shop", "forwarded")
	server.Requested("postMessages", 202, time.Second)

	types := map[dto.MetricType]string{dto.MetricType_COUNTER: "counter", dto.MetricType_GAUGE: "gauge", dto.MetricType_HISTOGRAM: "histogram"}
	found := map[string]string{}
	for _, registry := range []*prometheus.Registry{worker.registry, server.registry} {
		families, err := registry.Gather()
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range families {
			if !strings.HasPrefix(f.GetName(), "hongyan_") {
				continue
			}
			line := f.GetName() + " " + types[f.GetType()]
			for _, l := range f.GetMetric()[0].GetLabel() { // sorted
				line += " " + l.GetName()
			}
			found[f.GetName()] = line
		}
	}
	for name := range exported(t) {
		if found[name] == "" {
			t.Errorf("%s is exported and this test does not count it: let it", name)
		}
	}
	var text strings.Builder
	for _, name := range slices.Sorted(maps.Keys(found)) {
		fmt.Fprintln(&text, found[name])
	}
	if os.Getenv("UPDATE") != "" {
		if err := os.WriteFile(inventory, []byte(text.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if got := read(t, inventory); got != text.String() {
		t.Errorf("%s is not what is exported; write it anew with: UPDATE=1 go test ./internal/telemetry -run Inventory\nwant:\n%s", inventory, &text)
	}
}
