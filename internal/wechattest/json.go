package wechattest

import (
	"bytes"
	"encoding/json"
	"strconv"
	"unicode/utf8"
)

// A small reader of JSON: it walks bytes in place, because the simulator serves benchmarks in which
// decoding into maps would cost more than everything else that it does.

const maxDepth = 64

// validObject says whether b is one well-formed JSON object in UTF-8 and nothing else.
func validObject(b []byte) bool {
	i := space(b, 0)
	if i >= len(b) || b[i] != '{' || !utf8.Valid(b) {
		return false
	}
	end := valueEnd(b, i, maxDepth)
	return end > 0 && space(b, end) == len(b)
}

// fields walks the members of an object that is known to be valid.
type fields struct {
	b []byte
	i int
}

func fieldsOf(object []byte) fields {
	i := space(object, 0)
	if i >= len(object) || object[i] != '{' {
		return fields{}
	}
	return fields{b: object, i: i + 1}
}

// next is the next member: its name, unquoted, and its value as it stands.
func (f *fields) next() (name, value []byte, ok bool) {
	i := space(f.b, f.i)
	if i < len(f.b) && f.b[i] == ',' {
		i = space(f.b, i+1)
	}
	if i >= len(f.b) || f.b[i] != '"' {
		return nil, nil, false
	}
	end := stringEnd(f.b, i)
	name = text(f.b[i:end])
	i = space(f.b, space(f.b, end)+1) // the colon
	f.i = valueEnd(f.b, i, maxDepth)
	return name, f.b[i:f.i], true
}

// elements are the values of an array that is known to be valid; nil if it is no array.
func elements(array []byte) [][]byte {
	i := space(array, 0)
	if i >= len(array) || array[i] != '[' {
		return nil
	}
	all := [][]byte{}
	for i++; ; {
		i = space(array, i)
		if array[i] == ',' {
			i = space(array, i+1)
		}
		if array[i] == ']' {
			return all
		}
		end := valueEnd(array, i, maxDepth)
		all = append(all, array[i:end])
		i = end
	}
}

// field is the value of one member of an object, nil without it.
func field(object []byte, name string) []byte {
	var found []byte
	for f := fieldsOf(object); ; {
		n, v, ok := f.next()
		if !ok {
			return found
		}
		if string(n) == name {
			found = v
		}
	}
}

// text is a string without quotes and escapes; numbers and literals stand for themselves; null,
// objects and arrays are no text.
func text(value []byte) []byte {
	if len(value) == 0 {
		return nil
	}
	switch value[0] {
	case '{', '[', 'n':
		return nil
	case '"':
		inner := value[1 : len(value)-1]
		if bytes.IndexByte(inner, '\\') < 0 {
			return inner
		}
		var s string
		if json.Unmarshal(value, &s) != nil {
			return nil
		}
		return []byte(s)
	default:
		return value
	}
}

// number is an integer that may stand as a number or as a string: WeChat's pages show both.
func number(value []byte) (int64, bool) {
	n, err := strconv.ParseInt(string(text(value)), 10, 64)
	return n, err == nil
}

// quote appends s as a JSON string.
func quote(b []byte, s string) []byte {
	q, _ := json.Marshal(s) // a string always marshals
	return append(b, q...)
}

func space(b []byte, i int) int {
	for i < len(b) && (b[i] == ' ' || b[i] == '\n' || b[i] == '\t' || b[i] == '\r') {
		i++
	}
	return i
}

// valueEnd is the index behind the value that begins at i, or -1.
func valueEnd(b []byte, i, depth int) int {
	if i >= len(b) || depth == 0 {
		return -1
	}
	switch b[i] {
	case '"':
		return stringEnd(b, i)
	case '{':
		return membersEnd(b, i, depth, '}')
	case '[':
		return membersEnd(b, i, depth, ']')
	case 't':
		return literalEnd(b, i, "true")
	case 'f':
		return literalEnd(b, i, "false")
	case 'n':
		return literalEnd(b, i, "null")
	default:
		return numberEnd(b, i)
	}
}

// membersEnd walks an object or an array.
func membersEnd(b []byte, i, depth int, closing byte) int {
	i = space(b, i+1)
	if i < len(b) && b[i] == closing {
		return i + 1
	}
	for {
		if closing == '}' {
			if i >= len(b) || b[i] != '"' {
				return -1
			}
			if i = stringEnd(b, i); i < 0 {
				return -1
			}
			if i = space(b, i); i >= len(b) || b[i] != ':' {
				return -1
			}
			i = space(b, i+1)
		}
		if i = valueEnd(b, i, depth-1); i < 0 {
			return -1
		}
		if i = space(b, i); i >= len(b) {
			return -1
		}
		switch b[i] {
		case closing:
			return i + 1
		case ',':
			i = space(b, i+1)
		default:
			return -1
		}
	}
}

func stringEnd(b []byte, i int) int {
	for i++; i < len(b); i++ {
		switch c := b[i]; {
		case c == '"':
			return i + 1
		case c < 0x20:
			return -1
		case c == '\\':
			if i = escapeEnd(b, i+1); i < 0 {
				return -1
			}
		}
	}
	return -1
}

// escapeEnd is the last byte of the escape whose letter stands at i.
func escapeEnd(b []byte, i int) int {
	if i >= len(b) {
		return -1
	}
	switch b[i] {
	case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
		return i
	case 'u':
		if i+4 >= len(b) {
			return -1
		}
		for _, c := range b[i+1 : i+5] {
			hex := c >= '0' && c <= '9' || c >= 'a' && c <= 'f' || c >= 'A' && c <= 'F'
			if !hex {
				return -1
			}
		}
		return i + 4
	default:
		return -1
	}
}

func literalEnd(b []byte, i int, word string) int {
	if end := i + len(word); end <= len(b) && string(b[i:end]) == word {
		return end
	}
	return -1
}

func numberEnd(b []byte, i int) int {
	start := i
	for i < len(b) && (b[i] >= '0' && b[i] <= '9' || b[i] == '-' || b[i] == '+' || b[i] == '.' || b[i] == 'e' || b[i] == 'E') {
		i++
	}
	if i == start || !json.Valid(b[start:i]) {
		return -1
	}
	return i
}
