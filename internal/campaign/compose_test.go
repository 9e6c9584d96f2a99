package campaign

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/hongyan-dispatch/hongyan/message"
)

func TestMessagesAreComposed(t *testing.T) {
	start := time.UnixMilli(1_780_000_000_123)
	spec := &Spec{
		Account: "shop", Kind: message.Custom, Body: json.RawMessage(`{"msgtype":"text","text":{"content":"{{.name}}，您好 {{ .n }}/{{.openid}}"}}`),
		Fallback: json.RawMessage(`{"kind":"template","template":{"template_id":"T1","data":{"thing1":{"value":"{{.name}}"}}}}`),
		Expires:  time.Hour, Labels: map[string]string{"a": "b"},
	}
	c, err := NewComposer(spec, start, 7, []string{"n", "name"})
	if err != nil {
		t.Fatal(err)
	}
	arena := make([]byte, 0, 100)
	first, arena, err := c.Message(arena, 1, "oA", []string{"12", `Ann "A" \`})
	if err != nil {
		t.Fatal(err)
	}
	second, _, err := c.Message(arena, 2, "oB", []string{"13", "陈\n"})
	if err != nil {
		t.Fatal(err)
	}
	for m, want := range map[*message.Message][2]string{
		first:  {`Ann "A" \，您好 12/oA`, `Ann "A" \`},
		second: {"陈\n，您好 13/oB", "陈\n"},
	} {
		var body struct{ Text struct{ Content string } }
		if err := json.Unmarshal(m.Body, &body); err != nil || body.Text.Content != want[0] {
			t.Errorf("%s: %q, %v, want %q", m.Body, body.Text.Content, err, want[0])
		}
		var instead struct {
			Data struct{ Thing1 struct{ Value string } }
		}
		if err := json.Unmarshal(m.Fallback.Body, &instead); err != nil || instead.Data.Thing1.Value != want[1] {
			t.Errorf("fallback %s: %q, %v, want %q", m.Fallback.Body, instead.Data.Thing1.Value, err, want[1])
		}
		if m.ID != MessageID(start, 7, m.N) || m.Firing != 7 || m.Lane != message.Bulk || !m.ExpiresAt.Equal(start.Add(time.Hour)) || m.Labels["a"] != "b" {
			t.Errorf("got %+v", m)
		}
	}
	if m, _, err := c.Message(nil, 3, "oC", []string{"1"}); err == nil || m.To != "oC" || string(m.Body) != "{}" {
		t.Errorf("a recipient with too few values: %v, %s", err, m.Body)
	}
}

func TestPlaceholdersNeedColumns(t *testing.T) {
	for text, want := range map[string]string{
		`{"a":"{{.nmae}}"}`: `no column "nmae"`, `{"a":"{{name}}"}`: `"name" not defined`, `{"a":"{{.name"}`: "unclosed action",
	} {
		c, err := NewComposer(&Spec{Kind: message.Custom, Body: json.RawMessage(text)}, time.Now(), 1, []string{"name"})
		if m := c.Blank(7, "oA"); m.To != "oA" || m.N != 7 {
			t.Errorf("%s: its blank is %+v", text, m)
		}
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %s", text, err, want)
		}
	}
}

func TestValuesStayInsideTheirStrings(t *testing.T) {
	c, err := NewComposer(&Spec{Body: json.RawMessage(`{"a":"<{{.v}}>"}`)}, time.Now(), 1, []string{"v"})
	if err != nil {
		t.Fatal(err)
	}
	rapid.Check(t, func(t *rapid.T) {
		v := rapid.String().Draw(t, "value")
		m, _, err := c.Message(nil, 1, "oA", []string{v})
		if err != nil {
			t.Fatal(err)
		}
		var got struct{ A string }
		if err := json.Unmarshal(m.Body, &got); err != nil || got.A != "<"+v+">" {
			t.Fatalf("%q gives %s: %q, %v", v, m.Body, got.A, err)
		}
	})
}
