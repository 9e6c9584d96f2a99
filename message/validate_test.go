package message

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"
)

// bodyCase is a body and what Validate says of it; want "" means that it is valid.
type bodyCase struct{ claim, body, want string }

// checkBodies validates each body in an otherwise valid message of the kind.
func checkBodies(t *testing.T, kind Kind, cases []bodyCase) {
	t.Helper()
	for _, tt := range cases {
		t.Run(tt.claim, func(t *testing.T) {
			m := &Message{Account: "shop", Kind: kind, To: "oABC", Body: json.RawMessage(tt.body)}
			if kind == Mass {
				m.To = ""
				if !strings.Contains(tt.body, `"filter"`) {
					m.List = []OpenID{"oA", "oB"}
				}
			}
			m.Defaults(false)
			wantError(t, m.Validate(noon), tt.want)
		})
	}
}

func wantError(t *testing.T, err error, want string) {
	t.Helper()
	var invalid Invalid
	switch {
	case want == "" && err != nil:
		t.Errorf("got %v; want it valid", err)
	case want != "" && err == nil:
		t.Errorf("valid; want %s", want)
	case want != "" && (!errors.As(err, &invalid) || !strings.Contains(err.Error(), want)):
		t.Errorf("got  %v\nwant %s", err, want)
	}
}

