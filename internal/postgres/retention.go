package postgres

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/hongyan-dispatch/hongyan/internal/mass"
	"github.com/hongyan-dispatch/hongyan/message"
)

// live are the states that keep a message from being forgotten.
const live = `('accepted', 'parked', 'sending')`

// expiredRows is how many rows without a partition of their own one call of DropExpired deletes from a table.
const expiredRows = 10_000

// DropExpired forgets the days that ended longer than keep ago: it drops their partitions of message, body and
// event together, unless a message of that day is still live or a firing that began then has not ended (its rows say
// who has his message) or did so a moment ago (frequency caps count them for a week), and says which days went. What has no partition of
// its own (rows of ids out of range, rejected tasks, mass calls, pods long dead, months of mass counts) it deletes a
// batch at a time: call it again and again.
//
// Dropping takes a lock that claims wait for; where it is not had within a second the day stays until the next
// call.
func (s *Store) DropExpired(ctx context.Context, now time.Time, keep time.Duration) (dropped []string, err error) {
	days, err := s.expiredDays(ctx, now.Add(-keep))
	if err != nil {
		return nil, fmt.Errorf("look for expired days: %w", err)
	}
	for _, day := range days {
		gone, err := s.dropDay(ctx, day, now)
		if err != nil {
			return dropped, fmt.Errorf("drop day %s: %w", day, err)
		}
		if gone {
			dropped = append(dropped, day)
		}
	}
	if err := s.dropMonths(ctx, now); err != nil {
		return dropped, fmt.Errorf("drop months of mass counts: %w", err)
	}
	if err := s.deleteExpired(ctx, now, keep); err != nil {
		return dropped, fmt.Errorf("delete expired rows: %w", err)
	}
	return dropped, nil
}

// partitionSuffixes lists what follows the table's name in the names of its partitions.
func (s *Store) partitionSuffixes(ctx context.Context, table string) ([]string, error) {
	rows, err := s.pool.Query(ctx, `
		SELECT substr(c.relname, length($1) + 2) FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
		WHERE i.inhparent = $1::regclass AND c.relname ~ ($1 || '_[0-9]+$') ORDER BY 1`, table)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowTo[string])
}

// expiredDays lists the days, as 20261231, that ended before t.
func (s *Store) expiredDays(ctx context.Context, t time.Time) ([]string, error) {
	all, err := s.partitionSuffixes(ctx, "message")
	if err != nil {
		return nil, err
	}
	today := message.Beijing(t).Format("20060102") // the day of t has not ended
	var days []string
	for _, d := range all {
		if len(d) == len(today) && strings.Compare(d, today) < 0 {
			days = append(days, d)
		}
	}
	return days, nil
}

func (s *Store) dropDay(ctx context.Context, day string, now time.Time) (gone bool, err error) {
	began, err := time.ParseInLocation("20060102", day, message.Beijing(time.Time{}).Location())
	if err != nil {
		return false, err
	}
	hasLive := `SELECT EXISTS (SELECT FROM message_` + day + ` WHERE state IN ` + live + `)
		OR EXISTS (SELECT FROM firing WHERE (ended_at IS NULL OR ended_at >= $3) AND started_at >= $1 AND started_at < $2)`
	bounds := []any{began, message.NextDay(began), now.Add(-cappedFor)}
	var alive bool
	if err := s.pool.QueryRow(ctx, hasLive, bounds...).Scan(&alive); err != nil || alive {
		return false, err
	}
	err = s.inTx(ctx, func(tx pgx.Tx) error {
		gone = false
		for _, sql := range []string{
			`SET LOCAL lock_timeout = '1s'`,
			`SELECT pg_advisory_xact_lock(` + strconv.FormatInt(maintenanceLock, 10) + `)`,
			`LOCK TABLE message IN ACCESS EXCLUSIVE MODE`,
		} {
			if _, err := tx.Exec(ctx, sql); err != nil {
				return err
			}
		}
		var there bool
		if err := tx.QueryRow(ctx, `SELECT to_regclass($1) IS NOT NULL`, "message_"+day).Scan(&there); err != nil || !there {
			return err
		}
		// Nothing live can have come since: a message is never born into a day that is over. An operator's replay
		// could, so look once more, under the lock.
		if err := tx.QueryRow(ctx, hasLive, bounds...).Scan(&alive); err != nil || alive {
			return err
		}
		for _, p := range partitioned {
			if _, err := tx.Exec(ctx, `DROP TABLE IF EXISTS `+p.table+"_"+day); err != nil {
				return err
			}
		}
		gone = true
		return nil
	})
	if sqlState(err) == stateLockNotAvailable {
		return false, nil
	}
	return gone, err
}

// monthsOfMassCounts is how long they are kept: a refund may come for last month's send.
const monthsOfMassCounts = 2

func (s *Store) dropMonths(ctx context.Context, now time.Time) error {
	first := mass.MonthOf(message.Day(now).AddDate(0, 0, 1-message.Beijing(now).Day()).AddDate(0, -monthsOfMassCounts+1, 0))
	months, err := s.partitionSuffixes(ctx, "mass_user")
	if err != nil {
		return err
	}
	for _, m := range months {
		if n, err := strconv.Atoi(m); err == nil && mass.Month(n) < first {
			if _, err := s.pool.Exec(ctx, `DROP TABLE IF EXISTS mass_user_`+m); err != nil {
				return err
			}
		}
	}
	_, err = s.pool.Exec(ctx, `DELETE FROM mass_count WHERE period < $1 AND period < 999999 OR period > 999999 AND period / 100 < $1`, int32(first))
	return err
}

