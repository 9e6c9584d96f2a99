package postgres

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/hongyan-dispatch/hongyan/internal/devstack"
	"github.com/hongyan-dispatch/hongyan/message"
	"github.com/hongyan-dispatch/hongyan/outcome"
)

func TestEnumsAreTheGoLists(t *testing.T) {
	b := setup(t)
	var kinds, lanes, states []string
	for _, k := range message.Kinds() {
		kinds = append(kinds, string(k))
	}
	for _, l := range message.Lanes() {
		lanes = append(lanes, string(l))
	}
	for _, s := range outcome.Statuses() {
		states = append(states, string(s))
	}
	reasons := []string{"none"}
	for _, r := range outcome.Reasons() {
		reasons = append(reasons, string(r))
	}
	for name, want := range map[string][]string{
		"message_kind": kinds, "message_lane": lanes, "message_state": states, "message_reason": reasons,
	} {
		got := b.strings(`SELECT unnest(enum_range(NULL::` + name + `))::text`)
		if name == "message_lane" { // its order is the order of release
			if !slices.Equal(got, want) {
				t.Errorf("%s is %v, want %v", name, got, want)
			}
			continue
		}
		slices.Sort(got)
		slices.Sort(want)
		if !slices.Equal(got, want) {
			t.Errorf("%s is %v, want %v", name, got, want)
		}
	}
}

