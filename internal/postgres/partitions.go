package postgres

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

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

// partitionName is the name of a table's partition of the Beijing day that begins at day.
func partitionName(table string, day time.Time) string {
	return table + "_" + message.Beijing(day).Format("20060102")
}

// maintenanceLock is held while partitions are made or dropped: one process at a time.
const maintenanceLock = 0x686f6e6779616e // "hongyan"

// EnsurePartitions makes the partitions of the Beijing days from [DaysBack] before now to [DaysAhead] after it,
// where they are missing. Call it at start and a few times a day, from any number of processes. A day that is
// missing is no harm: its rows go to the DEFAULT partition, and move when the day's own is made.
func (s *Store) EnsurePartitions(ctx context.Context, now time.Time) error {
	for back := -DaysBack; back <= DaysAhead; back++ {
		day := message.Day(message.Day(now).Add(time.Duration(24*back+12) * time.Hour))
		if err := s.ensureDay(ctx, day); err != nil {
			return fmt.Errorf("make partitions of %s: %w", message.Beijing(day).Format(time.DateOnly), err)
		}
	}
	return nil
}

func (s *Store) ensureDay(ctx context.Context, day time.Time) error {
	var have int
	names := make([]string, len(partitioned))
	for i, p := range partitioned {
		names[i] = partitionName(p.table, day)
	}
	err := s.pool.QueryRow(ctx, `SELECT count(*) FROM unnest($1::text[]) AS n WHERE to_regclass(n) IS NOT NULL`, names).Scan(&have)
	if err != nil || have == len(names) {
		return err
	}
	return s.inTx(ctx, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, `SELECT pg_advisory_xact_lock($1)`, int64(maintenanceLock)); err != nil {
			return err
		}
		for i, p := range partitioned {
			if err := ensurePartition(ctx, tx, p.table, p.column, p.with, names[i], day); err != nil {
				return err
			}
		}
		return nil
	})
}

// ensurePartition makes one partition. Where the DEFAULT partition holds rows of that day they move: it is locked
// first, so that none comes in between.
func ensurePartition(ctx context.Context, tx pgx.Tx, table, column, with, name string, day time.Time) error {
	var there bool
	if err := tx.QueryRow(ctx, `SELECT to_regclass($1) IS NOT NULL`, name).Scan(&there); err != nil || there {
		return err
	}
	from, to := message.FirstID(day).String(), message.FirstID(message.NextDay(day)).String()
	for _, sql := range []string{
		fmt.Sprintf(`LOCK TABLE %s_default IN ACCESS EXCLUSIVE MODE`, table),
		fmt.Sprintf(`CREATE TABLE %s (LIKE %s INCLUDING ALL) %s`, name, table, with),
		fmt.Sprintf(`INSERT INTO %s SELECT * FROM %s_default WHERE %s >= '%s' AND %s < '%s'`, name, table, column, from, column, to),
		fmt.Sprintf(`DELETE FROM %s_default WHERE %s >= '%s' AND %s < '%s'`, table, column, from, column, to),
		fmt.Sprintf(`ALTER TABLE %s ATTACH PARTITION %s FOR VALUES FROM ('%s') TO ('%s')`, table, name, from, to),
	} {
		if _, err := tx.Exec(ctx, sql); err != nil {
			return err
		}
	}
	return nil
}
