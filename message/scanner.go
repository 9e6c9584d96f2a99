package message

import (
	"bytes"
	"fmt"
	"unicode/utf16"
	"unicode/utf8"
)

// maxDepth bounds the nesting of objects and lists; WeChat's deepest body has five levels.
const maxDepth = 32

// A scanner walks strict JSON (RFC 8259) once, left to right, without building values. It refuses
// more than encoding/json does: invalid UTF-8, lone surrogates, and control characters that JSON can
// only write as \u00XX (Postgres takes no U+0000, WeChat's servers have refused \u escapes).
//
// The first error ends the walk: it becomes a finding, and every later question is answered as if
// the input were over. So callers test ok only where they would otherwise trust what they read.
//
// A list or object is read as
//
//	s.open()
//	for s.next('}') { key := s.key(); …read one value…; s.endMember() }
type scanner struct {
	findings
	in      []byte
	at      int
	depth   int
	fresh   bool   // right behind an opening brace or bracket
	failed  bool   // the input is not JSON that we take
	scratch []byte // holds the last text that had escapes
}

// fail ends the walk: the input is not JSON.
func (s *scanner) fail(format string, args ...any) {
	s.refuse(fmt.Sprintf("malformed JSON at byte %d: ", s.at+1) + fmt.Sprintf(format, args...))
}

// refuse ends the walk with a finding about the field at the present path.
func (s *scanner) refuse(rule string) {
	if s.failed {
		return
	}
	s.failed = true
	s.find(rule, "")
	s.at = len(s.in)
}

// peek skips white space and returns the byte that follows, or 0 at the end.
func (s *scanner) peek() byte {
	for s.at < len(s.in) {
		switch c := s.in[s.at]; c {
		case ' ', '\t', '\n', '\r':
			s.at++
		default:
			return c
		}
	}
	return 0
}

// open steps into the list or object that [scanner.peek] found.
func (s *scanner) open() {
	s.at++
	s.fresh = true
	if s.depth++; s.depth > maxDepth {
		s.refuse(fmt.Sprintf("nested deeper than %d", maxDepth))
	}
}

// next says whether another element or member follows before end, and steps to it.
func (s *scanner) next(end byte) bool {
	c, first := s.peek(), s.fresh
	s.fresh = false
	switch {
	case s.failed:
		return false
	case c == end:
		s.at++
		s.depth--
		return false
	case first:
		return true
	case c == ',':
		s.at++
		return true
	case c == 0:
		s.fail("ends too early")
	default:
		s.fail("want ',' or '%c'", end)
	}
	return false
}

// key reads a member's key and its colon, and lets the path end with it.
func (s *scanner) key() []byte {
	key, raw := s.name()
	s.path.pushKey(raw)
	s.colon()
	return key
}

// name reads a member's key: the key, and as it stands in the input.
func (s *scanner) name() (key, raw []byte) {
	if s.peek() != '"' {
		s.fail("want a key in double quotes")
	}
	from := s.at + 1
	key, _ = s.text()
	if s.failed {
		return nil, []byte{}
	}
	return key, s.in[from : s.at-1 : s.at-1]
}

func (s *scanner) colon() {
	if s.peek() != ':' {
		s.fail("want ':' after the key")
		return
	}
	s.at++
}

func (s *scanner) endMember() { s.path.pop() }

// text reads a string and returns what it says, and whether it was written without escapes. The text
// is valid until the next one is read.
func (s *scanner) text() (text []byte, plain bool) {
	if s.failed {
		return nil, true
	}
	s.at++
	from, ascii := s.at, true
	for i := from; i < len(s.in); i++ {
		c := s.in[i]
		switch {
		case c >= utf8.RuneSelf:
			ascii = false
		case c >= ' ' && c != '"' && c != '\\':
		case c == '"':
			s.at = i + 1
			return s.valid(s.in[from:i], ascii), true
		case c == '\\':
			return s.escaped(from, i), false
		default:
			s.at = i
			s.fail("control character in a string; write \\n, \\t or \\r")
			return nil, true
		}
	}
	s.at = len(s.in)
	s.fail("a string has no end")
	return nil, true
}

func (s *scanner) valid(text []byte, ascii bool) []byte {
	if !ascii && !utf8.Valid(text) {
		s.refuse("a string is not valid UTF-8")
		return nil
	}
	return text
}

