package wechat

import (
	"encoding/json"
	"testing"
)

func TestParseAnswer(t *testing.T) {
	for _, c := range []struct {
		name, body string
		want       answer
		refused    bool
	}{
		{
			"a template's reply", `{"errcode":0,"errmsg":"ok","msgid":1988810812324364291}`,
			answer{Msg: "ok", MsgID: 1988810812324364291, spoken: true, hasCode: true},
			false,
		},
		{
			"a mass send's reply", `{"errcode":0,"errmsg":"send job submission success","msg_id":34182,"msg_data_id":206227730}`,
			answer{Msg: "send job submission success", JobID: 34182, DataID: 206227730, spoken: true, hasCode: true},
			false,
		},
		{"ids as strings", `{"errcode":"0","msgid":"6972028683187026694"}`, answer{MsgID: 6972028683187026694, spoken: true, hasCode: true}, false},
		{"white space anywhere", " {\n\t\"errcode\" : -1 , \"errmsg\":\"system error\" }\r\n", answer{Code: -1, Msg: "system error", spoken: true, hasCode: true}, false},
		{"Chinese and escapes", `{"errcode":45009,"errmsg":"额度\u002f已满"}`, answer{Code: 45009, Msg: "额度/已满", spoken: true, hasCode: true}, false},
		{"no errcode is 0", `{"template_list":[]}`, answer{}, false},
		{"null is nothing", `{"errcode":0,"msgid":null}`, answer{spoken: true, hasCode: true}, false},
		{"fields of others are passed over", `{"a":{"errcode":7},"errcode":3}`, answer{Code: 3, spoken: true, hasCode: true}, false},
		{"truncated", `{"errcode":0,"errmsg":"ok"`, answer{}, true},
		{"truncated in a number", `{"errcode":0`, answer{}, true},
		{"HTML", `<html>502</html>`, answer{}, true},
		{"empty", ``, answer{}, true},
		{"a list", `[]`, answer{}, true},
		{"null alone", `null`, answer{}, true},
		{"two documents", `{"errcode":0}{"errcode":1}`, answer{}, true},
		{"a fraction", `{"errcode":0.5}`, answer{}, true},
		{"a leading zero", `{"errcode":00}`, answer{}, true},
		{"a trailing comma", `{"errcode":0,}`, answer{}, true},
		{"an id beyond 64 bits", `{"msgid":99999999999999999999}`, answer{}, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := parseAnswer([]byte(c.body))
			if (err != nil) != c.refused {
				t.Fatalf("error %v, want refused %v", err, c.refused)
			}
			if got != c.want {
				t.Errorf("got %+v, want %+v", got, c.want)
			}
		})
	}
}

// FuzzParseAnswer claims: what the quick reader reads, encoding/json reads alike.
func FuzzParseAnswer(f *testing.F) {
	f.Add([]byte(`{"errcode":0,"errmsg":"ok","msgid":200228332}`))
	f.Add([]byte(`{"errcode":-0,"errmsg":"","msg_id":"-12"}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		quick, ok := parseFlat(body)
		if !ok {
			_, _ = parseAnswer(body)
			return
		}
		var slow struct {
			Code   integer `json:"errcode"`
			Msg    string  `json:"errmsg"`
			MsgID  integer `json:"msgid"`
			JobID  integer `json:"msg_id"`
			DataID integer `json:"msg_data_id"`
		}
		if err := json.Unmarshal(body, &slow); err != nil {
			t.Fatalf("%q: %v", body, err)
		}
		if quick.Code != slow.Code || quick.Msg != slow.Msg || quick.MsgID != slow.MsgID || quick.JobID != slow.JobID || quick.DataID != slow.DataID {
			t.Fatalf("%q: got %+v, want %+v", body, quick, slow)
		}
	})
}

func TestSplitRID(t *testing.T) {
	for _, c := range []struct{ errmsg, msg, rid string }{
		{"invalid appid rid: 5f2a1b3c-12345678-0a0b0c0d", "invalid appid", "5f2a1b3c-12345678-0a0b0c0d"},
		{"ok", "ok", ""},
		{"rid: 5f2a1b3c-12345678-0a0b0c0d", "", "5f2a1b3c-12345678-0a0b0c0d"},
		{"api freq out of limit hint: [abc]", "api freq out of limit hint: [abc]", ""},
		{"grid: of words", "grid: of words", ""},
		{"bad \xff bytes", "bad  bytes", ""},
	} {
		if msg, rid := splitRID(c.errmsg); msg != c.msg || rid != c.rid {
			t.Errorf("%q: got %q, %q, want %q, %q", c.errmsg, msg, rid, c.msg, c.rid)
		}
	}
}

func BenchmarkParseAnswer(b *testing.B) {
	body := []byte(`{"errcode":0,"errmsg":"ok","msgid":1988810812324364291}`)
	b.Run("one pass", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := parseAnswer(body); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("encoding/json", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			var a answer
			if err := json.Unmarshal(body, &a); err != nil {
				b.Fatal(err)
			}
		}
	})
}
