package wechattest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"time"
)

// An event is what a push tells.
type event struct {
	user   string
	at     time.Time
	nodes  []node // from MsgType on
	msgID  int64  // of a receipt, even where the push hides it
	status string // likewise
	early  bool   // it is to come before the call is answered
}

// envelope is the whole push.
func (e event) envelope(c *callback) []node {
	return append([]node{
		textNode("ToUserName", c.Name), textNode("FromUserName", e.user), numberNode("CreateTime", e.at.Unix()),
	}, e.nodes...)
}

// what names the event, or the type of the message.
func (e event) what() string {
	kind := ""
	for _, n := range e.nodes {
		switch n.name {
		case "MsgType":
			kind = n.text
		case "Event":
			return n.text
		}
	}
	return kind
}

// query signs a push; parts are what the body's own signature covers beside token, time and nonce.
func (s *Sim) query(c *callback, user string) (url.Values, *signer) {
	sign := &signer{c.Token, strconv.FormatInt(s.Clock.Now().Unix(), 10), strconv.FormatUint(uint64(s.random32()), 10)}
	q := url.Values{"signature": {sign.of()}, "timestamp": {sign.timestamp}, "nonce": {sign.nonce}}
	if user != "" {
		q.Set("openid", user)
	}
	return q, sign
}

type signer struct{ token, timestamp, nonce string }

func (s *signer) of(more ...string) string {
	return signatureOf(append([]string{s.token, s.timestamp, s.nonce}, more...)...)
}

// request makes one try of a push. Each try has its own time and nonce.
func (s *Sim) request(ctx context.Context, c *callback, e event) (*http.Request, error) {
	q, sign := s.query(c, e.user)
	nodes := e.envelope(c)
	if c.seal != nil {
		sealed := c.seal.close(s.random16(), c.Form.write(nodes))
		q.Set("encrypt_type", "aes")
		q.Set("msg_signature", sign.of(sealed))
		if c.Mode == EncryptedMode {
			nodes = nodes[:1]
		}
		nodes = append(nodes[:len(nodes):len(nodes)], textNode("Encrypt", sealed))
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, with(c.URL, q), bytes.NewReader(c.Form.write(nodes)))
	if err != nil {
		return nil, err
	}
	r.Header.Set("Content-Type", "text/xml")
	if c.Form == JSONForm {
		r.Header.Set("Content-Type", "application/json")
	}
	return r, nil
}

// with adds a query to an address.
func with(address string, q url.Values) string {
	u, err := url.Parse(address)
	if err != nil {
		return address // checked when it was set
	}
	own := u.Query()
	for name, values := range q {
		own[name] = values
	}
	u.RawQuery = own.Encode()
	return u.String()
}

const maxReply = 1 << 20

// send makes one try and reads the answer. An error is no answer in the sense of WeChat: the push is tried again.
func (s *Sim) send(ctx context.Context, c *callback, e event) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, c.Timeout)
	defer cancel()
	r, err := s.request(ctx, c, e)
	if err != nil {
		return nil, err
	}
	return s.roundTrip(r)
}

func (s *Sim) roundTrip(r *http.Request) ([]byte, error) {
	resp, err := s.pushes.client.Do(r)
	if err != nil {
		if wrapped := (*url.Error)(nil); errors.As(err, &wrapped) {
			err = wrapped.Err // without the address, which is long
		}
		return nil, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxReply))
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("HTTP %d", resp.StatusCode)
	}
	return body, err
}

// Verify does what the console does when the callback is saved: a signed GET whose echostr must come back.
func (a *Account) Verify(ctx context.Context) error {
	c := a.set.Load().callback
	if c == nil {
		return errors.New("the account has no callback")
	}
	ctx, cancel := context.WithTimeout(ctx, c.Timeout)
	defer cancel()
	q, _ := a.sim.query(c, "")
	echo := strconv.FormatUint(uint64(a.sim.random32())<<31|uint64(a.sim.random32()), 10)
	q.Set("echostr", echo)
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, with(c.URL, q), nil)
	if err != nil {
		return err
	}
	body, err := a.sim.roundTrip(r)
	switch {
	case err != nil:
		return fmt.Errorf("verify the callback: %w", err)
	case string(body) != echo:
		return fmt.Errorf("verify the callback: got %.40q; want the echostr", body)
	}
	return nil
}

func (s *Sim) random32() uint32 {
	s.pushes.randMu.Lock()
	defer s.pushes.randMu.Unlock()
	return s.pushes.noise.Uint32()
}

func (s *Sim) random16() (b [16]byte) {
	s.pushes.randMu.Lock()
	defer s.pushes.randMu.Unlock()
	const letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
	for i := range b {
		b[i] = letters[s.pushes.noise.IntN(len(letters))]
	}
	return b
}

// chance says yes with the probability share.
func (s *Sim) chance(share float64) bool {
	if share <= 0 {
		return false
	}
	s.pushes.randMu.Lock()
	defer s.pushes.randMu.Unlock()
	return s.pushes.rand.Float64() < share
}
