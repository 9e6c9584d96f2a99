package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"regexp"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/hongyan-dispatch/hongyan/internal/api"
	"github.com/hongyan-dispatch/hongyan/internal/config"
	"github.com/hongyan-dispatch/hongyan/internal/postgres"
)

type keyCommands struct {
	Create keyCreateCommand `cmd:"" help:"Make a key, and show it this once."`
	List   keyListCommand   `cmd:"" help:"List the keys, without their secrets."`
	Revoke keyRevokeCommand `cmd:"" help:"End a key; servers know within seconds."`
}

type keyCreateCommand struct {
	Name      string   `arg:"" help:"Who holds it. A name may have two live keys: the old one and the new one while it is changed."`
	Scope     []string `required:"" help:"What it allows, as ACCOUNT:KIND:ACTION, each of which may be *; may be repeated. Actions: enqueue, read, replay, admin." placeholder:"SCOPE" sep:"none"`
	Expires   lifetime `help:"When it ends: after such as 90d or 12h. Without it, when it is revoked." placeholder:"TIME"`
	PerSecond float64  `help:"Messages and events, refused ones too, and other requests that it may make in a second at one server; 0: any number." default:"0" placeholder:"N"`
}

func (*keyCreateCommand) Help() string {
	return `Only its SHA-256 is kept: whoever loses the key makes a new one and revokes the old one.

Examples:

  server key create crm --scope shop:*:enqueue --scope shop:*:read
  server key create night-shift --scope 'shop:mass:admin' --expires 90d`
}

// A lifetime is such as 90d or 12h.
type lifetime time.Duration

// UnmarshalText reads days, or what Go calls a duration.
func (l *lifetime) UnmarshalText(text []byte) error {
	d, err := time.ParseDuration(string(text))
	if days, ok := strings.CutSuffix(string(text), "d"); ok {
		var n uint64
		n, err = strconv.ParseUint(days, 10, 16)
		d = time.Duration(n) * 24 * time.Hour
	}
	if err != nil || d <= 0 {
		return fmt.Errorf("want a time from now such as 90d or 12h, got %q", text)
	}
	*l = lifetime(d)
	return nil
}

// badInput is an error that the user mends at the keyboard.
type badInput struct{ error }

func (b badInput) Unwrap() error { return b.error }

func refuse(format string, args ...any) error { return badInput{fmt.Errorf(format, args...)} }

// Bounds of a key's rate.
const (
	minPerSecond = 0.01
	maxPerSecond = 1e6
)

