package message

import (
	"bytes"
	"encoding/json"
	"errors"
	"reflect"
	"strings"
	"testing"
	"time"
)

const textLine = `{"account":"shop","kind":"custom","to":"oABC","custom":{"msgtype":"text","text":{"content":"您好"}}}`

func mustParse(t testing.TB, line string) *Message {
	t.Helper()
	m, err := Parse([]byte(line))
	if err != nil {
		t.Fatalf("Parse(%s): %v", line, err)
	}
	return m
}

func TestParseReadsEveryField(t *testing.T) {
	got := mustParse(t, ` { "account" : "shop", "kind":"custom","to":"oABC","key":"k-1","lane":"urgent",
		"custom":{ "msgtype":"text", "text":{"content":"a\/b \u4f60\ud83d\ude00 \u003ca\u003e\n"} },
		"not_before":"2026-12-01T09:00:00+08:00","expires_at":"2026-12-01T03:00:00.1239Z",
		"fallback":{"kind":"template","template":{"template_id":"T"},"key":"k-2"},
		"labels":{"order":"1001"} } `)
	want := &Message{
		Account:   "shop",
		Kind:      Custom,
		To:        "oABC",
		Key:       "k-1",
		Lane:      Urgent,
		Body:      json.RawMessage(`{"msgtype":"text","text":{"content":"a/b 你😀 <a>\n"}}`),
		NotBefore: time.Date(2026, 12, 1, 1, 0, 0, 0, time.UTC),
		ExpiresAt: time.Date(2026, 12, 1, 3, 0, 0, 123e6, time.UTC),
		Fallback:  &Message{Kind: Template, Key: "k-2", Body: json.RawMessage(`{"template_id":"T"}`)},
		Labels:    map[string]string{"order": "1001"},
	}
	got.NotBefore, got.ExpiresAt = got.NotBefore.UTC(), got.ExpiresAt.UTC()
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
}

func TestParseReadsAMassList(t *testing.T) {
	m := mustParse(t, `{"account":"shop","kind":"mass","to":["oA","oB"],"mass":{"msgtype":"text","text":{"content":"x"}}}`)
	if want := []OpenID{"oA", "oB"}; !reflect.DeepEqual(m.List, want) || m.To != "" {
		t.Errorf("got list %v, to %q; want %v and none", m.List, m.To, want)
	}
}

func TestParseKeepsNothingOfTheLine(t *testing.T) {
	line := []byte(textLine)
	m := mustParse(t, string(line))
	again, err := Parse(line)
	if err != nil {
		t.Fatal(err)
	}
	for i := range line {
		line[i] = 'x'
	}
	if !reflect.DeepEqual(m, again) {
		t.Errorf("the message changed with its line: %s", again.AppendJSON(nil))
	}
}

