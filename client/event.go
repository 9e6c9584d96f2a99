package client

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/hongyan-dispatch/hongyan/internal/clock"
	"github.com/hongyan-dispatch/hongyan/internal/postgres"
	"github.com/hongyan-dispatch/hongyan/internal/window"
	"github.com/hongyan-dispatch/hongyan/message"
)

// An EventType says what a user did.
type EventType string

// The types of event. All but the last allow customer-service messages for a while.
const (
	Messaged     EventType = "message"     // wrote to the account
	Clicked      EventType = "menu"        // clicked on its menu
	Followed     EventType = "follow"      // with or without a QR code
	Scanned      EventType = "scan"        // a QR code, as a follower
	Paid         EventType = "pay"         // WeChat Pay; opens nothing unless the account's window says so
	Unsubscribed EventType = "unsubscribe" // closes everything
)

// EventTypes lists every type of event.
func EventTypes() []EventType {
	return []EventType{Messaged, Clicked, Followed, Scanned, Paid, Unsubscribed}
}

// An Event is what a user did, for producers that receive WeChat's callback themselves.
type Event struct {
	Account string         `json:"account"` // its name or appid
	OpenID  message.OpenID `json:"openid"`
	Type    EventType      `json:"type"`
	At      time.Time      `json:"at"` // WeChat's CreateTime
}

// eventAhead is how far our clock and WeChat's may stand apart.
const eventAhead = 5 * time.Minute

// ParseEvent reads an event in the house's JSON, strictly. What is wrong comes back as [message.Invalid].
func ParseEvent(line []byte) (Event, error) {
	if !utf8.Valid(line) {
		return Event{}, message.Invalid{{Rule: "malformed JSON: not UTF-8"}}
	}
	var e Event
	d := json.NewDecoder(bytes.NewReader(line))
	d.DisallowUnknownFields()
	if err := d.Decode(&e); err != nil {
		return Event{}, eventError(err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return Event{}, message.Invalid{{Rule: "malformed JSON: something follows the object"}}
	}
	return e, eachFieldOnce(line)
}

// eachFieldOnce finds what encoding/json lets pass in an object of strings: a key given twice, or in another case.
func eachFieldOnce(object []byte) error {
	d := json.NewDecoder(bytes.NewReader(object))
	seen := map[string]bool{}
	_, _ = d.Token() // the object was decoded before
	for d.More() {
		key, _ := d.Token()
		name, _ := key.(string)
		switch {
		case seen[name]:
			return message.Invalid{{Path: name, Rule: "malformed JSON: duplicate key"}}
		case name != strings.ToLower(name):
			return message.Invalid{{Path: name, Rule: "unknown field; want account, openid, type, at"}}
		}
		seen[name] = true
		_, _ = d.Token()
	}
	return nil
}

// eventError says what encoding/json found, in our words.
func eventError(err error) message.Invalid {
	if wrong, ok := errors.AsType[*json.UnmarshalTypeError](err); ok && wrong.Field == "" {
		return message.Invalid{{Rule: "want an object", Got: wrong.Value}}
	} else if ok {
		return message.Invalid{{Path: wrong.Field, Rule: "want a string", Got: wrong.Value}}
	}
	_, badTime := errors.AsType[*time.ParseError](err)
	if badTime || strings.HasPrefix(err.Error(), "Time.UnmarshalJSON") {
		return message.Invalid{{Path: "at", Rule: "want RFC 3339 with a time zone, such as 2026-12-01T09:00:00+08:00"}}
	}
	if name, ok := strings.CutPrefix(err.Error(), "json: unknown field "); ok {
		return message.Invalid{{Path: strings.Trim(name, `"`), Rule: "unknown field; want account, openid, type, at"}}
	}
	return message.Invalid{{Rule: "malformed JSON: " + strings.TrimPrefix(err.Error(), "json: ")}}
}

// Validate checks the event, as of now. The error is of type [message.Invalid] and holds every finding.
func (e Event) Validate(now time.Time) error {
	var found message.Invalid
	find := func(path, rule, got string) {
		found = append(found, message.FieldError{Path: path, Rule: rule, Got: got})
	}
	if e.Account == "" {
		find("account", "required: the account's name in the configuration, or its appid", "")
	}
	if err := e.OpenID.Check(); err != nil {
		find("openid", err.Error(), "")
	}
	if !slices.Contains(EventTypes(), e.Type) {
		find("type", "want one of message, menu, follow, scan, pay, unsubscribe", fmt.Sprintf("%q", e.Type))
	}
	switch {
	case e.At.IsZero():
		find("at", "required: when it happened, WeChat's CreateTime as RFC 3339", "")
	case e.At.Unix() <= 0:
		find("at", "want a time after 1970", e.At.Format(time.RFC3339))
	case e.At.After(now.Add(eventAhead)):
		find("at", "must not be in the future", e.At.Format(time.RFC3339))
	}
	if found == nil {
		return nil
	}
	return found
}

// Event notes what a user did: it opens the customer-service window, or closes it, and lets messages go again to
// a user who had refused them. It may be reported in any order and any number of times; after an error report it
// again.
func (c *Client) Event(ctx context.Context, e Event) error {
	now := clock.Now()
	if err := e.Validate(now); err != nil {
		return err
	}
	account, err := c.account(e.Account)
	if err != nil {
		return err
	}
	if account.AppID == "" && strings.HasPrefix(account.Name, "wx") {
		account.AppID = message.AppID(account.Name)
	}
	if account.AppID == "" {
		return message.Invalid{{Path: "account", Rule: "the window is kept under the account's appid: configure the account, or give its appid"}}
	}
	if err := c.record(ctx, account, e); err != nil {
		return fmt.Errorf("postgres: %w", err)
	}
	if e.Type == Unsubscribed {
		err = c.windows.Unsubscribed(ctx, account.AppID, e.OpenID, e.At, now)
	} else {
		err = c.windows.Event(ctx, account.AppID, e.OpenID, window.Trigger(e.Type), e.At, now)
	}
	if err != nil {
		return fmt.Errorf("redis: %w", err)
	}
	return nil
}

// record writes the event into the ledger, if there is one, from which a lost Redis is built again.
func (c *Client) record(ctx context.Context, account Account, e Event) error {
	if c.ledger == nil {
		return nil
	}
	return c.ledger.RecordInbound(ctx, []postgres.Inbound{
		{Account: account.Name, OpenID: e.OpenID, Trigger: string(e.Type), At: e.At},
	})
}

// windowRules tell the window's ledger how long to keep a user's record; what the window allows, workers decide.
func (c *Client) windowRules(app message.AppID) window.Rules {
	remember := c.accounts[string(app)].Remember
	if remember == 0 {
		return window.DefaultRules()
	}
	return window.Rules{window.Message: {Messages: 1, For: remember}}
}