func TestTheOutcomesViewIsTheContract(t *testing.T) {
	b := setup(t)
	got := b.strings(`SELECT column_name || ' ' || data_type FROM information_schema.columns WHERE table_name = 'outcomes' ORDER BY ordinal_position`)
	want := []string{
		"id uuid", "parent_id uuid", "account text", "kind text", "recipient text", "key text", "campaign_id uuid", "status text",
		"reason text", "errcode integer", "errmsg text", "wechat_msgid text", "attempts integer", "lane text",
		"accepted_at timestamp with time zone", "sent_at timestamp with time zone", "finished_at timestamp with time zone",
		"receipt text", "labels jsonb",
	}
	if !slices.Equal(got, want) {
		t.Errorf("columns are\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

func TestTheOutcomesViewTellsWhatBecame(t *testing.T) {
	b := setup(t)
	c := b.committer(CommitterOptions{})
	p := newParcel(4)
	plain, failed, skipped, open := p.Messages[0], p.Messages[1], p.Messages[2], p.Messages[3]
	plain.Key, plain.Labels = "k", map[string]string{"order": "1"}
	b.accept(p)
	b.settle(c, plain, b.claim(c, plain, p.ID), sent(77), Effects{})
	b.settle(c, failed, b.claim(c, failed, p.ID), outcome.Outcome{Status: outcome.Failed, Reason: outcome.RefusedRecipient, ErrCode: 43004, ErrMsg: "require subscribe", RID: "r1"}, Effects{})
	b.verdict(c, skipped, p.ID, outcome.Outcome{Status: outcome.Skipped, Reason: outcome.Suppressed}, Effects{})
	row := func(m *message.Message) string {
		return b.strings(`SELECT concat_ws('|', account, kind, recipient, coalesce(key, '-'), status, coalesce(reason, '-'), coalesce(errcode::text, '-'),
			coalesce(errmsg, '-'), coalesce(wechat_msgid, '-'), attempts, lane, sent_at IS NOT NULL, finished_at IS NOT NULL, coalesce(labels::text, '-'))
			FROM outcomes WHERE id = $1`, [16]byte(m.ID))[0]
	}
	for _, tc := range []struct {
		m    *message.Message
		want string
	}{
		{plain, `|k|sent|-|0|-|77|1|normal|t|t|{"order": "1"}`},
		{failed, `|-|failed|refused_recipient|43004|require subscribe|-|1|normal|f|t|-`},
		{skipped, `|-|skipped|suppressed|-|-|-|0|normal|f|t|-`},
		{open, `|-|accepted|-|-|-|-|0|normal|f|f|-`},
	} {
		if got, want := row(tc.m), "shop|template|"+string(tc.m.To)+tc.want; got != want {
			t.Errorf("got  %s\nwant %s", got, want)
		}
	}
	if n := b.count(`SELECT count(*) FROM outcomes WHERE accepted_at = $1 AND id = $2`, plain.ID.Time(), [16]byte(plain.ID)); n != 1 {
		t.Error("accepted_at is not the time in the id")
	}
}

func TestPartitionsBeginAtBeijingMidnight(t *testing.T) {
	b := setup(t)
	now := time.Now()
	for _, p := range partitioned {
		got := b.strings(`SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = $1::regclass ORDER BY 1`, p.table)
		if want := 1 + DaysBack + 1 + DaysAhead; len(got) != want {
			t.Errorf("%s has %d partitions, want %d", p.table, len(got), want)
		}
		day := message.Day(now)
		bound := b.strings(`SELECT pg_get_expr(relpartbound, oid) FROM pg_class WHERE oid = $1::regclass`, partitionName(p.table, day))[0]
		want := fmt.Sprintf("FOR VALUES FROM ('%s') TO ('%s')", message.FirstID(day), message.FirstID(message.NextDay(day)))
		if bound != want {
			t.Errorf("bound of today is %s, want %s", bound, want)
		}
	}
	before, after := message.NewID(message.NextDay(now).Add(-time.Millisecond)), message.NewID(message.NextDay(now))
	m, n := newMessage(), newMessage()
	m.ID, n.ID = before, after
	b.accept(parcelOf(m, n))
	got := b.strings(`SELECT tableoid::regclass::text FROM message ORDER BY id`)
	if want := []string{partitionName("message", now), partitionName("message", message.NextDay(now))}; !slices.Equal(got, want) {
		t.Errorf("rows stand in %v, want %v", got, want)
	}
}

func TestRowsWithoutADayMoveWhenItIsMade(t *testing.T) {
	b := setup(t)
	c := b.committer(CommitterOptions{})
	future := time.Now().AddDate(0, 0, 30)
	m := newMessage()
	m.ID = message.NewID(future)
	p := parcelOf(m)
	b.accept(p)
	claim := b.claim(c, m, p.ID)
	b.settle(c, m, claim, outcome.Outcome{Status: outcome.Failed, Reason: outcome.RefusedRequest, ErrCode: 40037}, Effects{})
	if err := b.store.EnsurePartitions(b.ctx, future); err != nil {
		t.Fatal(err)
	}
	for _, p := range partitioned {
		got := b.strings(`SELECT tableoid::regclass::text FROM ` + p.table)
		if want := partitionName(p.table, future); len(got) != 1 || got[0] != want {
			t.Errorf("%s has its rows in %v, want %s", p.table, got, want)
		}
	}
	b.wantState(m.ID, outcome.Failed, outcome.RefusedRequest)
}

// Claim and settle must cost the same however many days there are, and whatever the statistics say.
func TestHotStatementsProbeOnlyThePartitionsOfTheirIDs(t *testing.T) {
	b := setup(t)
	p := newParcel(100)
	b.accept(p)
	ids := make([][16]byte, 100)
	for i, m := range p.Messages {
		ids[i] = m.ID
	}
	slices.SortFunc(ids, func(a, b [16]byte) int { return bytes.Compare(a[:], b[:]) })
	text := func(v string) string { return "'" + v + "'" }
	list := make([]string, len(ids))
	for i, id := range ids {
		list[i] = message.ID(id).String()
	}
	array := text("{"+strings.Join(list, ",")+"}") + "::uuid[]"
	bounds := text(list[0]) + "," + text(list[len(list)-1])
	ones := text("{"+strings.TrimSuffix(strings.Repeat("1,", 100), ",")+"}") + "::int4[]"
	states := text("{"+strings.TrimSuffix(strings.Repeat("parked,", 100), ",")+"}") + "::text[]"
	reasons := strings.ReplaceAll(states, "parked", "quota")
	falses := text("{"+strings.TrimSuffix(strings.Repeat("f,", 100), ",")+"}") + "::bool[]"
	check := func(statistics string) {
		for _, tc := range []struct{ name, sql, args string }{
			{"claim", sqlClaimKnown, array + "," + bounds + ",1"},
			{"settle sent", sqlSettleSent, array + "," + ones + "," + ones + "::int8[]," + bounds},
			{"settle", sqlSettle, array + "," + ones + "," + states + "," + reasons + "," + ones + "," + ones + "::int8[]," + falses + "," + ones + "::int2[]," + falses + "," + bounds},
			{"verdict", sqlVerdictKnown, array + "," + states + "," + reasons + "," + ones + "," + falses + "," + falses + "," + bounds},
		} {
			conn, err := b.store.pool.Acquire(b.ctx)
			if err != nil {
				t.Fatal(err)
			}
			name := strings.ReplaceAll(tc.name+" "+statistics, " ", "_")
			if _, err := conn.Exec(b.ctx, "PREPARE "+name+" AS "+tc.sql); err != nil {
				t.Fatal(err)
			}
			rows, err := conn.Query(b.ctx, "EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF, SUMMARY OFF) EXECUTE "+name+"("+tc.args+")", pgx.QueryExecModeSimpleProtocol)
			if err != nil {
				t.Fatal(err)
			}
			plan, err := pgx.CollectRows(rows, pgx.RowTo[string])
			conn.Release()
			if err != nil {
				t.Fatal(err)
			}
			today := partitionName("message", time.Now())
			for _, line := range plan {
				scans := strings.Contains(line, "Scan") && strings.Contains(line, " on message")
				if scans && !strings.Contains(line, " on "+today) || scans && !strings.Contains(line, "Index Scan") {
					t.Errorf("%s, %s: %s\nin the plan\n%s", tc.name, statistics, line, strings.Join(plan, "\n"))
				}
			}
			if !strings.Contains(strings.Join(plan, "\n"), "Index Cond: (id = i.id)") { // by key, not by the range of the batch
				t.Errorf("%s, %s: rows are not looked up by key in\n%s", tc.name, statistics, strings.Join(plan, "\n"))
			}
			if !strings.Contains(strings.Join(plan, "\n"), "Subplans Removed: 9") {
				t.Errorf("%s, %s: the other partitions are not removed from\n%s", tc.name, statistics, strings.Join(plan, "\n"))
			}
		}
	}
	check("without statistics")
	if _, err := b.store.pool.Exec(b.ctx, `ANALYZE message`); err != nil {
		t.Fatal(err)
	}
	check("with statistics")
}

// It runs alone: a transaction held open by another test, even in another database, keeps Postgres from clearing
// the pages of what claims left behind.
func TestClaimAndSettleAreHOT(t *testing.T) {
	b := setupAlone(t)
	c := b.committer(CommitterOptions{})
	const n = 2000
	p := newParcel(n)
	b.accept(p)
	done := make(chan error)
	for i := range 64 {
		go func() {
			var err error
			for j := i; j < n && err == nil; j += 64 {
				var claim Claim
				if claim, err = c.Claim(b.ctx, p.Messages[j], p.ID); err == nil {
					_, err = c.Settle(b.ctx, p.Messages[j], claim, sent(1), Effects{})
				}
			}
			done <- err
		}()
	}
	for range 64 {
		if err := <-done; err != nil {
			t.Fatal(err)
		}
	}
	table := partitionName("message", time.Now())
	var updated, hot int
	waitUntil(t, func() bool { // a session reports its statistics about once a second
		b.claim(c, p.Messages[0], p.ID)
		updated = b.count(`SELECT n_tup_upd FROM pg_stat_user_tables WHERE relname = $1`, table)
		return updated >= 2*n
	})
	hot = b.count(`SELECT n_tup_hot_upd FROM pg_stat_user_tables WHERE relname = $1`, table)
	t.Logf("%d of %d updates were HOT", hot, updated)
	if hot < updated*99/100 {
		t.Errorf("%d of %d updates were HOT, want 99 %%", hot, updated)
	}
}

func TestMigrateUpAndDown(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	url := devstack.Postgres(t, nil)
	have, want, dirty, err := MigrationState(ctx, url)
	if err != nil || have != 0 || want == 0 || dirty {
		t.Fatalf("state of an empty database: have %d, want %d, dirty %t, %v", have, want, dirty, err)
	}
	for range 2 { // again is fine
		if err := Migrate(ctx, url); err != nil {
			t.Fatal(err)
		}
	}
	if have, want, dirty, err := MigrationState(ctx, url); err != nil || have != want || dirty {
		t.Errorf("state after Migrate: have %d, want %d, dirty %t, %v", have, want, dirty, err)
	}
	m, err := migrator(url, "")
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	if err := m.Down(); err != nil {
		t.Fatal(err)
	}
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(ctx)
	var left int
	err = conn.QueryRow(ctx, `SELECT count(*) FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relname NOT LIKE 'schema_migrations%'`).Scan(&left)
	if err != nil || left != 0 {
		t.Errorf("%d relations left after the way down (%v), want 0", left, err)
	}
}
