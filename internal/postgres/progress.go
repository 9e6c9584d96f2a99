package postgres

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/hongyan-dispatch/hongyan/internal/campaign"
	"github.com/hongyan-dispatch/hongyan/message"
)

// Progress is how far a campaign's last firing has come.
type Progress struct {
	Campaign  Campaign
	Firing    Firing // zero: it has not fired yet
	Firings   int    // so far
	Now       time.Time
	EndedAt   time.Time // zero: it has not
	Total     int       // recipients, or the parts of a mass send
	Waiting   int       // those that are no messages yet
	Outcomes  Tally     // the others
	ChunkBusy int       // chunks in the queue or at a worker
}

// CampaignProgress counts what became of the last firing. Chunks that are done were counted when they ended, so that a
// look costs the same at any size; what is learnt of a message after that (a receipt, late evidence) only its own row
// and the export know.
func (s *Store) CampaignProgress(ctx context.Context, idOrName string) (Progress, error) {
	c, err := s.Campaign(ctx, idOrName)
	if err != nil {
		return Progress{}, err
	}
	p := Progress{Campaign: c, Outcomes: Tally{}}
	if err := s.progress(ctx, &p); err != nil {
		return Progress{}, fmt.Errorf("progress of campaign: %w", err)
	}
	return p, nil
}

func (s *Store) progress(ctx context.Context, p *Progress) error {
	f := &p.Firing
	var ended *time.Time
	err := s.pool.QueryRow(ctx, `
		SELECT f.id, f.tick, f.audience, f.started_at, f.total, f.ended_at, now(), (SELECT count(*) FROM firing WHERE campaign = f.campaign),
			(SELECT count(*) FROM chunk k WHERE k.firing = f.id AND k.state IN ('queued', 'running', 'settling') AND k.state <> 'settling')
		FROM firing f WHERE f.campaign = $1 ORDER BY f.id DESC LIMIT 1`, [16]byte(p.Campaign.ID)).
		Scan(&f.ID, &f.Tick, &f.Audience, &f.StartedAt, &f.Total, &ended, &p.Now, &p.Firings, &p.ChunkBusy)
	if errors.Is(err, pgx.ErrNoRows) {
		return s.pool.QueryRow(ctx, `SELECT now(), coalesce((SELECT total FROM audience WHERE campaign = $1 AND state <> 'dropped' ORDER BY id DESC LIMIT 1), 0)`,
			[16]byte(p.Campaign.ID)).Scan(&p.Now, &p.Total)
	}
	if err != nil {
		return err
	}
	f.Campaign, p.Total = p.Campaign.ID, int(f.Total)
	if p.Campaign.Kind == message.Mass {
		if err := s.pool.QueryRow(ctx, `SELECT count(*) FROM chunk WHERE firing = $1`, f.ID).Scan(&p.Total); err != nil {
			return err
		}
	}
	if ended != nil {
		p.EndedAt = *ended
	}
	if err := s.counted(ctx, p); err != nil {
		return err
	}
	if err := s.uncounted(ctx, p); err != nil {
		return err
	}
	p.Waiting = p.Total
	for _, n := range p.Outcomes {
		p.Waiting -= n
	}
	return nil
}

// counted adds the chunks that have a tally.
func (s *Store) counted(ctx context.Context, p *Progress) error {
	rows, err := s.pool.Query(ctx, `
		SELECT t.key, sum(t.value::int8)::int8 FROM chunk k CROSS JOIN LATERAL jsonb_each_text(k.tally) AS t (key, value)
		WHERE k.firing = $1 AND k.tally IS NOT NULL GROUP BY 1`, p.Firing.ID)
	if err != nil {
		return err
	}
	return addTo(p.Outcomes, rows)
}

// manyChunks is how many chunks without a tally are counted by a look at their messages.
const manyChunks = 5000

