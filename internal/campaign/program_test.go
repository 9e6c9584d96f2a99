package campaign

import (
	"encoding/json"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/hongyan-dispatch/hongyan/message"
)

// said is what a text says to one recipient.
func said(t testing.TB, text string, columns, vars []string) (string, error) {
	t.Helper()
	body, err := json.Marshal(map[string]string{"a": text})
	if err != nil {
		t.Fatal(err)
	}
	c, err := NewComposer(&Spec{Kind: message.Custom, Body: body}, time.Unix(1_780_000_000, 0), 1, columns)
	if err != nil {
		return "", err
	}
	m, _, err := c.Message(nil, 1, "oA1", vars)
	if err != nil {
		return "", err
	}
	var got struct{ A *string }
	if err := json.Unmarshal(m.Body, &got); err != nil || got.A == nil {
		t.Fatalf("%s is no body: %v", m.Body, err)
	}
	if compact, err := message.Compact(m.Body); err == nil && string(compact) != string(m.Body) {
		t.Errorf("%s is not compact", m.Body)
	}
	return *got.A, nil
}

func TestTexts(t *testing.T) {
	columns := []string{"name", "points", "price", "at", "订单", "order no", "empty", "first-name"}
	vars := []string{" 陈小姐 ", "120", "1234.5", "2026-11-28", "A-1-2", "N°1", " ", "\"Ann\"\\\n"}
	for text, want := range map[string]string{
		`{{.name}}/{{ .openid }}/{{.订单}}`:                " 陈小姐 /oA1/A-1-2",
		`{{.first-name}}`:                                "\"Ann\"\\\n",
		`{{column "order no"}}{{column "first-name"}}`:   "N°1\"Ann\"\\\n",
		`{{column "order no" | lower}}{{$.name | trim}}`: "n°1陈小姐",
		`{{openid}}`:          "!function \"openid\" not defined",
		`{{.openid | upper}}`: "OA1",
		`{{default "朋友" .name}}{{.empty | default "朋友"}}`:                              " 陈小姐 朋友",
		`{{.name | trim | truncate 2}}`:                                                "陈…",
		`{{truncate 3 "陈小姐"}}`:                                                         "陈小姐",
		`{{truncate 1 .name}}`:                                                         "…",
		`{{truncate 6 "👨‍👩‍👧a"}}`:                                                      "👨‍👩‍👧a",
		`{{truncate 4 "👨‍👩‍👧a"}}`:                                                      "…",
		`{{truncate 3 "ae\u0301x"}}{{truncate 3 "abcd"}}`:                              "a…ab…",
		`{{upper "ab"}}{{lower "AB"}}{{"x"}}`:                                          "ABabx",
		`{{replace "-" "" .订单}}{{replace "" "x" .订单}}`:                                 "A12A-1-2",
		`{{date "yyyy年M月d日" .at}}`:                                                     "2026年11月28日",
		`{{date "MM-dd HH:mm:ss" "2026-11-28T01:02:03Z"}}`:                             "11-28 09:02:03",
		`{{date "HH:mm" "2026/1/2 3:04"}}`:                                             "03:04",
		`{{date "yyyy" "1780000000"}}`:                                                 "2026",
		`{{date "yyyy" .name}}`:                                                        "!date: the value is none; want one such as",
		`{{money .price}}元 {{money "0.005"}} {{money "-3"}}`:                           "1234.50元 0.01 -3.00",
		`{{fen "3980"}} {{fen .points}}`:                                               "39.80 1.20",
		`{{money .name}}`:                                                              "!money: the value is no number",
		`{{money "1e5"}}`:                                                              "!money: the value is no number",
		`{{if gt .points 100}}a{{else if ge .points 10}}b{{else}}c{{end}}`:             "a",
		`{{if lt .points 100}}a{{else if le .points "120.0"}}b{{else}}c{{end}}`:        "b",
		`{{if eq .points 120 130}}a{{end}}{{if ne .name "x"}}b{{end}}`:                 "ab",
		`{{if and .name (not .empty)}}a{{else}}b{{end}}{{if or .name .empty}}c{{end}}`: "bc",
		`{{if gt .name 1}}a{{end}}`:                                                    "!a comparison wants numbers",
		`a{{- .订单 -}} b {{/* for us */}}{{"{{"}}`:                                      "aA-1-2b {{",
		`{{if .points}}{{.points | printf "%d"}}{{end}}`:                               "!function \"printf\" not defined",
		`{{range 1000000000}}x{{end}}`:                                                 "!{{range}} is not for campaigns",
		`{{with .name}}{{.}}{{end}}`:                                                   "!{{with}} is not for campaigns",
		`{{define "a"}}{{end}}x`:                                                       "!are not for campaigns",
		`{{template "a"}}`:                                                             "!{{template}} is not for campaigns",
		`{{block "a" .}}{{end}}`:                                                       "!are not for campaigns",
		`{{$x := .name}}{{$x}}`:                                                        "!variables are not for campaigns",
		`{{.}}`:                                                                        "!no column, text or number",
		`{{.name.first}}`:                                                              "!.name.first: a column's value has no fields",
		`{{.nobody}}`:                                                                  `!{{.nobody}}: the audience has no column "nobody"; it has openid, name`,
		`{{.nobody | upper}}`:                                                          `!{{.nobody}}: the audience has no column`,
		`{{.name | "x"}}`:                                                              "!non executable command",
		`{{.name .points}}`:                                                            "!.name is no function",
		`{{truncate "20" .name}}`:                                                      "!truncate wants a whole number from 1 as value 1",
		`{{truncate 0 .name}}`:                                                         "!truncate wants a whole number from 1 as value 1",
		`{{truncate .points .name}}`:                                                   "!truncate wants a whole number from 1 as value 1",
		`{{upper 5}}`:                                                                  "!upper wants a column or a text as value 1",
		`{{upper}}`:                                                                    "!upper wants 1 values, not 0",
		`{{default .name}}`:                                                            "!default wants 2 values, not 1",
		`{{upper (eq .name "x")}}`:                                                     "!upper wants a column or a text as value 1",
		`{{upper lower .name}}`:                                                        "!put the call of lower in brackets",
		`{{upper (lower .name | trim)}}`:                                               "陈小姐",
		`{{date "2006-01-02" .at}}`:                                                    "!date: want a layout of yyyy MM dd",
		`{{date .at .at}}`:                                                             "!date wants a layout in quotes as value 1",
		`{{call .name}}`:                                                               "!function \"call\" not defined",
		`{{column .name}}`:                                                             "!column wants a name in quotes",
		`{{.name`:                                                                      "!unclosed action",
		`{{if .name}}x`:                                                                "!unexpected EOF",
		`{{break}}`:                                                                    "!{{break}} outside {{range}}",
	} {
		got, err := said(t, text, columns, vars)
		if bad, fails := strings.CutPrefix(want, "!"); fails {
			if err == nil || !strings.Contains(err.Error(), bad) {
				t.Errorf("%s: got %q, %v; want %s", text, got, err, bad)
			}
		} else if err != nil || got != want {
			t.Errorf("%s: got %q, %v; want %q", text, got, err, want)
		}
	}
}

