package main

import (
	"errors"
	"fmt"
	"io"
	"strconv"
	"time"

	"github.com/hongyan-dispatch/hongyan/client"
	"github.com/hongyan-dispatch/hongyan/internal/lines"
)

// A summary is how a file of lines ends on standard output.
type summary struct {
	Lines      int               `json:"lines"`
	Accepted   int               `json:"accepted"`
	Duplicates int               `json:"duplicates"`
	Refused    int               `json:"refused"`
	Seconds    float64           `json:"seconds"`
	Durability client.Durability `json:"durability,omitempty"`
	Rejects    string            `json:"rejects,omitempty"`
	FromLine   int               `json:"from_line,omitempty"` // where to go on
	Error      string            `json:"error,omitempty"`
}

// A tally counts verdicts in the order of the file.
type tally struct {
	summary
	name     string // of the file
	start    time.Time
	rejects  *rejects
	bar      *bar
	stderr   io.Writer
	last     int   // the last line that was dealt with, and all before it
	failure  error // of a store: the first
	failedAt int   // its line
	beyond   int   // lines behind failedAt that were accepted
}

// shownRefusals is how many refused lines are told on the terminal; the file has all.
const shownRefusals = 10

func (t *tally) report(b *lines.Slab, verdicts []verdict) error {
	for i, v := range verdicts {
		l := b.Lines[i]
		t.Lines++
		switch {
		case v.err == nil && v.duplicate:
			t.Duplicates++
		case v.err == nil:
			t.Accepted++
		case v.refused():
			t.Refused++
			if t.Refused <= shownRefusals {
				t.bar.clear()
				_, _ = fmt.Fprintf(t.stderr, "%s:%d: %v\n", t.name, l.Number, v.err)
			}
			if err := t.rejects.add(l.Number, v.err, b.At(l)); err != nil {
				return err
			}
		case t.failure == nil:
			t.failure, t.failedAt = v.err, l.Number
		}
		if t.failure == nil {
			t.last = l.Number
		} else if v.err == nil {
			t.beyond++
		}
	}
	t.bar.at(b.Offset, t.Accepted+t.Duplicates)
	return t.rejects.flush()
}

// finish writes the summary, and returns the error by which the command ends: err is that of the stream, stopped
// says that it did not come to its end.
func (t *tally) finish(s *session, err error, stopped bool) error {
	t.bar.clear()
	t.Seconds = time.Since(t.start).Round(time.Millisecond).Seconds()
	if closeErr := t.rejects.close(); err == nil {
		err = closeErr
	}
	t.Rejects = t.rejects.written()
	switch {
	case t.failure != nil:
		t.FromLine = t.failedAt
		err = fmt.Errorf("%s:%d: %w%s", t.name, t.failedAt, t.failure, t.goOn())
	case err != nil:
		t.FromLine = t.last + 1
		err = fmt.Errorf("after line %d: %w", t.last, err)
	case stopped:
		t.FromLine = t.last + 1
		err = fmt.Errorf("%s: interrupted%s", t.name, t.goOn())
	}
	if err != nil {
		t.Error = err.Error()
	}
	if printErr := s.printJSON(t.summary); printErr != nil {
		return printErr
	}
	if err != nil {
		return err
	}
	if t.Refused > 0 {
		return refuse("%s: %s refused; see %s", t.name, count(t.Refused, "line"), t.Rejects)
	}
	return nil
}

// goOn says how to do the rest.
func (t *tally) goOn() string {
	text := "; no line was accepted"
	if t.last > 0 {
		text = fmt.Sprintf("; the last line done is %d", t.last)
	}
	if t.beyond > 0 {
		text += fmt.Sprintf(", and %s behind it", count(t.beyond, "more"))
	}
	text += fmt.Sprintf("; go on with --from-line %d", t.FromLine)
	if t.beyond > 0 || t.failure != nil {
		text += ", which sends no message twice that has a key"
	}
	return text
}

func count(n int, what string) string {
	if n == 1 || what == "more" {
		return strconv.Itoa(n) + " " + what
	}
	return strconv.Itoa(n) + " " + what + "s"
}

// A verdict is what became of one line.
type verdict struct {
	duplicate bool
	err       error // nil: accepted
}

// refused says whether the line itself is to blame, and not a store.
func (v verdict) refused() bool {
	return v.err != nil && !errors.Is(v.err, errStore) &&
		!errors.Is(v.err, client.ErrUnavailable) && !errors.Is(v.err, client.ErrInDoubt)
}

// errStore is wrapped by errors of a store, after which there is no use in going on.
var errStore = errors.New("a store does not answer")
