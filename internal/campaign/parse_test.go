package campaign

import (
	"encoding/json"
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/hongyan-dispatch/hongyan/message"
)

// everyKey is a spec with every key.
const everyKey = `
name: double-eleven
account: shop
kind: custom
custom: {msgtype: text, text: {content: "{{.name | default \"朋友\"}}，您的订单 {{.order}} 已发货 {{date \"MM月dd日\" .day}}"}}
fallback:
  kind: template
  template: {template_id: T1, data: {thing1: {value: "{{.name}}"}, number2: {value: 39.80}, date3: {value: 2026-12-01}}}
lane: normal
labels: {season: 11, on: yes}
audience: {file: users.csv}
schedule: {cron: "0 10 * * 1", timezone: Asia/Tokyo, catch_up: skip}
pace: {per_second: 200}
quiet_hours: {from: 22:00, to: "08:00"}
closed_days: [sun, 2027-01-01, 2027-02-05..2027-02-11]
frequency_cap: {messages: 2, per: week}
dedupe: true
expires_after: 24h
weight: 3
stop_at: 0.5
canary: 1_00
`

func TestSpecsAreParsed(t *testing.T) {
	got, err := ParseSpec([]byte(everyKey))
	if err != nil {
		t.Fatal(err)
	}
	want := &Spec{
		Name: "double-eleven", Account: "shop", Kind: message.Custom, Lane: message.Normal,
		Body: json.RawMessage(`{"msgtype":"text","text":{"content":"{{.name | default \"朋友\"}}，您的订单 {{.order}} 已发货 {{date \"MM月dd日\" .day}}"}}`),
		Fallback: json.RawMessage(`{"kind":"template","template":{"template_id":"T1","data":{"thing1":{"value":"{{.name}}"},` +
			`"number2":{"value":39.80},"date3":{"value":"2026-12-01"}}}}`),
		Audience: Source{Kind: FromFile, File: "users.csv"},
		Schedule: Schedule{Cron: "0 10 * * 1", Timezone: "Asia/Tokyo", CatchUp: CatchUpSkip},
		Pace:     200, Cap: FrequencyCap{Messages: 2, Per: "week"}, Dedupe: true, Weight: 3, StopAt: 0.5, Canary: 100, Expires: 24 * time.Hour,
		Calendar: Calendar{From: "22:00", To: "08:00", Closed: []string{"sun", "2027-01-01", "2027-02-05..2027-02-11"}, Timezone: "Asia/Tokyo"},
		Labels:   map[string]string{"season": "11", "on": "yes"},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("want -, got +\n%s", diff)
	}
	if columns := strings.Join(got.Columns(), " "); columns != "day name order" {
		t.Errorf("columns are %q", columns)
	}
	stored, err := json.Marshal(got)
	if err != nil {
		t.Fatal(err)
	}
	again := new(Spec)
	if err := json.Unmarshal(stored, again); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(got, again); diff != "" {
		t.Errorf("the ledger's form says otherwise\n%s", diff)
	}
	if err := again.Check(); err != nil {
		t.Error(err)
	}
}

func TestSmallSpecs(t *testing.T) {
	const least = `{"name":"a","account":"shop","kind":"template","template":{"template_id":"T1","data":{"thing1":{"value":"{{.name}}"}}}`
	for rest, check := range map[string]func(*Spec) bool{
		`}`:                               func(s *Spec) bool { return s.Lane == message.Bulk && s.Schedule.IsZero() && s.Calendar.always() },
		`,"audience":{"sql":"SELECT 1"}}`: func(s *Spec) bool { return s.Audience == Source{Kind: FromSQL, SQL: "SELECT 1"} },
		`,"schedule":{"at":"2026-12-01T10:00:00+08:00"}}`:                      func(s *Spec) bool { return s.Schedule.At.Equal(moment(t, "2026-12-01T02:00:00Z")) },
		`,"schedule":{"at":"2026-12-01 10:00","timezone":"America/New_York"}}`: func(s *Spec) bool { return s.Schedule.At.Equal(moment(t, "2026-12-01T15:00:00Z")) },
		`,"quiet_hours":null,"pace":{"per_second":0.5}}`:                       func(s *Spec) bool { return s.Pace == 0.5 },
	} {
		if s, err := ParseSpec([]byte(least + rest)); err != nil || !check(s) {
			t.Errorf("%s: %+v, %v", rest, s, err)
		}
	}
	if s, err := ParseSpec([]byte("{\n\t\"name\": \"\\ud83d\\ude00\\/\\\\ud83d\",\n\t" + least[len(`{"name":"a",`):] + "\n}\n")); err != nil || s.Name != `😀/\ud83d` {
		t.Errorf("a program's JSON: %+v, %v", s, err)
	}
	tagged := strings.Replace(least, "{{.name}}", "hello {{.openid}}", 1)
	if s, err := ParseSpec([]byte(tagged + `,"audience":{"tag":102}}`)); err != nil || s.Audience != (Source{Kind: FromTag, Tag: 102}) {
		t.Errorf("a tag: %+v, %v", s, err)
	}
	if s, err := ParseSpec([]byte(tagged + `,"audience":{"followers":true}}`)); err != nil || s.Audience != (Source{Kind: FromFollowers}) {
		t.Errorf("followers: %+v, %v", s, err)
	}
}

