package callback

import "testing"

// BenchmarkOpen is an encrypted receipt, from the request's body to its meaning.
func BenchmarkOpen(b *testing.B) {
	q, body := weChat.push(event("TEMPLATESENDJOBFINISH", "<MsgID>200163836</MsgID><Status><![CDATA[success]]></Status>"), noon)
	d := newDoor(b, Encrypted)
	b.ReportAllocs()
	for b.Loop() {
		in, err := d.Open(q, body, noon)
		if err != nil || len(in.Push.Meaning().Receipts) != 1 {
			b.Fatal(err)
		}
	}
}

// BenchmarkForged is a body of 64 KiB that is refused for its signature: what a stranger can make us do.
func BenchmarkForged(b *testing.B) {
	q := weChat.query(noon)
	q.Set("msg_signature", "0000000000000000000000000000000000000000")
	body := make([]byte, MaxBody)
	for i := range body {
		body[i] = 'A'
	}
	copy(body, "<xml><Encrypt>")
	copy(body[MaxBody-len("</Encrypt></xml>"):], "</Encrypt></xml>")
	d := newDoor(b, Encrypted)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := d.Open(q, body, noon); status(err) != 403 {
			b.Fatal(err)
		}
	}
}
