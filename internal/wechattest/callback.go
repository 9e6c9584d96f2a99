package wechattest

import (
	"cmp"
	"errors"
	"fmt"
	"hash/crc32"
	"net/url"
	"slices"
	"time"
)

// A Callback is where the account's server is told what happens (服务器配置): what its users do, and what became of
// messages. See developers.weixin.qq.com/doc/service/guide/dev/push/.
type Callback struct {
	URL    string       `yaml:"url"`
	Token  string       `yaml:"token"`
	AESKey string       `yaml:"aes_key"` // EncodingAESKey, 43 characters; not needed in plain mode
	Mode   CallbackMode `yaml:"mode"`    // plain, compatible or encrypted; empty: encrypted
	Form   CallbackForm `yaml:"form"`    // xml or json; empty: xml
	Name   string       `yaml:"name"`    // the account's ToUserName; empty: one made of the appid

	Timeout time.Duration `yaml:"timeout"` // for an answer; 0: 5 s
	Tries   int           `yaml:"tries"`   // of one push, while it is not answered; 0: 3
	Gap     time.Duration `yaml:"gap"`     // between tries, from the end of one; 0: 5 s

	Actions  Fortune  `yaml:"actions"`  // of pushes about what users do
	Receipts Receipts `yaml:"receipts"` // of pushes about what became of messages
}

// A Fortune is what happens to pushes on their way. Shares are from 0 to 1.
type Fortune struct {
	Delay   Latency `yaml:"delay"`   // between the event and the first try; a range of delays reorders by itself
	Lost    float64 `yaml:"lost"`    // share that never comes
	Twice   float64 `yaml:"twice"`   // share that comes again although it was answered
	Reorder float64 `yaml:"reorder"` // share that is held back until others have passed
}

// Receipts are the fortune of receipts, and what they say.
type Receipts struct {
	Fortune `yaml:",inline"`
	Early   float64 `yaml:"early"`    // share that comes before the API call is answered
	NoMsgID float64 `yaml:"no_msgid"` // share of template receipts with MsgID 0 where there is a client_msg_id, as was seen in 2023
	Failed  float64 `yaml:"failed"`   // share that says failed: system failed; of a mass send, share of its users
}

// A CallbackMode is how bodies of pushes are protected (消息加解密方式).
type CallbackMode string

// The modes.
const (
	PlainMode      CallbackMode = "plain"
	CompatibleMode CallbackMode = "compatible"
	EncryptedMode  CallbackMode = "encrypted"
)

// A CallbackForm is the format of pushes.
type CallbackForm string

// The forms.
const (
	XMLForm  CallbackForm = "xml"
	JSONForm CallbackForm = "json"
)

// callback is a Callback made ready for use.
type callback struct {
	Callback
	seal *seal // nil in plain mode
}

// ready checks the callback of an account and makes it ready for use.
func (c Callback) ready(appID string) (*callback, error) {
	if u, err := url.Parse(c.URL); err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return nil, fmt.Errorf("callback: url %q is no http or https address", c.URL)
	}
	c.Mode, c.Form = cmp.Or(c.Mode, EncryptedMode), cmp.Or(c.Form, XMLForm)
	c.Timeout, c.Gap = cmp.Or(c.Timeout, 5*time.Second), cmp.Or(c.Gap, 5*time.Second)
	c.Tries = cmp.Or(c.Tries, 3)
	c.Name = cmp.Or(c.Name, fmt.Sprintf("gh_%012x", crc32.ChecksumIEEE([]byte(appID))))
	switch {
	case c.Token == "":
		return nil, errors.New("callback: token is missing")
	case !slices.Contains([]CallbackMode{PlainMode, CompatibleMode, EncryptedMode}, c.Mode):
		return nil, fmt.Errorf("callback: mode %q is none of plain, compatible, encrypted", c.Mode)
	case !slices.Contains([]CallbackForm{XMLForm, JSONForm}, c.Form):
		return nil, fmt.Errorf("callback: form %q is none of xml, json", c.Form)
	case c.Timeout < 0 || c.Gap < 0 || c.Tries < 0:
		return nil, errors.New("callback: timeout, gap and tries must not be negative")
	}
	for name, share := range map[string]float64{
		"actions.lost": c.Actions.Lost, "actions.twice": c.Actions.Twice, "actions.reorder": c.Actions.Reorder,
		"receipts.lost": c.Receipts.Lost, "receipts.twice": c.Receipts.Twice, "receipts.reorder": c.Receipts.Reorder,
		"receipts.early": c.Receipts.Early, "receipts.no_msgid": c.Receipts.NoMsgID, "receipts.failed": c.Receipts.Failed,
	} {
		if share < 0 || share > 1 {
			return nil, fmt.Errorf("callback: %s is a share from 0 to 1", name)
		}
	}
	r := &callback{Callback: c}
	if c.Mode != PlainMode {
		var err error
		if r.seal, err = newSeal(c.AESKey, appID); err != nil {
			return nil, fmt.Errorf("callback: aes_key: %w", err)
		}
	}
	return r, nil
}