func TestValidateEnvelope(t *testing.T) {
	for _, tt := range []struct {
		claim  string
		change func(*Message)
		want   string
	}{
		{"a whole message is valid", func(*Message) {}, ""},
		{"an account is required", func(m *Message) { m.Account = "" }, "account: required"},
		{"an account has no spaces", func(m *Message) { m.Account = "my shop" }, "account: at most 64 printable bytes"},
		{"an unknown kind", func(m *Message) { m.Kind = "sms" }, `kind: want one of template, subscribe, custom, mass (got "sms")`},
		{"a recipient is required", func(m *Message) { m.To = "" }, "to: required"},
		{"a list is for mass", func(m *Message) { m.List = []OpenID{"oA", "oB"} }, "to: want one openid"},
		{"an openid has no white space", func(m *Message) { m.To = "oAB C" }, "to: an openid has only letters, digits, - and _ (got ' ' at 4)"},
		{"an openid has no Chinese", func(m *Message) { m.To = "o你" }, "to: an openid has only letters"},
		{"an openid is at most 64 long", func(m *Message) { m.To = OpenID(strings.Repeat("o", 65)) }, "to: an openid has 1 to 64 characters (got 65)"},
		{"an openid of 28 with - and _ is valid", func(m *Message) { m.To = "o6_bmjrPTlm6_2sgVt7hMZOPfL-M" }, ""},
		{"a key is at most 255 bytes", func(m *Message) { m.Key = strings.Repeat("k", 256) }, "key: at most 255 bytes (got 256)"},
		{"a key is printable", func(m *Message) { m.Key = "a\tb" }, "key: only printable characters"},
		{"a key is UTF-8", func(m *Message) { m.Key = "a\xff" }, "key: only printable characters"},
		{"a key may be Chinese", func(m *Message) { m.Key = "订单-1001" }, ""},
		{"a lane is one of three", func(m *Message) { m.Lane = "fast" }, `lane: want one of urgent, normal, bulk (got "fast")`},
		{"no lane is left to Defaults", func(m *Message) { m.Lane = "" }, ""},
		{"not_before may be past", func(m *Message) { m.NotBefore = noon.Add(-time.Hour) }, ""},
		{"not_before may be 30 days ahead", func(m *Message) { m.NotBefore = noon.AddDate(0, 0, 30) }, ""},
		{"not_before may not be further", func(m *Message) { m.NotBefore = noon.AddDate(0, 0, 31) }, "not_before: at most 30 days ahead (got 2026-12-23T12:00:00Z)"},
		{"expires_at is in the future", func(m *Message) { m.ExpiresAt = noon }, "expires_at: must be in the future (got 2026-11-22T12:00:00Z)"},
		{"expires_at is after not_before", func(m *Message) {
			m.NotBefore, m.ExpiresAt = noon.Add(time.Hour), noon.Add(time.Hour)
		}, "expires_at: must be after not_before"},
		{"at most 16 labels", func(m *Message) {
			m.Labels = map[string]string{}
			for i := range 17 {
				m.Labels[fmt.Sprint(i)] = "x"
			}
		}, "labels: at most 16 (got 17)"},
		{"a label's name is at most 64 bytes", func(m *Message) { m.Labels = map[string]string{strings.Repeat("l", 65): ""} }, "a label's name has 1 to 64 printable bytes"},
		{"a label is at most 255 bytes", func(m *Message) { m.Labels = map[string]string{"order": strings.Repeat("1", 256)} }, "labels.order: at most 255 printable bytes (got 256)"},
		{"a body is required", func(m *Message) { m.Body = nil }, "custom: required"},
		{"a body is JSON", func(m *Message) { m.Body = json.RawMessage(`{"msgtype":`) }, "custom.msgtype: malformed JSON at byte 12: ends too early"},
		{"a body is an object", func(m *Message) { m.Body = json.RawMessage(`"x"`) }, "custom: malformed JSON at byte 1: want an object"},
		{"a body is compact", func(m *Message) { m.Body = append(json.RawMessage(" "), m.Body...) }, "custom: must be compact UTF-8"},
		{"a body is at most 64 KiB", func(m *Message) { m.Body = make(json.RawMessage, MaxBytes+1) }, "custom: at most 64 KiB (got 65537 bytes)"},
		{"a fallback is valid", func(m *Message) { m.Fallback = fallback() }, ""},
		{"a fallback has no account and recipient", func(m *Message) {
			m.Fallback = fallback()
			m.Fallback.Account, m.Fallback.To = "shop", "oABC"
		}, "fallback.account: leave it out of a fallback; fallback.to: leave it out"},
		{"a fallback has no fallback", func(m *Message) { m.Fallback = fallback(); m.Fallback.Fallback = fallback() }, "fallback.fallback: leave it out"},
		{"a fallback is no mass send", func(m *Message) { m.Fallback = &Message{Kind: Mass} }, "fallback.kind: want one of template, subscribe, custom"},
		{"a fallback's body is judged", func(m *Message) {
			m.Fallback = fallback()
			m.Fallback.Body = json.RawMessage(`{"template_id":"T","data":{"thing1":{}}}`)
		}, "fallback.template.data.thing1.value: required"},
		{"a fallback's envelope is judged", func(m *Message) { m.Fallback = fallback(); m.Fallback.ExpiresAt = noon }, "fallback.expires_at: must be in the future"},
		{"a fallback has a key of its own", func(m *Message) { m.Key = "k"; m.Fallback = fallback(); m.Fallback.Key = "k" }, "fallback.key: must differ"},
		{"only custom messages have a fallback", func(m *Message) {
			*m = *mustParse(t, templateLine)
			m.Fallback = fallback()
		}, "fallback: only a custom message can have a fallback"},
	} {
		t.Run(tt.claim, func(t *testing.T) {
			m := mustParse(t, textLine)
			m.Lane = Normal
			tt.change(m)
			wantError(t, m.Validate(noon), tt.want)
		})
	}
}

func fallback() *Message {
	return &Message{Kind: Template, Body: json.RawMessage(`{"template_id":"T","data":{"thing1":{"value":"您有新消息"}}}`)}
}

func TestValidateReportsEveryFinding(t *testing.T) {
	m := &Message{
		Account: "shop", Kind: Template, To: "o A", Lane: "fast",
		Body: json.RawMessage(`{"data":{"thing1":{"value":"` + strings.Repeat("长", 27) + `"}},"topcolor":"#fff"}`),
	}
	want := "template.data.thing1.value: at most 20 characters (got 27); " +
		"template.topcolor: leave it out: WeChat has ignored colours since 2023-03-30; " +
		"template.template_id: required; " +
		"to: an openid has only letters, digits, - and _ (got ' ' at 2); " +
		`lane: want one of urgent, normal, bulk (got "fast")`
	if err := m.Validate(noon); err == nil || err.Error() != want {
		t.Errorf("got  %v\nwant %s", err, want)
	}
}