func (s *Store) deleteExpired(ctx context.Context, now time.Time, keep time.Duration) error {
	before := now.Add(-keep)
	days, err := s.partitionSuffixes(ctx, "message")
	if err != nil {
		return err
	}
	var kept []time.Time // the beginnings of the days that have a partition
	for _, day := range days {
		if began, err := time.ParseInLocation("20060102", day, message.Beijing(time.Time{}).Location()); err == nil {
			kept = append(kept, began)
		}
	}
	// The messages of these firings stand: their texts are composed of the audience's rows.
	const hasMessages = `EXISTS (SELECT FROM firing f WHERE f.audience = a.id AND (f.ended_at IS NULL OR f.ended_at >= $2
		OR EXISTS (SELECT FROM unnest($3::timestamptz[]) AS k (day) WHERE f.started_at >= k.day AND f.started_at < k.day + interval '24 hours')))`
	bound := [16]byte(message.FirstID(before))
	statements := []struct {
		sql  string
		args []any
	}{
		{`WITH old AS (DELETE FROM message_default WHERE id IN (
				SELECT id FROM message_default WHERE id < $1 AND state NOT IN ` + live + `
					AND firing NOT IN (SELECT id FROM firing WHERE ended_at IS NULL OR ended_at >= $3) ORDER BY id LIMIT $2) RETURNING id),
			bodies AS (DELETE FROM message_body_default b USING old WHERE b.id = old.id)
			DELETE FROM event_default e USING old WHERE e.message_id = old.id`, []any{bound, expiredRows, now.Add(-cappedFor)}},
		{
			`DELETE FROM mass_call WHERE id IN (SELECT id FROM mass_call WHERE id < $1 AND month < $3 LIMIT $2)`,
			[]any{bound, expiredRows, int32(mass.MonthOf(before))},
		},
		{`DELETE FROM mass_left_out WHERE (message, openid) IN (SELECT message, openid FROM mass_left_out WHERE message < $1 LIMIT $2)`, []any{bound, expiredRows}},
		{`DELETE FROM receipt WHERE (account, key) IN (SELECT account, key FROM receipt WHERE received_at < $1 ORDER BY received_at LIMIT $2)`, []any{before, expiredRows}},
		{`DELETE FROM replay WHERE of IN (SELECT of FROM replay WHERE of < $1 ORDER BY of LIMIT $2)`, []any{bound, expiredRows}},
		{`DELETE FROM rejected_task WHERE id IN (SELECT id FROM rejected_task WHERE at < $1 ORDER BY at LIMIT $2)`, []any{before, expiredRows}},
		// Of campaigns that have ended: whom they went to, and how. The campaigns stay.
		{`UPDATE audience a SET state = 'dropped' WHERE a.state <> 'dropped' AND a.campaign IN (
			SELECT id FROM campaign WHERE state IN ('done', 'cancelled', 'failed') AND changed_at < $1) AND NOT ` + hasMessages, []any{before, now.Add(-cappedFor), kept}},
		// Of those that go on, the audiences that no other firing goes to.
		{`UPDATE audience a SET state = 'dropped' WHERE a.state = 'ready' AND (a.tick IS NOT NULL OR a.source LIKE '` + retrySource + `%') AND (
			SELECT max(coalesce(f.ended_at, 'infinity')) FROM firing f WHERE f.campaign = a.campaign AND f.audience = a.id) < $1
			AND NOT ` + hasMessages, []any{before, now.Add(-cappedFor), kept}},
		{`DELETE FROM recipient WHERE (audience, n) IN (
			SELECT r.audience, r.n FROM audience a JOIN recipient r ON r.audience = a.id WHERE a.state = 'dropped' LIMIT $1)`, []any{expiredRows}},
		{`DELETE FROM chunk WHERE (firing, no) IN (
			SELECT k.firing, k.no FROM firing f JOIN chunk k ON k.firing = f.id WHERE f.ended_at < $1 LIMIT $2)`, []any{before, expiredRows}},
		{`DELETE FROM api_audit WHERE id IN (SELECT id FROM api_audit WHERE at < $1 ORDER BY at LIMIT $2)`, []any{before, expiredRows}},
		{`DELETE FROM api_key WHERE greatest(revoked_at, expires_at) < $1`, []any{before}},
		{`DELETE FROM approval WHERE id IN (SELECT id FROM approval WHERE asked_at < $1 ORDER BY asked_at LIMIT $2)`, []any{before, expiredRows}},
		{`DELETE FROM pod p WHERE seen_at < $1 AND NOT EXISTS (SELECT FROM in_flight f WHERE f.pod = p.id)`, []any{before}},
	}
	for _, st := range statements {
		if _, err := s.pool.Exec(ctx, st.sql, st.args...); err != nil {
			return err
		}
	}
	return nil
}
