package campaign

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// A Finding is one mistake in a spec.
type Finding struct {
	Line   int    `json:"line,omitempty"` // 0 where no line can be named
	Path   string `json:"path,omitempty"` // such as pace.per_second; empty for the whole
	Rule   string `json:"rule"`           // what is wrong
	Remedy string `json:"remedy,omitempty"`
}

// String is the finding on one line: where, what, and what to do.
func (f Finding) String() string {
	var b strings.Builder
	if f.Line > 0 {
		fmt.Fprintf(&b, "line %d: ", f.Line)
	}
	if f.Path != "" {
		b.WriteString(f.Path + ": ")
	}
	b.WriteString(f.Rule)
	if f.Remedy != "" {
		b.WriteString(" (" + f.Remedy + ")")
	}
	return b.String()
}

// An Error is everything that is wrong with a spec, in its order.
type Error struct{ Findings []Finding }

// Error is one line for a single finding, else a count and a line for each.
func (e *Error) Error() string {
	if len(e.Findings) == 1 {
		return "campaign: " + e.Findings[0].String()
	}
	var b strings.Builder
	fmt.Fprintf(&b, "campaign: %d mistakes:", len(e.Findings))
	for _, f := range e.Findings {
		b.WriteString("\n  " + f.String())
	}
	return b.String()
}

// findings collects mistakes, by the path where each stands.
type findings struct {
	lines   map[string]int  // path -> line; nil for a spec built in Go
	given   map[string]bool // paths that have a value in the text, be it 0; likewise
	spoiled map[string]bool // what could not be read, and is asked no more
	found   []Finding
}

func (f *findings) add(path, rule, remedy string) {
	if !f.isSpoiled(path) {
		f.found = append(f.found, Finding{Line: f.line(path), Path: path, Rule: rule, Remedy: remedy})
	}
}

// spoil adds a mistake that makes everything under the path unreadable.
func (f *findings) spoil(path, rule, remedy string) {
	f.add(path, rule, remedy)
	f.spoiled[path] = true
}

func (f *findings) isSpoiled(path string) bool {
	for ; path != ""; path = above(path) {
		if f.spoiled[path] {
			return true
		}
	}
	return false
}

// line is that of the path, or of the nearest one above that stands in the text.
func (f *findings) line(path string) int {
	for ; path != ""; path = above(path) {
		if n, ok := f.lines[path]; ok {
			return n
		}
	}
	return 0
}

func above(path string) string { return path[:max(strings.LastIndexAny(path, ".["), 0)] }

func (f *findings) err() error {
	if len(f.found) == 0 {
		return nil
	}
	slices.SortStableFunc(f.found, func(a, b Finding) int { return cmp.Compare(a.Line, b.Line) })
	return &Error{Findings: f.found}
}
