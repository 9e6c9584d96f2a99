package campaign

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"

	"github.com/hongyan-dispatch/hongyan/message"
)

// ParseSpec reads a campaign as an operator writes it, in YAML or JSON, and checks it whole. The error is an [*Error]
// with every finding: an unknown key is one.
//
//	name: double-eleven            # required
//	account: shop                  # required: the account's name in the configuration, or its appid
//	kind: template                 # required: template, subscribe, custom or mass
//	template: {…}                  # the body, under the kind's name: WeChat's own JSON for the call, without touser
//	fallback: {kind: template, template: {…}}   # of kind custom only: goes where the user's window is closed
//	lane: bulk                     # urgent, normal or bulk (the default)
//	labels: {season: "11"}         # for reports, on each message
//	audience: {file: users.csv}    # or {tag: 102}, {followers: true}, {sql: "SELECT openid, name FROM …"}
//	schedule: {cron: "0 10 * * 1", timezone: Asia/Shanghai, catch_up: once}  # or {at: 2026-12-01T10:00:00+08:00}; none: by hand
//	pace: {per_second: 200}        # default: the account's
//	quiet_hours: {from: "22:00", to: "08:00"}   # in the schedule's time zone
//	closed_days: [sun, 2027-01-01, 2027-02-05..2027-02-11]
//	frequency_cap: {messages: 2, per: week}     # of campaigns, to one user; day or week, Beijing's
//	dedupe: true                   # the same content to the same user goes once in 24 hours
//	expires_after: 24h             # from the start of a firing
//	weight: 3                      # its share among the account's campaigns; default 1
//	stop_at: 0.3                   # the share of failures that pauses it; default 0.3, 1: never
//	canary: 100                    # the first so many recipients, then it pauses for a look
//
// [functions] says what may stand in the body's and the fallback's texts.
func ParseSpec(text []byte) (*Spec, error) {
	p := &parser{findings: findings{lines: map[string]int{}, given: map[string]bool{}, spoiled: map[string]bool{}}}
	s := &Spec{Lane: message.Bulk}
	if p.strict = json.Valid(text); p.strict && !p.readable(text) {
		return nil, p.err()
	}
	root, err := document(text)
	if err != nil {
		p.add("", err.Error(), "")
		return nil, p.err()
	}
	p.spec(root, s)
	s.check(&p.findings)
	if err := p.err(); err != nil {
		return nil, err
	}
	return s, nil
}

// document is the one YAML document of a text.
func document(text []byte) (*yaml.Node, error) {
	if len(text) > message.MaxMassBytes {
		return nil, fmt.Errorf("at most %d KiB", message.MaxMassBytes>>10)
	}
	if json.Valid(text) {
		text = yamlOf(text)
	}
	documents := yaml.NewDecoder(bytes.NewReader(text))
	var root yaml.Node
	if err := documents.Decode(&root); errors.Is(err, io.EOF) {
		return nil, errors.New("there is nothing in it; want keys and values")
	} else if err != nil {
		return nil, errors.New(strings.TrimPrefix(err.Error(), "yaml: "))
	}
	if err := documents.Decode(new(yaml.Node)); !errors.Is(err, io.EOF) {
		return nil, errors.New("a second YAML document begins in it; want one")
	}
	return root.Content[0], nil
}

// yamlOf makes YAML of JSON, line by line. Nearly all JSON is; but YAML has no pairs of surrogates, which is how many
// programs write an emoji, and no tabs between its tokens.
func yamlOf(text []byte) []byte {
	var out []byte
	from := 0
	between := func(to int) []byte { return bytes.ReplaceAll(text[from:to], []byte{'\t'}, []byte{' '}) }
	walkStrings(text, func(s spot) {
		out = append(append(out, between(s.from)...), '"')
		out = append(appendEscaped(out, s.text), '"')
		from = s.to
	})
	return append(out, between(len(text))...)
}

// A parser lays a YAML tree over a spec. It does so by hand, for errors that name paths and remedies.
type parser struct {
	findings
	strict bool // it was JSON, whose strings are no numbers and whose numbers are no strings
}

// readable says whether the strings of JSON are text: encoding/json mends in silence what is none.
func (p *parser) readable(text []byte) bool {
	walkStrings(text, func(s spot) {
		raw := text[s.from:s.to]
		switch {
		case !utf8.Valid(raw):
			p.spoil(s.path, "a string is not valid UTF-8", "")
		case strings.ContainsRune(s.text, utf8.RuneError) && !bytes.ContainsRune(raw, utf8.RuneError) && !bytes.Contains(bytes.ToLower(raw), []byte(`\ufffd`)):
			p.spoil(s.path, "half of a surrogate pair in a string", "")
		}
	})
	return len(p.found) == 0
}

