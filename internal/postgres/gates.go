package postgres

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/hongyan-dispatch/hongyan/message"
)

// The states of a gate.
const (
	GateOpen   = "open"
	GateClosed = "closed" // until a time
	GateBroken = "broken" // until a probe or a person opens it
)

// A Gate says whether an account may call an API now. A gate that has no row is open.
type Gate struct {
	Account   string
	API       string // WeChat's path; empty: the whole account
	State     string
	Reason    string // a word for metrics, such as quota, secret, ip
	ErrCode   int
	Detail    string // WeChat's words
	Since     time.Time
	Until     time.Time // closed: until then; broken: not probed before; zero: none
	ChangedAt time.Time
	Probe     message.ID // broken: the one message that may pass; zero for none
}

// Gates reads every gate that was ever closed; few, so pods poll it.
func (s *Store) Gates(ctx context.Context) ([]Gate, error) {
	rows, err := s.pool.Query(ctx, `
		SELECT a.name, g.api, g.state, g.reason, g.errcode, g.detail, g.since, g.until, g.changed_at, coalesce(g.probe, '00000000-0000-0000-0000-000000000000')
		FROM gate g JOIN account a ON a.id = g.account ORDER BY a.name, g.api`)
	if err != nil {
		return nil, fmt.Errorf("read gates: %w", err)
	}
	gates, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (Gate, error) {
		g, err := pgx.RowToStructByPos[Gate](row)
		if g.Until.Unix() == 0 {
			g.Until = time.Time{}
		}
		return g, err
	})
	if err != nil {
		return nil, fmt.Errorf("read gates: %w", err)
	}
	return gates, nil
}

// ByOperator is the reason of a gate that a person closed.
const ByOperator = "operator"

// CloseGate closes or breaks the gate that g names. A gate that is in that state already keeps its Since. Of two
// closings the one that ends later stands, with its reason; a broken gate is not made merely closed, but by a person;
// and one that a person closed is not broken before its time: it holds its messages already, and a probe would open it.
func (s *Store) CloseGate(ctx context.Context, g Gate) error {
	if g.State != GateClosed && g.State != GateBroken {
		return fmt.Errorf("close gate: state %q: want closed or broken", g.State)
	}
	id, err := s.accountID(ctx, g.Account)
	if err != nil {
		return fmt.Errorf("close gate: %w", err)
	}
	until := g.Until
	if until.IsZero() {
		until = time.Unix(0, 0)
	}
	_, err = s.pool.Exec(ctx, `
		INSERT INTO gate AS g (account, api, state, reason, errcode, detail, since, until, probe)
		VALUES (@account, @api, @state, @reason, @errcode, @detail, now(), @until, @probe)
		ON CONFLICT (account, api) DO UPDATE SET state = excluded.state, reason = excluded.reason, errcode = excluded.errcode,
			detail = excluded.detail, changed_at = now(), probe = excluded.probe,
			since = CASE WHEN g.state = excluded.state AND (g.state = 'broken' OR g.until > now()) THEN g.since ELSE now() END,
			until = excluded.until
		WHERE CASE g.state
			WHEN 'broken' THEN excluded.state = 'broken' OR excluded.reason = @person
			WHEN 'closed' THEN CASE excluded.state WHEN 'closed' THEN g.until <= excluded.until ELSE g.reason <> @person OR g.until <= now() END
			ELSE true END`, pgx.NamedArgs{
		"account": id, "api": g.API, "state": g.State, "reason": clean(g.Reason), "errcode": g.ErrCode, "detail": clean(g.Detail), "until": until,
		"probe": uuidOrNil(g.Probe), "person": ByOperator,
	})
	if err != nil {
		return fmt.Errorf("close gate: %w", err)
	}
	return nil
}

const sqlOpenGate = `
	UPDATE gate SET state = 'open', reason = '', errcode = 0, detail = '', since = now(), until = 'epoch', changed_at = now(), probe = NULL
	WHERE account = $1 AND api = $2`

// OpenGate opens a gate, and says whether it was not open. Where unchangedSince is not zero it opens only a gate
// that nobody has touched since (its ChangedAt): a probe does not undo a newer refusal.
func (s *Store) OpenGate(ctx context.Context, account, api string, unchangedSince time.Time) (bool, error) {
	id, err := s.accountID(ctx, account)
	if err != nil {
		return false, fmt.Errorf("open gate: %w", err)
	}
	if unchangedSince.IsZero() {
		unchangedSince = time.Unix(0, 0)
	}
	tag, err := s.pool.Exec(ctx, sqlOpenGate+` AND state <> 'open' AND ($3::timestamptz = 'epoch' OR changed_at = $3)`, id, api, unchangedSince)
	if err != nil {
		return false, fmt.Errorf("open gate: %w", err)
	}
	return tag.RowsAffected() > 0, nil
}

// MendGate opens a gate that is broken, and no other: WeChat accepts the account again.
func (s *Store) MendGate(ctx context.Context, account, api string) error {
	id, err := s.accountID(ctx, account)
	if err == nil {
		_, err = s.pool.Exec(ctx, sqlOpenGate+` AND state = 'broken'`, id, api)
	}
	if err != nil {
		return fmt.Errorf("mend gate: %w", err)
	}
	return nil
}

// BringForward makes messages due now that wait behind a gate or for a quota, at most limit of them, and says how many
// they were: after a gate was opened by hand. They go at pace, whatever their number.
func (s *Store) BringForward(ctx context.Context, account string, kinds []message.Kind, limit int) (int64, error) {
	id, err := s.accountID(ctx, account)
	if err != nil {
		return 0, fmt.Errorf("bring parked messages forward: %w", err)
	}
	tag, err := s.pool.Exec(ctx, `
		UPDATE parked SET due_at = now() WHERE id IN (
			SELECT id FROM parked WHERE account = $1 AND kind = ANY ($2::text[]::message_kind[]) AND reason IN ('gate', 'quota') AND due_at > now()
			LIMIT $3 FOR UPDATE SKIP LOCKED)`, id, kinds, limit)
	if err != nil {
		return 0, fmt.Errorf("bring parked messages forward: %w", err)
	}
	return tag.RowsAffected(), nil
}

// ClaimProbe says whether this caller may probe the broken gate now: one may in each span of every, over all pods.
// A gate that has just broken is not probed before a span has passed.
func (s *Store) ClaimProbe(ctx context.Context, account, api string, every time.Duration) (bool, error) {
	id, err := s.accountID(ctx, account)
	if err != nil {
		return false, fmt.Errorf("claim probe: %w", err)
	}
	tag, err := s.pool.Exec(ctx, `
		UPDATE gate SET probed_at = now()
		WHERE account = $1 AND api = $2 AND state = 'broken' AND greatest(since, probed_at) < now() - $3::interval`, id, api, every)
	if err != nil {
		return false, fmt.Errorf("claim probe: %w", err)
	}
	return tag.RowsAffected() > 0, nil
}

// uuidOrNil is the parameter for an id that may be absent.
func uuidOrNil(id message.ID) any {
	if id.IsZero() {
		return nil
	}
	return [16]byte(id)
}
