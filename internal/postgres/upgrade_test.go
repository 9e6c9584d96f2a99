package postgres

import (
	"context"
	"fmt"
	"io/fs"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/hongyan-dispatch/hongyan/internal/devstack"
	"github.com/hongyan-dispatch/hongyan/message"
	"github.com/hongyan-dispatch/hongyan/sql"
)

// oldShape is what workers of the first version do all day, with the columns that they knew.
var oldShape = []string{
	`INSERT INTO message (id, parcel, msgid, finished_at, account, kind, lane, state, reason, claim, pod, errcode, firing, n, attempt, doubt)
		VALUES ($1, $1, 0, 'epoch', 1, 'template', 'normal', 'accepted', 'none', 0, 0, 0, 0, 0, 0, false)`,
	`INSERT INTO message_body (id, recipient, content) VALUES ($1, 'oUser', '{}')`,
	`INSERT INTO idempotency_key (account, key, id, body_hash) VALUES (1, $1::uuid::text, $1::uuid, '')`,
	`INSERT INTO parcel (id, account, kind, lane, ids) VALUES ($1, 1, 'template', 'normal', ARRAY[$1::uuid])`,
	`UPDATE message SET state = 'sending', claim = claim + 1, pod = 1, intent_at = now() WHERE id = $1`,
	`INSERT INTO event (message_id, claim, state, reason) VALUES ($1, 1, 'failed', 'refused_recipient')`,
	`INSERT INTO suppression (account, openid, active, reason, errcode, since) VALUES (1, $1::uuid::text, true, 'refused_recipient', 43004, now())`,
	`UPDATE message SET state = 'sent', finished_at = now(), msgid = 7 WHERE id = $1`,
	`DELETE FROM parcel WHERE id = $1`,
	`SELECT id, status, recipient FROM outcomes WHERE id = $1`,
	`INSERT INTO pod (name, version) VALUES ($1::uuid::text, 'old')`,
}

// Workers of the first version go on while the schema is brought up to date, and nobody waits for long: not even when a
// report holds a table, behind which a migration would hold up everybody.
func TestMigrationsRunBesideOldWorkers(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	url := devstack.Postgres(t, nil)
	m, err := migrator(url, "")
	if err != nil {
		t.Fatal(err)
	}
	if err := m.Steps(1); err != nil {
		t.Fatal(err)
	}
	m.Close()
	if err := open(t, url).EnsurePartitions(ctx, time.Now()); err != nil { // as Migrate did at the time
		t.Fatal(err)
	}
	pool, err := pgxpool.New(ctx, url)
	if err != nil {
		t.Fatal(err)
	}
	defer pool.Close()
	if _, err := pool.Exec(ctx, `INSERT INTO account (name) VALUES ('shop')`); err != nil {
		t.Fatal(err)
	}

	report, err := pgx.Connect(ctx, url) // reads everything, and takes its time
	if err != nil {
		t.Fatal(err)
	}
	defer report.Close(context.WithoutCancel(ctx))
	if _, err := report.Exec(ctx, `BEGIN; SELECT count(*) FROM outcomes; SELECT count(*) FROM mass_call; SELECT count(*) FROM suppression`); err != nil {
		t.Fatal(err)
	}

	var wg sync.WaitGroup
	working, stop := context.WithCancel(ctx)
	defer stop()
	var mu sync.Mutex
	var slowest time.Duration
	done := 0
	for range 4 {
		wg.Go(func() {
			for working.Err() == nil {
				id := message.NewID(time.Now()).String()
				for _, statement := range oldShape {
					start := time.Now()
					_, err := pool.Exec(ctx, statement, id)
					mu.Lock()
					if slowest, done = max(slowest, time.Since(start)), done+1; err != nil {
						t.Errorf("an old worker's statement fails: %v\n%s", err, statement)
						stop()
					}
					mu.Unlock()
				}
			}
		})
	}

	migrated := make(chan error, 1)
	go func() { migrated <- Migrate(ctx, url) }()
	select {
	case err := <-migrated:
		t.Fatalf("the migrations did not wait for the report (%v): the test tests nothing", err)
	case <-time.After(4 * lockTimeout):
	}
	if _, err := report.Exec(ctx, `COMMIT`); err != nil {
		t.Fatal(err)
	}
	if err := <-migrated; err != nil {
		t.Errorf("migrate: %v", err)
	}
	mu.Lock()
	before := done
	mu.Unlock()
	waitUntil(t, func() bool { // every statement on the new schema, too
		mu.Lock()
		defer mu.Unlock()
		return done > before+8*len(oldShape) || working.Err() != nil
	})
	stop()
	wg.Wait()
	if limit := 2*lockTimeout + 2*time.Second; slowest > limit {
		t.Errorf("a statement took %v, want at most %v", slowest, limit)
	}
	if have, want, dirty, err := MigrationState(ctx, url); err != nil || have != want || dirty {
		t.Errorf("the schema is at %d of %d, dirty %t, %v", have, want, dirty, err)
	}
	t.Logf("%d statements, the slowest took %v", done, slowest)
}