// A reader reads the value of one key.
type reader func(n *yaml.Node, path string)

// fields reads a mapping whose keys are in the table.
func (p *parser) fields(n *yaml.Node, path string, table map[string]reader) {
	if n = target(n); n.Kind != yaml.MappingNode {
		p.spoil(path, "want keys and values: "+known(table), "")
		return
	}
	seen := map[string]bool{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		at := join(path, key.Value)
		p.lines[at] = key.Line
		read, ok := table[key.Value]
		switch {
		case key.Kind != yaml.ScalarNode || !ok:
			p.add(at, "unknown key", "known here: "+known(table))
		case seen[key.Value]:
			p.add(at, "the key stands here twice", "keep one")
		case target(value).ShortTag() != "!!null":
			p.given[at] = true
			read(value, at)
		}
		seen[key.Value] = true
	}
}

func known(table map[string]reader) string {
	names := make([]string, 0, len(table))
	for name := range table {
		names = append(names, name)
	}
	slices.Sort(names)
	return strings.Join(names, ", ")
}

// target is what an alias stands for.
func target(n *yaml.Node) *yaml.Node {
	if n.Kind == yaml.AliasNode {
		return n.Alias
	}
	return n
}

func (p *parser) spec(n *yaml.Node, s *Spec) {
	table := map[string]reader{
		"name":          text(p, &s.Name),
		"account":       text(p, &s.Account),
		"kind":          text(p, &s.Kind),
		"lane":          text(p, &s.Lane),
		"fallback":      p.json(&s.Fallback),
		"audience":      func(n *yaml.Node, path string) { p.source(n, path, &s.Audience) },
		"schedule":      func(n *yaml.Node, path string) { p.schedule(n, path, &s.Schedule) },
		"pace":          p.under(map[string]reader{"per_second": p.float(&s.Pace)}),
		"quiet_hours":   p.under(map[string]reader{"from": text(p, &s.Calendar.From), "to": text(p, &s.Calendar.To)}),
		"closed_days":   p.texts(&s.Calendar.Closed),
		"frequency_cap": p.under(map[string]reader{"messages": p.int(&s.Cap.Messages), "per": text(p, &s.Cap.Per)}),
		"expires_after": p.duration(&s.Expires),
		"dedupe":        p.bool(&s.Dedupe),
		"weight":        p.int(&s.Weight),
		"stop_at":       p.float(&s.StopAt),
		"canary":        p.int(&s.Canary),
		"labels":        func(n *yaml.Node, path string) { p.labels(n, path, &s.Labels) },
	}
	bodies := map[message.Kind]json.RawMessage{}
	for _, kind := range message.Kinds() {
		table[string(kind)] = func(n *yaml.Node, path string) {
			var body json.RawMessage
			p.json(&body)(n, path)
			bodies[kind] = body
		}
	}
	p.fields(n, "", table)
	s.Calendar.Timezone = s.Schedule.Timezone
	for _, kind := range message.Kinds() {
		body, given := bodies[kind]
		switch {
		case kind == s.Kind:
			s.Body = body
		case given && slices.Contains(message.Kinds(), s.Kind):
			p.add(string(kind), fmt.Sprintf("leave it out: kind is %s", s.Kind), "")
		}
	}
}

// under reads an object of its own.
func (p *parser) under(table map[string]reader) reader {
	return func(n *yaml.Node, path string) { p.fields(n, path, table) }
}

func (p *parser) source(n *yaml.Node, path string, s *Source) {
	var followers bool
	given := 0
	as := func(kind string, read reader) reader {
		return func(n *yaml.Node, path string) {
			s.Kind = kind
			given++
			read(n, path)
		}
	}
	p.fields(n, path, map[string]reader{
		"file": as(FromFile, text(p, &s.File)), "tag": as(FromTag, p.int(&s.Tag)),
		"followers": as(FromFollowers, p.bool(&followers)), "sql": as(FromSQL, text(p, &s.SQL)),
	})
	switch {
	case given > 1:
		p.spoil(path, "want one of file, tag, followers, sql", "an audience has one source; keep one")
	case s.Kind == FromFollowers && !followers:
		p.spoil(path+".followers", "want true, which means every follower", "leave audience out where it is given later")
	}
}

