package postgres

import (
	"context"
	"fmt"
	"sync"

	"github.com/jackc/pgx/v5"

	"github.com/hongyan-dispatch/hongyan/message"
)

// An Account is what the ledger knows of an Official Account: its alias and its appid.
type Account struct {
	Name  string
	AppID message.AppID
}

// accounts remembers the rows of account. Ids never change, so what was read once stays true.
type accounts struct {
	mu    sync.RWMutex
	ids   map[string]int32 // by name, and by appid
	names map[int32]string
}

func (a *accounts) id(name string) (int32, bool) {
	a.mu.RLock()
	defer a.mu.RUnlock()
	id, ok := a.ids[name]
	return id, ok
}

func (a *accounts) name(id int32) (string, bool) {
	a.mu.RLock()
	defer a.mu.RUnlock()
	name, ok := a.names[id]
	return name, ok
}

func (a *accounts) keep(id int32, name, appid string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.ids == nil {
		a.ids, a.names = map[string]int32{}, map[int32]string{}
	}
	a.ids[name], a.names[id] = id, name
	if appid != "" {
		a.ids[appid] = id
	}
}

// SyncAccounts writes the configured accounts down. An appid that stood under another name moves to the new one's
// row; a row whose account is configured no more stays, for its messages.
func (s *Store) SyncAccounts(ctx context.Context, list []Account) error {
	err := s.inTx(ctx, func(tx pgx.Tx) error {
		// One process at a time, or two could make each other's names unique violations.
		if _, err := tx.Exec(ctx, `LOCK TABLE account IN SHARE ROW EXCLUSIVE MODE`); err != nil {
			return err
		}
		for _, a := range list {
			if a.Name == "" {
				return ErrUnknownAccount
			}
			args := pgx.NamedArgs{"name": a.Name, "appid": string(a.AppID)}
			if _, err := tx.Exec(ctx, `UPDATE account SET appid = '' WHERE appid = @appid AND name <> @name AND @appid <> ''`, args); err != nil {
				return err
			}
			if _, err := tx.Exec(ctx, `INSERT INTO account (name, appid) VALUES (@name, @appid)
				ON CONFLICT (name) DO UPDATE SET appid = excluded.appid WHERE account.appid <> excluded.appid`, args); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("write accounts: %w", err)
	}
	return s.loadAccounts(ctx)
}

func (s *Store) loadAccounts(ctx context.Context) error {
	rows, err := s.pool.Query(ctx, `SELECT id, name, appid FROM account`)
	if err != nil {
		return fmt.Errorf("read accounts: %w", err)
	}
	var id int32
	var name, appid string
	_, err = pgx.ForEachRow(rows, []any{&id, &name, &appid}, func() error {
		s.accounts.keep(id, name, appid)
		return nil
	})
	if err != nil {
		return fmt.Errorf("read accounts: %w", err)
	}
	return nil
}

// AccountID is the number of the account with this alias or appid, and its alias. A name that nobody has written
// down yet gets a row of its own, so that its messages can be kept and end as invalid.
func (s *Store) AccountID(ctx context.Context, nameOrAppID string) (id int32, name string, err error) {
	id, err = s.accountID(ctx, nameOrAppID)
	if err != nil {
		return 0, "", err
	}
	name, err = s.accountName(ctx, id)
	return id, name, err
}

func (s *Store) accountID(ctx context.Context, name string) (int32, error) {
	if id, ok := s.accounts.id(name); ok {
		return id, nil
	}
	if name == "" {
		return 0, ErrUnknownAccount
	}
	if err := s.loadAccounts(ctx); err != nil {
		return 0, err
	}
	if id, ok := s.accounts.id(name); ok {
		return id, nil
	}
	if _, err := s.pool.Exec(ctx, `INSERT INTO account (name) VALUES ($1) ON CONFLICT (name) DO NOTHING`, name); err != nil {
		return 0, fmt.Errorf("write account: %w", err)
	}
	if err := s.loadAccounts(ctx); err != nil {
		return 0, err
	}
	id, ok := s.accounts.id(name)
	if !ok {
		return 0, fmt.Errorf("account %q was written and is not there", name)
	}
	return id, nil
}

func (s *Store) accountName(ctx context.Context, id int32) (string, error) {
	if name, ok := s.accounts.name(id); ok {
		return name, nil
	}
	if err := s.loadAccounts(ctx); err != nil {
		return "", err
	}
	name, ok := s.accounts.name(id)
	if !ok {
		return "", fmt.Errorf("account %d has no row", id)
	}
	return name, nil
}
