package campaign

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/hongyan-dispatch/hongyan/message"
)

// A filler is a text with places to be filled in. Most texts ask for columns only, and are put together piece by piece; a
// string that asks for more is a program of its own. Neither way can what is filled in leave its string.
type filler []piece

// A piece is text, and then the value of a column; openID stands for the recipient, computed for what a program
// writes, none for the end.
type piece struct {
	text    string
	column  int
	program *program
	path    string // of the program's string, for its errors
}

const (
	none     = -1
	openID   = -2
	computed = -3
)

// newFiller readies a JSON text, which stands at a path, for an audience with these columns.
func newFiller(path string, text json.RawMessage, columns []string, f functions) (filler, error) {
	if len(text) == 0 {
		return nil, nil
	}
	text, err := message.Compact(text) // the ledger's form has spaces
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	var pieces filler
	var errs []error
	from := 0
	before := func(to int) string { return string(text[from:to]) }
	walkStrings(text, func(s spot) {
		if !strings.Contains(s.text, "{{") {
			return
		}
		inside, err := stringPieces(s, columns, f)
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", join(path, s.path), err))
			return
		}
		inside[0].path = join(path, s.path)
		inside[0].text = before(s.from) + `"` + inside[0].text
		pieces = append(pieces, inside...)
		from = s.to - 1 // the closing quote goes with what follows
	})
	return append(pieces, piece{text: before(len(text)), column: none}), errors.Join(errs...)
}

// stringPieces takes one string apart.
func stringPieces(s spot, columns []string, f functions) ([]piece, error) {
	if s.key {
		return nil, errKey
	}
	plain, ok := plainPieces(s.text)
	if !ok {
		p, err := f.program(s.text)
		if err == nil {
			err = p.bind(columns)
		}
		return []piece{{column: computed, program: p}}, err
	}
	out := make([]piece, len(plain))
	for i, h := range plain {
		column, err := columnOf(h.name, columns)
		if err != nil {
			return nil, err
		}
		out[i] = piece{text: string(appendEscaped(nil, h.text)), column: column}
	}
	return out, nil
}

var errKey = errors.New("a placeholder stands in values only, not in names")

// columnOf finds a column by its name; no name is the end.
func columnOf(name string, columns []string) (int, error) {
	switch i := slices.Index(columns, name); {
	case name == "":
		return none, nil
	case name == "openid":
		return openID, nil
	case i < 0:
		return none, fmt.Errorf("{{.%s}}: the audience has no column %q; it has %s", name, name, strings.Join(append([]string{"openid"}, columns...), ", "))
	default:
		return i, nil
	}
}

// A hole is text, and then the name of a column; no name: the end.
type hole struct{ text, name string }

// plainPieces takes a string apart that asks for nothing but columns, as {{.name}} does; false: it asks for more.
func plainPieces(text string) (holes []hole, ok bool) {
	for {
		before, rest, found := strings.Cut(text, "{{")
		if !found {
			return append(holes, hole{text: before}), true
		}
		inside, after, closed := strings.Cut(rest, "}}")
		name, isField := strings.CutPrefix(strings.Trim(inside, " \t\r\n"), ".")
		if !closed || !isField || !isName(name) {
			return nil, false
		}
		holes = append(holes, hole{before, name})
		text = after
	}
}

// isName says whether a column's name may stand behind a dot.
func isName(name string) bool {
	return name != "" && strings.IndexFunc(name, func(r rune) bool {
		return r != '_' && r != '-' && !unicode.IsLetter(r) && !unicode.IsDigit(r)
	}) < 0
}

// columnsOf lists the columns that a JSON text asks for; a text that is wrong asks for none.
func columnsOf(text json.RawMessage) (names []string) {
	if !json.Valid(text) {
		return nil
	}
	f := newFunctions(DefaultZone)
	add := func(name string) {
		if name != "" && name != "openid" {
			names = append(names, name)
		}
	}
	walkStrings(text, func(s spot) {
		if !strings.Contains(s.text, "{{") {
			return
		}
		if plain, ok := plainPieces(s.text); ok {
			for _, h := range plain {
				add(h.name)
			}
		} else if p, err := f.program(s.text); err == nil {
			for _, name := range p.names {
				add(name)
			}
		}
	})
	return names
}

// fill appends the text with its values, which stand inside JSON strings.
func (f filler) fill(dst []byte, to message.OpenID, vars []string) ([]byte, error) {
	for _, p := range f {
		dst = append(dst, p.text...)
		switch {
		case p.column == none:
		case p.column == openID:
			dst = appendEscaped(dst, to)
		case p.column == computed:
			var err error
			if dst, err = p.program.run(dst, to, vars); err != nil {
				return dst, fmt.Errorf("%s: %w", p.path, err)
			}
		case p.column >= len(vars):
			return dst, tooFew(vars, p.column)
		default:
			if !utf8.ValidString(vars[p.column]) {
				return dst, fmt.Errorf("value %d is not UTF-8", p.column+1)
			}
			dst = appendEscaped(dst, vars[p.column])
		}
	}
	return dst, nil
}

func tooFew(vars []string, column int) error {
	return fmt.Errorf("the recipient has %d values, and value %d is asked for", len(vars), column+1)
}

// appendEscaped writes text as it stands inside a JSON string, with no more escapes than JSON demands: WeChat counts
// characters as it reads them.
func appendEscaped[T ~string | ~[]byte](dst []byte, text T) []byte {
	const digits = "0123456789abcdef"
	from := 0
	for i := range len(text) {
		c := text[i]
		if c >= ' ' && c != '"' && c != '\\' {
			continue
		}
		dst = append(dst, text[from:i]...)
		from = i + 1
		switch c {
		case '"', '\\':
			dst = append(dst, '\\', c)
		case '\n':
			dst = append(dst, '\\', 'n')
		case '\r':
			dst = append(dst, '\\', 'r')
		case '\t':
			dst = append(dst, '\\', 't')
		default:
			dst = append(dst, '\\', 'u', '0', '0', digits[c>>4], digits[c&15])
		}
	}
	return append(dst, text[from:]...)
}
