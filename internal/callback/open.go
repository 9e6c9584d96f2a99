package callback

import (
	"errors"
	"fmt"
	"net/url"
	"slices"
	"time"

	"github.com/hongyan-dispatch/hongyan/message"
)

// A Mode is how WeChat's console (服务器配置, 消息加解密方式) and we agreed to write bodies: the package comment has the
// table.
type Mode string

// The modes.
const (
	Plain      Mode = "plain"
	Compatible Mode = "compatible"
	Encrypted  Mode = "encrypted"
)

// Config is what WeChat's console and we agreed on for an account. It prints as [secret] in every form.
type Config struct {
	AppID   message.AppID `json:"-"`
	Mode    Mode          `json:"-"` // empty: Encrypted
	Tokens  []string      `json:"-"` // one; two while the console is being changed from one to the other
	AESKeys []string      `json:"-"` // the same of the EncodingAESKey; none in plain mode
}

// A Door opens the pushes of one account. It is safe for concurrent use and prints no secret.
type Door struct {
	mode Mode
	keys func() keyring // a func, because fmt prints what fields of structs hold, but not what funcs do
}

type keyring struct {
	tokens []string
	seals  []*sealer
}

// New builds the door of an account. Its error names the setting and quotes none.
func New(c Config) (*Door, error) {
	keys := keyring{tokens: slices.Clone(c.Tokens)}
	d := &Door{mode: c.Mode, keys: func() keyring { return keys }}
	if d.mode == "" {
		d.mode = Encrypted
	}
	if d.mode != Plain && d.mode != Compatible && d.mode != Encrypted {
		return nil, errors.New("mode: want plain, compatible or encrypted")
	}
	if len(c.Tokens) == 0 {
		return nil, errors.New("token: missing")
	}
	for _, token := range c.Tokens {
		if token == "" {
			return nil, errors.New("token: empty")
		}
	}
	if len(c.AESKeys) == 0 && d.mode != Plain {
		return nil, fmt.Errorf("aes_key: missing, although mode is %s", d.mode)
	}
	if c.AppID == "" && d.mode != Plain {
		return nil, errors.New("appid: missing")
	}
	for _, key := range c.AESKeys {
		s, err := newSealer(key, c.AppID)
		if err != nil {
			return nil, err
		}
		keys.seals = append(keys.seals, s)
	}
	return d, nil
}

// A Delivery is a push that was let in.
type Delivery struct {
	Push  *Push
	Plain []byte // the body with the push's own nodes, decrypted
	Form  Form   // of the request; its answer has the same
	// Sealed says that the body is surely WeChat's. Without it only the URL is, and what the push says is a hint.
	Sealed bool
	Nonce  string

	door  *Door
	token int // the token and key that WeChat used; the answer is written with them
	seal  int
}

// Verify answers the GET request with which the console tests the URL: the text to send back as it is. The check
// uses the plain signature in every mode. The error is a *[Refusal].
func (d *Door) Verify(query url.Values, now time.Time) (echo string, err error) {
	q, err := readQuery(query, now)
	if err != nil {
		return "", err
	}
	if _, ok := d.signed(q.signature, q.timestamp, q.nonce); !ok {
		return "", refuse(forbidden, "signature does not match: compare the token with WeChat's console")
	}
	// The signature does not cover the echostr: what could be markup is not sent back.
	if echo, ok := only(query, "echostr"); ok && isToken(echo, maxEcho) {
		return echo, nil
	}
	return "", refuse(badRequest, "echostr is missing, or none")
}

// Knows says whether the query bears the plain signature, which WeChat's all do. It says nothing about a body, and
// whoever has seen a URL may bear it for ten minutes: it tells strangers before their body is read.
func (d *Door) Knows(query url.Values, now time.Time) bool {
	q, err := readQuery(query, now)
	if err != nil {
		return false
	}
	_, ok := d.signed(q.signature, q.timestamp, q.nonce)
	return ok
}

// Open lets a POST request in, or says why not; the error is a *[Refusal]. Body is the whole body; more than
// [MaxBody] is refused. Nothing of the body is believed before its signature was checked.
func (d *Door) Open(query url.Values, body []byte, now time.Time) (*Delivery, error) {
	if len(body) > MaxBody {
		return nil, refuse(tooLarge, errTooLarge.Error())
	}
	q, err := readQuery(query, now)
	if err != nil {
		return nil, err
	}
	root, form, err := parse(body)
	if err != nil {
		return nil, refuse(badRequest, err.Error())
	}
	in := &Delivery{Plain: body, Form: form, Nonce: q.nonce, door: d}
	if d.mode != Plain && (root.has("Encrypt") || q.encrypted) {
		root, err = in.unseal(root.get("Encrypt"), q)
	} else {
		err = in.admitPlain(root, q)
	}
	if err != nil {
		return nil, err
	}
	if in.Push, err = newPush(root); err != nil {
		return nil, in.unreadable(err)
	}
	// Rules keep the latest time of each kind: one from the future would hold them for as long.
	if in.Push.CreateTime.Sub(now) > replayWindow {
		return nil, refuse(forbidden, "CreateTime lies in the future: compare Postgres' clock, by which the server goes")
	}
	return in, nil
}

// unseal checks and decrypts what an Encrypt node holds, and reads it.
func (in *Delivery) unseal(text string, q query) (*node, error) {
	switch {
	case text == "":
		return nil, refuse(forbidden, "body is not encrypted, although the query says so")
	case q.msgSignature == "":
		return nil, refuse(forbidden, "msg_signature is missing")
	}
	var ok bool
	if in.token, ok = in.door.signed(q.msgSignature, q.timestamp, q.nonce, text); !ok {
		return nil, refuse(forbidden, "msg_signature does not match: compare the token with WeChat's console")
	}
	for i, s := range in.door.keys().seals {
		plain, err := s.decrypt(text)
		if err != nil {
			continue
		}
		in.Plain, in.Sealed, in.seal = plain, true, i
		root, _, err := parse(plain)
		if err != nil {
			return nil, in.unreadable(err)
		}
		return root, nil
	}
	return nil, refuse(forbidden, errDecrypt.Error())
}

// unreadable refuses nodes that are no push. What was decrypted is refused as if it had not been: a sender who knows the
// token alone must not learn from the status what their bytes became.
func (in *Delivery) unreadable(err error) error {
	if in.Sealed {
		return refuse(forbidden, err.Error())
	}
	return refuse(badRequest, err.Error())
}

// admitPlain checks a body that is not encrypted, as far as that is possible.
func (in *Delivery) admitPlain(root *node, q query) error {
	if in.door.mode == Encrypted { // whatever its signature: no downgrade
		return refuse(forbidden, "body is not encrypted, although mode is encrypted: compare the mode with WeChat's console")
	}
	if _, ok := in.door.signed(q.signature, q.timestamp, q.nonce); !ok {
		return refuse(forbidden, "signature does not match: compare the token with WeChat's console")
	}
	if root.has("Encrypt") && !root.has("MsgType") {
		return refuse(forbidden, "body is encrypted, although mode is plain: compare the mode with WeChat's console")
	}
	return nil
}

// signed finds the token with which parts were signed. It tries all, so that its time does not tell which.
func (d *Door) signed(got string, parts ...string) (token int, ok bool) {
	for i, t := range d.keys().tokens {
		if signed(got, append([]string{t}, parts...)...) {
			token, ok = i, true
		}
	}
	return token, ok
}

// String hides the secrets.
func (Config) String() string { return "[secret]" }

// Format hides the secrets whatever the verb.
func (Config) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte("[secret]")) }