func TestTextsKnowTheCampaignsZone(t *testing.T) {
	spec, err := ParseSpec([]byte(`{"name":"a","account":"shop","kind":"custom","custom":{"msgtype":"text","text":{"content":"{{date \"HH:mm\" .at}}"}},"schedule":{"timezone":"UTC"}}`))
	if err != nil {
		t.Fatal(err)
	}
	stored, err := json.Marshal(spec)
	if err != nil {
		t.Fatal(err)
	}
	again := new(Spec)
	if err := json.Unmarshal(stored, again); err != nil {
		t.Fatal(err)
	}
	c, err := NewComposer(again, time.Unix(1_780_000_000, 0), 1, []string{"at"})
	if err != nil {
		t.Fatal(err)
	}
	if m, _, err := c.Message(nil, 1, "oA1", []string{"2026-11-28T09:00:00+08:00"}); err != nil || !strings.Contains(string(m.Body), "01:00") {
		t.Errorf("got %s, %v", m.Body, err)
	}
}

func TestErrorsRepeatNoValue(t *testing.T) {
	for _, text := range []string{`{{money .v}}`, `{{fen .v}}`, `{{date "yyyy" .v}}`, `{{if gt .v 1}}{{end}}`, `{{replace "e" (replace "e" (replace "e" .v .v) .v) .v}}`} {
		_, err := said(t, text, []string{"v"}, []string{strings.Repeat("secret", 100)})
		if err == nil || strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: got %v", text, err)
		}
	}
}

func TestErrorsNameTheField(t *testing.T) {
	spec := &Spec{
		Kind: message.Custom, Body: json.RawMessage(`{"msgtype":"text","text":{"content":"{{if gt .n 1}}{{.n}}{{end}}"}}`),
		Fallback: json.RawMessage(`{"kind":"template","template":{"template_id":"T1","data":{"time3":{"value":"{{date \"yyyy\" .at}}"}}}}`),
	}
	c, err := NewComposer(spec, time.Unix(1_780_000_000, 0), 1, []string{"n", "at"})
	if err != nil {
		t.Fatal(err)
	}
	for want, vars := range map[string][]string{
		"custom.text.content: a comparison wants numbers":          {"many", "2026-11-22"},
		"fallback.template.data.time3.value: date: the value is n": {"2", "soon"},
	} {
		if _, _, err := c.Message(nil, 1, "oA", vars); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%v: got %v, want %s", vars, err, want)
		}
	}
}

