package message

import (
	"encoding/hex"
	"encoding/json"
	"testing"
	"time"
)

func TestHash(t *testing.T) {
	const line = `{"account":"shop","kind":"custom","to":"oA","key":"k","custom":{"msgtype":"text","text":{"content":"x"},"aimsgcontext":{"is_ai_msg":1}},"fallback":{"kind":"template","template":{"template_id":"T"}}}`
	want := mustParse(t, line).Hash()
	change := func(f func(*Message)) [16]byte {
		m := mustParse(t, line)
		f(m)
		return m.Hash()
	}
	for claim, got := range map[string][16]byte{
		"the order of keys and white space": change(func(m *Message) {
			m.Body = json.RawMessage(` {"aimsgcontext": {"is_ai_msg":1}, "text":{"content":"\u0078"}, "msgtype":"text"}`)
		}),
		"the order of the envelope": mustParse(t, `{"fallback":{"template":{"template_id":"T"},"kind":"template"},"custom":{"msgtype":"text","text":{"content":"x"},"aimsgcontext":{"is_ai_msg":1}},"to":"oA","kind":"custom"}`).Hash(),
		"expires_at":                change(func(m *Message) { m.ExpiresAt, m.Fallback.ExpiresAt = noon, noon }),
		"id, parent, key, account, lane and labels": change(func(m *Message) {
			m.ID, m.Parent, m.Key, m.Account, m.Labels = NewID(noon), NewID(noon), "other", "wx1", map[string]string{"a": "b"}
			m.Defaults(true)
		}),
	} {
		if got != want {
			t.Errorf("%s changed the hash", claim)
		}
	}
	seen := map[[16]byte]string{want: "nothing"}
	for claim, got := range map[string][16]byte{
		"the recipient":      change(func(m *Message) { m.To = "oB" }),
		"a list":             change(func(m *Message) { m.To, m.List = "", []OpenID{"oA"} }),
		"the kind":           change(func(m *Message) { m.Kind = Subscribe }),
		"the text":           change(func(m *Message) { m.Body = json.RawMessage(`{"msgtype":"text","text":{"content":"y"}}`) }),
		"not_before":         change(func(m *Message) { m.NotBefore = noon }),
		"no fallback":        change(func(m *Message) { m.Fallback = nil }),
		"another fallback":   change(func(m *Message) { m.Fallback.Kind = Subscribe }),
		"a body that is bad": change(func(m *Message) { m.Body = json.RawMessage(`{"a":1,"a":1}`) }),
	} {
		if other, twice := seen[got]; twice {
			t.Errorf("the hash is the same with %s and %s changed", claim, other)
		}
		seen[got] = claim
	}
}

func TestHashIsKeptInLedgersAndMustStay(t *testing.T) {
	m := mustParse(t, templateLine)
	m.NotBefore = time.Date(2026, 12, 1, 9, 0, 0, 0, time.FixedZone("", 8*3600))
	hash := m.Hash()
	if got, want := hex.EncodeToString(hash[:]), "66aadf0b9472d3c0f6c6892e25605a32"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}