// uncounted adds the others that have begun.
func (s *Store) uncounted(ctx context.Context, p *Progress) error {
	rows, err := s.pool.Query(ctx, `
		SELECT first, last FROM chunk WHERE firing = $1 AND tally IS NULL AND fence > 0
			AND (state = 'waiting' OR state IN ('queued', 'running', 'settling')) LIMIT $2`, p.Firing.ID, manyChunks)
	if err != nil {
		return err
	}
	var from, to [][16]byte
	var firsts, lasts []int32
	var first, last int32
	_, err = pgx.ForEachRow(rows, []any{&first, &last}, func() error {
		firsts, lasts = append(firsts, first), append(lasts, last)
		a, b := campaign.IDRange(p.Firing.StartedAt, first, last)
		from, to = append(from, a), append(to, b)
		return nil
	})
	if err != nil {
		return err
	}
	rows, err = s.pool.Query(ctx, `
		SELECT m.state || coalesce(' ' || nullif(m.reason, 'none')::text, ''), count(*)
		FROM unnest($1::uuid[], $2::uuid[]) AS r (a, b) JOIN message m ON m.id >= r.a AND m.id <= r.b AND m.firing = $3 GROUP BY 1
		UNION ALL
		SELECT 'sending', count(*) FROM claimed c JOIN unnest($4::int4[], $5::int4[]) AS r (a, b) ON c.n BETWEEN r.a AND r.b
		WHERE c.firing = $3 HAVING count(*) > 0`, from, to, p.Firing.ID, firsts, lasts)
	if err != nil {
		return err
	}
	return addTo(p.Outcomes, rows)
}

func addTo(t Tally, rows pgx.Rows) error {
	var key string
	var n int
	_, err := pgx.ForEachRow(rows, []any{&key, &n}, func() error { t[key] += n; return nil })
	return err
}

// SortedTally lists a tally's keys: the most frequent first.
func SortedTally(t Tally) []string {
	return slices.SortedFunc(maps.Keys(t), func(a, b string) int { return cmp.Or(cmp.Compare(t[b], t[a]), cmp.Compare(a, b)) })
}

// ErrNothingToRetry says that no message of the last firing ended so.
var ErrNothingToRetry = errors.New("no recipient of the last firing failed so")

// ErrFiringOpen says that the last firing has not ended. Who fails behind a retry would be out of the next one's reach.
var ErrFiringOpen = errors.New("its last firing has not ended, and more may fail; wait for its end")

// RetryFailed makes a new firing of those recipients of the last one whose messages ended in one of the states, and,
// where reasons are given, for one of these. The campaign runs again. Each gets a new message: failed ones surely
// did not arrive.
func (s *Store) RetryFailed(ctx context.Context, id message.ID, states, reasons []string, now time.Time) (Firing, error) {
	var f Firing
	err := s.inTx(ctx, func(tx pgx.Tx) (err error) {
		if _, err := tx.Exec(ctx, `SET LOCAL statement_timeout = 0`); err != nil { // a million rows take their time
			return err
		}
		state, err := lockCampaign(ctx, tx, id)
		if err != nil {
			return err
		}
		if state.Ended() && state != campaign.Done || state == campaign.Draft || state == campaign.Paused {
			return &campaign.MoveError{Verb: "retry", State: state}
		}
		audience, err := audienceOfFailed(ctx, tx, id, states, reasons)
		if err != nil {
			return err
		}
		made := false
		if f, made, err = fire(ctx, tx, id, now, audience); err == nil && !made {
			err = fmt.Errorf("a firing of %v is there", now)
		}
		if err != nil {
			return err
		}
		return setCampaign(ctx, tx, id, campaign.Running, "")
	})
	if err != nil {
		return f, fmt.Errorf("retry failed: %w", nameTaken(err))
	}
	return f, nil
}

