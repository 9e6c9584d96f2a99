package campaign

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/hongyan-dispatch/hongyan/message"
)

// Sources of an audience.
const (
	FromFile      = "file"
	FromTag       = "tag"
	FromFollowers = "followers"
	FromSQL       = "sql"
)

const (
	maxName    = 100     // characters of a campaign's name
	maxCanary  = 100_000 // a look at more is none
	maxWeight  = 1000
	maxPace    = 100_000
	maxExpires = 30 * 24 * time.Hour
)

// Check says what is wrong with a spec, as [ParseSpec] does.
func (s *Spec) Check() error {
	f := &findings{spoiled: map[string]bool{}}
	s.check(f)
	return f.err()
}

func (s *Spec) check(f *findings) {
	if n := utf8.RuneCountInString(s.Name); n == 0 || n > maxName || strings.IndexFunc(s.Name, notShown) >= 0 {
		f.add("name", fmt.Sprintf("want 1 to %d characters on one line", maxName), "")
	} else if _, err := message.ParseID(s.Name); err == nil {
		f.add("name", "is an id", "commands take either, so a name must not look like one")
	}
	s.checkContent(f)
	s.checkSource(f)
	s.checkSchedule(f)
	s.checkCalendar(f)
	s.checkNumbers(f)
}

func notShown(r rune) bool { return !unicode.IsPrint(r) }

func (s *Spec) checkSource(f *findings) {
	a := s.Audience
	switch a.Kind {
	case "", FromFollowers:
	case FromFile:
		if a.File == "" {
			f.add("audience.file", "want a file's name", "leave audience out where it is given later")
		}
	case FromTag:
		if a.Tag <= 0 {
			f.add("audience.tag", "want a tag's number", "")
		}
	case FromSQL:
		if strings.TrimSpace(a.SQL) == "" {
			f.add("audience.sql", "want a query", "its columns are the audience's, openid among them")
		}
	default:
		f.add("audience", fmt.Sprintf("unknown source %q", a.Kind), "one of: file, tag, followers, sql")
	}
	asked := s.Columns()
	if (a.Kind == FromTag || a.Kind == FromFollowers) && len(asked) > 0 {
		f.add("audience."+a.Kind, "has no columns, and the texts ask for "+strings.Join(asked, ", "), "take a file or a query")
	}
}

func (s *Spec) checkSchedule(f *findings) {
	c := s.Schedule
	if _, err := zone(c.Timezone); err != nil {
		f.add("schedule.timezone", err.Error(), "such as Asia/Shanghai")
	}
	if c.Cron != "" {
		if err := checkCron(c.Cron); err != nil {
			f.add("schedule.cron", err.Error(), "")
		}
		if !c.At.IsZero() {
			f.add("schedule.at", "a campaign fires by cron or at one time", "keep one")
		}
	}
	switch c.CatchUp {
	case "":
	case CatchUpSkip, CatchUpOnce, CatchUpAll:
		if c.Cron == "" {
			f.add("schedule.catch_up", "is for cron", "leave it out: a single tick is always made up for")
		}
	default:
		f.add("schedule.catch_up", fmt.Sprintf("unknown value %q", c.CatchUp), "one of: skip, once, all")
	}
}

func (s *Spec) checkCalendar(f *findings) {
	c := s.Calendar
	if c.Timezone != s.Schedule.Timezone {
		if _, err := zone(c.Timezone); err != nil {
			f.add("quiet_hours", err.Error(), "")
		}
	}
	if (c.From == "") != (c.To == "") {
		f.add("quiet_hours", "want both from and to", "")
	} else if c.From != "" {
		from, errFrom := clock(c.From)
		to, errTo := clock(c.To)
		if errFrom != nil {
			f.add("quiet_hours.from", errFrom.Error(), "in quotes")
		}
		if errTo != nil {
			f.add("quiet_hours.to", errTo.Error(), "in quotes")
		}
		if errFrom == nil && errTo == nil && from == to {
			f.add("quiet_hours", "from and to are the same", "leave quiet_hours out where there are none")
		}
	}
	open := map[time.Weekday]bool{}
	for d := range time.Weekday(7) {
		open[d] = true
	}
	for i, text := range c.Closed {
		if day, ok := weekday(text); ok {
			delete(open, day)
		} else if days, err := daysOf(text); err != nil {
			f.add(fmt.Sprintf("closed_days[%d]", i), err.Error(), "")
		} else if days.last.Sub(days.first) >= longestClosed/2 {
			f.add(fmt.Sprintf("closed_days[%d]", i), "more than half a year", "")
		}
	}
	if len(open) == 0 {
		f.add("closed_days", "no day of the week is left", "")
	}
}

func (s *Spec) checkNumbers(f *findings) {
	between := func(path string, value, low, high float64) {
		switch {
		case low <= value && value <= high:
		case value != 0:
			f.add(path, fmt.Sprintf("want %g to %g", low, high), "")
		case f.given[path]: // a 0 that is meant to be one
			f.add(path, fmt.Sprintf("want %g to %g", low, high), "leave it out for the default")
		}
	}
	between("pace.per_second", s.Pace, 0.01, maxPace)
	between("stop_at", s.StopAt, 0.001, 1)
	between("weight", float64(s.Weight), 1, maxWeight)
	between("canary", float64(s.Canary), 1, maxCanary)
	between("frequency_cap.messages", float64(s.Cap.Messages), 1, 1000)
	switch {
	case s.Cap.Messages == 0 && f.given["frequency_cap.messages"]: // said above
	case s.Cap.Messages > 0 && s.Cap.Per == "":
		f.add("frequency_cap.per", "want day or week", "")
	case s.Cap.Messages == 0 && s.Cap.Per != "":
		f.add("frequency_cap.messages", "want how many a user gets in a "+s.Cap.Per, "")
	case s.Cap.Per != "" && s.Cap.Per != "day" && s.Cap.Per != "week":
		f.add("frequency_cap.per", fmt.Sprintf("unknown value %q", s.Cap.Per), "one of: day, week")
	}
	if e := s.Expires; (e != 0 || f.given["expires_after"]) && (e < time.Minute || e > maxExpires) {
		f.add("expires_after", "want 1m to 720h", "")
	}
}