// escaped reads on where the string that began at from has its first backslash, at i.
func (s *scanner) escaped(from, i int) []byte {
	out := append(s.scratch[:0], s.in[from:i]...)
	for i < len(s.in) {
		switch c := s.in[i]; {
		case c == '"':
			s.at, s.scratch = i+1, out
			return s.valid(out, false)
		case c < ' ':
			s.at = i
			s.fail("control character in a string; write \\n, \\t or \\r")
			return nil
		case c != '\\':
			out = append(out, c)
			i++
		default:
			s.at = i
			r, n := s.escape(s.in[i:])
			if n == 0 {
				return nil
			}
			out = utf8.AppendRune(out, r)
			i += n
		}
	}
	s.at = len(s.in)
	s.fail("a string has no end")
	return nil
}

// escape reads one escape, or two that together are one character; n is 0 if it is none.
func (s *scanner) escape(in []byte) (r rune, n int) {
	if len(in) < 2 {
		s.fail("a string has no end")
		return 0, 0
	}
	switch c := in[1]; c {
	case '"', '\\', '/':
		return rune(c), 2
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
	case 'u':
	default:
		s.fail("unknown escape in a string")
		return 0, 0
	}
	r, ok := hex4(in)
	if !ok {
		s.fail("want four hexadecimal digits after \\u")
		return 0, 0
	}
	if utf16.IsSurrogate(r) {
		low, _ := hex4(in[6:])
		if r = utf16.DecodeRune(r, low); r == utf8.RuneError {
			s.refuse("half of a surrogate pair in a string")
			return 0, 0
		}
		return r, 12
	}
	if r < ' ' && shortEscape(byte(r)) == 0 {
		s.refuse(fmt.Sprintf("control character U+%04X in a string", r))
		return 0, 0
	}
	return r, 6
}

// hex4 reads \uXXXX.
func hex4(in []byte) (r rune, ok bool) {
	if len(in) < 6 || in[0] != '\\' || in[1] != 'u' {
		return 0, false
	}
	for _, c := range in[2:6] {
		switch {
		case '0' <= c && c <= '9':
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

// number reads a number and returns it as it is written.
func (s *scanner) number() []byte {
	from := s.at
	if s.byteIs('-') {
		s.at++
	}
	if s.byteIs('0') {
		s.at++
	} else if !s.digits() {
		return nil
	}
	if s.byteIs('.') {
		s.at++
		if !s.digits() {
			return nil
		}
	}
	if s.byteIs('e') || s.byteIs('E') {
		s.at++
		if s.byteIs('+') || s.byteIs('-') {
			s.at++
		}
		if !s.digits() {
			return nil
		}
	}
	return s.in[from:s.at]
}

func (s *scanner) byteIs(c byte) bool { return s.at < len(s.in) && s.in[s.at] == c }

func (s *scanner) digits() bool {
	from := s.at
	for s.at < len(s.in) && isDigit(s.in[s.at]) {
		s.at++
	}
	if s.at == from {
		s.fail("want a digit")
		return false
	}
	return true
}

func isDigit(c byte) bool { return '0' <= c && c <= '9' }

// literal reads true, false or null and returns it.
func (s *scanner) literal() []byte {
	for _, word := range [...]string{"true", "false", "null"} {
		if bytes.HasPrefix(s.in[s.at:], []byte(word)) {
			s.at += len(word)
			return s.in[s.at-len(word) : s.at]
		}
	}
	if s.at == len(s.in) {
		s.fail("ends too early")
	} else {
		s.fail("want a value")
	}
	return nil
}

// end checks that nothing follows.
func (s *scanner) end() {
	if s.peek() != 0 || s.at < len(s.in) {
		s.fail("something follows the object")
	}
}

// expect says whether a value of the wanted type follows; another one is a finding and is skipped.
func (s *scanner) expect(first byte, want string) bool {
	if s.peek() == first || s.failed {
		return !s.failed
	}
	if has := s.has(); has != "" {
		s.find("want "+want, has)
	}
	s.skip()
	return false
}

// has names the value that follows, or is empty if none does.
func (s *scanner) has() string {
	switch c := s.peek(); {
	case c == '{':
		return "an object"
	case c == '[':
		return "a list"
	case c == '"':
		return "a string"
	case c == '-' || isDigit(c):
		return "a number"
	case c == 't' || c == 'f':
		return "true or false"
	case c == 'n':
		return "null"
	}
	return ""
}

// skip reads a value that nobody looks into.
func (s *scanner) skip() {
	switch c := s.peek(); {
	case c == '{':
		for s.open(); s.next('}'); s.skip() {
			s.name()
			s.colon()
		}
	case c == '[':
		for s.open(); s.next(']'); {
			s.skip()
		}
	case c == '"':
		s.text()
	case c == '-' || isDigit(c):
		s.number()
	default:
		s.literal()
	}
}