// CountFailed counts whom RetryFailed would send to.
func (s *Store) CountFailed(ctx context.Context, id message.ID, states, reasons []string) (n int, err error) {
	err = s.inTx(ctx, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, `SET LOCAL statement_timeout = 0`); err != nil {
			return err
		}
		last, err := lastFiring(ctx, tx, id)
		if err != nil {
			return err
		}
		from := failedRecipients
		if last.filtered {
			from = failedMessages
		}
		return tx.QueryRow(ctx, `SELECT count(*) `+from, failedArgs(last, states, reasons)).Scan(&n)
	})
	if err == nil && n == 0 {
		err = ErrNothingToRetry
	}
	if err != nil {
		return 0, fmt.Errorf("count failed: %w", err)
	}
	return n, nil
}

// An endedFiring is a firing whose failed ones are to be tried again.
type endedFiring struct {
	Firing
	filtered bool // one mass message, to users whom only WeChat can list
}

func lastFiring(ctx context.Context, tx pgx.Tx, id message.ID) (f endedFiring, err error) {
	f.Campaign = id
	var open bool
	err = tx.QueryRow(ctx, `
		SELECT f.id, f.audience, f.started_at, f.ended_at IS NULL, c.kind = 'mass' AND coalesce(c.spec -> 'audience' ->> 'kind' IN ('tag', 'followers'), false)
		FROM firing f JOIN campaign c ON c.id = f.campaign WHERE f.campaign = $1 ORDER BY f.id DESC LIMIT 1`, [16]byte(id)).
		Scan(&f.ID, &f.Audience, &f.StartedAt, &open, &f.filtered)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		err = ErrNothingToRetry
	case err == nil && open:
		err = ErrFiringOpen
	}
	return f, err
}

// endedSo are the messages m that ended so.
const endedSo = `
	m.id >= @from AND m.id <= @to AND m.firing = @firing AND m.state = ANY (@states::text[]::message_state[])
		AND (cardinality(@reasons::text[]) = 0 OR m.reason = ANY (@reasons::text[]::message_reason[]))`

// failedMessages are these messages themselves, of a firing without recipients of ours.
const failedMessages = `FROM message m WHERE ` + endedSo

// failedRecipients are the recipients r of such messages, but for those whose fallback may have arrived.
const failedRecipients = `
	FROM message m JOIN recipient r ON r.audience = @of AND r.n BETWEEN m.n AND CASE WHEN m.kind = 'mass'
		THEN (SELECT k.last FROM chunk k WHERE k.firing = @firing AND k.first = m.n) ELSE m.n END
	WHERE ` + endedSo + `
		AND NOT ((SELECT spec -> 'fallback' IS NOT NULL FROM campaign WHERE id = @campaign) AND EXISTS (
			SELECT FROM message_body b JOIN message i ON i.id = b.id
			WHERE b.recipient = r.openid AND b.parent = m.id AND b.id >= @from AND i.id >= @from AND i.state NOT IN ('failed', 'skipped', 'expired', 'cancelled')))`

func failedArgs(f endedFiring, states, reasons []string) pgx.NamedArgs {
	if reasons == nil {
		reasons = []string{}
	}
	from, to := campaign.IDRange(f.StartedAt, 1, math.MaxInt32)
	return pgx.NamedArgs{"campaign": [16]byte(f.Campaign), "of": f.Audience, "from": [16]byte(from), "to": [16]byte(to), "firing": f.ID, "states": states, "reasons": reasons}
}

// audienceOfFailed writes down a new audience, and says which.
func audienceOfFailed(ctx context.Context, tx pgx.Tx, id message.ID, states, reasons []string) (audience int32, err error) {
	last, err := lastFiring(ctx, tx, id)
	if err != nil {
		return 0, err
	}
	err = tx.QueryRow(ctx, `INSERT INTO audience (campaign, source, columns) SELECT $1, $2, columns FROM audience WHERE id = $3 RETURNING id`,
		[16]byte(id), fmt.Sprintf("%s%d", retrySource, last.ID), last.Audience).Scan(&audience)
	if err != nil {
		return 0, err
	}
	args := failedArgs(last, states, reasons)
	args["audience"] = audience
	var n int64
	if last.filtered {
		err = tx.QueryRow(ctx, `SELECT count(*) `+failedMessages, args).Scan(&n)
	} else {
		var tag pgconn.CommandTag
		tag, err = tx.Exec(ctx, `
			INSERT INTO recipient (audience, n, openid, vars)
			SELECT @audience, row_number() OVER (ORDER BY m.id, r.n), r.openid, r.vars `+failedRecipients, args)
		n = tag.RowsAffected()
	}
	if err == nil && n == 0 {
		err = ErrNothingToRetry
	}
	if err != nil {
		return 0, err
	}
	_, err = tx.Exec(ctx, `UPDATE audience SET state = 'ready', total = $2 WHERE id = $1`, audience, n)
	return audience, err
}