// checkContent judges what is sent as any message is judged. What depends on the recipient is not known yet: where a
// placeholder stands the value passes.
func (s *Spec) checkContent(f *findings) {
	if !slices.Contains(message.Kinds(), s.Kind) {
		rule := fmt.Sprintf("unknown value %q", s.Kind)
		if s.Kind == "" {
			rule = "required"
		}
		f.add("kind", rule, "one of: template, subscribe, custom, mass")
		s.checkEnvelope(f)
		return
	}
	m := s.message(s.Kind)
	if s.Kind == message.Mass {
		s.checkMass(f)
		m = s.sampleMass()
	}
	open := map[string]bool{} // paths of values that depend on the recipient
	path := string(s.Kind)
	if len(s.Body) == 0 {
		f.add(path, "required: WeChat's own JSON for the call, without touser", "")
		f.spoiled[path] = true
	}
	m.Body = s.sample(f, s.Body, path, open)
	if len(s.Fallback) > 0 {
		m.Fallback = s.sampleFallback(f, open)
	}
	if m.Body == nil {
		f.spoiled[path] = true
		m.Body = json.RawMessage("{}")
	}
	if s.Filtered() && m.Body[0] == '{' {
		filtered := *s
		filtered.Body = m.Body
		m.Body = filtered.filtered()
	}
	for _, e := range found(m.Validate(time.Time{})) {
		if !open[e.Path] {
			f.add(e.Path, withGot(e), "")
		}
	}
}

// checkEnvelope judges what does not depend on the kind.
func (s *Spec) checkEnvelope(f *findings) {
	m := s.message(message.Template)
	m.Body = json.RawMessage("{}")
	for _, e := range found(m.Validate(time.Time{})) {
		if !strings.HasPrefix(e.Path, string(m.Kind)) {
			f.add(e.Path, withGot(e), "")
		}
	}
}

func (s *Spec) message(kind message.Kind) *message.Message {
	return &message.Message{Account: s.Account, Kind: kind, To: "o", Lane: s.Lane, Labels: s.Labels}
}

// sample is a JSON text as the first recipient might get it.
func (s *Spec) sample(f *findings, text json.RawMessage, path string, open map[string]bool) json.RawMessage {
	if len(text) == 0 {
		return nil
	}
	compact, err := message.Compact(text)
	if err != nil {
		for _, e := range found(err) {
			f.add(join(path, e.Path), withGot(e), "")
		}
		return nil
	}
	fn := newFunctions(s.timezone())
	var out []byte
	from, ok := 0, true
	walkStrings(compact, func(at spot) {
		if !strings.Contains(at.text, "{{") {
			return
		}
		full := join(path, at.path)
		if err := fn.check(at); err != nil {
			f.add(full, err.Error(), fn.remedy(err))
			ok = ok && !at.key
		}
		open[full] = true
		out = append(append(out, compact[from:at.from]...), `"1"`...)
		from = at.to
	})
	if !ok {
		return nil
	}
	return append(out, compact[from:]...)
}

// remedy says what there is, where a text asks for what is not.
func (f functions) remedy(err error) string {
	if !strings.HasSuffix(err.Error(), " not defined") {
		return ""
	}
	return "a column is {{.name}}; functions are " + strings.Join(slices.Sorted(maps.Keys(f.list)), ", ")
}

// check says what is wrong with a string's placeholders, whatever the columns are.
func (f functions) check(s spot) error {
	if s.key {
		return errKey
	}
	if _, ok := plainPieces(s.text); ok {
		return nil
	}
	_, err := f.program(s.text)
	return err
}

func (s *Spec) sampleFallback(f *findings, open map[string]bool) *message.Message {
	inside := map[string]bool{}
	text := s.sample(f, s.Fallback, "fallback", inside)
	if text == nil {
		return nil
	}
	maps.Copy(open, inside)
	m, err := message.Parse(text)
	if err != nil {
		for _, e := range found(err) {
			f.add(join("fallback", e.Path), withGot(e), "")
		}
		f.spoiled["fallback"] = true
		return nil
	}
	if m.Key != "" {
		f.add("fallback.key", "leave it out: each recipient's message is one of its own", "")
	}
	if !m.NotBefore.IsZero() || !m.ExpiresAt.IsZero() {
		f.add("fallback", "leave not_before and expires_at out", "a campaign has schedule and expires_after")
		m.NotBefore, m.ExpiresAt = time.Time{}, time.Time{}
	}
	return m
}

func found(err error) message.Invalid {
	invalid, _ := errors.AsType[message.Invalid](err)
	return invalid
}

func withGot(e message.FieldError) string {
	if e.Got == "" {
		return e.Rule
	}
	return e.Rule + " (got " + e.Got + ")"
}
