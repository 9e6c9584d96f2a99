package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/hongyan-dispatch/hongyan/client"
	"github.com/hongyan-dispatch/hongyan/internal/wechat"
	"github.com/hongyan-dispatch/hongyan/message"
)

type campaignImportCommand struct {
	theCampaign
	File string `arg:"" optional:"" help:"CSV, JSON Lines or Excel, also packed; - is standard input. Without it: what the spec's audience names."`
	importFlags
	Database string `help:"For an audience by a query: the URL of its Postgres. Default: campaigns.database of the configuration." placeholder:"URL" env:"HONGYAN_AUDIENCE_DATABASE_URL"`
	RollBack bool   `help:"Forget what was imported by an import that was broken off, and do no more."`
}

// importFlags are those of an import of a file.
type importFlags struct {
	Resume   bool   `help:"Go on with an import that was broken off." xor:"there"`
	Restart  bool   `help:"Roll such an import back and begin anew, or replace an audience that is there." xor:"there"`
	Format   string `help:"csv, jsonl or xlsx. Default: by the file's name and content." placeholder:"FORMAT" enum:",csv,jsonl,xlsx" default:""`
	Encoding string `help:"utf-8 or gb18030. Default: by the content." placeholder:"NAME" enum:",utf-8,gb18030" default:""`
	Rejects  string `help:"Where refused rows go; another number is put into the name of a file that exists. Default: FILE.rejects.jsonl." placeholder:"PATH"`
}

func (*campaignImportCommand) Help() string {
	return `The file has a column openid; its other columns fill the placeholders. A row that is refused stops no other: it goes to a file of its
own, with line and reason, and the exit code is 2. An openid that stood above is dropped and counted; so is a user who refuses such
messages, whom the file names too. Rows are committed 50,000 at a time: an import that was killed is resumed behind the last, or
rolled back. Ends with a summary as JSON.

Examples:

  enqueue campaign import double-eleven users.csv
  enqueue campaign import double-eleven users.csv --resume
  enqueue campaign import double-eleven --roll-back
  psql -c "COPY (SELECT openid, name FROM users) TO STDOUT CSV HEADER" | enqueue campaign import double-eleven -`
}

// An importView is how an import ends on standard output.
type importView struct {
	client.AudienceState
	Seconds float64 `json:"seconds"`
	Rejects string  `json:"rejects,omitempty"`
	Error   string  `json:"error,omitempty"`
}

// Run imports the audience.
func (c *campaignImportCommand) Run(ctx context.Context, s *session) error {
	e, cfg, err := s.campaigns(ctx)
	if err != nil {
		return err
	}
	defer e.Close()
	found, err := e.Campaign(ctx, c.ID)
	if err != nil {
		return campaignError(c.ID, err)
	}
	if c.RollBack {
		a, err := e.RollBackImport(ctx, c.ID)
		if err != nil {
			return campaignError(c.ID, err)
		}
		return s.print(map[string]any{"rolled_back": a.Recipients}, "rolled back %s of %s", count(a.Recipients, "recipient"), a.Source)
	}
	file := c.File
	if file == "" {
		file = found.Audience.File
	}
	start := time.Now()
	view := importView{}
	var a client.AudienceState
	switch {
	case file != "":
		r, fileErr := openImport(s, file, c.importFlags)
		if fileErr != nil {
			return fileErr
		}
		a, err = r.file(ctx, e, found.ID)
		view.Rejects, err = r.close(err)
	case found.Audience.SQL != "":
		database := c.Database
		if database == "" {
			database = cfg.Campaigns.Database.Reveal()
		}
		if database == "" {
			return refuse("--database: required: the audience of %s is a query, and campaigns.database is not configured", found.Name)
		}
		r, fileErr := openImport(s, "query", c.importFlags)
		if fileErr != nil {
			return fileErr
		}
		a, err = e.QueryAudience(ctx, found.ID.String(), database, found.Audience.SQL, r.options())
		view.Rejects, err = r.close(err)
	case found.Audience.Pulled():
		a, err = s.pull(ctx, e, found, c.importFlags)
	default:
		return refuse("FILE: required: the spec of %s names no audience", found.Name)
	}
	return s.imported(view, a, start, c.ID, err)
}

// imported writes the summary of an import, and returns the error by which the command ends.
func (s *session) imported(v importView, a client.AudienceState, start time.Time, id string, err error) error {
	if broken := brokenOff(a, err); broken != nil {
		err = fmt.Errorf("campaign %s: %w", id, broken)
		v.Error = err.Error()
	} else if err != nil {
		return campaignError(id, refusedImport(err))
	}
	v.AudienceState, v.Seconds = a, time.Since(start).Round(time.Millisecond).Seconds()
	if a.Source != "" {
		if printErr := s.printJSON(v); printErr != nil {
			return printErr
		}
	}
	if err == nil && v.Rejects != "" {
		return refuse("%s: %s not taken; see %s", a.Source, count(a.Refused+a.Suppressed, "row"), v.Rejects)
	}
	return err
}

