package telemetry

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
)

var description = regexp.MustCompile(`^Desc\{fqName: "([^"]+)", .* variableLabels: \{(.*)\}\}$`)

// exported are the metrics of worker and server by name, with their labels.
func exported(t *testing.T) map[string][]string {
	t.Helper()
	found := map[string][]string{}
	for _, registry := range []*prometheus.Registry{NewMetrics("").registry, NewServerMetrics("").registry} {
		described := make(chan *prometheus.Desc)
		go func() { registry.Describe(described); close(described) }()
		for d := range described {
			m := description.FindStringSubmatch(d.String())
			if m == nil {
				t.Fatalf("a description of another form: %s", d)
			}
			if strings.HasPrefix(m[1], "hongyan_") {
				found[m[1]] = strings.FieldsFunc(m[2], func(r rune) bool { return r == ',' })
			}
		}
	}
	if len(found) < 30 {
		t.Fatalf("%d metrics: %v", len(found), found)
	}
	return found
}

func read(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

var (
	metricRow = regexp.MustCompile("(?m)^\\| `(hongyan_[a-z_]+)` \\| ([^|]*) \\|")
	codeWord  = regexp.MustCompile("`([a-z_]+)`")
)

// Whoever adds a metric gives it a row, in both languages, with its labels.
func TestEveryMetricIsDocumented(t *testing.T) {
	metrics := exported(t)
	for _, page := range []string{"../../docs/operations.md", "../../docs/zh/operations.md"} {
		rows := map[string]bool{}
		for _, m := range metricRow.FindAllStringSubmatch(read(t, page), -1) {
			rows[m[1]] = true
			labels, known := metrics[m[1]]
			if !known {
				t.Errorf("%s: %s is not exported", page, m[1])
				continue
			}
			var documented []string
			for _, l := range codeWord.FindAllStringSubmatch(m[2], -1) {
				documented = append(documented, l[1])
			}
			slices.Sort(documented)
			want := slices.Sorted(slices.Values(labels))
			if m[1] == "hongyan_build_info" {
				want = []string{"program", "version"}
			}
			if !slices.Equal(documented, want) {
				t.Errorf("%s: %s has the labels %v, documented %v", page, m[1], want, documented)
			}
		}
		for name := range metrics {
			if !rows[name] {
				t.Errorf("%s has no row for %s", page, name)
			}
		}
	}
}
