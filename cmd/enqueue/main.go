// Enqueue puts messages for WeChat Official Accounts into Hongyan's queue, says what became of them, and does
// what an account needs beside: media, quotas, gates.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"unicode/utf8"

	"github.com/alecthomas/kong"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/redis/go-redis/v9/logging"

	"github.com/hongyan-dispatch/hongyan/client"
	"github.com/hongyan-dispatch/hongyan/internal/config"
	"github.com/hongyan-dispatch/hongyan/internal/postgres"
	"github.com/hongyan-dispatch/hongyan/internal/wechat"
	"github.com/hongyan-dispatch/hongyan/message"
)

func main() {
	logging.Disable() // what Redis has to say stands in our errors
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second Ctrl-C does not wait
	os.Exit(run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}

// The exit codes.
const (
	exitDone     = 0
	exitFailed   = 1
	exitBadInput = 2
)

// run is the command.
func run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	var c commands
	ended := false // --help and --version have written what was asked
	parser, err := kong.New(&c, append(options(), kong.Writers(stdout, stderr), kong.Exit(func(int) { ended = true }))...)
	if err != nil {
		panic(err) // the flags themselves are wrong
	}
	for i, arg := range args {
		if !utf8.ValidString(arg) { // JSON would carry U+FFFD in its place, to a user's phone
			return complain(stderr, refuse("argument %d: not valid UTF-8, got %q; mend the terminal's or the script's encoding", i+1, arg))
		}
	}
	parsed, err := parser.Parse(args)
	if ended {
		return exitDone
	}
	if err != nil {
		return complain(stderr, usage(err))
	}
	s := &session{stdin: stdin, stdout: stdout, stderr: stderr, json: c.JSON, configFile: c.Config}
	parsed.BindTo(ctx, (*context.Context)(nil))
	return complain(stderr, parsed.Run(s))
}

// complain writes an error, if there is one, and returns the exit code.
func complain(stderr io.Writer, err error) int {
	if err == nil {
		return exitDone
	}
	bad := isBadInput(err)
	if _, silent := errors.AsType[reported](err); !silent {
		text := err.Error()
		if !bad { // those may have a line for each mistake; pgx has one for each address that it tried
			text = strings.Join(strings.Fields(text), " ")
		}
		text += hint(err)
		_, _ = fmt.Fprintln(stderr, "enqueue:", text)
	}
	if bad {
		return exitBadInput
	}
	return exitFailed
}

// hint says what helps where a store is the trouble.
func hint(err error) string {
	refused, answered := errors.AsType[*pgconn.PgError](err)
	_, away := errors.AsType[*pgconn.ConnectError](err)
	_, queried := errors.AsType[postgres.QueryError](err)
	switch {
	case queried:
		return " (see audience.sql of the spec, and --database or campaigns.database)"
	case answered && slices.Contains(undefined, refused.Code):
		return " (the schema is missing or older than this command: run worker migrate)"
	case away, errors.Is(err, client.ErrUnavailable):
		return " (see worker check)"
	}
	return ""
}

// undefined are the SQLSTATEs of a table, column, type and function that is not there.
var undefined = []string{"42P01", "42703", "42704", "42883"}

// badInput is an error that the user mends at the keyboard.
type badInput struct{ error }

func (b badInput) Unwrap() error { return b.error }

func refuse(format string, args ...any) error { return badInput{fmt.Errorf(format, args...)} }

// reported is an error that the user has read already.
type reported struct{ error }

func (r reported) Unwrap() error { return r.error }

func isBadInput(err error) bool {
	_, refused := errors.AsType[badInput](err)
	_, invalid := errors.AsType[message.Invalid](err)
	_, configuration := errors.AsType[*config.Error](err)
	_, media := errors.AsType[wechat.MediaError](err)
	_, spec := errors.AsType[*client.SpecError](err)
	return refused || spec || invalid || configuration || media || errors.Is(err, client.ErrKeyConflict)
}

// usage is what is wrong with the command line, and where to read how it is meant.
func usage(err error) error {
	help := "enqueue --help"
	if parse, ok := errors.AsType[*kong.ParseError](err); ok && parse.Context != nil {
		if command := parse.Context.Selected(); command != nil {
			help = command.FullPath() + " --help"
		}
	}
	if flag, _, missing := strings.Cut(err.Error(), ": expected "); missing && strings.HasSuffix(err.Error(), "(<EOL>)") {
		return refuse("%s: wants a value (see %s)", flag, help)
	}
	return refuse("%w (see %s)", err, help)
}
