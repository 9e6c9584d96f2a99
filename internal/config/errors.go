package config

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// A Finding is one mistake in the configuration.
type Finding struct {
	File   string // empty where the mistake is in no file
	Line   int    // 0 where no line can be named
	Path   string // such as accounts[0].limits.template.per_day; empty for the file as a whole
	Rule   string // what is wrong; never a secret's text
	Remedy string // what to do
}

// String is the finding on one line: where, what, and what to do.
func (f Finding) String() string {
	var b strings.Builder
	if f.File != "" && f.Line > 0 {
		fmt.Fprintf(&b, "%s:%d: ", f.File, f.Line)
	} else if f.File != "" {
		fmt.Fprintf(&b, "%s: ", f.File)
	}
	if f.Path != "" {
		fmt.Fprintf(&b, "%s: ", f.Path)
	}
	b.WriteString(f.Rule)
	if f.Remedy != "" {
		b.WriteString(" (" + f.Remedy + ")")
	}
	return b.String()
}

// Error is everything that is wrong with a configuration, in the order of the file.
type Error struct{ Findings []Finding }

// Error is one line for a single finding, else a count and a line for each.
func (e *Error) Error() string {
	if len(e.Findings) == 1 {
		return "configuration: " + e.Findings[0].String()
	}
	var b strings.Builder
	fmt.Fprintf(&b, "configuration: %d mistakes:", len(e.Findings))
	for _, f := range e.Findings {
		b.WriteString("\n  " + f.String())
	}
	return b.String()
}

// asError is nil where nothing was found.
func asError(found []Finding) error {
	if len(found) == 0 {
		return nil
	}
	slices.SortStableFunc(found, func(a, b Finding) int { return cmp.Compare(a.Line, b.Line) })
	return &Error{Findings: found}
}