var keyName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$`)

// Run makes the key.
func (c *keyCreateCommand) Run(ctx context.Context, i invocation) error {
	if !keyName.MatchString(c.Name) {
		return refuse("NAME: %q: want 1 to 64 of letters, digits, dot, dash and _, a letter or digit first", c.Name)
	}
	if c.PerSecond != 0 && !(c.PerSecond >= minPerSecond && c.PerSecond <= maxPerSecond) { // NaN is neither
		return refuse("--per-second: want %v to %.0f, or 0 for any number, got %v", minPerSecond, maxPerSecond, c.PerSecond)
	}
	cfg, store, now, err := i.ledger(ctx)
	if err != nil {
		return err
	}
	defer store.Close()
	scopes, err := scopesOf(cfg, c.Scope)
	if err != nil {
		return err
	}
	id, text, hash := api.NewKey()
	k := postgres.APIKey{ID: id, Name: c.Name, Hash: hash[:], Scopes: scopes, PerSecond: c.PerSecond, Created: now}
	if c.Expires > 0 {
		k.Expires = now.Add(time.Duration(c.Expires))
	}
	err = store.CreateAPIKey(ctx, k, byHand("key create", id, c.Name+" "+strings.Join(scopes, " "), now))
	if errors.Is(err, postgres.ErrTooManyKeys) {
		return refuse("%s: %w (see server key list)", c.Name, postgres.ErrTooManyKeys)
	}
	if err != nil {
		return err
	}
	if i.json {
		return i.printJSON(struct {
			keyView
			Key string `json:"key"`
		}{viewOf(k, now), text})
	}
	_, err = fmt.Fprintf(i.stdout, "%s\n", text)
	fmt.Fprintf(i.stderr, "server: key %s of %s; it is not shown again\n", id, c.Name)
	return err
}

// scopesOf reads scopes and gives accounts the names that they have in the configuration.
func scopesOf(cfg *config.Config, texts []string) ([]string, error) {
	var scopes []string
	for _, text := range texts {
		s, err := api.ParseScope(text)
		if err != nil {
			return nil, refuse("--scope: %w", err)
		}
		if s.Account != "*" {
			a, known := cfg.Account(s.Account)
			if !known {
				return nil, refuse("--scope: %s: account %q: not configured; see accounts in the configuration file", text, s.Account)
			}
			s.Account = a.Name
		}
		scopes = append(scopes, s.String())
	}
	return scopes, nil
}

// byHand is the audit's entry of a command.
func byHand(action, id, detail string, now time.Time) postgres.AuditEntry {
	return postgres.AuditEntry{At: now, Name: os.Getenv("USER"), Action: action, Target: id, Detail: detail}
}

// ledger opens the ledger of the configuration, and tells its time: by that servers see whether a key is over.
func (i invocation) ledger(ctx context.Context) (_ *config.Config, _ *postgres.Store, now time.Time, err error) {
	cfg, err := config.Load(i.path, os.LookupEnv, config.NeedPostgres)
	if err != nil {
		return nil, nil, now, err
	}
	store, err := postgres.Open(ctx, cfg.Postgres.URL.Reveal(), postgres.Options{Name: "hongyan-server-key", MaxConns: 2})
	if err != nil {
		return nil, nil, now, err
	}
	if err = store.Migrated(ctx); err != nil {
		err = fmt.Errorf("%w: run worker migrate first", err)
	} else {
		now, err = store.Now(ctx)
	}
	if err != nil {
		store.Close()
		return nil, nil, now, err
	}
	return cfg, store, now, nil
}

func (i invocation) printJSON(v any) error {
	e := json.NewEncoder(i.stdout)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	return e.Encode(v)
}

// keyView is what --json writes.
type keyView struct {
	ID        string    `json:"id"`
	Name      string    `json:"name"`
	State     string    `json:"state"` // live, expired, revoked
	Scopes    []string  `json:"scopes"`
	PerSecond float64   `json:"per_second,omitempty"`
	Created   time.Time `json:"created_at"`
	Expires   time.Time `json:"expires_at,omitzero"`
	Revoked   time.Time `json:"revoked_at,omitzero"`
	Used      time.Time `json:"used_at,omitzero"`
}

func viewOf(k postgres.APIKey, now time.Time) keyView {
	v := keyView{k.ID, k.Name, "live", k.Scopes, k.PerSecond, k.Created, k.Expires, k.Revoked, k.Used}
	switch {
	case !k.Revoked.IsZero():
		v.State = "revoked"
	case !k.Live(now):
		v.State = "expired"
	}
	return v
}

type keyListCommand struct{}

// Run lists the keys.
func (*keyListCommand) Run(ctx context.Context, i invocation) error {
	_, store, now, err := i.ledger(ctx)
	if err != nil {
		return err
	}
	defer store.Close()
	keys, err := store.APIKeys(ctx)
	if err != nil {
		return err
	}
	views := []keyView{}
	for _, k := range keys {
		views = append(views, viewOf(k, now))
	}
	if i.json {
		return i.printJSON(views)
	}
	w := tabwriter.NewWriter(i.stdout, 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintln(w, "ID\tNAME\tSTATE\tUSED\tEXPIRES\tSCOPES") // Flush tells
	for _, v := range views {
		_, _ = fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\n", v.ID, v.Name, v.State, clock(v.Used), clock(v.Expires), strings.Join(v.Scopes, " "))
	}
	return w.Flush()
}

func clock(t time.Time) string {
	if t.IsZero() {
		return "never"
	}
	return t.Local().Format("2006-01-02 15:04")
}

type keyRevokeCommand struct {
	ID string `arg:"" help:"The key's id, as server key list shows it."`
}

// Run ends the key.
func (c *keyRevokeCommand) Run(ctx context.Context, i invocation) error {
	_, store, now, err := i.ledger(ctx)
	if err != nil {
		return err
	}
	defer store.Close()
	known, lived, err := store.RevokeAPIKey(ctx, c.ID, byHand("key revoke", c.ID, "", now))
	switch {
	case err != nil:
		return err
	case !known:
		return refuse("%s: there is no such key (see server key list)", c.ID)
	}
	if i.json {
		return i.printJSON(map[string]any{"id": c.ID, "changed": lived})
	}
	word := "revoked"
	if !lived {
		word = "was revoked before:"
	}
	_, err = fmt.Fprintln(i.stdout, word, c.ID)
	return err
}
