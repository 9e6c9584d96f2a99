package postgres

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/hongyan-dispatch/hongyan/message"
	"github.com/hongyan-dispatch/hongyan/outcome"
)

// A LeftBehind message was claimed by a pod that has fallen silent: it may have been sent.
type LeftBehind struct {
	ID      message.ID
	Account string
	Kind    message.Kind
	To      message.OpenID
	Pod     string
	Doubt   bool          // an earlier attempt may have left, too
	Deaths  int           // claims that ended like this one, with this one
	Age     time.Duration // since the first attempt that may have left, which this one may be
	Intent  time.Duration // since this one
}

// leftBatches is how many batches of claims one transaction resolves.
const leftBatches = 16

// ResolveLeftBehind lets decide say what becomes of messages that pods silent for that long have claimed and not
// settled: parked, which moves the fence, or an end. All of it is one transaction, with the events: the states are
// written only where the dead claim still holds, and the pods' rows of claims in flight go. Call it until it finds
// no batch; several processes may call it at once and share what is there.
//
// It answers with the messages that it changed.
func (s *Store) ResolveLeftBehind(ctx context.Context, silent time.Duration, decide func(LeftBehind) (outcome.Outcome, string)) (changed []LeftBehind, batches int, err error) {
	err = s.inTx(ctx, func(tx pgx.Tx) error {
		r := resolver{store: s, tx: tx}
		if err := r.run(ctx, silent, decide); err != nil {
			return err
		}
		changed, batches = r.changed, len(r.batches)
		return nil
	})
	if err != nil {
		return nil, 0, fmt.Errorf("resolve what dead pods left behind: %w", err)
	}
	return changed, batches, nil
}

// A resolver is one transaction.
type resolver struct {
	store   *Store
	tx      pgx.Tx
	batches []deadBatch
	left    []leftRow
	changed []LeftBehind
}

type deadBatch struct {
	pod   int32
	batch int64
	name  string
	ids   [][16]byte
}

type leftRow struct {
	LeftBehind
	id      [16]byte
	account int32
	pod     int32
	lane    string
	claim   int32
	expires *time.Time
	bare    *message.Message // to a recipient of a campaign, without a body yet; nil: it is none
	out     outcome.Outcome
	note    string
}

func (r *resolver) run(ctx context.Context, silent time.Duration, decide func(LeftBehind) (outcome.Outcome, string)) error {
	if err := r.readBatches(ctx, silent); err != nil || len(r.batches) == 0 {
		return err
	}
	if err := r.makeRows(ctx); err != nil {
		return err
	}
	if err := r.readMessages(ctx); err != nil {
		return err
	}
	if err := r.keepBodies(ctx); err != nil {
		return err
	}
	for i := range r.left {
		l := &r.left[i]
		l.out, l.note = decide(l.LeftBehind)
	}
	if err := r.write(ctx); err != nil {
		return err
	}
	pods, batches := make([]int32, len(r.batches)), make([]int64, len(r.batches))
	for i, b := range r.batches {
		pods[i], batches[i] = b.pod, b.batch
	}
	_, err := r.tx.Exec(ctx, `
		DELETE FROM in_flight f USING unnest($1::int4[], $2::int8[]) AS i (pod, batch) WHERE f.pod = i.pod AND f.batch = i.batch`, pods, batches)
	return err
}

func (r *resolver) readBatches(ctx context.Context, silent time.Duration) error {
	rows, err := r.tx.Query(ctx, `
		SELECT f.pod, f.batch, coalesce(p.name, ''), f.ids FROM in_flight f LEFT JOIN pod p ON p.id = f.pod
		WHERE p.id IS NULL OR p.seen_at < now() - make_interval(secs => $1)
		ORDER BY f.pod, f.batch LIMIT $2 FOR UPDATE OF f SKIP LOCKED`, silent.Seconds(), leftBatches)
	if err != nil {
		return err
	}
	r.batches, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (deadBatch, error) {
		var b deadBatch
		return b, row.Scan(&b.pod, &b.batch, &b.name, &b.ids)
	})
	return err
}