func TestMistakesAreFound(t *testing.T) {
	base := func(changes ...string) string {
		text := "name: a\naccount: shop\nkind: template\ntemplate: {template_id: T1, data: {thing1: {value: x}}}\n"
		for i := 0; i+1 < len(changes); i += 2 {
			text = strings.Replace(text, changes[i], changes[i+1], 1)
		}
		return text
	}
	for _, c := range []struct{ name, text, want string }{
		{"nothing", "# only a comment\n", "there is nothing in it"},
		{"no YAML", "name: [", "did not find expected"},
		{"a list", "[]", "want keys and values: account, audience"},
		{"two documents", "name: a\n---\nname: b\n", "a second YAML document"},
		{"an unknown key", base() + "pase: 3\n", "line 5: pase: unknown key (known here: account, audience, canary"},
		{"an unknown key inside", base() + "pace:\n  per_minute: 3\n", "line 6: pace.per_minute: unknown key (known here: per_second)"},
		{"a key twice", base() + "name: b\n", "the key stands here twice"},
		{"no name", base("name: a\n", ""), "name: want 1 to 100 characters"},
		{"an id as a name", base("name: a", "name: 0198c0de-0000-7000-8000-000000000001"), "name: is an id"},
		{"no account", base("account: shop\n", ""), "account: required"},
		{"no kind", base("kind: template\n", ""), "kind: required (one of: template, subscribe, custom, mass)"},
		{"an unknown kind", base("kind: template", "kind: sms"), `kind: unknown value "sms"`},
		{"mass with placeholders", "name: a\naccount: shop\nkind: mass\nmass: {msgtype: text, text: {content: \"{{.name}}\"}}\n", "line 4: mass: asks for {{.name}}, and one text goes to all"},
		{"mass with a filter", "name: a\naccount: shop\nkind: mass\nmass: {msgtype: text, text: {content: a}, filter: {is_to_all: true}}\n", "mass.filter: comes of the audience (say audience: {tag: ID}"},
		{"mass with a cap", "name: a\naccount: shop\nkind: mass\nmass: {msgtype: text, text: {content: a}}\nfrequency_cap: {messages: 1, per: day}\n", "line 5: frequency_cap: is of messages to single users"},
		{"mass with a canary of one", "name: a\naccount: shop\nkind: mass\nmass: {msgtype: text, text: {content: a}}\ncanary: 1\n", "line 5: canary: a mass send goes to 2 users or more"},
		{"mass without a type", "name: a\naccount: shop\nkind: mass\nmass: {text: {content: a}}\naudience: {followers: true}\n", "mass.msgtype: required"},
		{"no body", base("template: {", "custom: {"), "template: required: WeChat's own JSON"},
		{"a body too many", base() + "custom: {msgtype: text}\n", "line 5: custom: leave it out: kind is template"},
		{"a body that is none", base("{template_id: T1, data: {thing1: {value: x}}}", "T1"), "line 4: template: want an object"},
		{"no template", base("template_id: T1, ", ""), "line 4: template.template_id: required"},
		{"a long value", base("value: x", "value: "+strings.Repeat("长", 21)), "line 4: template.data.thing1.value: at most 20 characters (got 21)"},
		{"touser", base("template_id: T1", "template_id: T1, touser: o"), "template.touser: leave it out"},
		{"a number that is none", base("value: x", "value: 0x1F"), `template.data.thing1.value: "0x1F" is no number in JSON (write it in quotes, or as digits)`},
		{"a placeholder in a name", base("thing1", `"{{.name}}"`), "a placeholder stands in values only"},
		{"an unknown function", base("value: x", `value: "{{shout .name}}"`), `template.data.thing1.value: function "shout" not defined (a column is {{.name}}; functions are and, column, date, `},
		{"too few values", base("value: x", `value: "{{truncate .name}}"`), "truncate wants 2 values, not 1"},
		{"a fallback of a template", base() + "fallback: {kind: custom, custom: {msgtype: text, text: {content: x}}}\n", "line 5: fallback: only a custom message can have a fallback"},
		{"an anchor without end", "name: &a [*a]\n", "name: want one value"},
		{"a bomb", base("data: {", "data: {a: &a [x,x,x,x,x,x,x,x,x,x], b: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a,*a], c: &c [*b,*b,*b,*b,*b,*b,*b,*b,*b,*b], d: &d [*c,*c,*c,*c,*c,*c,*c,*c,*c,*c], e: [*d,*d,*d,*d,*d,*d,*d,*d,*d,*d], "), "template: at most 64 KiB"},
		{"an endless body", base("data: {thing1: {value: x}}", "data: &x {thing1: *x}"), "nested deeper than 32"},
		{"two sources", base() + "audience: {tag: 1, file: a.csv}\n", "line 5: audience: want one of file, tag, followers, sql"},
		{"a tag that is none", base() + "audience: {tag: vip}\n", "audience.tag: want a whole number"},
		{"no followers", base() + "audience: {followers: false}\n", "audience.followers: want true"},
		{"a tag without columns", base("value: x", `value: "{{.name}}"`) + "audience: {tag: 1}\n", "audience.tag: has no columns, and the texts ask for name"},
		{"a bad cron", base() + "schedule: {cron: \"0 10 * *\"}\n", "schedule.cron: want five fields"},
		{"cron and at", base() + "schedule: {cron: \"0 10 * * 1\", at: 2026-12-01T10:00:00Z}\n", "schedule.at: a campaign fires by cron or at one time"},
		{"a bad time", base() + "schedule: {at: tomorrow}\n", "schedule.at: want a time such as"},
		{"no such zone", base() + "schedule: {cron: \"0 10 * * 1\", timezone: Asia/Peking}\n", `schedule.timezone: no time zone "Asia/Peking"`},
		{"the machine's zone", base() + "schedule: {cron: \"0 10 * * 1\", timezone: Local}\n", `schedule.timezone: no time zone "Local"`},
		{"an unknown policy", base() + "schedule: {cron: \"0 10 * * 1\", catch_up: twice}\n", `schedule.catch_up: unknown value "twice" (one of: skip, once, all)`},
		{"a policy without cron", base() + "schedule: {catch_up: all}\n", "schedule.catch_up: is for cron"},
		{"no pace", base() + "pace: {per_second: -1}\n", "pace.per_second: want 0.01 to 100000"},
		{"a pace of none", base() + "pace: {per_second: 0}\n", "line 5: pace.per_second: want 0.01 to 100000 (leave it out for the default)"},
		{"no failure at all", base() + "stop_at: 0\n", "line 5: stop_at: want 0.001 to 1 (leave it out for the default)"},
		{"no weight", base() + "weight: 0\n", "line 5: weight: want 1 to 1000"},
		{"a canary of nobody", base() + "canary: 0\n", "line 5: canary: want 1 to 100000"},
		{"no life", base() + "expires_after: 0s\n", "line 5: expires_after: want 1m to 720h"},
		{"no message", base() + "frequency_cap: {messages: 0, per: day}\n", "line 5: frequency_cap.messages: want 1 to 1000"},
		{"half of the quiet hours", base() + "quiet_hours: {from: \"22:00\"}\n", "quiet_hours: want both from and to"},
		{"a bad hour", base() + "quiet_hours: {from: \"22:00\", to: 8}\n", `quiet_hours.to: want a time of the day such as "22:00"`},
		{"two bad hours", base() + "quiet_hours: {from: \"25:00\", to: 8}\n", "quiet_hours.to: want a time of the day"},
		{"quiet all day", base() + "quiet_hours: {from: \"22:00\", to: \"22:00\"}\n", "quiet_hours: from and to are the same"},
		{"a bad day", base() + "closed_days: [2026-02-30]\n", "closed_days[0]: want a date such as 2026-10-01"},
		{"no day is left", base() + "closed_days: [mon, tue, wed, thu, fri, sat, sun]\n", "closed_days: no day of the week is left"},
		{"half a cap", base() + "frequency_cap: {messages: 2}\n", "frequency_cap.per: want day or week"},
		{"a bad cap", base() + "frequency_cap: {messages: 2, per: month}\n", `frequency_cap.per: unknown value "month"`},
		{"a short life", base() + "expires_after: 10s\n", "expires_after: want 1m to 720h"},
		{"a bad duration", base() + "expires_after: 1 day\n", "expires_after: want a duration such as 90m or 24h"},
		{"not true", base() + "dedupe: yes\n", "dedupe: want true or false"},
		{"a share beyond all", base() + "stop_at: 30\n", "stop_at: want 0.001 to 1"},
		{"an unknown lane", base() + "lane: fast\n", "lane: want one of urgent, normal, bulk"},
		{"a long label", base() + "labels: {a: " + strings.Repeat("x", 256) + "}\n", "line 5: labels.a: at most 255 printable bytes"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s, err := ParseSpec([]byte(c.text))
			if _, ok := errors.AsType[*Error](err); !ok || s != nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %s", err, c.want)
			}
		})
	}
}