func TestParseRefuses(t *testing.T) {
	for _, tt := range []struct{ claim, line, want string }{
		{"nothing", ``, `malformed JSON at byte 1: ends too early`},
		{"a list", `[]`, `want an object (got a list)`},
		{"a cut line", `{"account":"shop"`, `malformed JSON at byte 18: ends too early`},
		{"a comma before the end", `{"account":"shop",}`, `malformed JSON at byte 19: want a key in double quotes`},
		{"a missing comma", `{"account":"shop" "kind":"custom"}`, `malformed JSON at byte 19: want ',' or '}'`},
		{"a missing colon", `{"account" "shop"}`, `account: malformed JSON at byte 12: want ':'`},
		{"single quotes", `{'account':1}`, `malformed JSON at byte 2: want a key`},
		{"data behind the object", textLine + `{}`, `something follows the object`},
		{"a byte order mark", "\xef\xbb\xbf" + textLine, `byte order mark`},
		{"an unknown field", `{"acount":"shop","kind":"custom","custom":{}}`, `acount: unknown field; want account, kind`},
		{"a field in other letters", `{"Account":"shop","kind":"custom","custom":{}}`, `Account: unknown field`},
		{"an id of the producer's", `{"id":"1","kind":"custom","custom":{}}`, `id: leave it out: ids are given at enqueue`},
		{"a key given twice", `{"account":"a","account":"b"}`, `account: duplicate key`},
		{"a key given twice by escapes", `{"labels":{"a":"1","\u0061":"2"}}`, `duplicate key`},
		{"a key given twice in a body", `{"kind":"template","template":{"data":{"thing1":{"value":"a"},"thing1":{"value":"b"}}}}`, `template.data.thing1: duplicate key`},
		{"invalid UTF-8", "{\"account\":\"\xff\"}", `account: a string is not valid UTF-8`},
		{"invalid UTF-8 in a body", "{\"kind\":\"custom\",\"custom\":{\"text\":{\"content\":\"a\xc0\"}}}", `custom.text.content: a string is not valid UTF-8`},
		{"half a surrogate pair", `{"account":"\ud83d"}`, `account: half of a surrogate pair`},
		{"a raw line break in a string", "{\"account\":\"a\nb\"}", `control character in a string`},
		{"a NUL", `{"account":"\u0000"}`, `control character U+0000`},
		{"an unknown escape", `{"account":"\x41"}`, `unknown escape`},
		{"a short escape", `{"account":"\u12"}`, `four hexadecimal digits`},
		{"a number for a string", `{"account":7,"kind":"custom","custom":{}}`, `account: want a string (got a number)`},
		{"null for a string", `{"account":null,"kind":"custom","custom":{}}`, `account: want a string (got null)`},
		{"a bare word", `{"account":shop}`, `account: malformed JSON at byte 12: want a value`},
		{"a leading zero", `{"kind":"custom","custom":{"n":01}}`, `malformed JSON at byte 33: want ',' or '}'`},
		{"an unknown kind", `{"kind":"sms"}`, `kind: want one of template, subscribe, custom, mass (got "sms")`},
		{"no kind", `{"account":"shop","template":{}}`, `kind: required`},
		{"an unknown lane", `{"kind":"custom","lane":"fast","custom":{}}`, `lane: want one of urgent, normal, bulk (got "fast")`},
		{"no body", `{"kind":"custom"}`, `custom: required`},
		{"the body of another kind", `{"kind":"custom","template":{},"custom":{}}`, `template: leave it out: kind is custom`},
		{"a body that is text", `{"kind":"custom","custom":"x"}`, `custom: want an object (got a string)`},
		{"a time without a zone", `{"kind":"custom","custom":{},"not_before":"2026-12-01T09:00:00"}`, `not_before: want RFC 3339`},
		{"a time that is a number", `{"kind":"custom","custom":{},"expires_at":1790000000}`, `expires_at: want a string (got a number)`},
		{"a list with a number", `{"kind":"mass","mass":{},"to":["a",1]}`, `to[1]: want a string (got a number)`},
		{"a recipient that is an object", `{"kind":"mass","mass":{},"to":{}}`, `to: want an openid, or a list`},
		{"labels that are numbers", `{"kind":"custom","custom":{},"labels":{"n":1}}`, `labels.n: want a string (got a number)`},
		{"a fallback with a recipient", `{"kind":"custom","custom":{},"fallback":{"kind":"template","template":{},"to":"oA"}}`, `fallback.to: leave it out of a fallback`},
		{"a fallback of a fallback", `{"kind":"custom","custom":{},"fallback":{"kind":"template","template":{},"fallback":{}}}`, `fallback.fallback: leave it out`},
		{"a fallback without a body", `{"kind":"custom","custom":{},"fallback":{"kind":"template"}}`, `fallback.template: required`},
		{"depth", `{"kind":"custom","custom":` + strings.Repeat(`{"a":`, 40) + `1` + strings.Repeat(`}`, 41), `nested deeper than 32`},
		{"a long message", `{"kind":"custom","custom":{"a":"` + strings.Repeat("x", MaxBytes) + `"}}`, `at most 64 KiB`},
		{"a long mass message", strings.Repeat(" ", MaxMassBytes+1), `at most 4096 KiB`},
	} {
		t.Run(tt.claim, func(t *testing.T) {
			m, err := Parse([]byte(tt.line))
			if err == nil {
				t.Fatalf("accepted: %s", m.AppendJSON(nil))
			}
			var invalid Invalid
			if !errors.As(err, &invalid) || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got  %v (%T)\nwant %s", err, err, tt.want)
			}
			if strings.Contains(err.Error(), "\n") {
				t.Errorf("the error has more than one line: %q", err)
			}
		})
	}
}

func TestParseNamesEveryWrongField(t *testing.T) {
	_, err := Parse([]byte(`{"account":7,"kind":"custom","lane":"x","custom":{},"colour":[1,{"a":null}]}`))
	var invalid Invalid
	if !errors.As(err, &invalid) || len(invalid) != 3 {
		t.Errorf("got %v; want three findings", err)
	}
}

func TestManyFindingsAreCutShort(t *testing.T) {
	_, err := Parse([]byte(`{"kind":"mass","mass":{},"to":[` + strings.Repeat("1,", 999) + `1]}`))
	var invalid Invalid
	if !errors.As(err, &invalid) || len(invalid) != maxFindings+1 || !strings.HasSuffix(err.Error(), "and 980 more findings") {
		t.Errorf("got %d findings, the end of the text: …%s", len(invalid), err.Error()[max(0, len(err.Error())-60):])
	}
}

func TestMarshalWritesWhatParseReads(t *testing.T) {
	for _, line := range seeds {
		m, err := Parse([]byte(line))
		if err != nil {
			continue // TestSeedsAreRead knows which
		}
		viaJSON, err := json.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		for _, written := range [][]byte{m.AppendJSON(nil), viaJSON} {
			var again Message
			if err := json.Unmarshal(written, &again); err != nil {
				t.Fatalf("%s: %v", written, err)
			}
			if !equal(m, &again) {
				t.Errorf("got  %s\nwant %s", again.AppendJSON(nil), m.AppendJSON(nil))
			}
		}
	}
}

