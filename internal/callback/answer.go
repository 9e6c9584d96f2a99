package callback

import (
	"bytes"
	"crypto/rand"
	"encoding/binary"
	"encoding/json"
	"strconv"
	"strings"
	"time"
)

// Answer writes a reply to the push in the request's own form, encrypted with the token and key of the request if
// it was encrypted. Its error says what the reply lacks.
func (in *Delivery) Answer(r Reply, now time.Time) ([]byte, error) {
	reply, err := envelope(in.Push, r, now.Unix())
	if err != nil {
		return nil, err
	}
	body := reply.body(in.Form)
	if !in.Sealed {
		return body, nil
	}
	var random [randomHead + 8]byte
	_, _ = rand.Read(random[:]) // never fails
	nonce := strconv.FormatUint(binary.BigEndian.Uint64(random[randomHead:])>>1, 10)
	return in.wrap(body, [randomHead]byte(random[:]), nonce, now.Unix()).body(in.Form), nil
}

// wrap is the envelope of an encrypted answer. Its timestamp and nonce are ours, not the request's.
// developers.weixin.qq.com/doc/oplatform/developers/dev/push/.
func (in *Delivery) wrap(body []byte, random [randomHead]byte, nonce string, at int64) out {
	keys := in.door.keys()
	sealed := keys.seals[in.seal].encrypt(random, body)
	return group(
		"xml",
		text("Encrypt", sealed),
		text("MsgSignature", sign(keys.tokens[in.token], strconv.FormatInt(at, 10), nonce, sealed)),
		number("TimeStamp", at),
		text("Nonce", nonce),
	)
}

// ContentType is the Content-Type of an answer.
func (f Form) ContentType() string {
	if f == JSON {
		return "application/json; charset=utf-8"
	}
	return "application/xml; charset=utf-8"
}

// An out is an element of an answer. Without a name it is left out.
type out struct {
	name     string
	text     string
	number   bool // text is a number, and has no quotes
	items    bool // the children repeat: elements in the XML form, an array in the JSON form
	children []out
}

func text(name, s string) out { return out{name: name, text: s} }
func number(name string, v int64) out {
	return out{name: name, text: strconv.FormatInt(v, 10), number: true}
}
func group(name string, of ...out) out { return out{name: name, children: of} }

// optional is left out if it is empty.
func optional(name, s string) out {
	if s == "" {
		return out{}
	}
	return text(name, s)
}

// body is the element as a whole body.
func (o out) body(f Form) []byte {
	var b bytes.Buffer
	if f == JSON {
		o.writeJSON(&b)
	} else {
		o.writeXML(&b)
	}
	return b.Bytes()
}

func (o out) writeXML(b *bytes.Buffer) {
	if o.name == "" {
		return
	}
	b.WriteString("<" + o.name + ">")
	switch {
	case o.number:
		b.WriteString(o.text)
	case o.children != nil:
		for _, c := range o.children {
			c.writeXML(b)
		}
	default:
		b.WriteString(cdata(o.text))
	}
	b.WriteString("</" + o.name + ">")
}

// cdata quotes a text. An end mark in it is split over two sections, and what no XML may hold becomes U+FFFD.
func cdata(s string) string {
	s = strings.Map(func(r rune) rune {
		if r < ' ' && r != '\t' && r != '\n' && r != '\r' || r == '\uFFFE' || r == '\uFFFF' {
			return '\uFFFD'
		}
		return r // Map has made U+FFFD of invalid UTF-8
	}, s)
	return "<![CDATA[" + strings.ReplaceAll(s, "]]>", "]]]]><![CDATA[>") + "]]>"
}

// writeJSON writes the value. WeChat documents the JSON form of the encrypted envelope only; of the other
// replies we write the same names, and arrays where the XML form repeats.
func (o out) writeJSON(b *bytes.Buffer) {
	switch {
	case o.number:
		b.WriteString(o.text)
	case o.children == nil:
		writeQuoted(b, o.text)
	default:
		open, end := byte('{'), byte('}')
		if o.items {
			open, end = '[', ']'
		}
		mark := open
		for _, c := range o.children {
			if c.name == "" {
				continue
			}
			b.WriteByte(mark)
			mark = ','
			if !o.items {
				writeQuoted(b, c.name)
				b.WriteByte(':')
			}
			c.writeJSON(b)
		}
		if mark == open {
			b.WriteByte(open)
		}
		b.WriteByte(end)
	}
}

// writeQuoted writes a JSON text without \u003c for markup, which WeChat would show.
func writeQuoted(b *bytes.Buffer, s string) {
	e := json.NewEncoder(b)
	e.SetEscapeHTML(false)
	_ = e.Encode(s)         // a string has a form, a buffer has room
	b.Truncate(b.Len() - 1) // the encoder's line feed
}