func TestAllMistakesComeAtOnce(t *testing.T) {
	_, err := ParseSpec([]byte("name: a\nkind: custom\ncustom: {msgtype: text, text: {}}\nfallback: {kind: mass, mass: {msgtype: text, text: {content: x}}, key: k}\npace: fast\nweight: 0.5\nno: way\n"))
	bad, ok := errors.AsType[*Error](err)
	if !ok {
		t.Fatal(err)
	}
	var got []string
	for _, f := range bad.Findings {
		got = append(got, f.String())
	}
	want := []string{
		"account: required: the account's name in the configuration, or its appid",
		"line 3: custom.text.content: required",
		"line 4: fallback.key: leave it out: each recipient's message is one of its own",
		"line 4: fallback.kind: want one of template, subscribe, custom (got \"mass\")",
		"line 5: pace: want keys and values: per_second",
		"line 6: weight: want a whole number",
		"line 7: no: unknown key (known here: account, audience, canary, closed_days, custom, dedupe, expires_after, fallback, frequency_cap, kind, " +
			"labels, lane, mass, name, pace, quiet_hours, schedule, stop_at, subscribe, template, weight)",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("want -, got +\n%s", diff)
	}
	if lines := strings.Split(err.Error(), "\n"); lines[0] != "campaign: 7 mistakes:" || len(lines) != 8 {
		t.Errorf("got %s", err)
	}
}

