package message

import (
	"bytes"
	"fmt"
	"strings"
	"unicode/utf8"
)

// A shape is one of WeChat's tables of fields, as data. Every body is judged by one.
type shape []field

// A field is a line of a shape.
type field struct {
	name string
	need presence
	rule rule
	of   string // the msgtype that this object belongs to; empty for a field of every msgtype
}

type presence bool

const (
	required presence = true
	optional presence = false
)

// A rule reads one value, whatever it is, and finds what is wrong with it.
type rule func(*checker)

// A checker walks one body by its shape.
type checker struct {
	scanner
	rules   Rules
	msgtype string
}

// object walks an object by its shape and returns which fields were there, as bits.
func (c *checker) object(sh shape) (seen uint64) {
	if !c.expect('{', "an object") {
		return 0
	}
	c.open()
	for c.next('}') {
		key := c.key()
		if i := sh.index(key); i >= 0 {
			seen |= 1 << i
			sh[i].rule(c)
		} else {
			c.find(unknownField(key, sh.names()), "")
			c.skip()
		}
		c.endMember()
	}
	for i, f := range sh {
		if f.need == required && seen&(1<<i) == 0 {
			c.findIn(f.name, "required", "")
		}
	}
	return seen
}

// typed walks an object whose msgtype says which one of its other objects it needs.
func (c *checker) typed(sh shape) (seen uint64) {
	c.msgtype = ""
	seen = c.object(sh)
	if c.msgtype == "" {
		return seen
	}
	var home string // the field that carries the content of this msgtype
	given := 0
	for i, f := range sh {
		there := seen&(1<<i) != 0
		switch {
		case f.of == c.msgtype && home == "":
			home = f.name
			fallthrough
		case f.of == c.msgtype:
			if there {
				given++
			}
		case f.of != "" && there:
			c.findIn(f.name, "leave it out: msgtype is "+c.msgtype, "")
		}
	}
	switch {
	case home == "":
		c.findIn("msgtype", "want one of "+strings.Join(sh.msgtypes(), ", "), quoted(c.msgtype))
	case given == 0:
		c.findIn(home, "required: msgtype is "+c.msgtype, "")
	case given > 1:
		c.findIn(home, "given in two forms; leave one out", "")
	}
	return seen
}

func (sh shape) index(key []byte) int {
	for i := range sh {
		if string(key) == sh[i].name {
			return i
		}
	}
	return -1
}

func (sh shape) bit(name string) uint64 { return 1 << sh.index([]byte(name)) }

func (sh shape) names() []string {
	names := make([]string, len(sh))
	for i, f := range sh {
		names[i] = f.name
	}
	return names
}

func (sh shape) msgtypes() []string {
	var types []string
	for _, f := range sh {
		if f.of != "" && (len(types) == 0 || types[len(types)-1] != f.of) {
			types = append(types, f.of)
		}
	}
	return types
}

// readText reads a string; ok is false if there is none.
func (c *checker) readText() (text []byte, ok bool) {
	if !c.expect('"', "a string") {
		return nil, false
	}
	text, _ = c.text()
	return text, !c.failed
}

// Rules for single values.

// object is a field that is an object of the given shape.
func object(sh shape) rule { return func(c *checker) { c.object(sh) } }

// list is a list of at least one and at most limit values (0: any number).
func list(limit int, each rule) rule {
	return func(c *checker) {
		if !c.expect('[', "a list") {
			return
		}
		n := 0
		c.open()
		for ; c.next(']'); n++ {
			c.path.pushIndex(n)
			each(c)
			c.path.pop()
		}
		if n == 0 {
			c.find("must not be empty", "")
		}
		if limit > 0 && n > limit {
			c.find(fmt.Sprintf("at most %d", limit), fmt.Sprint(n))
		}
	}
}

// maxIDBytes bounds what WeChat calls an id, of which it documents no length: a sanity check.
const maxIDBytes = 256

// identifier is a WeChat id or account name: not empty, no white space.
func identifier(c *checker) {
	text, ok := c.readText()
	switch {
	case !ok:
	case len(text) == 0:
		c.find("must not be empty", "")
	case len(text) > maxIDBytes:
		c.find(fmt.Sprintf("at most %d bytes", maxIDBytes), fmt.Sprint(len(text)))
	case hasSpace(text):
		c.find("no white space", quoted(text))
	}
}

// words is any text that is not empty.
func words(c *checker) {
	if text, ok := c.readText(); ok && len(text) == 0 {
		c.find("must not be empty", "")
	}
}

// anyText is any text, an empty one too.
func anyText(c *checker) { c.readText() }

// maxURLBytes is a sanity check: 1024 is what WeChat documents for the URL of a menu button, and nothing for others.
const maxURLBytes = 1024

// link is an http or https URL, or empty for none.
func link(c *checker) {
	if text, ok := c.readText(); ok && len(text) > 0 {
		c.checkURL(text)
	}
}

// mustLink is an http or https URL.
func mustLink(c *checker) {
	if text, ok := c.readText(); ok {
		c.checkURL(text)
	}
}

func (c *checker) checkURL(url []byte) {
	rest, found := bytes.CutPrefix(url, []byte("https://"))
	if !found {
		rest, found = bytes.CutPrefix(url, []byte("http://"))
	}
	switch {
	case !found || len(rest) == 0:
		c.find("want a URL with http:// or https://", "")
	case len(url) > maxURLBytes:
		c.find(fmt.Sprintf("at most %d bytes", maxURLBytes), fmt.Sprint(len(url)))
	case hasSpace(url):
		c.find("no white space in a URL", "")
	}
}

// flag is 0 or 1.
func flag(c *checker) {
	if ch := c.peek(); ch != '-' && !isDigit(ch) {
		c.expect('0', "0 or 1")
		return
	}
	if n := c.number(); len(n) != 1 || n[0] > '1' {
		c.find("want 0 or 1", quoted(n))
	}
}

// among is one of a closed list of names.
func among(names ...string) rule {
	return func(c *checker) {
		text, ok := c.readText()
		if !ok {
			return
		}
		for _, name := range names {
			if string(text) == name {
				return
			}
		}
		c.find("want one of "+strings.Join(names, ", "), quoted(text))
	}
}

// msgtype remembers which content the body must have.
func msgtype(c *checker) {
	if text, ok := c.readText(); ok {
		c.msgtype = string(text)
		if c.msgtype == "" {
			c.find("must not be empty", "")
		}
	}
}

// characters counts as WeChat's tables do: one for a Chinese character as for a letter.
func characters(text []byte) int { return utf8.RuneCount(text) }

func hasSpace(text []byte) bool {
	for _, c := range text {
		if c == ' ' || '\t' <= c && c <= '\r' {
			return true
		}
	}
	return false
}
