package check

import (
	"encoding/json"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// A board is the part of Grafana's model that the tests look at.
type board struct {
	UID        string
	Templating struct {
		List []struct{ Name, Type, Definition string }
	}
	Panels []panel
}

type panel struct {
	ID         int
	Type       string
	Title      string
	Datasource struct{ Type, UID string }
	GridPos    struct{ X, Y, W, H int }
	Targets    []struct{ RefID, Expr, LegendFormat string }
}

func readBoard(t *testing.T) board {
	t.Helper()
	var b board
	if err := json.Unmarshal([]byte(read(t, "../grafana/hongyan.json")), &b); err != nil {
		t.Fatal(err)
	}
	return b
}

var (
	variable = regexp.MustCompile(`\$\{?(\w+)\}?`)
	legend   = regexp.MustCompile(`\{\{(\w+)\}\}`)
	// What Grafana puts in place of its variables.
	filled = strings.NewReplacer("$__rate_interval", "5m", "$account", ".*")
)

func TestBoardAsksForWhatIsExported(t *testing.T) {
	all, b := exported(t), readBoard(t)
	names := []string{"__rate_interval"}
	for _, v := range b.Templating.List {
		names = append(names, v.Name)
	}
	ids := map[int]bool{}
	for _, p := range b.Panels {
		if ids[p.ID] {
			t.Errorf("%s: the id %d is taken", p.Title, p.ID)
		}
		ids[p.ID] = true
		if p.GridPos.X+p.GridPos.W > 24 || p.GridPos.W <= 0 || p.GridPos.H <= 0 {
			t.Errorf("%s: %+v is off the grid", p.Title, p.GridPos)
		}
		if p.Type == "row" {
			continue
		}
		if len(p.Targets) == 0 || p.Datasource.UID != "${datasource}" {
			t.Errorf("%s: %d targets, data source %q", p.Title, len(p.Targets), p.Datasource.UID)
		}
		for _, target := range p.Targets {
			for _, m := range variable.FindAllStringSubmatch(target.Expr, -1) {
				if !slices.Contains(names, m[1]) {
					t.Errorf("%s: no variable %s", p.Title, m[1])
				}
			}
			for _, c := range complaints(filled.Replace(target.Expr), all) {
				t.Errorf("%s: %s", p.Title, c)
			}
			for _, m := range legend.FindAllStringSubmatch(target.LegendFormat, -1) {
				if !strings.Contains(target.Expr, m[1]) && !slices.Contains(everywhere, m[1]) {
					t.Errorf("%s: the legend names %s, by which the query does not group", p.Title, m[1])
				}
			}
		}
	}
}

// Whoever adds a metric gives it a place.
func TestBoardShowsEveryMetric(t *testing.T) {
	var asked strings.Builder
	for _, p := range readBoard(t).Panels {
		for _, target := range p.Targets {
			asked.WriteString(target.Expr + "\n")
		}
	}
	for line := range strings.Lines(read(t, "../metrics.txt")) {
		if name := strings.Fields(line)[0]; !strings.Contains(asked.String(), name) {
			t.Errorf("no panel shows %s", name)
		}
	}
}
