package postgres

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/hongyan-dispatch/hongyan/message"
)

// ImportBlock is how many recipients an import writes in a transaction: the cheapest number.
const ImportBlock = 50_000

// An Import adds recipients to an audience, each openid once, and without those who refuse such messages. It belongs
// to one goroutine. After an error it is of no use any more; another goes on where the rows end.
type Import struct {
	Audience Audience // as its row is

	store    *Store
	account  int32
	template string // whose refusals count too
	// A fetch has neither sieve: in its memory nothing grows with the audience.
	seen       *sieve // of the audience, by n
	suppressed *sieve
}

// A Newcomer is who is to be added.
type Newcomer struct {
	Line   int64 // of the input
	OpenID message.OpenID
	Vars   []string
}

// A Dropped newcomer was not added.
type Dropped struct {
	Newcomer
	Of      int32 // recipient who has the openid already; 0: suppressed
	ErrCode int   // suppressed: WeChat's refusal; 0: by what was heard of the user
}

// Reason says why, in words.
func (d Dropped) Reason() string {
	if d.Of > 0 {
		return fmt.Sprintf("duplicate: recipient %d has this openid", d.Of)
	}
	if d.ErrCode == 0 {
		return "suppressed: the user has left, or refuses such messages"
	}
	return fmt.Sprintf("suppressed: the user refuses such messages (WeChat's %d)", d.ErrCode)
}

// NewFetch goes on with an audience of the campaign that a worker fetches. Whoever is in it twice is dropped when it is
// finished, by Postgres; memory is bounded, whatever its size.
func (s *Store) NewFetch(ctx context.Context, c Campaign, a Audience) (*Import, error) {
	account, err := s.accountID(ctx, c.Account)
	if err != nil {
		return nil, fmt.Errorf("begin import: %w", err)
	}
	var body struct {
		TemplateID string `json:"template_id"`
	}
	_ = json.Unmarshal(c.Spec.Body, &body) // a body without one has none
	return &Import{Audience: a, store: s, account: account, template: body.TemplateID}, nil
}

// NewImport goes on with an audience of the campaign that is being imported. It says at once who is in it twice, with
// which line, for 8 bytes a recipient.
func (s *Store) NewImport(ctx context.Context, c Campaign, a Audience) (*Import, error) {
	i, err := s.NewFetch(ctx, c, a)
	if err != nil {
		return nil, err
	}
	err = s.inTx(ctx, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, `SET LOCAL statement_timeout = 0`); err != nil {
			return err
		}
		i.seen, i.suppressed = newSieve(), newSieve()
		err := fillSieve(ctx, tx, i.seen, `SELECT openid, n FROM recipient WHERE audience = $1`, a.ID)
		if err == nil {
			err = fillSieve(ctx, tx, i.suppressed, `SELECT openid, 1 FROM suppression WHERE account = $1 AND template_id IN ('', $2) AND active`, i.account, i.template)
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("begin import: %w", err)
	}
	return i, nil
}

func fillSieve(ctx context.Context, tx pgx.Tx, s *sieve, sql string, args ...any) error {
	rows, err := tx.Query(ctx, sql, args...)
	if err != nil {
		return err
	}
	var openid message.OpenID
	var n int32
	_, err = pgx.ForEachRow(rows, []any{&openid, &n}, func() error { s.add(s.tag(openid), n); return nil })
	return err
}

// Add writes a block, at most [ImportBlock], in one transaction, together with the place in the input that position
// sets; the counts of duplicates and suppressed it keeps itself. It returns those whom it dropped, in their order.
func (i *Import) Add(ctx context.Context, block []Newcomer, position func(*Audience)) ([]Dropped, error) {
	earlier, err := i.earlier(ctx, block)
	if err != nil {
		return nil, err
	}
	refused, err := i.refused(ctx, block)
	if err != nil {
		return nil, err
	}
	keep, dropped := i.sort(block, earlier, refused)
	next := func() func() (message.OpenID, []string, bool) {
		at := 0
		return func() (message.OpenID, []string, bool) {
			if at == len(keep) {
				return "", nil, false
			}
			at++
			return keep[at-1].OpenID, keep[at-1].Vars, true
		}
	}
	err = i.store.copyRecipients(ctx, &i.Audience, next, func(a *Audience) {
		for _, d := range dropped {
			if d.Of > 0 {
				a.Duplicates++
			} else {
				a.Suppressed++
			}
		}
		if position != nil {
			position(a)
		}
	})
	return dropped, err
}

// sort tells those to keep, whose numbers go on behind the audience's, from the others.
func (i *Import) sort(block []Newcomer, earlier map[int32]message.OpenID, refused map[message.OpenID]int) (keep []Newcomer, dropped []Dropped) {
	keep = make([]Newcomer, 0, len(block))
	total := i.Audience.Total
	var found []int32
newcomers:
	for _, r := range block {
		var tag uint32
		if i.seen != nil {
			tag = i.seen.tag(r.OpenID)
			found = i.seen.find(found[:0], tag)
		}
		for _, n := range found {
			if n <= total && earlier[n] == r.OpenID || n > total && keep[n-total-1].OpenID == r.OpenID {
				dropped = append(dropped, Dropped{Newcomer: r, Of: n})
				continue newcomers
			}
		}
		if code, no := refused[r.OpenID]; no {
			dropped = append(dropped, Dropped{Newcomer: r, ErrCode: code})
			continue
		}
		keep = append(keep, r)
		if i.seen != nil {
			i.seen.add(tag, total+int32(len(keep)))
		}
	}
	return keep, dropped
}

