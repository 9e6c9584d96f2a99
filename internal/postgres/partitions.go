package postgres

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/hongyan-dispatch/hongyan/internal/mass"
	"github.com/hongyan-dispatch/hongyan/message"
)

// Days that have partitions made for them, around today.
const (
	DaysAhead = 7
	DaysBack  = 1
)

// partitioned are the tables cut by day, with the column that they are cut by and the storage of a partition.
var partitioned = []struct{ table, column, with string }{
	{"message", "id", "WITH (fillfactor = 50)"}, // room on the page for claim and settle: both updates HOT
	{"message_body", "id", ""},
	{"event", "message_id", ""},
}

// partitionName is the name of a table's partition of the Beijing day of t.
func partitionName(table string, t time.Time) string {
	return table + "_" + message.Beijing(t).Format("20060102")
}

// maintenanceLock is held while partitions are made or dropped: one process at a time.
const maintenanceLock int64 = 0x686f6e6779616e // "hongyan"

// A partition that ought to exist.
type partition struct {
	table, name string
	bound       string // FOR VALUES …
	rows        string // the condition of its rows
	with        string
}

// partitionsOfDay are those of the Beijing day of t.
func partitionsOfDay(t time.Time) []partition {
	from, to := message.FirstID(message.Day(t)), message.FirstID(message.NextDay(t))
	var list []partition
	for _, p := range partitioned {
		list = append(list, partition{
			table: p.table, name: partitionName(p.table, t), with: p.with,
			bound: fmt.Sprintf("FROM ('%s') TO ('%s')", from, to),
			rows:  fmt.Sprintf("%s >= '%s' AND %s < '%s'", p.column, from, p.column, to),
		})
	}
	return list
}

func partitionOfMonth(m mass.Month) partition {
	return partition{
		table: "mass_user", name: fmt.Sprintf("mass_user_%d", m), with: "WITH (fillfactor = 80)",
		bound: fmt.Sprintf("IN (%d)", m), rows: fmt.Sprintf("month = %d", m),
	}
}

// EnsurePartitions makes the partitions of the Beijing days from [DaysBack] before now to [DaysAhead] after it, and
// of their months, where they are missing. Call it at start and a few times a day, from any number of processes.
// A day that is missing is no harm: its rows go to the DEFAULT partition, and move when the day's own is made.
func (s *Store) EnsurePartitions(ctx context.Context, now time.Time) error {
	noon := message.Day(now).Add(12 * time.Hour)
	var list []partition
	for back := -DaysBack; back <= DaysAhead; back++ {
		list = append(list, partitionsOfDay(noon.AddDate(0, 0, back))...)
	}
	list = append(list, partitionOfMonth(mass.MonthOf(now)))
	if next := mass.MonthOf(noon.AddDate(0, 0, DaysAhead)); next != mass.MonthOf(now) {
		list = append(list, partitionOfMonth(next))
	}
	names := make([]string, len(list))
	for i, p := range list {
		names[i] = p.name
	}
	rows, err := s.pool.Query(ctx, `SELECT n FROM unnest($1::text[]) AS n WHERE to_regclass(n) IS NULL`, names)
	if err != nil {
		return fmt.Errorf("look for partitions: %w", err)
	}
	missing, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return fmt.Errorf("look for partitions: %w", err)
	}
	for _, p := range list {
		for _, name := range missing {
			if p.name != name {
				continue
			}
			if err := s.inTx(ctx, func(tx pgx.Tx) error { return ensurePartition(ctx, tx, p) }); err != nil {
				return fmt.Errorf("make partition %s: %w", p.name, err)
			}
		}
	}
	return nil
}

// ensurePartition makes one partition. Where the DEFAULT partition holds rows of its own they move: it is locked
// first, so that none comes in between.
func ensurePartition(ctx context.Context, tx pgx.Tx, p partition) error {
	if _, err := tx.Exec(ctx, `SELECT pg_advisory_xact_lock($1)`, maintenanceLock); err != nil {
		return err
	}
	var there bool
	if err := tx.QueryRow(ctx, `SELECT to_regclass($1) IS NOT NULL`, p.name).Scan(&there); err != nil || there {
		return err
	}
	for _, sql := range []string{
		fmt.Sprintf(`LOCK TABLE %s_default IN ACCESS EXCLUSIVE MODE`, p.table),
		fmt.Sprintf(`CREATE TABLE %s (LIKE %s INCLUDING ALL) %s`, p.name, p.table, p.with),
		fmt.Sprintf(`INSERT INTO %s SELECT * FROM %s_default WHERE %s`, p.name, p.table, p.rows),
		fmt.Sprintf(`DELETE FROM %s_default WHERE %s`, p.table, p.rows),
		fmt.Sprintf(`ALTER TABLE %s ATTACH PARTITION %s FOR VALUES %s`, p.table, p.name, p.bound),
	} {
		if _, err := tx.Exec(ctx, sql); err != nil {
			return err
		}
	}
	return nil
}
