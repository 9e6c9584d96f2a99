package audience

import (
	"encoding/csv"
	"encoding/json"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"
)

// FuzzCSV reads what strangers send: no row is worse than told, lines are in order, and what a plain reader reads
// without a complaint is read the same.
func FuzzCSV(f *testing.F) {
	for _, seed := range []string{
		"openid,a\noA1,x\n", "openid,a\r\noA1,\"x\"\"y\"\r\n", "openid,a\noA1,\"x\noB2,y\n", "a;openid\n\"1\n2\";oA1", "openid\n\"oA1\"\n\n\noB2",
		"openid,a\noA1,\xb3\xc2\n", "\xef\xbb\xbfopenid,a\noA1,\"x\"y\n", "openid,a\noA1,\x00\noB2,\xff\noC3,陈\n", "openid,a\noA1,\"\noB2,\"\n", "openid\n\r\n\"\r\"\n",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		got, whole := readAll(t, text, Options{Format: CSV, Encoding: UTF8, Comma: ','})
		if !whole || strings.Contains(text, "\r") { // encoding/csv changes these
			return
		}
		plain := csv.NewReader(strings.NewReader(strings.TrimPrefix(text, "\xef\xbb\xbf")))
		want, err := plain.ReadAll()
		if err != nil {
			return
		}
		want = slices.DeleteFunc(want[min(1, len(want)):], blank)
		if len(want) != len(got) {
			t.Fatalf("%d rows, want %d", len(got), len(want))
		}
		for i, row := range got {
			for _, v := range row.Vars {
				if !slices.Contains(want[i], v) {
					t.Fatalf("row %d: %q, want %q", i, row.Vars, want[i])
				}
			}
		}
	})
}

// FuzzJSONLines holds what is read against another reader of JSON.
func FuzzJSONLines(f *testing.F) {
	for _, seed := range []string{
		`{"openid":"oA1","a":"x"}`, "{\"openid\":\"oA1\",\"a\":1}\n{\"a\":-0.5e+7,\"openid\":\"oB2\"}\n", `{"openid":"oA1","a":"\ud83d\ude00\u0041\n"}`,
		`{"openid":"oA1","openid":"oB2"}`, `{"openid":"oA1","a":{}}`, `{"openid":"oA1","a":null,"b":true}`, `{"openid":"oA1","a":"\udc00"}`, "{\"openid\":\"o\xff\"}", `{}`,
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		rows, _ := readAll(t, text, Options{Format: JSONL, Encoding: UTF8})
		lines := strings.Split(strings.TrimPrefix(text, "\xef\xbb\xbf"), "\n")
		for _, row := range rows {
			var want map[string]any
			d := json.NewDecoder(strings.NewReader(lines[row.Line-1]))
			d.UseNumber()
			if err := d.Decode(&want); err != nil {
				t.Fatalf("line %d is read as %q, and is no JSON: %v", row.Line, row.Vars, err)
			}
			if len(want) != len(row.Vars)+1 {
				t.Fatalf("line %d: %d values, want %v", row.Line, len(row.Vars), want)
			}
			for name, v := range want {
				if s, ok := v.(string); ok && !strings.EqualFold(strings.TrimSpace(name), "openid") && !slices.Contains(row.Vars, s) {
					t.Fatalf("line %d: %q, want %v", row.Line, row.Vars, want)
				}
			}
		}
	})
}

// readAll reads a text, and says whether no row was refused.
func readAll(t *testing.T, text string, o Options) (rows []Row, whole bool) {
	r, err := Open("-", strings.NewReader(text), o)
	if err != nil {
		return nil, false
	}
	whole = true
	var last int64
	for {
		row, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		line := row.Line
		if bad, refused := errors.AsType[*Refused](err); refused {
			line, whole = bad.Line, false
		} else if err != nil {
			t.Fatal(err)
		} else {
			rows = append(rows, row)
			check(t, r, row)
		}
		if line <= last {
			t.Fatalf("line %d comes behind line %d", line, last)
		}
		last = line
	}
	if r.Offset() != int64(len(text)) {
		t.Fatalf("%d bytes were read of %d", r.Offset(), len(text))
	}
	return rows, whole
}

func check(t *testing.T, r *Reader, row Row) {
	if err := row.OpenID.Check(); err != nil {
		t.Fatalf("line %d: %v", row.Line, err)
	}
	if len(row.Vars) != len(r.Columns()) {
		t.Fatalf("line %d: %d values, want %d", row.Line, len(row.Vars), len(r.Columns()))
	}
	for _, v := range row.Vars {
		if !utf8.ValidString(v) || strings.ContainsFunc(v, isControl) {
			t.Fatalf("line %d: %q", row.Line, v)
		}
	}
}