func TestSpecsMadeInGoAreChecked(t *testing.T) {
	s := &Spec{
		Name: "a", Account: "shop", Kind: message.Template, Body: json.RawMessage(`{"template_id":"T1","data":{"thing1":{"value":"{{.name}}"}}}`),
		Calendar: Calendar{From: "22:00", To: "8", Timezone: "Nowhere"}, Audience: Source{Kind: "list"}, StopAt: 1,
	}
	err := s.Check()
	for _, want := range []string{`quiet_hours: no time zone "Nowhere"`, "quiet_hours.to: want a time", `audience: unknown source "list"`} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %s", err, want)
		}
	}
	s.Calendar, s.Audience = Calendar{}, Source{}
	if err := s.Check(); err != nil {
		t.Error(err)
	}
	s.Body = json.RawMessage(`{"template_id":`)
	if err := s.Check(); err == nil || !strings.Contains(err.Error(), "template.template_id: malformed JSON") {
		t.Errorf("got %v", err)
	}
}

func FuzzParseSpec(f *testing.F) {
	f.Add([]byte(everyKey))
	if example, err := os.ReadFile("../../examples/campaign.yaml"); err != nil {
		f.Fatal(err)
	} else {
		f.Add(example)
	}
	for _, seed := range []string{
		`{"name":"a","account":"shop","kind":"mass","mass":{"msgtype":"text","text":{"content":"今晚八点"}},"audience":{"tag":2},"schedule":{"at":"2026-12-01 10:00"}}`,
		`{"name":"a","account":"shop","kind":"custom","custom":{"msgtype":"text","text":{"content":"{{.name | default \"x\" | truncate 3}}"}},"audience":{"sql":"SELECT openid FROM t"}}`,
		"name: a\naccount: shop\nkind: template\ntemplate: {template_id: T1, data: {thing1: {value: \"{{if ge .p 1}}{{fen .p}}{{end}}\"}}}\nclosed_days: [sun, 2026-10-01..2026-10-07]\n",
	} {
		f.Add([]byte(seed))
	}
	for _, seed := range []string{"a: &a [*a]", "? {a: b} : c", "template: {<<: {a: 1}}", "name: !!binary x\nlabels: {a: [b]}", "- 1", "closed_days: {}", "fallback: {template: {a: \"{{\"}}"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		s, err := ParseSpec(text)
		if err != nil {
			return
		}
		if err := s.Check(); err != nil {
			t.Fatalf("%s\npasses, and then: %v", text, err)
		}
		stored, err := json.Marshal(s)
		if err != nil {
			t.Fatalf("%s\ncannot be stored: %v", text, err)
		}
		again := new(Spec)
		if err := json.Unmarshal(stored, again); err != nil {
			t.Fatalf("%s\ncannot be read again: %v", stored, err)
		}
		now := time.Unix(1_780_000_000, 0)
		if again.Kind == message.Mass {
			list := []message.OpenID{"o1", "o2"}
			if again.Filtered() {
				list = nil
			}
			if err := again.Mass(now, 1, 1, list).Validate(now); err != nil {
				t.Fatalf("%s\nmakes no message: %v", text, err)
			}
		} else if _, err := NewComposer(again, now, 1, again.Columns()); err != nil {
			t.Fatalf("%s\nhas no composer: %v", text, err)
		}
		s.Schedule.Due(now.AddDate(0, -1, 0), now)
		s.Calendar.Opens(now)
	})
}

