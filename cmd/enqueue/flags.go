package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// A pair is NAME=VALUE.
type pair struct{ name, value string }

// UnmarshalText reads NAME=VALUE.
func (p *pair) UnmarshalText(text []byte) error {
	name, value, ok := strings.Cut(string(text), "=")
	if !ok || name == "" {
		return fmt.Errorf("want NAME=VALUE, got %q", text)
	}
	*p = pair{name, value}
	return nil
}

// twice finds a name that is given more than once.
func twice(flag string, pairs []pair) error {
	seen := map[string]bool{}
	for _, p := range pairs {
		if seen[p.name] {
			return refuse("%s %s: given twice", flag, p.name)
		}
		seen[p.name] = true
	}
	return nil
}

// A keywordList is the data of a template, in the order in which it was given.
type keywordList []pair

// MarshalJSON writes {"thing1":{"value":"…"}}.
func (k keywordList) MarshalJSON() ([]byte, error) {
	var b bytes.Buffer
	for i, p := range k {
		b.WriteByte("{,"[min(i, 1)])
		name, _ := json.Marshal(p.name) // strings always can
		value, _ := json.Marshal(p.value)
		fmt.Fprintf(&b, `%s:{"value":%s}`, name, value)
	}
	b.WriteByte('}')
	return b.Bytes(), nil
}

// A miniprogram is APPID,PAGEPATH; the path may be left out.
type miniprogram struct {
	AppID    string `json:"appid"`
	PagePath string `json:"pagepath,omitempty"`
}

// UnmarshalText reads APPID,PAGEPATH.
func (m *miniprogram) UnmarshalText(text []byte) error {
	m.AppID, m.PagePath, _ = strings.Cut(string(text), ",")
	if m.AppID == "" {
		return fmt.Errorf("want APPID,PAGEPATH, got %q", text)
	}
	return nil
}

// An instant is a time of day with its zone, or a time from now on.
type instant struct {
	at   time.Time
	from time.Duration
}

const wantInstant = "want RFC 3339 with a time zone, such as 2026-12-01T09:00:00+08:00, or a time from now such as +10m, +36h or +3d"

// UnmarshalText reads RFC 3339 or +DURATION, in which d is a day.
func (i *instant) UnmarshalText(text []byte) error {
	if from, relative := strings.CutPrefix(string(text), "+"); relative {
		d, err := duration(from)
		if err != nil || d <= 0 {
			return fmt.Errorf("%s, got %q", wantInstant, text)
		}
		i.from = d
		return nil
	}
	at, err := time.Parse(time.RFC3339, string(text))
	if err != nil {
		return fmt.Errorf("%s, got %q", wantInstant, text)
	}
	i.at = at
	return nil
}

// A past is a time that is over.
type past struct {
	at  time.Time
	ago time.Duration
}

const wantPast = "want RFC 3339 with a time zone, such as 2026-12-01T09:00:00+08:00, or how long ago, such as 10m, 36h or 3d"

// UnmarshalText reads RFC 3339 or a duration, in which d is a day.
func (p *past) UnmarshalText(text []byte) error {
	if d, err := duration(string(text)); err == nil && d > 0 {
		p.ago = d
		return nil
	}
	at, err := time.Parse(time.RFC3339, string(text))
	if err != nil {
		return fmt.Errorf("%s, got %q", wantPast, text)
	}
	p.at = at
	return nil
}

// before is the time itself; zero if none was given.
func (p past) before(now time.Time) time.Time {
	if p.ago > 0 {
		return now.Add(-p.ago)
	}
	return p.at
}

func duration(text string) (time.Duration, error) {
	if days, ok := strings.CutSuffix(text, "d"); ok {
		n, err := strconv.ParseUint(days, 10, 16)
		return time.Duration(n) * 24 * time.Hour, err
	}
	return time.ParseDuration(text)
}

// after is the instant itself; zero if none was given.
func (i instant) after(now time.Time) time.Time {
	if i.from > 0 {
		return now.Add(i.from)
	}
	return i.at
}

// marshal writes a body as JSON without HTML escapes.
func marshal(v any) (json.RawMessage, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return nil, err
	}
	return bytes.TrimSpace(b.Bytes()), nil
}