// equal compares messages as producers see them: times by their instant.
func equal(a, b *Message) bool {
	if a == nil || b == nil {
		return a == b
	}
	x, y := *a, *b
	same := x.NotBefore.Equal(y.NotBefore) && x.ExpiresAt.Equal(y.ExpiresAt) && equal(x.Fallback, y.Fallback)
	for _, m := range []*Message{&x, &y} {
		m.NotBefore, m.ExpiresAt, m.Fallback = time.Time{}, time.Time{}, nil
	}
	return same && reflect.DeepEqual(x, y)
}

func TestCompact(t *testing.T) {
	many := func(last string) string {
		var b strings.Builder
		b.WriteString(`{"z":1`)
		for i := range 40 {
			b.WriteString(`,"k` + string(rune('a'+i)) + `":1`)
		}
		return b.String() + `,"` + last + `":1}`
	}
	t.Run("removes white space and needless escapes, keeps order and numbers", func(t *testing.T) {
		got, err := Compact([]byte(" {\"b\" : [1.50 ,-0, 1e9,true,false,null,[],{}],\t\"a\":\"\\u003c\\/\\\"\\\\\\u2028\"}\r\n"))
		want := "{\"b\":[1.50,-0,1e9,true,false,null,[],{}],\"a\":\"</\\\"\\\\\u2028\"}"
		if err != nil || string(got) != want {
			t.Errorf("got  %s, %v\nwant %s", got, err, want)
		}
	})
	t.Run("finds a duplicate among many keys", func(t *testing.T) {
		if _, err := Compact([]byte(many("z"))); err == nil || err.Error() != "z: duplicate key" {
			t.Errorf("got %v; want z: duplicate key", err)
		}
		if got, err := Compact([]byte(many("y"))); err != nil || string(got) != many("y") {
			t.Errorf("got %s, %v; want it unchanged", got, err)
		}
	})
}

var seeds = []string{
	templateLine, textLine,
	`{"account":"shop","kind":"mass","to":["oA","oB"],"mass":{"msgtype":"image","images":{"media_ids":["m"]}}}`,
	`{"account":"shop","kind":"mass","mass":{"filter":{"is_to_all":false,"tag_id":"2"},"msgtype":"mpnews","mpnews":{"media_id":"m"}},"not_before":"2026-12-01T09:00:00.5+08:00"}`,
	`{"account":"shop","kind":"custom","to":"oA","custom":{"msgtype":"text","text":{"content":"\u4f60\ud83d\ude00\b"}},"fallback":{"kind":"subscribe","subscribe":{"data":{}}},"labels":{"":""}}`,
	`{"account":"\ufffd","kind":"template","template":{"a":[1.0e-7,[],{"":null}],"b":{"\u0062":1e999}}}`,
	`{"kind":"custom","custom":{"a":"\ud800"}}`, `{"kind":"custom","custom":{"a":1,"a":2}}`, `{"`, `[]`, `nul`, `{"kind":"custom","custom":{}}x`,
}

// What Parse accepts is JSON with the same meaning to encoding/json, and survives being written.
func FuzzParse(f *testing.F) {
	for _, line := range seeds {
		f.Add([]byte(line))
	}
	f.Fuzz(func(t *testing.T, line []byte) {
		m, err := Parse(line)
		if err != nil {
			if m != nil || strings.ContainsAny(err.Error(), "\r\n") {
				t.Fatalf("got %v, %q; want no message and one line", m, err)
			}
			return
		}
		var fields map[string]json.RawMessage
		if err := json.Unmarshal(line, &fields); err != nil {
			t.Fatalf("accepted what is not JSON: %v", err)
		}
		sameValue(t, fields[string(m.Kind)], m.Body)
		again, err := Parse(m.AppendJSON(nil))
		if err != nil {
			t.Fatalf("cannot read what was written: %v\n%s", err, m.AppendJSON(nil))
		}
		if !equal(m, again) {
			t.Fatalf("got  %s\nwant %s", again.AppendJSON(nil), m.AppendJSON(nil))
		}
		if m.Hash() != again.Hash() {
			t.Fatalf("the hash changed by writing and reading %s", line)
		}
		_ = m.Validate(noon) // must not panic
	})
}

func FuzzCompact(f *testing.F) {
	f.Add([]byte(`{"a":[1,"\u0061"],"b":{"c":null}}`))
	f.Fuzz(func(t *testing.T, in []byte) {
		out, err := Compact(in)
		if err != nil {
			return
		}
		sameValue(t, in, out)
		if again, err := Compact(out); err != nil || !bytes.Equal(again, out) {
			t.Fatalf("not compact: %s, then %s, %v", out, again, err)
		}
	})
}

func sameValue(t *testing.T, in, out []byte) {
	t.Helper()
	values := make([]any, 2)
	for i, text := range [][]byte{in, out} {
		d := json.NewDecoder(bytes.NewReader(text))
		d.UseNumber()
		if err := d.Decode(&values[i]); err != nil {
			t.Fatalf("%s: %v", text, err)
		}
	}
	if !reflect.DeepEqual(values[0], values[1]) {
		t.Fatalf("got  %s\nwant the value of %s", out, in)
	}
	if bytes.Contains(out, []byte(`\u`)) && !bytes.Contains(out, []byte(`\\u`)) {
		t.Fatalf("an escape is left in %s", out)
	}
}
