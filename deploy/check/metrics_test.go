package check

import (
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql/parser"
)

// A metric is what Hongyan exports under a name.
type metric struct {
	kind   string
	labels []string
}

func read(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// exported are all metrics by the names of their series.
func exported(t *testing.T) map[string]metric {
	t.Helper()
	all := map[string]metric{}
	for line := range strings.Lines(read(t, "../metrics.txt")) {
		words := strings.Fields(line)
		m := metric{words[1], words[2:]}
		if m.kind != "histogram" {
			all[words[0]] = m
			continue
		}
		all[words[0]+"_count"], all[words[0]+"_sum"] = m, m
		m.labels = append(slices.Clone(m.labels), "le")
		all[words[0]+"_bucket"] = m
	}
	// Of Prometheus' own and of its client for Go, what the board shows.
	all["process_resident_memory_bytes"] = metric{kind: "gauge"}
	all["process_cpu_seconds_total"] = metric{kind: "counter"}
	all["go_goroutines"] = metric{kind: "gauge"}
	return all
}

// everywhere are the labels that Prometheus gives each series.
var everywhere = []string{"instance", "job", "namespace", "pod"}

// complaints says what is wrong with an expression: it parses, its metrics exist and have its labels, and only counters
// are rated. What a join carries over is written with on(), so that it shows.
func complaints(expr string, all map[string]metric) (found []string) {
	parsed, err := parser.ParseExpr(expr)
	if err != nil {
		return []string{err.Error()}
	}
	parser.Inspect(parsed, func(node parser.Node, path []parser.Node) error {
		switch n := node.(type) {
		case *parser.VectorSelector:
			m, known := all[n.Name]
			if !known {
				found = append(found, n.Name+" is not exported")
				return nil
			}
			for _, matcher := range n.LabelMatchers {
				if matcher.Name != labels.MetricName && !slices.Contains(m.labels, matcher.Name) && !slices.Contains(everywhere, matcher.Name) {
					found = append(found, n.Name+" has no label "+matcher.Name)
				}
			}
			if counts := m.kind != "gauge"; counts != rated(path) {
				found = append(found, n.Name+" is a "+m.kind)
			}
		case *parser.AggregateExpr:
			has := labelsBelow(n.Expr, all)
			for _, l := range n.Grouping {
				if !n.Without && !slices.Contains(has, l) {
					found = append(found, n.Expr.String()+" has no label "+l)
				}
			}
		}
		return nil
	})
	return found
}

func rated(path []parser.Node) bool {
	return slices.ContainsFunc(path, func(n parser.Node) bool {
		call, ok := n.(*parser.Call)
		return ok && slices.Contains([]string{"rate", "increase"}, call.Func.Name)
	})
}

// labelsBelow are those that every selector of an expression has.
func labelsBelow(e parser.Expr, all map[string]metric) (has []string) {
	first := true
	parser.Inspect(e, func(node parser.Node, _ []parser.Node) error {
		if s, ok := node.(*parser.VectorSelector); ok {
			own := append(slices.Clone(all[s.Name].labels), everywhere...)
			if first {
				has, first = own, false
			}
			has = slices.DeleteFunc(has, func(l string) bool { return !slices.Contains(own, l) })
		}
		return nil
	})
	return has
}

func TestComplaintsSeeWhatIsWrong(t *testing.T) {
	all := exported(t)
	for expr, want := range map[string]string{
		`max by (account) (hongyan_quota_left{kind="mass"})`: "",
		`sum by (`:                                   "parse error",
		`hongyan_quota_rest`:                         "hongyan_quota_rest is not exported",
		`hongyan_quota_left{api="x"}`:                "hongyan_quota_left has no label api",
		`sum by (api) (hongyan_quota_left)`:          "hongyan_quota_left has no label api",
		`hongyan_requeued_total`:                     "hongyan_requeued_total is a counter",
		`rate(hongyan_quota_left[5m])`:               "hongyan_quota_left is a gauge",
		`sum(rate(hongyan_decision_seconds[5m]))`:    "hongyan_decision_seconds is not exported",
		`sum by (le) (hongyan_callback_seconds_sum)`: "no label le",
	} {
		got := strings.Join(complaints(expr, all), "; ")
		if want == "" && got != "" || !strings.Contains(got, want) {
			t.Errorf("%s: got %q, want %q", expr, got, want)
		}
	}
}
