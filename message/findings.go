package message

import (
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"
)

// A FieldError says what is wrong with one field: where, which rule, and what was there instead where
// showing that is safe (a length, a name from a closed list; never a text that a user would read).
type FieldError struct {
	Path string `json:"path"` // such as template.data.thing1.value; empty for the whole message
	Rule string `json:"rule"`
	Got  string `json:"got,omitempty"`
}

func (e FieldError) String() string {
	s := e.Rule
	if e.Path != "" {
		s = e.Path + ": " + s
	}
	if e.Got != "" {
		s += " (got " + e.Got + ")"
	}
	return s
}

// Invalid is the error of [Parse] and [Message.Validate]: everything that is wrong with one message,
// in the order of the message. Its text is one line.
type Invalid []FieldError

func (i Invalid) Error() string {
	lines := make([]string, len(i))
	for n, e := range i {
		lines[n] = e.String()
	}
	return strings.Join(lines, "; ")
}

// maxFindings bounds an error: a list with 10,000 bad openids is told by its first ones.
const maxFindings = 20

// findings collects what is wrong while a message is walked.
type findings struct {
	path  path
	found Invalid
	more  int
}

// find records a finding about the field at the present path.
func (f *findings) find(rule, got string) {
	if len(f.found) == maxFindings {
		f.more++
		return
	}
	f.found = append(f.found, FieldError{Path: f.path.String(), Rule: rule, Got: got})
}

// findIn records a finding about the field name of the object at the present path.
func (f *findings) findIn(name, rule, got string) {
	f.path.push(name)
	f.find(rule, got)
	f.path.pop()
}

func (f *findings) err() error {
	if len(f.found) == 0 {
		return nil
	}
	if f.more > 0 {
		return append(f.found, FieldError{Rule: fmt.Sprintf("and %d more findings", f.more)})
	}
	return f.found
}

// A path leads from the whole message to the field that is being looked at. It is pushed and popped
// for every field and written out only for a finding.
type path []step

type step struct {
	key   []byte // of an object, as it stood in the JSON
	name  string // of an object, where the name is ours
	index int    // of a list, where there is neither
}

func (p *path) pushKey(key []byte) { *p = append(*p, step{key: key}) }
func (p *path) push(name string)   { *p = append(*p, step{name: name}) }
func (p *path) pushIndex(i int)    { *p = append(*p, step{index: i}) }
func (p *path) pop()               { *p = (*p)[:len(*p)-1] }

func (p path) String() string {
	var b strings.Builder
	for i, s := range p {
		switch {
		case s.key == nil && s.name == "":
			b.WriteString("[" + strconv.Itoa(s.index) + "]")
			continue
		case i > 0:
			b.WriteByte('.')
		}
		b.WriteString(s.name)
		b.WriteString(pathKey(s.key))
	}
	return b.String()
}

// pathKey is a stranger's key as it may stand in a line for people.
func pathKey(key []byte) string {
	for _, c := range key {
		if c <= ' ' || c == '"' || c == '\\' || c >= utf8.RuneSelf {
			return quoted(key)
		}
	}
	if len(key) > maxQuoted {
		return quoted(key)
	}
	return string(key)
}

// maxQuoted is how many bytes of a stranger's text an error repeats.
const maxQuoted = 40

// quoted is text for an error: in quotes, on one line, shortened.
func quoted[T ~string | ~[]byte](text T) string {
	if len(text) <= maxQuoted {
		return strconv.QuoteToGraphic(string(text))
	}
	cut := maxQuoted
	for cut > 0 && !utf8.RuneStart(text[cut]) {
		cut--
	}
	return strconv.QuoteToGraphic(string(text[:cut]) + "…")
}
