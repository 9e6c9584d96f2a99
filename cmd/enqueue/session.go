package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"time"

	"golang.org/x/term"

	"github.com/hongyan-dispatch/hongyan/client"
	"github.com/hongyan-dispatch/hongyan/internal/config"
	"github.com/hongyan-dispatch/hongyan/internal/postgres"
	"github.com/hongyan-dispatch/hongyan/message"
)

// A session is one run of the command: its streams and its settings.
type session struct {
	stdin          io.Reader
	stdout, stderr io.Writer
	json           bool
	configFile     string
	stdinTaken     string // by which flag
}

// load reads the configuration, which must have what the command needs.
func (s *session) load(needs ...config.Need) (*config.Config, error) {
	return config.Load(config.Path(s.configFile, os.LookupEnv), os.LookupEnv, needs...)
}

// account is the configured account of a name or appid. An empty name means the only one that there is.
func account(c *config.Config, name string) (*config.Account, error) {
	if name == "" && len(c.Accounts) == 1 {
		return &c.Accounts[0], nil
	}
	if name == "" {
		return nil, refuse("--account: required: there are %d configured accounts", len(c.Accounts))
	}
	a, ok := c.Account(name)
	if !ok {
		return nil, refuse("account %q: not configured; see accounts in the configuration file", name)
	}
	return a, nil
}

// enqueuer opens the client that the configuration describes.
func (s *session) enqueuer(ctx context.Context) (*client.Client, *config.Config, error) {
	cfg, err := s.load(config.NeedRedis)
	if err != nil {
		return nil, nil, err
	}
	o := client.Options{Redis: cfg.Redis.URL.Reveal(), Database: cfg.Postgres.URL.Reveal()}
	for _, a := range cfg.Accounts {
		o.Accounts = append(o.Accounts, client.Account{Name: a.Name, AppID: message.AppID(a.AppID), Remember: longest(a.Window)})
	}
	c, err := client.New(ctx, o)
	if err != nil {
		return nil, nil, fmt.Errorf("nothing was accepted: %w", err)
	}
	return c, cfg, nil
}

// longest is how long a user's action may count.
func longest(w config.Window) time.Duration {
	var most time.Duration
	for _, a := range []config.Allowance{w.Message, w.Menu, w.Follow, w.Scan, w.Pay} {
		if a.Messages != 0 {
			most = max(most, a.For)
		}
	}
	return most
}

// ledger opens the ledger, for commands that are about it alone.
func (s *session) ledger(ctx context.Context) (*postgres.Store, error) {
	cfg, err := s.load(config.NeedPostgres)
	if err != nil {
		return nil, err
	}
	return postgres.Open(ctx, cfg.Postgres.URL.Reveal(), postgres.Options{Name: "hongyan-enqueue"})
}

// open opens the file that a flag or an argument names; - is standard input, which serves one of them.
func (s *session) open(flag, name string) (io.ReadCloser, error) {
	if name != "-" {
		f, err := os.Open(name)
		if pathErr := (*fs.PathError)(nil); errors.As(err, &pathErr) {
			return nil, refuse("%s: %s: %w", flag, name, pathErr.Err)
		} else if err != nil {
			return nil, err
		}
		if info, err := f.Stat(); err == nil && info.IsDir() {
			_ = f.Close()
			return nil, refuse("%s: %s: is a directory; want a file", flag, name)
		}
		return f, nil
	}
	if s.stdinTaken != "" {
		return nil, refuse("%s: standard input is read by %s already", flag, s.stdinTaken)
	}
	s.stdinTaken = flag
	if f, ok := s.stdin.(*os.File); ok {
		return f, nil // a file of its own kind, whose size is known
	}
	return io.NopCloser(s.stdin), nil
}

// readAll reads a file of at most limit bytes.
func (s *session) readAll(flag, name string, limit int64) ([]byte, error) {
	f, err := s.open(flag, name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err != nil {
		return nil, fmt.Errorf("%s: %s: %w", flag, name, err)
	}
	if int64(len(text)) > limit {
		return nil, refuse("%s: %s: longer than %d KiB", flag, name, limit>>10)
	}
	return text, nil
}

// print writes one line for people, or v as JSON.
func (s *session) print(v any, format string, args ...any) error {
	if s.json {
		return s.printJSON(v)
	}
	_, err := fmt.Fprintf(s.stdout, format+"\n", args...)
	return err
}

func (s *session) printJSON(v any) error {
	e := json.NewEncoder(s.stdout)
	e.SetEscapeHTML(false)
	return e.Encode(v)
}

// isTerminal says whether a person sits at the other end of a stream.
func isTerminal(stream any) bool {
	f, ok := stream.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// columnsOf is how wide a terminal is, or what most of them are.
func columnsOf(stream any) int {
	if f, ok := stream.(*os.File); ok {
		if columns, _, err := term.GetSize(int(f.Fd())); err == nil && columns > 0 {
			return columns
		}
	}
	return 80
}