func (p *parser) schedule(n *yaml.Node, path string, s *Schedule) {
	var at string
	p.fields(n, path, map[string]reader{
		"cron": text(p, &s.Cron), "at": text(p, &at), "timezone": text(p, &s.Timezone), "catch_up": text(p, &s.CatchUp),
	})
	if at == "" {
		return
	}
	var err error
	if s.At, err = time.Parse(time.RFC3339, at); err == nil {
		return
	}
	for _, form := range []string{"2006-01-02 15:04", time.DateTime, "2006-01-02T15:04", "2006-01-02T15:04:05"} {
		if s.At, err = time.ParseInLocation(form, at, zoneOf(s.Timezone)); err == nil {
			return
		}
	}
	p.spoil(path+".at", "want a time such as 2026-12-01T10:00:00+08:00, or 2026-12-01 10:00 of the time zone", "")
}

// scalar is the text of one value; false: it is none, and that was said.
func (p *parser) scalar(n *yaml.Node, path string) (string, bool) {
	if n = target(n); n.Kind != yaml.ScalarNode {
		p.spoil(path, "want one value", "")
		return "", false
	}
	return n.Value, true
}

// word is the text of one value that JSON has in quotes; bare is that of one without.
func (p *parser) word(n *yaml.Node, path string) (string, bool) {
	s, ok := p.scalar(n, path)
	if ok && p.strict && target(n).Style&yaml.DoubleQuotedStyle == 0 {
		p.spoil(path, "want a string", "")
		return "", false
	}
	return s, ok
}

func (p *parser) bare(n *yaml.Node, path string) (string, bool) {
	s, ok := p.scalar(n, path)
	if ok && p.strict && target(n).Style&yaml.DoubleQuotedStyle != 0 {
		return "", true // which is no number, and neither true nor false
	}
	return s, ok
}

func text[T ~string](p *parser, to *T) reader {
	return func(n *yaml.Node, path string) {
		if s, ok := p.word(n, path); ok {
			*to = T(s)
		}
	}
}

func (p *parser) texts(to *[]string) reader {
	return func(n *yaml.Node, path string) {
		if n = target(n); n.Kind != yaml.SequenceNode {
			p.spoil(path, "want a list", "")
			return
		}
		for i, item := range n.Content {
			at := fmt.Sprintf("%s[%d]", path, i)
			p.lines[at] = item.Line
			s, _ := p.word(item, at)
			*to = append(*to, s)
		}
	}
}

func (p *parser) int(to *int) reader {
	return func(n *yaml.Node, path string) {
		s, ok := p.bare(n, path)
		if !ok {
			return
		}
		i, err := strconv.ParseInt(strings.ReplaceAll(s, "_", ""), 10, 32)
		if err != nil {
			p.spoil(path, "want a whole number", "")
		}
		*to = int(i)
	}
}

func (p *parser) float(to *float64) reader {
	return func(n *yaml.Node, path string) {
		s, ok := p.bare(n, path)
		if !ok {
			return
		}
		f, err := strconv.ParseFloat(strings.ReplaceAll(s, "_", ""), 64)
		if err != nil || math.IsNaN(f) || math.IsInf(f, 0) {
			p.spoil(path, "want a number", "")
		}
		*to = f
	}
}

func (p *parser) bool(to *bool) reader {
	return func(n *yaml.Node, path string) {
		s, ok := p.bare(n, path)
		if ok && s != "true" && s != "false" {
			p.spoil(path, "want true or false", "")
		}
		*to = s == "true"
	}
}

func (p *parser) duration(to *time.Duration) reader {
	return func(n *yaml.Node, path string) {
		s, ok := p.word(n, path)
		if !ok {
			return
		}
		d, err := time.ParseDuration(s)
		if err != nil {
			p.spoil(path, "want a duration such as 90m or 24h", "")
		}
		*to = d
	}
}

func (p *parser) labels(n *yaml.Node, path string, to *map[string]string) {
	if n = target(n); n.Kind != yaml.MappingNode {
		p.spoil(path, "want names and texts", "")
		return
	}
	*to = map[string]string{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		at := join(path, n.Content[i].Value)
		p.lines[at] = n.Content[i].Line
		if _, twice := (*to)[n.Content[i].Value]; twice {
			p.add(at, "the key stands here twice", "keep one")
		}
		(*to)[n.Content[i].Value], _ = p.word(n.Content[i+1], at)
	}
}
