package message

import (
	"crypto/sha256"
	"encoding/binary"
)

// Hash tells whether two messages with one idempotency key are the same message. It covers what is
// sent, to whom and from when on: kind, recipients in their order, body, not_before, and the same of the
// fallback. It leaves out
//   - expires_at, which producers compute anew with each try ("in an hour"): the first one's stands;
//   - id and key, which it is compared under, and the account: keys are per account, which may go by its name or its appid;
//   - lane and labels, which change neither what the user gets nor when;
//   - white space, escapes and the order of keys in the body.
//
// The hash is stable over versions and machines: it is kept with the key.
func (m *Message) Hash() [16]byte {
	c := newCompactor(nil)
	defer c.free()
	c.sorted = true
	c.message(m)
	sum := sha256.Sum256(c.out)
	return [16]byte(sum[:16])
}

// message writes m, each part with its length before it.
func (c *compactor) message(m *Message) {
	c.part(string(m.Kind))
	c.part(string(m.To))
	c.out = binary.AppendUvarint(c.out, uint64(len(m.List)))
	for _, openid := range m.List {
		c.part(string(openid))
	}
	c.out = binary.AppendVarint(c.out, m.NotBefore.UnixMilli())
	c.canonical(m.Body)
	if m.Fallback != nil {
		c.message(m.Fallback)
	}
}

func (c *compactor) part(text string) {
	c.out = binary.AppendUvarint(c.out, uint64(len(text)))
	c.out = append(c.out, text...)
}

// canonical writes body with its keys in order; what is not JSON, as it is.
func (c *compactor) canonical(body []byte) {
	from := len(c.out)
	c.in, c.at, c.depth, c.failed, c.path = body, 0, 0, false, c.path[:0]
	c.wholeObject()
	if c.failed {
		c.out = append(c.out[:from], body...)
	}
	c.out = binary.BigEndian.AppendUint32(c.out, uint32(len(c.out)-from))
}
