package audience

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// objects are JSON Lines. The first line names the columns, and every other has the same ones, in any order. A number,
// true or false is taken as it is written, null as nothing. A first line that is none, or has no openid, is refused as any
// other is, and the next one names them.
type objects struct {
	*lines
	columns []string
	place   map[string]int
	fields  []string
	seen    []int64    // by column, the last line that had it
	early   []*Refused // before the first; not yet given out, nor is first
	first   string
	firstAt int64
}

// mostEarly is how many lines may be none before there is one: a file that begins with more is no JSON Lines.
const mostEarly = 100

func newObjects(l *lines) *objects { return &objects{lines: l} }

func (o *objects) close() error { return nil }

func (o *objects) last() int64 {
	switch {
	case len(o.early) > 0:
		return o.early[0].Line - 1
	case o.first != "":
		return o.firstAt - 1
	}
	return o.line
}

func (o *objects) names() ([]string, error) {
	var nameless []string // columns of the first line without an openid
	for {
		text, line, err := o.take1()
		if err == nil {
			if err = o.name(text); err == nil {
				o.fields, o.seen = make([]string, len(o.columns)), make([]int64, len(o.columns))
				o.first, o.firstAt = text, line
				return o.columns, nil
			}
			if nameless == nil && errors.Is(err, errNameless) {
				nameless = o.columns
			}
			err = &Refused{line, err.Error()}
		}
		bad, refused := errors.AsType[*Refused](err)
		switch {
		case !refused && !errors.Is(err, io.EOF), len(o.early) == 0 && errors.Is(err, io.EOF):
			return nil, err
		case refused && len(o.early) < mostEarly:
			o.early = append(o.early, bad)
		case nameless != nil:
			return nameless, nil
		default:
			return nil, o.early[0]
		}
	}
}

var errNameless = errors.New("openid: missing")

// name takes the columns from a line.
func (o *objects) name(text string) error {
	o.place, o.columns = map[string]int{}, nil
	err := members(text, func(key, _ string) error {
		if _, twice := o.place[key]; twice {
			return fmt.Errorf("%s: the key stands there twice", short(key))
		}
		o.place[key] = len(o.columns)
		o.columns = append(o.columns, key)
		return nil
	})
	if err == nil && !slices.ContainsFunc(o.columns, isOpenID) {
		err = errNameless
	}
	return err
}

// take1 takes the next line that is not blank.
func (o *objects) take1() (string, int64, error) {
	for {
		rest, err := o.rest()
		if err != nil {
			return "", 0, err
		}
		if rest == "" {
			return "", 0, io.EOF
		}
		n := strings.IndexByte(rest, '\n') + 1
		if n == 0 {
			n = len(rest)
		}
		o.take(n, 1)
		text := strings.Trim(rest[:n], " \t\r\n")
		if len(text) > maxLine {
			return "", 0, &Refused{o.line, errLong.Error()}
		}
		if text != "" {
			return text, o.line, nil
		}
	}
}

func (o *objects) next() ([]string, int64, error) {
	if len(o.early) > 0 {
		bad := o.early[0]
		o.early = o.early[1:]
		return nil, 0, bad
	}
	text, line := o.first, o.firstAt
	if o.first = ""; text == "" {
		var err error
		if text, line, err = o.take1(); err != nil {
			return nil, 0, err
		}
	}
	if err := o.read(text, line); err != nil {
		return nil, 0, &Refused{line, err.Error()}
	}
	if !o.clean || strings.IndexByte(text, '\\') >= 0 {
		if err := checkFields(o.fields, o.columns, line); err != nil {
			return nil, 0, err
		}
	}
	return o.fields, line, nil
}

func (o *objects) read(text string, line int64) error {
	count := 0
	err := members(text, func(key, value string) error {
		i := count // keys mostly come in the same order
		if i >= len(o.columns) || o.columns[i] != key {
			var known bool
			if i, known = o.place[key]; !known {
				return fmt.Errorf("%s: no such column; the first line names %s", short(key), list(o.columns))
			}
		}
		if o.seen[i] == line {
			return fmt.Errorf("%s: the key stands there twice", short(key))
		}
		o.seen[i], o.fields[i] = line, value
		count++
		return nil
	})
	if err != nil || count == len(o.columns) {
		return err
	}
	for i, name := range o.columns {
		if o.seen[i] != line {
			return fmt.Errorf("%s: missing; the first line has it", name)
		}
	}
	return nil
}

// members reads a flat JSON object, strictly, and calls each for its members.
func members(text string, each func(key, value string) error) error {
	s := scanner{in: text}
	if !s.is('{') {
		return s.want("{")
	}
	if s.is('}') {
		return s.end()
	}
	for {
		key, err := s.text("a key in quotes")
		if err != nil {
			return err
		}
		if !s.is(':') {
			return s.want(":")
		}
		value, err := s.value()
		if err != nil {
			return fmt.Errorf("%s: %w", short(key), err)
		}
		if err := each(key, value); err != nil {
			return err
		}
		if s.is(',') {
			continue
		}
		if !s.is('}') {
			return s.want(", or }")
		}
		return s.end()
	}
}