func TestTextsAreBounded(t *testing.T) {
	long := strings.Repeat("x", message.MaxBytes/3)
	for text, fails := range map[string]bool{
		`{{.v}}{{.v}}`: false, `{{.v}}{{.v}}{{.v}}{{.v}}`: true, `{{upper .v}}{{.v}}`: false, `{{upper .v}}{{.v}}{{.v}}{{.v}}`: true,
		`{{.v | replace "x" "xx" | replace "x" "xx" | replace "x" "xx" | truncate 3}}`: true,
	} {
		if _, err := said(t, text, []string{"v"}, []string{long}); (err != nil) != fails || fails && !strings.Contains(err.Error(), "64 KiB") {
			t.Errorf("%s: got %v, want an error: %v", text, err, fails)
		}
	}
}

// TestPlainTextsTakeNoMemory keeps the memory of a message where it was: plain columns cost no more than they did.
func TestPlainTextsTakeNoMemory(t *testing.T) {
	f, err := newFiller("custom", json.RawMessage(benchBody), []string{"name", "order"}, newFunctions(""))
	if err != nil {
		t.Fatal(err)
	}
	dst := make([]byte, 0, 1024)
	if n := testing.AllocsPerRun(100, func() { _, err = f.fill(dst, "oA1", []string{"陈小姐", "A1"}) }); n != 0 || err != nil {
		t.Errorf("%v allocations, %v", n, err)
	}
}

const benchBody = `{"template_id": "T1", "data": {"thing1": {"value": "{{.name}}，您好"}, "character_string2": {"value": "{{.order}}"}}}`

func BenchmarkFill(b *testing.B) {
	for name, text := range map[string]string{
		"columns":   benchBody,
		"functions": strings.Replace(benchBody, "{{.name}}", `{{.name | default \"朋友\" | truncate 16}}`, 1),
	} {
		b.Run(name, func(b *testing.B) {
			f, err := newFiller("custom", json.RawMessage(text), []string{"name", "order"}, newFunctions(""))
			if err != nil {
				b.Fatal(err)
			}
			dst, vars := make([]byte, 0, 1024), []string{"陈小姐", "A1"}
			b.ReportAllocs()
			for b.Loop() {
				if _, err := f.fill(dst, "oA1", vars); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// FuzzValues fills hostile values into each kind of place: none can leave its string, nor say something else there.
func FuzzValues(f *testing.F) {
	for _, seed := range []string{`"},"b":{"`, `\`, `\"`, "\n\r\t\x00\x1f\x7f", "{{.v}}", "{{", "}}", "\u2028</script>", "\xff\xfe", "陈👨‍👩‍👧", strings.Repeat("\"", 70_000)} {
		f.Add(seed)
	}
	const text = `{"a": "<{{.v}}>", "b": {"c": ["{{.v | default .w}}", "{{if .v}}\"{{upper .w}}{{end}}", "{{truncate 9 .v}}{{replace .v .w .v}}"]}, "d": "{{.w}}{{.v}}{{.openid}}"}`
	filler, err := newFiller("custom", json.RawMessage(text), []string{"v", "w"}, newFunctions(""))
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, v string) {
		out, err := filler.fill(nil, message.OpenID(v), []string{v, "w" + v})
		if err != nil {
			if utf8.ValidString(v) && len(v) < 1000 {
				t.Fatalf("%q: %v", v, err)
			}
			return
		}
		var got struct {
			A string
			B struct{ C []string }
			D string
		}
		if err := json.Unmarshal(out, &got); err != nil {
			t.Fatalf("%q gives %s: %v", v, out, err)
		}
		if got.A != "<"+v+">" || got.D != "w"+v+v+v || len(got.B.C) != 3 || !strings.HasPrefix(got.B.C[1], `"W`) && v != "" {
			t.Fatalf("%q gives %+v", v, got)
		}
	})
}

// FuzzTexts makes sure that whatever an operator writes is refused before the start, or says something short in time.
func FuzzTexts(f *testing.F) {
	for _, seed := range []string{
		`{{.v}}`, `{{if eq .v "x"}}a{{else}}b{{end}}`, `{{.v | truncate 3 | default "x"}}`, `{{range 9}}{{end}}`, `{{column "v"}}`, `{{and .v (or .v 1)}}`, `{{money 1}}`,
		`{{not}}`, `{{date "yyyy" .v}}`, `{{"a" | "b"}}`, `{{eq .v 1i}}`, `{{gt .v nil}}`, `{{(.v).w}}`, `{{$}}`, `{{if $.v}}{{end}}`,
	} {
		f.Add(seed, "value")
	}
	f.Fuzz(func(t *testing.T, text, v string) {
		if !utf8.ValidString(text) || !utf8.ValidString(v) || len(v) > 100 {
			return
		}
		fn := newFunctions("")
		p, err := fn.program(text)
		if err != nil {
			return
		}
		for i := range p.names {
			p.columns = append(p.columns, i)
		}
		vars := make([]string, len(p.names))
		for i := range vars {
			vars[i] = v
		}
		out, err := p.run(nil, "oA1", vars)
		if err != nil && strings.Contains(err.Error(), "wrong") {
			t.Fatalf("%s passes, and then: %v", text, err)
		}
		if len(out) > 6*message.MaxBytes {
			t.Fatalf("%s says %d bytes", text, len(out))
		}
	})
}
