package callback

import (
	"encoding/base64"
	"net/url"
	"reflect"
	"strings"
	"testing"
)

// checkTree says what no tree of a parsed body may break.
func checkTree(t *testing.T, n *node, depth int) (elements int) {
	t.Helper()
	if depth > maxDepth {
		t.Fatalf("depth %d", depth)
	}
	if strings.ContainsRune(n.text, 0) || n.text != "" && len(n.children) > 0 {
		t.Fatalf("element %q has text %q and %d children", n.name, n.text, len(n.children))
	}
	for _, c := range n.children {
		elements += checkTree(t, c, depth+1)
	}
	return elements + 1
}

// fuzzBody checks what holds of bodies of both forms.
func fuzzBody(t *testing.T, body []byte, read func([]byte) (*node, error)) {
	root, err := read(body)
	if err != nil {
		return
	}
	if got := checkTree(t, root, 1); got > maxElements {
		t.Fatalf("%d elements", got)
	}
	p, err := newPush(root)
	if err != nil {
		return
	}
	first, again := p.Meaning(), p.Meaning()
	if !reflect.DeepEqual(first, again) || len(first.Key) != 32 {
		t.Fatalf("meanings %+v and %+v", first, again)
	}
}

func FuzzXML(f *testing.F) {
	for _, body := range hostileXML {
		if len(body) < 8<<10 { // large ones slow the search, and are refused for their size
			f.Add([]byte(body))
		}
	}
	for _, c := range meanings {
		f.Add([]byte(c.body))
	}
	f.Fuzz(func(t *testing.T, body []byte) { fuzzBody(t, body, parseXML) })
}

func FuzzJSON(f *testing.F) {
	for _, body := range hostileJSON {
		f.Add([]byte(body))
	}
	f.Add([]byte(noticesJSON))
	f.Add([]byte(vectors(f).Dec[0].Msg))
	f.Fuzz(func(t *testing.T, body []byte) { fuzzBody(t, body, parseJSON) })
}

func FuzzDecrypt(f *testing.F) {
	for _, v := range vectors(f).Dec {
		f.Add(v.Encrypt)
	}
	f.Add(weChat.seal("0123456789abcdef", []byte("hello")))
	f.Add(weChat.chain([]byte(strings.Repeat("\x20", 64))))
	s := mustSealer(f, aesKey, appID)
	f.Fuzz(func(t *testing.T, text string) {
		// Random ciphertexts do not survive the padding: what is drawn is tried as plaintext, too.
		if raw, err := base64.StdEncoding.DecodeString(text); err == nil && len(raw)%32 == 0 {
			sealed := weChat.chain(raw)
			msg, err := s.decrypt(sealed)
			if err == nil && len(msg)+len(appID)+randomHead+lengthHead >= len(raw) {
				t.Fatalf("%d bytes out of %d", len(msg), len(raw))
			}
			if weChat.opens(sealed) != (err == nil) {
				t.Fatalf("%x: %v, and the counterpart differs", raw, err)
			}
		}
		msg, err := s.decrypt(text)
		if weChat.opens(text) != (err == nil) {
			t.Fatalf("%v, and the counterpart differs", err)
		}
		if err != nil {
			if msg != nil {
				t.Fatalf("%q beside an error", msg)
			}
			return
		}
		if _, other := weChat.unseal(t, strings.NewReplacer("\r", "", "\n", "").Replace(text)); other != string(msg) {
			t.Fatalf("got %q, the counterpart %q", msg, other)
		}
	})
}

func FuzzQuery(f *testing.F) {
	q := weChat.query(noon)
	q.Set("echostr", "4375120948345356249")
	f.Add(q.Encode())
	sealed, _ := weChat.push(words(""), noon)
	f.Add(sealed.Encode())
	f.Add("signature=&signature=&timestamp=1&nonce=1")
	f.Add("signature=0&timestamp=-9223372036854775808&nonce=%00")
	d := newDoor(f, Compatible)
	f.Fuzz(func(t *testing.T, raw string) {
		v, _ := url.ParseQuery(raw)
		q, err := readQuery(v, noon)
		if err != nil && status(err) != badRequest && status(err) != forbidden {
			t.Fatal(err)
		}
		echo, err := d.Verify(v, noon)
		if err != nil {
			return
		}
		if q.signature != weChat.signature(q.timestamp, q.nonce) || strings.ContainsAny(echo, "<>&\"' \r\n") {
			t.Fatalf("let in %q, echo %q", raw, echo)
		}
	})
}

func FuzzOpen(f *testing.F) {
	for _, c := range meanings {
		f.Add(weChat.query(noon).Encode(), []byte(c.body), false, uint8(0))
		f.Add("", []byte(c.body), true, uint8(2))
	}
	for _, bodies := range []map[string]string{hostileJSON, hostileXML} {
		for _, body := range bodies {
			if len(body) > 8<<10 {
				continue
			}
			f.Add("", []byte(body), true, uint8(1))
		}
	}
	doors := [...]*Door{newDoor(f, Plain), newDoor(f, Compatible), newDoor(f, Encrypted)}
	// With seal the body is what WeChat encrypts, and the query is made for it; so what is drawn gets past the door.
	f.Fuzz(func(t *testing.T, raw string, body []byte, seal bool, mode uint8) {
		d := doors[int(mode)%len(doors)]
		q, _ := url.ParseQuery(raw)
		if seal {
			q, body = weChat.push(string(body), noon)
		}
		in, err := d.Open(q, body, noon)
		if err != nil {
			if s := status(err); in != nil || s != badRequest && s != forbidden && s != tooLarge {
				t.Fatalf("got %v, %v", in, err)
			}
			return
		}
		if d.mode == Encrypted && !in.Sealed || in.Sealed != (d.mode != Plain && in.Sealed) {
			t.Fatalf("mode %s lets an open body in", d.mode)
		}
		if in.Push.CreateTime.Sub(noon) > replayWindow || in.Push.MsgType == "" {
			t.Fatalf("let in %+v", in.Push)
		}
		answer, err := in.Answer(Text{string(body)}, noon)
		if err != nil {
			t.Fatal(err)
		}
		if in.Sealed {
			answer = []byte(weChat.readAnswer(t, answer))
		}
		if reply, _, err := parse(answer); err != nil && len(answer) <= MaxBody || err == nil && reply.get("MsgType") != "text" {
			t.Fatalf("answered %q: %v", answer, err)
		}
	})
}
