package postgres

import (
	"context"
	"fmt"
	"time"

	"github.com/hongyan-dispatch/hongyan/message"
)

// A Silence is what tells whether WeChat's pushes about an account arrive.
type Silence struct {
	Heard     time.Time // the last push: what a user did, or a receipt; zero: none
	Disagreed int       // customer-service messages of the last two days that WeChat refused although we thought the window open
	Templates int       // template messages of the last two days, the latest thousand, whose receipt should have come
	Missing   int       // and those of them that have none
	Mass      int       // mass sends of the last two days that have no receipt, nor a word of WeChat's when asked
}

// Times of Silence. Most receipts come within seconds, and those of mass sends after an administrator had half an hour.
const (
	silenceBack     = 48 * time.Hour
	silenceTemplate = 15 * time.Minute
	silenceMass     = 40 * time.Minute
	silenceSample   = 1000
)

// Silence looks at an account's pushes.
func (s *Store) Silence(ctx context.Context, account string, now time.Time) (Silence, error) {
	id, err := s.accountID(ctx, account)
	if err != nil {
		return Silence{}, fmt.Errorf("look for silence: %w", err)
	}
	var silence Silence
	var heard *time.Time
	err = s.pool.QueryRow(ctx, `
		SELECT greatest(
				(SELECT max(at) FROM inbound_last WHERE account = $1),
				(SELECT received_at FROM receipt WHERE account = $1 AND key NOT LIKE 'mass/get %' ORDER BY received_at DESC LIMIT 1)),
			(SELECT count(*) FROM message WHERE id >= $2 AND account = $1 AND kind = 'custom' AND errcode IN (45015, 45047)),
			t.n, t.missing,
			(SELECT count(*) FROM message m WHERE m.id >= $2 AND m.account = $1 AND m.kind = 'mass' AND m.state = 'sent' AND m.finished_at < $4
				AND NOT EXISTS (SELECT FROM receipt r WHERE r.message = m.id))
		FROM (
			SELECT count(*) AS n, count(*) FILTER (WHERE NOT EXISTS (SELECT FROM receipt r WHERE r.message = m.id)) AS missing
			FROM (
				SELECT id FROM message WHERE id >= $2 AND account = $1 AND kind = 'template' AND state = 'sent' AND finished_at < $3
				ORDER BY id DESC LIMIT $5) AS m) AS t`,
		id, [16]byte(message.FirstID(now.Add(-silenceBack))), now.Add(-silenceTemplate), now.Add(-silenceMass), silenceSample,
	).Scan(&heard, &silence.Disagreed, &silence.Templates, &silence.Missing, &silence.Mass)
	if err != nil {
		return Silence{}, fmt.Errorf("look for silence: %w", err)
	}
	if heard != nil {
		silence.Heard = *heard
	}
	return silence, nil
}