// ExportOutcomes writes a line of CSV for each message of the campaign, of all its firings, in the order of its
// audiences, behind a line of names; the last columns tell of its fallback. It holds nothing in memory.
func (s *Store) ExportOutcomes(ctx context.Context, id message.ID, w io.Writer) error {
	rows, err := s.pool.Query(ctx, `
		SELECT f.id, f.tick, f.started_at, c.spec -> 'fallback' IS NOT NULL FROM firing f JOIN campaign c ON c.id = f.campaign
		WHERE f.campaign = $1 ORDER BY f.id`, [16]byte(id))
	if err != nil {
		return fmt.Errorf("export outcomes: %w", err)
	}
	fallbacks := false
	firings, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (f Firing, err error) {
		return f, row.Scan(&f.ID, &f.Tick, &f.StartedAt, &fallbacks)
	})
	if err == nil {
		_, err = io.WriteString(w, "firing,n,openid,id,status,reason,errcode,errmsg,wechat_msgid,attempts,sent_at,finished_at,receipt,fallback_id,fallback_status,fallback_reason\n")
	}
	for _, f := range firings {
		if err == nil {
			err = s.exportFiring(ctx, f, fallbacks, w)
		}
	}
	if err != nil {
		return fmt.Errorf("export outcomes: %w", err)
	}
	return nil
}

func (s *Store) exportFiring(ctx context.Context, f Firing, fallbacks bool, w io.Writer) error {
	conn, err := s.pool.Acquire(ctx)
	if err != nil {
		return err
	}
	defer conn.Release()
	// COPY takes no parameters; these are numbers, ids and a time of our own.
	from, to := campaign.IDRange(f.StartedAt, 1, math.MaxInt32)
	instead := `(SELECT NULL AS id, NULL AS status, NULL AS reason) i ON true`
	if fallbacks {
		instead = fmt.Sprintf(`LATERAL (
			SELECT u.id, u.state AS status, nullif(u.reason, 'none') AS reason FROM message_body b JOIN message u ON u.id = b.id
			WHERE o.status IN ('skipped', 'failed') AND b.recipient = o.recipient AND b.parent = m.id AND b.id >= '%s' LIMIT 1) i ON true`, from)
	}
	sql := fmt.Sprintf(`COPY (
		SELECT '%s', m.n, o.recipient, o.id, o.status, o.reason, o.errcode, o.errmsg, o.wechat_msgid, o.attempts, o.sent_at, o.finished_at, o.receipt,
			i.id, i.status, i.reason
		FROM message m JOIN outcomes o ON o.id = m.id LEFT JOIN %s
		WHERE m.id >= '%s' AND m.id <= '%s' AND m.firing = %d ORDER BY m.id) TO STDOUT (FORMAT csv)`, f.Tick.UTC().Format(time.RFC3339), instead, from, to, f.ID)
	if _, err := conn.Exec(ctx, `SET statement_timeout = 0`); err != nil {
		return err
	}
	_, err = conn.Conn().PgConn().CopyTo(ctx, w, sql)
	if _, reset := conn.Exec(context.WithoutCancel(ctx), `RESET statement_timeout`); reset != nil {
		_ = conn.Conn().Close(ctx)
	}
	return err
}
