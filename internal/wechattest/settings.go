package wechattest

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"time"
)

// A Type is the kind of an Official Account.
type Type string

// The kinds of accounts. A test account (测试号) can do what a service account can, without mass send.
const (
	Service      Type = "service"      // 服务号
	Subscription Type = "subscription" // 订阅号
	Test         Type = "test"         // 测试号
)

// Settings are what an account is and what it may do: plain data. The zero value of every field is
// WeChat's default; a zero Type is [Service].
type Settings struct {
	AppID        string   `yaml:"appid"`
	Secret       string   `yaml:"secret"`
	Type         Type     `yaml:"type"`
	Unverified   bool     `yaml:"unverified"`    // 未认证: may send nothing
	SecretFrozen bool     `yaml:"secret_frozen"` // 40243 on the token calls
	Whitelist    []string `yaml:"whitelist"`     // addresses or prefixes that may fetch tokens; none: every address
	WhitelistAll bool     `yaml:"whitelist_all"` // the whitelist holds for every call, not only the token calls

	AnyOpenID    bool          `yaml:"any_openid"` // every openid is a follower's: for benchmarks
	AnyMedia     bool          `yaml:"any_media"`  // every media_id is good
	AnyWindow    bool          `yaml:"any_window"` // the customer-service window is always open
	Materials    []string      `yaml:"materials"`  // permanent media_ids, article_ids, card_ids
	Templates    []Template    `yaml:"templates"`
	Tags         []Tag         `yaml:"tags"`
	MiniPrograms []MiniProgram `yaml:"mini_programs"` // bound to the account

	WxNames map[string]string `yaml:"wx_names"` // WeChat id → openid, for previews

	Closed map[string]int   `yaml:"closed"` // API → code that answers every call of it: 48001, 48004, 45087 …
	Limits map[string]Limit `yaml:"limits"` // API → limit in place of the one in [DefaultLimits]
	// OnlyAccepted counts towards the quota only calls that were answered 0. Which calls WeChat counts is
	// not documented; the default counts every call with a valid token, whatever its answer.
	OnlyAccepted bool `yaml:"only_accepted"`
	// Inaccuracy lets the day's limit strike up to this share too early or too late (the documentation
	// admits about 1 %: 0.01).
	Inaccuracy float64 `yaml:"inaccuracy"`

	Window    map[Trigger]Allowance `yaml:"window"`     // in place of those in [DefaultWindow]
	Combine   Combine               `yaml:"combine"`    // how the allowances of several actions combine
	TextBytes int                   `yaml:"text_bytes"` // of a customer-service text; 0: 2048
	Duplicate Duplicate             `yaml:"duplicate"`  // the answer to a repeated client_msg_id
	Mass      MassRules             `yaml:"mass"`

	Callback *Callback `yaml:"callback"` // none: nobody is told of anything
}

// A Template is a template message's template (模板) as the account has it.
type Template struct {
	ID      string              `yaml:"id"`
	Title   string              `yaml:"title"`
	Content string              `yaml:"content"` // with {{thing1.DATA}}: the keywords are read from it
	Keys    []string            `yaml:"keys"`    // or given here
	Consts  map[string][]string `yaml:"consts"`  // what a const keyword may hold
	Code    int                 `yaml:"code"`    // answers every send of it: 43116, 48011 …
}

// A Tag is a group of followers (标签).
type Tag struct {
	ID   int64  `yaml:"id"`
	Name string `yaml:"name"`
}

// A MiniProgram that is bound to the account; without pages, every page exists.
type MiniProgram struct {
	AppID string   `yaml:"appid"`
	Pages []string `yaml:"pages"`
}

// Duplicate selects the answer to a client_msg_id that came with the same openid within 10 minutes.
// WeChat does not document it.
type Duplicate string

// The answers to a duplicate; the zero value is FirstMsgID.
const (
	FirstMsgID Duplicate = "first_msgid" // errcode 0 and the msgid of the first
	NewMsgID   Duplicate = "new_msgid"   // errcode 0 and a new msgid
	Refused    Duplicate = "40241"       // The message is duplicate in 60 seconds
)

// A Limit is how often one API may be called. Zero is no limit.
type Limit struct {
	PerDay    int64 `yaml:"per_day" json:"per_day,omitempty"`       // more: 45009
	PerMinute int64 `yaml:"per_minute" json:"per_minute,omitempty"` // more in one minute of the clock: 45011
	PerSecond int64 `yaml:"per_second" json:"per_second,omitempty"` // more in one second of the clock: 45011
}

// settings are an account's Settings made ready for use; they never change.
type settings struct {
	Settings
	templates map[string]*Template
	materials map[string]bool
	limits    map[string]Limit
	closed    map[string]int
	window    map[Trigger]Allowance
	prefixes  []netip.Prefix
	callback  *callback
}

