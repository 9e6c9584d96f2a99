package postgres

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/hongyan-dispatch/hongyan/internal/mass"
	"github.com/hongyan-dispatch/hongyan/message"
)

// The states of an approval.
const (
	ApprovalWaiting   = "waiting"
	ApprovalApproving = "approving" // approved, and on its way into the queue
	ApprovalApproved  = "approved"
	ApprovalRefused   = "refused"
)

// An Approval is a mass message that waits for a second key's word, or had it.
type Approval struct {
	ID        message.ID
	Account   string
	Message   *message.Message
	AskedBy   string // the name of the key that posted it
	Asked     time.Time
	State     string
	DecidedBy string
	Decided   time.Time // zero: not yet
	Note      string
	Messages  []message.ID // what it became
}

// AskApproval writes down a mass message that waits. A key that was used before by the same message gives the first
// approval; by another one, conflict.
func (s *Store) AskApproval(ctx context.Context, m *message.Message, by string, now time.Time) (a Approval, duplicate, conflict bool, err error) {
	account, err := s.accountID(ctx, m.Account)
	if err != nil {
		return a, false, false, fmt.Errorf("ask for approval: %w", err)
	}
	id, hash, held := message.NewID(now), m.Hash(), []byte(nil)
	var key any
	if m.Key != "" {
		key = m.Key
	}
	err = s.inTx(ctx, func(tx pgx.Tx) error {
		_, err := tx.Exec(ctx, `
			INSERT INTO approval (id, account, key, hash, content, asked_by) VALUES (@id, @account, @key, @hash, @content, @by)
			ON CONFLICT (account, key) WHERE key IS NOT NULL DO NOTHING`,
			pgx.NamedArgs{"id": [16]byte(id), "account": account, "key": key, "hash": hash[:], "content": string(m.AppendJSON(nil)), "by": by})
		if err != nil || m.Key == "" {
			return err
		}
		var first [16]byte
		err = tx.QueryRow(ctx, `SELECT id, hash FROM approval WHERE account = $1 AND key = $2`, account, m.Key).Scan(&first, &held)
		duplicate = message.ID(first) != id
		id = first
		return err
	})
	if err != nil {
		return a, false, false, fmt.Errorf("ask for approval: %w", err)
	}
	if duplicate && !bytes.Equal(held, hash[:]) {
		return a, true, true, nil
	}
	a, err = s.Approval(ctx, id)
	return a, duplicate, false, err
}

const approvalSelect = `
	SELECT p.id, a.name, p.content, p.asked_by, p.asked_at, p.state, p.decided_by, coalesce(p.decided_at, 'epoch'), p.note, p.messages
	FROM approval p JOIN account a ON a.id = p.account `

// Approval reads one. The error wraps [ErrNotFound] where there is none.
func (s *Store) Approval(ctx context.Context, id message.ID) (Approval, error) {
	rows, err := s.pool.Query(ctx, approvalSelect+`WHERE p.id = $1`, [16]byte(id))
	if err != nil {
		return Approval{}, fmt.Errorf("read approval: %w", err)
	}
	a, err := pgx.CollectExactlyOneRow(rows, approvalOf)
	if errors.Is(err, pgx.ErrNoRows) {
		err = ErrNotFound
	}
	if err != nil {
		return Approval{}, fmt.Errorf("read approval %s: %w", id, err)
	}
	return a, nil
}

// Approvals reads those of an account that nobody has decided on, oldest first: those that wait since a time, and all that
// are on their way.
func (s *Store) Approvals(ctx context.Context, account string, since time.Time, limit int) ([]Approval, error) {
	rows, err := s.pool.Query(ctx, approvalSelect+`
		WHERE a.name = $1 AND (p.state = 'waiting' AND p.asked_at > $2 OR p.state = 'approving') ORDER BY p.asked_at LIMIT $3`, account, since, limit)
	if err != nil {
		return nil, fmt.Errorf("read approvals: %w", err)
	}
	list, err := pgx.CollectRows(rows, approvalOf)
	if err != nil {
		return nil, fmt.Errorf("read approvals: %w", err)
	}
	return list, nil
}

func approvalOf(row pgx.CollectableRow) (Approval, error) {
	var a Approval
	var id [16]byte
	var content string
	var messages [][16]byte
	err := row.Scan(&id, &a.Account, &content, &a.AskedBy, &a.Asked, &a.State, &a.DecidedBy, &a.Decided, &a.Note, &messages)
	if err != nil {
		return a, err
	}
	a.ID = id
	if a.Decided.Unix() == 0 {
		a.Decided = time.Time{}
	}
	for _, m := range messages {
		a.Messages = append(a.Messages, m)
	}
	a.Message, err = message.Parse([]byte(content))
	return a, err
}