// makeRows makes rows of the recipients of campaigns who were claimed and are no messages yet. What the silent pod settles
// after this it settles late.
func (r *resolver) makeRows(ctx context.Context) error {
	type claimed struct {
		id        [16]byte
		at        time.Time
		account   int32
		kind      string
		lane      string
		pod       int32
		firing, n int32
		to        string
	}
	var all []claimed
	for _, b := range r.batches {
		rows, err := r.tx.Query(ctx, `SELECT id, at, account, kind::text, lane::text, pod, firing, n, recipient FROM claimed WHERE pod = $1 AND batch = $2`, b.pod, b.batch)
		if err != nil {
			return err
		}
		var c claimed
		_, err = pgx.ForEachRow(rows, []any{&c.id, &c.at, &c.account, &c.kind, &c.lane, &c.pod, &c.firing, &c.n, &c.to}, func() error {
			all = append(all, c)
			return nil
		})
		if err != nil {
			return err
		}
	}
	slices.SortFunc(all, func(a, b claimed) int { return bytes.Compare(a.id[:], b.id[:]) })
	var batch pgx.Batch
	for _, c := range all {
		batch.Queue(`
			INSERT INTO message (id, msgid, first_intent_at, intent_at, finished_at, account, kind, lane, pod, state, firing, n, recipient)
			VALUES ($1, 0, $2, $2, 'epoch', $3, $4::text::message_kind, $5::text::message_lane, $6, 'sending', $7, $8, $9) ON CONFLICT (id) DO NOTHING`,
			c.id, c.at, c.account, c.kind, c.lane, c.pod, c.firing, c.n, c.to)
	}
	if batch.Len() == 0 {
		return nil
	}
	return r.tx.SendBatch(ctx, &batch).Close()
}

// readMessages reads those that are still under a dead claim, in id order, each once, and holds them: the silent pod may
// live, and settle one.
func (r *resolver) readMessages(ctx context.Context) error {
	type key struct {
		pod int32
		id  [16]byte
	}
	names := map[int32]string{}
	var keys []key
	for _, b := range r.batches {
		names[b.pod] = b.name
		for _, id := range b.ids {
			keys = append(keys, key{b.pod, id})
		}
	}
	slices.SortFunc(keys, func(a, b key) int { return bytes.Compare(a.id[:], b.id[:]) })
	keys = slices.Compact(keys)
	pods, ids := make([]int32, len(keys)), make([][16]byte, len(keys))
	for i, k := range keys {
		pods[i], ids[i] = k.pod, k.id
	}
	rows, err := r.tx.Query(ctx, `
		SELECT m.id, m.pod, m.account, m.kind::text, m.lane::text, m.claim, m.doubt, m.deaths,
			extract(epoch FROM now() - m.first_intent_at)::float8, extract(epoch FROM now() - m.intent_at)::float8, coalesce(b.recipient, m.recipient), b.expires_at,
			b.id IS NULL AND m.firing <> 0, m.firing, m.n
		FROM unnest($1::int4[], $2::uuid[]) AS i (pod, id) JOIN message m ON m.id = i.id LEFT JOIN message_body b ON b.id = m.id
		WHERE m.state = 'sending' AND m.pod = i.pod ORDER BY m.id FOR UPDATE OF m`, pods, ids)
	if err != nil {
		return err
	}
	r.left, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (leftRow, error) {
		var l leftRow
		var kind string
		var to string
		var age, intent float64
		var firing, n int32
		var bare bool
		if err := row.Scan(&l.id, &l.pod, &l.account, &kind, &l.lane, &l.claim, &l.Doubt, &l.Deaths, &age, &intent, &to, &l.expires, &bare, &firing, &n); err != nil {
			return l, err
		}
		l.ID, l.Kind, l.Pod = l.id, message.Kind(kind), names[l.pod]
		l.Deaths++
		l.Age, l.Intent = time.Duration(age*float64(time.Second)), time.Duration(intent*float64(time.Second))
		if l.Kind != message.Mass {
			l.To = message.OpenID(to)
		}
		if bare {
			l.bare = &message.Message{ID: l.id, Kind: l.Kind, To: l.To, Body: []byte("{}"), Firing: firing, N: n}
		}
		return l, nil
	})
	if err != nil {
		return err
	}
	for i := range r.left {
		if r.left[i].Account, err = r.store.accountName(ctx, r.left[i].account); err != nil {
			return err
		}
	}
	return nil
}

