package wechattest

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"strings"
)

// OutOfOrder is what a user is shown where the answer to a push is none.
const OutOfOrder = "该公众号提供的服务出现故障，请稍后再试"

// A passive reply (被动回复), or the envelope of an encrypted one.
type passive struct {
	XMLName      xml.Name `xml:"xml" json:"-"`
	ToUserName   string
	FromUserName string
	CreateTime   json.Number
	MsgType      string

	Encrypt      string
	MsgSignature string
	TimeStamp    json.Number
	Nonce        string
}

// shown is what a user sees after an answer to a push: nothing after an empty body or success, else the reply as its
// plain text stands.
func (c *callback) shown(e event, body []byte) (string, error) {
	if len(body) == 0 || string(body) == "success" {
		return "", nil
	}
	p, err := readPassive(body)
	if err != nil {
		return OutOfOrder, fmt.Errorf("the answer is neither empty nor success nor a reply: %w", err)
	}
	switch {
	case p.Encrypt != "" && c.seal == nil:
		return OutOfOrder, errors.New("the reply is encrypted, in plain mode")
	case p.Encrypt == "" && c.Mode == EncryptedMode:
		return OutOfOrder, errors.New("the reply is not encrypted")
	case p.Encrypt != "":
		sign := signer{c.Token, p.TimeStamp.String(), p.Nonce}
		if sign.of(p.Encrypt) != p.MsgSignature {
			return OutOfOrder, errors.New("the reply's MsgSignature is wrong")
		}
		if body, err = c.seal.open(p.Encrypt); err != nil {
			return OutOfOrder, fmt.Errorf("the reply cannot be decrypted: %w", err)
		}
		if p, err = readPassive(body); err != nil {
			return OutOfOrder, fmt.Errorf("the decrypted reply: %w", err)
		}
	}
	switch {
	case p.MsgType == "":
		return OutOfOrder, errors.New("the reply has no MsgType")
	case p.ToUserName != e.user || p.FromUserName != c.Name:
		return OutOfOrder, fmt.Errorf("the reply goes from %q to %q; want from %q to the user", p.FromUserName, p.ToUserName, c.Name)
	}
	if n, err := p.CreateTime.Int64(); err != nil || n <= 0 {
		return OutOfOrder, errors.New("the reply has no CreateTime")
	}
	return string(body), nil
}

func readPassive(body []byte) (p passive, err error) {
	if bytes.HasPrefix(bytes.TrimSpace(body), []byte("{")) {
		err = json.Unmarshal(body, &p)
	} else {
		err = xml.Unmarshal(body, &p)
	}
	p.CreateTime, p.TimeStamp = trimmed(p.CreateTime), trimmed(p.TimeStamp)
	return p, err
}

func trimmed(n json.Number) json.Number { return json.Number(strings.TrimSpace(n.String())) }
