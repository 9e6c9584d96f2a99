package api

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/hongyan-dispatch/hongyan/client"
	"github.com/hongyan-dispatch/hongyan/message"
)

func TestObjectsAreReadStrictly(t *testing.T) {
	for text, want := range map[string]string{
		`{"ids":["0198c0de-0000-7000-8000-000000000001"],"since":"2026-11-28T09:00:00+08:00","per_second":2.5,"again":true}`: "",
		`{}`:                                  "",
		` {"lane": "\ufffd", "reasons": []} `: "",

		`hello`:                            "malformed JSON at byte 1",
		`{"again":true`:                    "malformed JSON at byte 13: unexpected end",
		`{"again":true} x`:                 "malformed JSON at byte 16",
		`{"again":true}{}`:                 "malformed JSON at byte 15",
		`null`:                             "want an object (got null)",
		`[{}]`:                             "want an object (got a list)",
		`7`:                                "want an object (got a number)",
		`{"why":"x"}`:                      "why: unknown field; want ids, statuses, ",
		`{"Again":true}`:                   "Again: unknown field",
		`{"-":1}`:                          "-: unknown field",
		`{"Only":null}`:                    "Only: unknown field",
		`{"again":true,"again":false}`:     "again: duplicate key",
		`{"again":null}`:                   "again: want true or false (got null)",
		`{"again":"true"}`:                 "again: want true or false (got a string)",
		`{"per_second":"2"}`:               "per_second: want a number (got a string)",
		`{"per_second":1e999}`:             "per_second: want a number (got a number)",
		`{"lane":7}`:                       "lane: want a string (got a number)",
		`{"statuses":"failed"}`:            "statuses: want a list (got a string)",
		`{"statuses":["failed",7]}`:        "statuses[1]: want a string (got a number)",
		`{"statuses":["failed",null]}`:     "statuses[1]: want a string (got null)",
		`{"ids":["x"]}`:                    `ids[0]: id "x": want a UUID`,
		`{"ids":[["x"]]}`:                  "ids[0]: want a string (got a list)",
		`{"since":7}`:                      "since: want a string (got a number)",
		`{"since":"yesterday"}`:            "since: want RFC 3339 with a time zone",
		`{"since":"2026-02-30T00:00:00Z"}`: "since: want RFC 3339",
		`{"since":"0001-01-01T00:00:00Z"}`: "since: want RFC 3339",
		"{\"lane\":\"\xff\"}":              "lane: a string is not valid UTF-8",
		"{\"\xff\":1}":                     "a key is not valid UTF-8",
		`{"lane":"\ud800"}`:                "lane: half of a surrogate pair",
		`{"accounts":["a\u0000b"]}`:        "accounts[0]: control character U+0000",
		`{"lane":7,"since":7}`:             "lane: want a string (got a number); since: want a string",
	} {
		err := decodeObject([]byte(text), new(client.Replay))
		got := ""
		if err != nil {
			got = err.Error()
		}
		if (want == "") != (err == nil) || !strings.HasPrefix(got, want) {
			t.Errorf("%s: %q, want %q", text, got, want)
		}
	}
	var r client.Replay
	if err := decodeObject([]byte(`{"statuses":["failed"],"kinds":["custom","mass"],"since":"2026-11-28T09:00:00+08:00","lane":"\u9e3f\ud83d\ude00"}`), &r); err != nil {
		t.Fatal(err)
	}
	if len(r.Statuses) != 1 || r.Statuses[0] != "failed" || len(r.Kinds) != 2 || r.Kinds[1] != message.Mass || r.Lane != "鸿😀" || !r.Since.Equal(time.Date(2026, 11, 28, 1, 0, 0, 0, time.UTC)) {
		t.Errorf("read %+v", r)
	}
}

// Whatever comes is read as encoding/json would, or refused with findings.
func FuzzObjects(f *testing.F) {
	for _, text := range []string{`{"ids":["0198c0de-0000-7000-8000-000000000001"]}`, `{"again":true,"again":false}`, `{"since":"2026-11-28T09:00:00+08:00"}`, `[`, `{"lane":"\ud800"}`, "{\"\xff\":1}", `{"a":{"a":[[]]}}`} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		var strict, loose client.Replay
		err := decodeObject(text, &strict)
		if found, ok := errors.AsType[message.Invalid](err); err != nil && (!ok || len(found) == 0) {
			t.Fatalf("%q: %v", text, err)
		}
		if err != nil {
			for _, found := range err.(message.Invalid) {
				if !utf8.ValidString(found.Path + found.Rule + found.Got) {
					t.Errorf("%q: finding %+q", text, found)
				}
			}
			return
		}
		if err := json.Unmarshal(text, &loose); err != nil {
			t.Fatalf("%q was taken: %v", text, err)
		}
		a, _ := json.Marshal(strict)
		b, _ := json.Marshal(loose)
		if string(a) != string(b) {
			t.Errorf("%q: %s, want %s", text, a, b)
		}
	})
}