// JSON says of its values what they are, and encoding/json takes for text what is none.
func TestSpecsInJSONAreReadStrictly(t *testing.T) {
	const least = `{"name":"a","account":"shop","kind":"template","template":{"template_id":"T1","data":{"thing1":{"value":"好"}}}`
	for text, want := range map[string]string{
		least + "}": "",
		least + `,"labels":{"season":"11"},"weight":3}`:          "",
		least + `,"labels":{"x":"\ufffd \ud83d\ude00"}}`:         "",
		strings.Replace(least, `"a"`, "1", 1) + "}":              "campaign: line 1: name: want a string",
		strings.Replace(least, `"a"`, "true", 1) + "}":           "campaign: line 1: name: want a string",
		least + `,"weight":"3"}`:                                 "campaign: line 1: weight: want a whole number",
		least + `,"stop_at":"0.5"}`:                              "campaign: line 1: stop_at: want a number",
		least + `,"dedupe":"true"}`:                              "campaign: line 1: dedupe: want true or false",
		least + `,"expires_after":24}`:                           "campaign: line 1: expires_after: want a string",
		least + `,"closed_days":[20270101]}`:                     "campaign: line 1: closed_days[0]: want a string",
		least + `,"labels":{"season":11}}`:                       "campaign: line 1: labels.season: want a string",
		strings.Replace(least, "好", "\xff", 1) + "}":             "campaign: template.data.thing1.value: a string is not valid UTF-8",
		strings.Replace(least, "好", `\ud800`, 1) + "}":           "campaign: template.data.thing1.value: half of a surrogate pair in a string",
		least + ",\"labels\":{\"\xff\":\"x\"}}":                  "campaign: labels: a string is not valid UTF-8",
		"name: a\nlabels: {x: \xff}\n":                           "campaign: ",
		"name: 1\naccount: shop\nkind: template\ntemplate: {}\n": "campaign: 2 mistakes:\n  line 4: template.template_id",
	} {
		_, err := ParseSpec([]byte(text))
		got := ""
		if err != nil {
			got = err.Error()
		}
		if (want == "") != (err == nil) || !strings.HasPrefix(got, want) {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
}