// Approve takes an approval into state approving, before its message is enqueued; false: it is refused or done. An
// approval that was cut short may be approved again as long as its message's key is surely remembered: later it would be
// sent twice. See [Store.ApprovedAs]. decided is when it was approved first.
func (s *Store) Approve(ctx context.Context, id message.ID, by string) (decided time.Time, taken bool, err error) {
	err = s.pool.QueryRow(ctx, `
		UPDATE approval SET state = 'approving', decided_by = $2, decided_at = coalesce(decided_at, now())
		WHERE id = $1 AND (state = 'waiting' OR state = 'approving' AND decided_at > now() - interval '23 hours')
		RETURNING decided_at`, [16]byte(id), by).Scan(&decided)
	if errors.Is(err, pgx.ErrNoRows) {
		return decided, false, nil
	}
	if err != nil {
		return decided, false, fmt.Errorf("approve %s: %w", id, err)
	}
	return decided, true, nil
}

// Approved notes what an approved message became. That holds whatever was noted before: it is accepted.
func (s *Store) Approved(ctx context.Context, id message.ID, messages []message.ID) error {
	ids := make([][16]byte, len(messages))
	for i, m := range messages {
		ids[i] = m
	}
	_, err := s.pool.Exec(ctx, `UPDATE approval SET state = 'approved', messages = $2::uuid[] WHERE id = $1`, [16]byte(id), ids)
	if err != nil {
		return fmt.Errorf("note approval of %s: %w", id, err)
	}
	return nil
}

// ApprovedAs finds what an approval's message became under the key that it was enqueued with: itself, or the parts of its
// list. None: it was never accepted, or is older than the retention.
func (s *Store) ApprovedAs(ctx context.Context, a Approval, key string) ([]message.ID, error) {
	ids, err := s.approvedAs(ctx, a, key)
	if err != nil {
		return nil, fmt.Errorf("find what %s became: %w", a.ID, err)
	}
	return ids, nil
}

// clocksApart bounds how far the clocks of our machines stand apart.
const clocksApart = time.Hour

func (s *Store) approvedAs(ctx context.Context, a Approval, key string) ([]message.ID, error) {
	first, lists := *a.Message, mass.Split(a.Message.List)
	if len(lists) > 1 {
		first.List = lists[0]
	}
	var id [16]byte
	err := s.pool.QueryRow(ctx, `
		SELECT b.id FROM message_body b JOIN message m ON m.id = b.id JOIN account a ON a.id = m.account
		WHERE b.recipient = $1 AND b.key = $2 AND b.id >= $3 AND a.name = $4 AND m.kind = 'mass' ORDER BY b.id LIMIT 1`,
		first.Recipient(), key, [16]byte(message.FirstID(a.Asked.Add(-clocksApart))), a.Account).Scan(&id)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, nil
	} else if err != nil {
		return nil, err
	}
	st, err := s.status(ctx, id)
	if err != nil || st.Message.Hash() != first.Hash() { // of another message, that was quicker with the key
		return nil, err
	}
	ids := []message.ID{id}
	if len(lists) < 2 {
		return ids, nil
	}
	sizes := []string{first.Recipient(), (&message.Message{Kind: message.Mass, List: lists[len(lists)-1]}).Recipient()} // there are no others
	rows, err := s.pool.Query(ctx, `SELECT id FROM message_body WHERE recipient = ANY ($2) AND id > $1 AND parent = $1 ORDER BY id`, id, sizes)
	if err != nil {
		return nil, err
	}
	_, err = pgx.ForEachRow(rows, []any{&id}, func() error { ids = append(ids, id); return nil })
	return ids, err
}

// NotApproved takes an approval of that time back to waiting, whose message turned out to be one that cannot be enqueued. One
// that somebody gave since stays.
func (s *Store) NotApproved(ctx context.Context, id message.ID, decided time.Time) error {
	_, err := s.pool.Exec(ctx, `
		UPDATE approval SET state = 'waiting', decided_by = '', decided_at = NULL WHERE id = $1 AND state = 'approving' AND decided_at = $2`, [16]byte(id), decided)
	if err != nil {
		return fmt.Errorf("take back approval of %s: %w", id, err)
	}
	return nil
}

// Refuse ends an approval that waits; false: it is decided already.
func (s *Store) Refuse(ctx context.Context, id message.ID, by, note string) (bool, error) {
	tag, err := s.pool.Exec(ctx, `
		UPDATE approval SET state = 'refused', decided_by = $2, decided_at = now(), note = $3 WHERE id = $1 AND state = 'waiting'`, [16]byte(id), by, clean(note))
	if err != nil {
		return false, fmt.Errorf("refuse %s: %w", id, err)
	}
	return tag.RowsAffected() > 0, nil
}