func (s Settings) clone() Settings {
	s.Closed, s.Limits, s.Window = maps.Clone(s.Closed), maps.Clone(s.Limits), maps.Clone(s.Window)
	s.WxNames = maps.Clone(s.WxNames)
	s.Whitelist, s.Materials = slices.Clone(s.Whitelist), slices.Clone(s.Materials)
	s.Templates, s.Tags, s.MiniPrograms = slices.Clone(s.Templates), slices.Clone(s.Tags), slices.Clone(s.MiniPrograms)
	if s.Callback != nil {
		c := *s.Callback
		s.Callback = &c
	}
	return s
}

// ready checks the settings and makes them ready for use.
func (s Settings) ready(paths func(string) (string, error)) (*settings, error) {
	r := &settings{
		Settings: s, templates: map[string]*Template{}, materials: map[string]bool{},
		limits: DefaultLimits(s.Type), closed: map[string]int{}, window: DefaultWindow(),
	}
	if s.AppID == "" || s.Secret == "" {
		return nil, fmt.Errorf("account %q: appid and secret are needed", s.AppID)
	}
	if err := s.checkWords(); err != nil {
		return nil, fmt.Errorf("account %s: %w", s.AppID, err)
	}
	if r.Type == "" {
		r.Type = Service
	}
	if r.TextBytes == 0 {
		r.TextBytes = 2048
	}
	r.Mass = s.Mass.withDefaults()
	if s.Callback != nil {
		var err error
		if r.callback, err = s.Callback.ready(s.AppID); err != nil {
			return nil, fmt.Errorf("account %s: %w", s.AppID, err)
		}
	}
	for api, code := range s.Closed {
		path, err := paths(api)
		if err != nil {
			return nil, fmt.Errorf("account %s: closed: %w", s.AppID, err)
		}
		r.closed[path] = code
	}
	for api, limit := range s.Limits {
		path, err := paths(api)
		if err != nil {
			return nil, fmt.Errorf("account %s: limits: %w", s.AppID, err)
		}
		r.limits[path] = limit
	}
	maps.Copy(r.window, s.Window)
	for _, t := range s.Templates {
		if len(t.Keys) == 0 {
			t.Keys = keywordsOf(t.Content)
		}
		r.templates[t.ID] = &t
	}
	for _, id := range s.Materials {
		r.materials[id] = true
	}
	for _, address := range s.Whitelist {
		p, err := prefixOf(address)
		if err != nil {
			return nil, fmt.Errorf("account %s: whitelist: %w", s.AppID, err)
		}
		r.prefixes = append(r.prefixes, p)
	}
	return r, nil
}

func (s Settings) checkWords() error {
	if !slices.Contains([]Type{"", Service, Subscription, Test}, s.Type) {
		return fmt.Errorf("type %q is none of service, subscription, test", s.Type)
	}
	if !slices.Contains([]Duplicate{"", FirstMsgID, NewMsgID, Refused}, s.Duplicate) {
		return fmt.Errorf("duplicate %q is none of first_msgid, new_msgid, 40241", s.Duplicate)
	}
	if !slices.Contains([]Combine{"", Separate, Maximum}, s.Combine) {
		return fmt.Errorf("combine %q is none of separate, maximum", s.Combine)
	}
	for t := range s.Window {
		if !slices.Contains(triggers, t) {
			return fmt.Errorf("window: %q is none of message, menu, follow, scan, pay", t)
		}
	}
	return nil
}

// keywordsOf reads the keywords from a template's content: {{thing1.DATA}} has the keyword thing1.
func keywordsOf(content string) []string {
	var keys []string
	for {
		_, rest, ok := strings.Cut(content, "{{")
		if !ok {
			return keys
		}
		word, after, _ := strings.Cut(rest, "}}")
		if key, ok := strings.CutSuffix(strings.TrimSpace(word), ".DATA"); ok && !slices.Contains(keys, key) {
			keys = append(keys, key)
		}
		content = after
	}
}

func prefixOf(address string) (netip.Prefix, error) {
	if strings.Contains(address, "/") {
		return netip.ParsePrefix(address)
	}
	a, err := netip.ParseAddr(address)
	if err != nil {
		return netip.Prefix{}, err
	}
	return netip.PrefixFrom(a, a.BitLen()), nil
}

func (s *settings) verified() bool { return !s.Unverified }

// allows says whether the whitelist holds the caller's address ("host:port").
func (s *settings) allows(remote string) (string, bool) {
	ap, err := netip.ParseAddrPort(remote)
	host := ap.Addr().Unmap()
	if len(s.prefixes) == 0 || err != nil {
		return host.String(), true // without an address it is a call within the process
	}
	return host.String(), slices.ContainsFunc(s.prefixes, func(p netip.Prefix) bool { return p.Contains(host) })
}

// Windows and lifetimes that the documentation fixes.
const (
	tokenLife       = 7200 * time.Second
	tokenOverlap    = 5 * time.Minute
	forceGap        = 30 * time.Second
	forcesPerDay    = 20
	clientIDMemory  = 10 * time.Minute
	mediaLife       = 3 * 24 * time.Hour
	clearsPerMonth  = 10
	pageOfFollowers = 10_000
)
