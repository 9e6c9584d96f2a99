package wechattest

import (
	"bytes"
	"encoding/json"
	"testing"
	"unicode/utf8"
)

// FuzzJSON holds the small reader against the standard library.
func FuzzJSON(f *testing.F) {
	for _, s := range []string{
		template(alice, "id"), `{}`, `{"a":[1,{"b":null}],"c":"\u8336\"","d":-1.5e3}`, `{"a":01}`, `{"a":1,}`, `{"a"}`,
		`{"a":"` + "\x01" + `"}`, `[1]`, `{"a":tru}`, ` {"a" : "b" } `, `{} {}`, `{"a":"\ud83d\ude00"}`, `{"touser":["a","b"]}`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		var want map[string]json.RawMessage
		good := utf8.Valid(b) && json.Unmarshal(b, &want) == nil && bytes.HasPrefix(bytes.TrimSpace(b), []byte("{"))
		if got := validObject(b); got != good {
			if good && deep(b) {
				return
			}
			t.Fatalf("%q is valid: got %t, want %t", b, got, good)
		}
		if !good {
			return
		}
		got := map[string]string{}
		for f := fieldsOf(b); ; {
			name, value, ok := f.next()
			if !ok {
				break
			}
			got[string(name)] = string(value)
			var s string
			if len(value) > 0 && value[0] == '"' && json.Unmarshal(value, &s) == nil && s != string(text(value)) {
				t.Fatalf("text of %s is %q, want %q", value, text(value), s)
			}
			var list []json.RawMessage
			if len(value) > 0 && value[0] == '[' && json.Unmarshal(value, &list) == nil && len(list) != len(elements(value)) {
				t.Fatalf("%s has %d elements, want %d", value, len(elements(value)), len(list))
			}
		}
		if len(got) != len(want) {
			t.Fatalf("%q has %d members, want %d", b, len(got), len(want))
		}
		for name, raw := range want {
			if got[name] != string(raw) {
				t.Fatalf("%q of %q is %q, want %q", name, b, got[name], raw)
			}
		}
	})
}

// deep says whether b may be nested too deep for the small reader.
func deep(b []byte) bool { return bytes.Count(b, []byte("["))+bytes.Count(b, []byte("{")) >= maxDepth }
