package postgres

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/hongyan-dispatch/hongyan/message"
)

var (
	sqlBlock  = regexp.MustCompile("(?ms)^```sql\n(.*?)^```$")
	psqlQuery = regexp.MustCompile(`psql \S+ -c "([^"]+)"`)
	columnSet = regexp.MustCompile(`(?s)Its columns are stable: (.*?)\. \(`)
	code      = regexp.MustCompile("`([a-z_]+)`")
)

func page(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func TestDocumentedQueriesRun(t *testing.T) {
	b := setup(t)
	conn, err := pgx.Connect(b.ctx, b.url) // as psql does, without the settings of our own sessions
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(b.ctx)
	queries := sqlBlock.FindAllStringSubmatch(page(t, "../../docs/operations.md"), -1)
	readme := psqlQuery.FindAllStringSubmatch(page(t, "../../README.md"), -1)
	if len(queries) < 10 || len(readme) == 0 {
		t.Fatalf("%d queries in docs/operations.md, %d in README.md", len(queries), len(readme))
	}
	for _, q := range append(queries, readme...) {
		if _, err := conn.Exec(b.ctx, q[1], pgx.QueryExecModeSimpleProtocol); err != nil {
			t.Errorf("%v, in\n%s", err, q[1])
		}
	}
}

func TestDocumentedBoundOfTheLastDayHolds(t *testing.T) {
	b := setup(t)
	now := time.Now()
	m := newMessage()
	m.ID = message.NewID(now.Add(-24*time.Hour - time.Second))
	later := newMessage()
	later.ID = message.NewID(now.Add(-24*time.Hour + time.Minute))
	for _, m := range []*message.Message{m, later} {
		p := &message.Parcel{ID: message.NewID(now), Account: m.Account, Kind: m.Kind, Lane: m.Lane, Messages: []*message.Message{m}}
		if _, err := b.store.Accept(b.ctx, []*message.Parcel{p}, now); err != nil {
			t.Fatal(err)
		}
	}
	var bounded string
	for _, q := range sqlBlock.FindAllStringSubmatch(page(t, "../../docs/operations.md"), -1) {
		if strings.Contains(q[1], "to_hex") && strings.Contains(q[1], "count(*)") {
			bounded = q[1]
		}
	}
	rows, err := b.store.pool.Query(b.ctx, bounded)
	if err != nil {
		t.Fatal(err)
	}
	counts, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (n int64, err error) {
		return n, row.Scan(nil, nil, nil, nil, nil, &n)
	})
	if err != nil || !slices.Equal(counts, []int64{1}) {
		t.Errorf("the last day has %v messages (%v), want the one that is younger", counts, err)
	}
}

func TestDocumentedColumnsAreThoseOfTheView(t *testing.T) {
	b := setup(t)
	rows, err := b.store.pool.Query(b.ctx, `SELECT * FROM outcomes LIMIT 0`)
	if err != nil {
		t.Fatal(err)
	}
	rows.Close()
	var want []string
	for _, f := range rows.FieldDescriptions() {
		want = append(want, f.Name)
	}
	said := columnSet.FindStringSubmatch(page(t, "../../docs/operations.md"))
	if said == nil {
		t.Fatal("docs/operations.md lists no columns")
	}
	var got []string
	for _, m := range code.FindAllStringSubmatch(said[1], -1) {
		got = append(got, m[1])
	}
	if !slices.Equal(got, want) {
		t.Errorf("docs/operations.md lists %v, the view has %v", got, want)
	}
}