// keepBodies gives those a body that have none: they did not simply go out, and whoever takes them up needs it.
func (r *resolver) keepBodies(ctx context.Context) error {
	var bare []*message.Message
	for i := range r.left {
		if m := r.left[i].bare; m != nil {
			bare = append(bare, m)
		}
	}
	if err := r.store.recompose(ctx, r.tx, bare); err != nil {
		return err
	}
	var rows values
	beginCopy(&rows)
	for i := range r.left {
		m := r.left[i].bare
		if m == nil {
			continue
		}
		if err := copyBody(&rows, m); err != nil {
			return err
		}
		if !m.ExpiresAt.IsZero() {
			r.left[i].expires = &m.ExpiresAt
		}
	}
	return copyInto(ctx, r.tx.Conn().PgConn(), "message_body", bodyColumns, rows, false)
}

// write changes the states, and then writes down what was changed.
func (r *resolver) write(ctx context.Context) error {
	if len(r.left) == 0 {
		return nil
	}
	var ids [][16]byte
	var claims, pods []int32
	var states, reasons []string
	var ends []bool
	for _, l := range r.left {
		ids, claims, pods = append(ids, l.id), append(claims, l.claim), append(pods, l.pod)
		states, reasons, ends = append(states, string(l.out.Status)), append(reasons, reasonText(l.out.Reason)), append(ends, l.out.Status.Terminal())
	}
	rows, err := r.tx.Query(ctx, `
		UPDATE message AS m SET state = i.state::message_state, reason = i.reason::message_reason, deaths = m.deaths + 1,
			claim = CASE WHEN i.ends THEN m.claim ELSE m.claim + 1 END, doubt = m.doubt OR NOT i.ends,
			finished_at = CASE WHEN i.ends THEN now() ELSE 'epoch' END,
			recipient = '' -- which its body has
		FROM unnest($1::uuid[], $2::int4[], $3::int4[], $4::text[], $5::text[], $6::bool[]) AS i (id, claim, pod, state, reason, ends)
		WHERE i.id >= $7::uuid AND i.id <= $8::uuid AND m.id = i.id AND m.id >= ALL (ARRAY[$7::uuid]) AND m.id <= ALL (ARRAY[$8::uuid])
			AND m.state = 'sending' AND m.claim = i.claim AND m.pod = i.pod
		RETURNING m.id, m.claim`, ids, claims, pods, states, reasons, ends, ids[0], ids[len(ids)-1])
	if err != nil {
		return err
	}
	took := map[[16]byte]int32{}
	var id [16]byte
	var claim int32
	if _, err := pgx.ForEachRow(rows, []any{&id, &claim}, func() error { took[id] = claim; return nil }); err != nil {
		return err
	}
	return r.record(ctx, took)
}

// record writes the timeline and the list of what waits.
func (r *resolver) record(ctx context.Context, took map[[16]byte]int32) error {
	var batch pgx.Batch
	for _, l := range r.left {
		claim, ok := took[l.id]
		if !ok {
			continue
		}
		r.changed = append(r.changed, l.LeftBehind)
		batch.Queue(`INSERT INTO event (message_id, claim, state, reason, note) VALUES ($1, $2, $3::text::message_state, $4::text::message_reason, $5)`,
			l.id, claim, string(l.out.Status), reasonText(l.out.Reason), clean(l.note))
		if l.out.Status != outcome.Parked {
			continue
		}
		at := l.out.Until
		if l.expires != nil && l.expires.Before(at) {
			at = *l.expires
		}
		batch.Queue(`
			INSERT INTO parked (id, due_at, account, kind, lane, reason, alone) VALUES ($1, $2, $3, $4::text::message_kind, $5::text::message_lane, $6::text::message_reason, $7)
			ON CONFLICT (id) DO UPDATE SET due_at = excluded.due_at, reason = excluded.reason, alone = excluded.alone`,
			l.id, at, l.account, string(l.Kind), l.lane, reasonText(l.out.Reason), l.Kind == message.Mass || l.Deaths > 1)
	}
	if batch.Len() == 0 {
		return nil
	}
	return r.tx.SendBatch(ctx, &batch).Close()
}