// refusedImport is why an import was not begun, as bad input where the user can mend it.
func refusedImport(err error) error {
	if _, there := errors.AsType[*client.AudienceThereError](err); there {
		return refuse("%w (--resume or --restart)", err)
	}
	_, columns := errors.AsType[*client.NotReadyError](err)
	if columns || errors.Is(err, client.ErrNotAudience) || errors.Is(err, client.ErrOtherInput) || errors.Is(err, client.ErrState) {
		return badInput{err}
	}
	return err
}

// brokenOff says where an import broke off that was begun, and how to go on; nil: it was not begun, or is whole.
func brokenOff(a client.AudienceState, err error) error {
	switch {
	case err == nil || a.Source == "" || errors.Is(err, client.ErrOtherInput):
		return nil
	case errors.Is(err, client.ErrNotAudience):
		return refuse("after line %d: %w; mend the file, and import it with --restart, or --roll-back", a.Lines, err)
	case errors.Is(err, context.Canceled):
		return fmt.Errorf("interrupted after line %d; go on with --resume, or --roll-back", a.Lines)
	}
	return fmt.Errorf("after line %d: %w; go on with --resume, or --roll-back", a.Lines, err)
}

// importFile imports a file into a campaign that was just created.
func (s *session) importFile(ctx context.Context, e *client.Client, id message.ID, r *fileImport) (client.AudienceState, error) {
	a, err := r.file(ctx, e, id)
	written, err := r.close(err)
	if broken := brokenOff(a, err); broken != nil {
		return a, broken
	}
	if err != nil {
		return a, refusedImport(err)
	}
	if written != "" {
		_, err = fmt.Fprintf(s.stderr, "%s: %s not taken; see %s\n", r.name, count(a.Refused+a.Suppressed, "row"), written)
	}
	return a, err
}

// A fileImport is an import of a file, or of a query, and the file of what it refuses.
type fileImport struct {
	s       *session
	name    string
	flags   importFlags
	in      io.ReadCloser // nil for a query
	bar     *bar
	rejects *rejects
	shown   int
}

func openImport(s *session, name string, flags importFlags) (*fileImport, error) {
	r := &fileImport{s: s, name: name, flags: flags}
	path := flags.Rejects
	switch {
	case path != "":
	case name == "-" || name == "query":
		path = "rejects.jsonl"
	default:
		path = name + ".rejects.jsonl"
	}
	var err error
	if name != "query" {
		if r.in, err = s.open("FILE", name); err != nil {
			return nil, err
		}
		r.bar = newBar(s.stderr, r.in, name)
	}
	if r.rejects, err = openRejects(path); err != nil {
		if r.in != nil {
			_ = r.in.Close()
		}
		return nil, err
	}
	return r, nil
}

func (r *fileImport) file(ctx context.Context, e *client.Client, id message.ID) (client.AudienceState, error) {
	name := r.name
	if name == "-" {
		name = "stdin"
	}
	return e.ImportAudience(ctx, id.String(), name, r.in, r.options())
}

func (r *fileImport) options() client.ImportOptions {
	f := r.flags
	return client.ImportOptions{
		Resume: f.Resume, Restart: f.Restart, Format: f.Format, Encoding: f.Encoding,
		Progress: func(a client.AudienceState) { r.bar.at(a.Bytes, a.Recipients) },
		Rejected: r.rejected,
	}
}

func (r *fileImport) rejected(bad client.Reject) error {
	if r.shown++; r.shown <= shownRefusals {
		r.bar.clear()
		_, _ = fmt.Fprintf(r.s.stderr, "%s:%d: %s\n", r.name, bad.Line, bad.Reason)
	}
	if err := r.rejects.add(int(bad.Line), errors.New(bad.Reason), []byte(bad.OpenID)); err != nil {
		return err
	}
	return r.rejects.flush() // before its block is committed: a resumed import does not read the line again
}

// close ends the import, and names the file of refused rows, if there are any.
func (r *fileImport) close(err error) (string, error) {
	r.bar.clear()
	if r.in != nil {
		_ = r.in.Close()
	}
	if closeErr := r.rejects.close(); err == nil {
		err = closeErr
	}
	return r.rejects.written(), err
}

// pull fetches a list of users from WeChat.
func (s *session) pull(ctx context.Context, e *client.Client, of client.Campaign, flags importFlags) (client.AudienceState, error) {
	caller, _, err := s.caller(of.Account)
	if err != nil {
		return client.AudienceState{}, err
	}
	defer caller.Close()
	source := "followers"
	if of.Audience.Tag != 0 {
		source = fmt.Sprintf("tag:%d", of.Audience.Tag)
	}
	page := func(ctx context.Context, cursor string) (users []message.OpenID, next string, err error) {
		err = caller.call(ctx, func(t wechat.Token) error {
			p, err := caller.wechat.UsersOf(ctx, t, of.Audience.Tag, message.OpenID(cursor))
			users, next = p.Users, string(p.Next)
			return err
		})
		return users, next, err
	}
	told := func(a client.AudienceState) {
		if isTerminal(s.stderr) {
			_, _ = fmt.Fprintf(s.stderr, "\r%d users", a.Recipients)
		}
	}
	return e.PullAudience(ctx, of.ID.String(), source, page, client.ImportOptions{Resume: flags.Resume, Restart: flags.Restart, Progress: told})
}