// Two releases may be rolled out at once, or a Job restarted: one migrates, the others wait.
func TestSeveralMigrate(t *testing.T) {
	t.Parallel()
	url := devstack.Postgres(t, nil)
	errs := make(chan error)
	for range 4 {
		go func() { errs <- Migrate(t.Context(), url) }()
	}
	for range 4 {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
}

// ofFirstRelease is the last migration that nobody upgrades from; what comes after it keeps the rules of
// docs/operations.md.
const ofFirstRelease = 13

func TestMigrationsKeepTheRules(t *testing.T) {
	files, err := fs.Glob(sql.Migrations, "migrations/*.up.sql")
	if err != nil || len(files) == 0 {
		t.Fatalf("migrations %v: %v", files, err)
	}
	for _, file := range files {
		number, err := strconv.Atoi(path.Base(file)[:4])
		if err != nil {
			t.Fatal(err)
		}
		text, err := fs.ReadFile(sql.Migrations, file)
		if err != nil {
			t.Fatal(err)
		}
		for _, breach := range breaches(string(text)) {
			if number > ofFirstRelease {
				t.Errorf("%s: %s", file, breach)
			}
		}
	}
}

var (
	lineComment = regexp.MustCompile(`(?m)--.*$`)
	quoted      = regexp.MustCompile(`(?s)'[^']*'|\$\$.*?\$\$`)
	createTable = regexp.MustCompile(`(?i)CREATE TABLE (\w+)`)
	createIndex = regexp.MustCompile(`(?i)CREATE (?:UNIQUE )?INDEX (CONCURRENTLY )?(?:IF NOT EXISTS )?\w+ ON (\w+)`)
	alterTable  = regexp.MustCompile(`(?is)ALTER TABLE (?:ONLY )?(\w+)(.*?);`)
	takesAway   = regexp.MustCompile(`(?i)\b(DROP (?:TABLE|VIEW|TYPE|FUNCTION)|TRUNCATE) (\w+)`)
	addColumn   = regexp.MustCompile(`(?i)ADD COLUMN [^,;]*`)
	notNull     = regexp.MustCompile(`(?i)\bNOT NULL\b`)
	hasDefault  = regexp.MustCompile(`(?i)\bDEFAULT\b`)
	changes     = regexp.MustCompile(`(?i)\b(RENAME|DROP COLUMN|(?:SET DATA )?TYPE|SET NOT NULL)\b`)
)

// small are tables of some thousand rows: their index is there in milliseconds.
var small = map[string]bool{"campaign": true, "firing": true}

// breaches are what old workers, or whoever waits behind them, could not live with.
func breaches(migration string) (found []string) {
	text := quoted.ReplaceAllString(lineComment.ReplaceAllString(migration, ""), "''")
	own := map[string]bool{}
	for _, m := range createTable.FindAllStringSubmatch(text, -1) {
		own[m[1]] = true
	}
	for _, m := range takesAway.FindAllStringSubmatch(text, -1) {
		if !own[m[2]] {
			found = append(found, m[0]+": the release before may use it")
		}
	}
	for _, m := range createIndex.FindAllStringSubmatch(text, -1) {
		switch {
		case m[1] == "" && !own[m[2]] && !small[m[2]]:
			found = append(found, m[0]+": without CONCURRENTLY nobody writes meanwhile")
		case m[1] != "" && strings.Count(strings.TrimSpace(text), ";") > 1:
			found = append(found, m[0]+": CONCURRENTLY wants a file of its own")
		}
	}
	for _, m := range alterTable.FindAllStringSubmatch(text, -1) {
		if own[m[1]] {
			continue
		}
		if c := changes.FindString(m[2]); c != "" {
			found = append(found, fmt.Sprintf("ALTER TABLE %s … %s: the release before knows the old shape, or the table is read through", m[1], c))
		}
		for _, column := range addColumn.FindAllString(m[2]+";", -1) {
			if notNull.MatchString(column) && !hasDefault.MatchString(column) {
				found = append(found, fmt.Sprintf("ALTER TABLE %s %s: without a default old workers cannot insert", m[1], column))
			}
		}
	}
	return found
}

func TestBreachesAreSeen(t *testing.T) {
	for text, want := range map[string]int{
		`CREATE TABLE a (id int4 NOT NULL); CREATE INDEX a_id ON a (id); DROP TABLE a;`: 0,
		`CREATE INDEX m ON message (account);`:                                          1,
		`CREATE INDEX c ON campaign (account);`:                                         0,
		`CREATE INDEX CONCURRENTLY m ON message_body_default (recipient);`:              0,
		`CREATE INDEX CONCURRENTLY m ON message_body_default (recipient); SELECT 1;`:    1,
		`DROP TABLE parked;`: 1,
		`ALTER TABLE pod ADD COLUMN zone text NOT NULL DEFAULT '';`:                              0,
		`ALTER TABLE pod ADD COLUMN zone text NOT NULL;`:                                         1,
		`ALTER TABLE pod ADD COLUMN a text NOT NULL DEFAULT 'x; y', ADD COLUMN b text NOT NULL;`: 1,
		`ALTER TABLE pod RENAME COLUMN name TO title;`:                                           1,
		`ALTER TABLE pod DROP COLUMN version;`:                                                   1,
		`ALTER TABLE message ALTER COLUMN errcode TYPE int8;`:                                    1,
		`-- DROP TABLE parked;`:                                                                  0,
		`COMMENT ON TABLE pod IS 'DROP TABLE parked';`:                                           0,
	} {
		if got := breaches(text); len(got) != want {
			t.Errorf("%s: got %q, want %d", text, got, want)
		}
	}
}

// Before names were the database's to keep apart, two campaigns could be created under one at the same moment.
func TestCampaignsOfOneNameAreToldApart(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	url := devstack.Postgres(t, nil)
	m, err := migrator(url, "")
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	if err := m.Migrate(10); err != nil {
		t.Fatal(err)
	}
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.WithoutCancel(ctx))
	long := strings.Repeat("双", 100)
	if _, err := conn.Exec(ctx, `INSERT INTO campaign (id, name, account, kind, spec, state, created_at)
		SELECT ('00000000-0000-7000-8000-00000000000' || n)::uuid, name, 1, 'template', '{}', state, now() - n * interval '1 minute'
		FROM (VALUES (1, 'news', 'running'), (2, 'news', 'draft'), (3, 'news', 'done'), (4, 'other', 'done'), (5, 'other', 'done'),
			(6, '`+long+`', 'paused'), (7, '`+long+`', 'parked')) AS v (n, name, state)`); err != nil {
		t.Fatal(err)
	}
	if err := m.Up(); err != nil {
		t.Fatal(err)
	}
	rows, err := conn.Query(ctx, `SELECT name FROM campaign ORDER BY id`)
	if err != nil {
		t.Fatal(err)
	}
	got, err := pgx.CollectRows(rows, pgx.RowTo[string])
	want := []string{"news 000000000001", "news", "news", "other", "other", strings.Repeat("双", 87) + " 000000000006", long}
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("names %q, %v, want %q", got, err, want)
	}
}