// earlier reads the recipients who may be the same as somebody in the block.
func (i *Import) earlier(ctx context.Context, block []Newcomer) (map[int32]message.OpenID, error) {
	if i.seen == nil {
		return nil, nil
	}
	var ns []int32
	for _, r := range block {
		ns = i.seen.find(ns, i.seen.tag(r.OpenID))
	}
	if len(ns) == 0 {
		return nil, nil
	}
	rows, err := i.store.pool.Query(ctx, `SELECT n, openid FROM recipient WHERE audience = $1 AND n = ANY ($2)`, i.Audience.ID, ns)
	if err != nil {
		return nil, fmt.Errorf("look for duplicates: %w", err)
	}
	found := make(map[int32]message.OpenID, len(ns))
	var n int32
	var openid message.OpenID
	if _, err := pgx.ForEachRow(rows, []any{&n, &openid}, func() error { found[n] = openid; return nil }); err != nil {
		return nil, fmt.Errorf("look for duplicates: %w", err)
	}
	return found, nil
}

// refused reads who of the block refuses such messages, and WeChat's code.
func (i *Import) refused(ctx context.Context, block []Newcomer) (map[message.OpenID]int, error) {
	var users []string
	var found []int32
	for _, r := range block {
		if i.suppressed != nil {
			if found = i.suppressed.find(found[:0], i.suppressed.tag(r.OpenID)); len(found) == 0 {
				continue
			}
		}
		users = append(users, string(r.OpenID))
	}
	if len(users) == 0 {
		return nil, nil
	}
	rows, err := i.store.pool.Query(ctx, `
		SELECT openid, errcode FROM suppression WHERE account = $1 AND openid = ANY ($2) AND template_id IN ('', $3) AND active`, i.account, users, i.template)
	if err != nil {
		return nil, fmt.Errorf("look for suppressed users: %w", err)
	}
	refused := map[message.OpenID]int{}
	var openid message.OpenID
	var code int
	if _, err := pgx.ForEachRow(rows, []any{&openid, &code}, func() error { refused[openid] = code; return nil }); err != nil {
		return nil, fmt.Errorf("look for suppressed users: %w", err)
	}
	return refused, nil
}

// Finish says that the list is whole. A fetch has found nobody who is in it twice; Postgres does, and drops all but the
// first. That takes some seconds for each million, and as much room on its disk as the list.
func (i *Import) Finish(ctx context.Context) error {
	if i.seen == nil && i.Audience.State == "importing" {
		if err := i.store.dropDoubles(ctx, &i.Audience); err != nil {
			return fmt.Errorf("drop duplicates: %w", err)
		}
	}
	return i.store.FinishAudience(ctx, &i.Audience)
}

// dropDoubles leaves each openid of an audience once. The last rows take the numbers that become free.
func (s *Store) dropDoubles(ctx context.Context, a *Audience) error {
	next := *a
	err := s.inTx(ctx, func(tx pgx.Tx) error {
		next = *a
		if _, err := tx.Exec(ctx, `SET LOCAL statement_timeout = 0`); err != nil {
			return err
		}
		tag, err := tx.Exec(ctx, `SELECT FROM audience WHERE id = $1 AND state = 'importing' AND total = $2 FOR UPDATE`, a.ID, a.Total)
		if err == nil && tag.RowsAffected() == 0 {
			err = ErrImportMoved
		}
		if err != nil {
			return err
		}
		tag, err = tx.Exec(ctx, `
			DELETE FROM recipient r USING (SELECT n, row_number() OVER (PARTITION BY openid ORDER BY n) AS time FROM recipient WHERE audience = $1) AS d
			WHERE d.time > 1 AND r.audience = $1 AND r.n = d.n`, a.ID)
		if err != nil || tag.RowsAffected() == 0 {
			return err
		}
		next.Total, next.Duplicates = a.Total-int32(tag.RowsAffected()), a.Duplicates+int32(tag.RowsAffected())
		_, err = tx.Exec(ctx, `
			WITH free AS (
				SELECT g.n, row_number() OVER (ORDER BY g.n) AS i FROM generate_series(1, $2::int4) AS g (n)
				WHERE NOT EXISTS (SELECT FROM recipient r WHERE r.audience = $1 AND r.n = g.n)),
			last AS (SELECT n, row_number() OVER (ORDER BY n) AS i FROM recipient WHERE audience = $1 AND n > $2)
			UPDATE recipient r SET n = free.n FROM last JOIN free USING (i) WHERE r.audience = $1 AND r.n = last.n`, a.ID, next.Total)
		if err == nil {
			_, err = tx.Exec(ctx, `UPDATE audience SET total = $2, duplicates = $3 WHERE id = $1`, a.ID, next.Total, next.Duplicates)
		}
		return err
	})
	if err == nil {
		*a = next
	}
	return err
}
