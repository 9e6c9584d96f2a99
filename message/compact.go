package message

import (
	"bytes"
	"encoding/json"
	"slices"
	"sync"
	"unicode/utf8"
)

// Compact writes a JSON object in the form of [Message.Body]: no white space, no \u escapes, no escaped
// slashes or HTML, keys in their given order. It refuses what is not one strict JSON object: duplicate
// keys, invalid UTF-8, half surrogate pairs and control characters are errors of type [Invalid].
//
// WeChat wants UTF-8: it has refused Chinese that was written as \uXXXX (40033).
func Compact(body []byte) (json.RawMessage, error) {
	c := newCompactor(body)
	defer c.free()
	c.wholeObject()
	if err := c.err(); err != nil {
		return nil, err
	}
	return bytes.Clone(c.out), nil
}

// A compactor rewrites what its scanner walks over.
type compactor struct {
	scanner
	out     []byte
	members []member // of the open objects
	sorted  bool     // write members in the order of their keys
	spare   []byte
}

// compactors keeps the buffers of compactors for the next ones: a producer's batch makes three a message.
var compactors = sync.Pool{New: func() any { return new(compactor) }}

// maxKeptBytes bounds what a free compactor holds on to.
const maxKeptBytes = 64 << 10

func newCompactor(in []byte) *compactor {
	c := compactors.Get().(*compactor)
	*c = compactor{
		scanner: scanner{in: in, scratch: c.scratch[:0], findings: findings{path: c.path[:0]}},
		out:     c.out[:0],
		members: c.members[:0],
		spare:   c.spare[:0],
	}
	return c
}

// free gives c back; nothing that it holds may be used any more but its findings.
func (c *compactor) free() {
	if cap(c.out)+cap(c.scratch)+cap(c.spare) > maxKeptBytes || cap(c.members) > maxKeptBytes/64 {
		return
	}
	c.in, c.found = nil, nil
	compactors.Put(c)
}

// A member is a key and value in out: the quoted key is out[from:colon], the whole out[from:to].
type member struct{ from, colon, to int }

func (c *compactor) wholeObject() {
	if c.peek() != '{' {
		c.fail("want an object")
		return
	}
	c.value()
	c.end()
}

func (c *compactor) value() {
	switch ch := c.peek(); {
	case ch == '{':
		c.object()
	case ch == '[':
		c.list()
	case ch == '"':
		c.string()
	case ch == '-' || isDigit(ch):
		c.out = append(c.out, c.number()...)
	default:
		c.out = append(c.out, c.literal()...)
	}
}

func (c *compactor) string() {
	text, plain := c.text()
	if !plain {
		c.out = appendQuoted(c.out, text)
		return
	}
	c.out = append(c.out, '"')
	c.out = append(c.out, text...)
	c.out = append(c.out, '"')
}

func (c *compactor) list() {
	c.open()
	c.out = append(c.out, '[')
	for i := 0; c.next(']'); i++ {
		if i > 0 {
			c.out = append(c.out, ',')
		}
		c.path.pushIndex(i)
		c.value()
		c.path.pop()
	}
	c.out = append(c.out, ']')
}

func (c *compactor) object() {
	c.open()
	c.out = append(c.out, '{')
	base := len(c.members)
	for c.next('}') {
		if len(c.members) > base {
			c.out = append(c.out, ',')
		}
		m := member{from: len(c.out)}
		if c.peek() != '"' {
			c.fail("want a key in double quotes")
			break
		}
		raw := c.at + 1
		c.string()
		if c.failed {
			break
		}
		m.colon = len(c.out)
		c.path.pushKey(c.in[raw : c.at-1 : c.at-1])
		if n := len(c.members) - base; n < fewMembers && c.holds(c.members[base:], c.out[m.from:m.colon]) {
			c.refuse("duplicate key")
		}
		c.colon()
		c.out = append(c.out, ':')
		c.value()
		c.endMember()
		m.to = len(c.out)
		c.members = append(c.members, m)
	}
	if !c.failed {
		c.closeObject(c.members[base:])
	}
	c.members = c.members[:base]
	c.out = append(c.out, '}')
}

// fewMembers is how many members are searched one by one for a duplicate key.
const fewMembers = 32

func (c *compactor) holds(members []member, key []byte) bool {
	for _, m := range members {
		if bytes.Equal(c.out[m.from:m.colon], key) {
			return true
		}
	}
	return false
}

func (c *compactor) closeObject(members []member) {
	if len(members) == 0 || (!c.sorted && len(members) <= fewMembers) {
		return
	}
	from := members[0].from
	compare := func(a, b member) int { return bytes.Compare(c.out[a.from:a.colon], c.out[b.from:b.colon]) }
	slices.SortFunc(members, compare)
	for i := 1; i < len(members); i++ {
		if compare(members[i-1], members[i]) == 0 {
			c.path.pushKey(c.out[members[i].from+1 : members[i].colon-1])
			c.refuse("duplicate key")
			return
		}
	}
	if !c.sorted {
		return
	}
	spare := c.spare[:0]
	for i, m := range members {
		if i > 0 {
			spare = append(spare, ',')
		}
		spare = append(spare, c.out[m.from:m.to]...)
	}
	copy(c.out[from:], spare)
	c.spare = spare
}

// appendQuoted writes text as a JSON string with no more escapes than JSON demands.
func appendQuoted[T ~string | ~[]byte](dst []byte, text T) []byte {
	const digits = "0123456789abcdef"
	dst = append(dst, '"')
	from := 0
	for i := 0; i < len(text); i++ {
		c := text[i]
		if c >= ' ' && c != '"' && c != '\\' {
			continue
		}
		dst = append(dst, text[from:i]...)
		from = i + 1
		if short := shortEscape(c); short != 0 {
			dst = append(dst, '\\', short)
		} else {
			dst = append(dst, '\\', 'u', '0', '0', digits[c>>4], digits[c&15])
		}
	}
	dst = append(dst, text[from:]...)
	return append(dst, '"')
}

// shortEscape is the letter that JSON writes for c behind a backslash, or 0.
func shortEscape(c byte) byte {
	switch c {
	case '"', '\\':
		return c
	case '\b':
		return 'b'
	case '\f':
		return 'f'
	case '\n':
		return 'n'
	case '\r':
		return 'r'
	case '\t':
		return 't'
	}
	return 0
}

// validText makes sure that text can stand in JSON.
func validText(text string) string {
	if utf8.ValidString(text) {
		return text
	}
	return string([]rune(text))
}