func TestErrorsNeverRepeatWhatTheUserWouldRead(t *testing.T) {
	m := mustParse(t, textLine)
	m.To = "oSECRET secret"
	m.Body = json.RawMessage(`{"msgtype":"text","text":{"content":"` + strings.Repeat("秘密", 1000) + `"}}`)
	err := m.Validate(noon)
	if err == nil || strings.Contains(err.Error(), "秘密") || strings.Contains(err.Error(), "SECRET") {
		t.Errorf("got %v; want lengths only", err)
	}
}

func TestDefaults(t *testing.T) {
	t.Run("one message is normal, a batch is bulk, a fallback goes with its message", func(t *testing.T) {
		for _, tt := range []struct {
			given Lane
			batch bool
			want  Lane
		}{{"", false, Normal}, {"", true, Bulk}, {Urgent, true, Urgent}} {
			m := &Message{Lane: tt.given, Fallback: &Message{}}
			if m.Defaults(tt.batch); m.Lane != tt.want || m.Fallback.Lane != tt.want {
				t.Errorf("lane %q, batch %v: got %q and %q; want %q", tt.given, tt.batch, m.Lane, m.Fallback.Lane, tt.want)
			}
		}
	})
	t.Run("a body of json.Marshal becomes compact UTF-8", func(t *testing.T) {
		body, err := json.Marshal(map[string]any{"msgtype": "text", "text": map[string]string{"content": "<a>&"}})
		if err != nil {
			t.Fatal(err)
		}
		m := &Message{Account: "shop", Kind: Custom, To: "oABC", Body: body}
		m.Defaults(false)
		if want := `{"msgtype":"text","text":{"content":"<a>&"}}`; string(m.Body) != want || m.Validate(noon) != nil {
			t.Errorf("got %s, %v; want %s", m.Body, m.Validate(noon), want)
		}
	})
	t.Run("white space goes, but for that in strings", func(t *testing.T) {
		for body, want := range map[string]string{
			`{"a":"b c"}`:          `{"a":"b c"}`,
			`{"a" :"b c"}`:         `{"a":"b c"}`,
			"{\"a\":[1,\n2]}":      `{"a":[1,2]}`,
			`{"a":"\" ","b": "c"}`: `{"a":"\" ","b":"c"}`,
			`{"a":"\/"}`:           `{"a":"/"}`,
			`{"a":1} `:             `{"a":1}`,
		} {
			m := &Message{Body: json.RawMessage(body)}
			if m.Defaults(false); string(m.Body) != want {
				t.Errorf("%s: got %s, want %s", body, m.Body, want)
			}
		}
	})
	t.Run("a body that is not JSON is left for Validate", func(t *testing.T) {
		m := &Message{Body: json.RawMessage(`{`)}
		if m.Defaults(false); string(m.Body) != `{` {
			t.Errorf("got %s", m.Body)
		}
	})
}

func TestRecipient(t *testing.T) {
	for line, want := range map[string]string{
		textLine: "oABC",
		`{"kind":"mass","to":["oA","oB"],"mass":{}}`:                           "list:2",
		`{"kind":"mass","mass":{"filter":{"is_to_all":true}}}`:                 "all",
		`{"kind":"mass","mass":{"filter":{"is_to_all":false,"tag_id":2}}}`:     "tag:2",
		`{"kind":"mass","mass":{"filter":{"is_to_all":false,"tag_id":"102"}}}`: "tag:102",
		`{"kind":"mass","mass":{}}`:                                            "",
	} {
		if got := mustParse(t, line).Recipient(); got != want {
			t.Errorf("%s: got %q, want %q", line, got, want)
		}
	}
}
