package campaign

import (
	"encoding/json"
	"strconv"
)

// A walk goes over the strings of valid JSON, in their order.
type walk struct {
	in    []byte
	at    int
	visit func(s spot)
}

// A spot is a string in JSON.
type spot struct {
	path     string // such as data.thing1.value
	from, to int    // of the input, with its quotes
	key      bool   // it names a member
	text     string // what it says
}

// walkStrings calls visit for each string of valid JSON.
func walkStrings(in []byte, visit func(spot)) {
	w := walk{in: in, visit: visit}
	w.value("")
}

func (w *walk) peek() byte {
	for w.at < len(w.in) {
		switch c := w.in[w.at]; c {
		case ' ', '\t', '\n', '\r', ',', ':':
			w.at++
		default:
			return c
		}
	}
	return 0
}

func (w *walk) value(path string) {
	switch w.peek() {
	case '"':
		w.text(path, false)
	case '{':
		w.at++
		for w.peek() == '"' {
			name := w.text(path, true)
			w.value(join(path, name))
		}
		w.at++
	case '[':
		w.at++
		for i := 0; w.at < len(w.in) && w.peek() != ']'; i++ {
			w.value(path + "[" + strconv.Itoa(i) + "]")
		}
		w.at++
	default:
		for w.at < len(w.in) && !isEnd(w.in[w.at]) {
			w.at++
		}
	}
}

func isEnd(c byte) bool { return c == ',' || c == '}' || c == ']' || c <= ' ' }

func (w *walk) text(path string, key bool) (text string) {
	from := w.at
	for w.at++; w.at < len(w.in) && w.in[w.at] != '"'; w.at++ {
		if w.in[w.at] == '\\' {
			w.at++
		}
	}
	w.at = min(w.at+1, len(w.in))
	_ = json.Unmarshal(w.in[from:w.at], &text) // it is valid
	w.visit(spot{path: path, from: from, to: w.at, key: key, text: text})
	return text
}

func join(path, name string) string {
	if path == "" {
		return name
	}
	return path + "." + name
}