// A scanner reads the tokens of JSON.
type scanner struct {
	in string
	at int
}

func (s *scanner) space() {
	for s.at < len(s.in) && (s.in[s.at] == ' ' || s.in[s.at] == '\t' || s.in[s.at] == '\r' || s.in[s.at] == '\n') {
		s.at++
	}
}

// is steps over a byte, if it comes next.
func (s *scanner) is(c byte) bool {
	if s.space(); s.at < len(s.in) && s.in[s.at] == c {
		s.at++
		return true
	}
	return false
}

func (s *scanner) want(what string) error {
	return fmt.Errorf("no JSON object: want %s at byte %d", what, s.at+1)
}

func (s *scanner) end() error {
	if s.space(); s.at < len(s.in) {
		return errors.New("something stands behind the object")
	}
	return nil
}

func (s *scanner) value() (string, error) {
	s.space()
	if s.at == len(s.in) {
		return "", s.want("a value")
	}
	switch c := s.in[s.at]; {
	case c == '"':
		return s.text("a text")
	case c == '{' || c == '[':
		return "", errors.New("an object or a list; want a text or a number")
	case c == '-' || isDigit(c):
		return s.number()
	}
	for _, word := range []string{"true", "false", "null"} {
		if strings.HasPrefix(s.in[s.at:], word) {
			s.at += len(word)
			if word == "null" {
				word = ""
			}
			return word, nil
		}
	}
	return "", s.want("a value")
}

func isDigit(c byte) bool { return '0' <= c && c <= '9' }

func (s *scanner) number() (string, error) {
	from := s.at
	if s.in[s.at] == '-' {
		s.at++
	}
	zero := s.at < len(s.in) && s.in[s.at] == '0'
	n := s.digits()
	ok := n > 0 && !(zero && n > 1)
	if ok && s.at < len(s.in) && s.in[s.at] == '.' {
		s.at++
		ok = s.digits() > 0
	}
	if ok && s.at < len(s.in) && s.in[s.at]|0x20 == 'e' {
		s.at++
		if s.at < len(s.in) && (s.in[s.at] == '+' || s.in[s.at] == '-') {
			s.at++
		}
		ok = s.digits() > 0
	}
	if !ok {
		return "", errors.New("no number in JSON; write it in quotes")
	}
	return s.in[from:s.at], nil
}

func (s *scanner) digits() (n int) {
	for ; s.at < len(s.in) && isDigit(s.in[s.at]); s.at++ {
		n++
	}
	return n
}

// text reads a string.
func (s *scanner) text(what string) (string, error) {
	if !s.is('"') {
		return "", s.want(what)
	}
	for from := s.at; s.at < len(s.in); s.at++ {
		switch c := s.in[s.at]; {
		case c == '"':
			s.at++
			return s.in[from : s.at-1], nil
		case c == '\\':
			return s.escaped(from)
		case c < ' ':
			return "", errors.New("control character in a text; write \\n or \\t")
		}
	}
	return "", errors.New("a text has no end")
}

// escaped reads on where a string has its first backslash.
func (s *scanner) escaped(from int) (string, error) {
	out := []byte(s.in[from:s.at])
	for s.at < len(s.in) {
		switch c := s.in[s.at]; {
		case c == '"':
			s.at++
			return string(out), nil
		case c < ' ':
			return "", errors.New("control character in a text; write \\n or \\t")
		case c != '\\':
			out = append(out, c)
			s.at++
		default:
			r, n := escape(s.in[s.at:])
			if n == 0 {
				return "", errors.New("a text has an escape that is none in JSON")
			}
			out = utf8.AppendRune(out, r)
			s.at += n
		}
	}
	return "", errors.New("a text has no end")
}

// escape reads one escape, or two that together are one character; n is 0 if it is none.
func escape(in string) (r rune, n int) {
	if len(in) < 2 {
		return 0, 0
	}
	switch in[1] {
	case '"', '\\', '/':
		return rune(in[1]), 2
	case 'b':
		return '\b', 2
	case 'f':
		return '\f', 2
	case 'n':
		return '\n', 2
	case 'r':
		return '\r', 2
	case 't':
		return '\t', 2
	}
	r, ok := hex4(in)
	if !ok {
		return 0, 0
	}
	if !utf16.IsSurrogate(r) {
		return r, 6
	}
	low, _ := hex4(in[6:])
	if r = utf16.DecodeRune(r, low); r == utf8.RuneError {
		return 0, 0
	}
	return r, 12
}

// hex4 reads \uXXXX.
func hex4(in string) (r rune, ok bool) {
	if len(in) < 6 || in[0] != '\\' || in[1] != 'u' {
		return 0, false
	}
	for i := 2; i < 6; i++ {
		c := in[i]
		switch {
		case isDigit(c):
			c -= '0'
		case 'a' <= c|0x20 && c|0x20 <= 'f':
			c = c | 0x20 - 'a' + 10
		default:
			return 0, false
		}
		r = r<<4 | rune(c)
	}
	return r, true
}
