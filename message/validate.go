package message

import (
	"bytes"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// Rules are those limits of a message that an installation may set. The zero value has the defaults.
type Rules struct {
	// CustomTextBytes bounds the text of a customer-service message. WeChat documents no number; 2048 (the
	// default) is reported for its passive replies, with 45002 beyond.
	CustomTextBytes int
	// Ahead is how far in the future not_before may lie; 30 days by default.
	Ahead time.Duration
	// MaxList is how many openids a mass send may name; a million by default.
	MaxList int
}

const (
	defaultCustomTextBytes = 2048
	defaultAhead           = 30 * 24 * time.Hour
)

// Bounds of the envelope, beside those in message.go.
const (
	maxOpenIDBytes    = 64 // usually 28
	maxAccountBytes   = 64
	maxLabelNameBytes = 64
	maxLabelBytes     = 255
)

// Validate checks all of the message, as of now, with the default [Rules]. The error is of type
// [Invalid] and holds every finding.
func (m *Message) Validate(now time.Time) error { return Rules{}.Validate(m, now) }

// Validate checks all of m, as of now. The error is of type [Invalid] and holds every finding. m is not
// changed; a Body that is not in the form of [Compact] is refused ([Message.Defaults] brings it there).
func (r Rules) Validate(m *Message, now time.Time) error {
	c := checker{rules: r}
	c.path = make(path, 0, 8)
	c.account(m.Account)
	filtered := c.content(m)
	c.recipients(m, filtered)
	c.envelope(m, now)
	if m.Fallback != nil {
		c.fallback(m, now)
	}
	return c.err()
}

func (r Rules) customTextBytes() int { return orDefault(r.CustomTextBytes, defaultCustomTextBytes) }
func (r Rules) ahead() time.Duration { return orDefault(r.Ahead, defaultAhead) }
func (r Rules) maxList() int         { return orDefault(r.MaxList, maxMassList) }

func orDefault[T int | time.Duration](set, otherwise T) T {
	if set > 0 {
		return set
	}
	return otherwise
}

// Defaults fills in what the producer left open: the lane, which is bulk in a batch and normal
// otherwise (a fallback takes its message's), and a Body made by other means than [Parse] is brought into
// the form of [Compact], if it can be.
func (m *Message) Defaults(batch bool) {
	if m.Lane == "" {
		m.Lane = Normal
		if batch {
			m.Lane = Bulk
		}
	}
	m.compactBody()
	if m.Fallback != nil {
		if m.Fallback.Lane == "" {
			m.Fallback.Lane = m.Lane
		}
		m.Fallback.Defaults(batch)
	}
}

func (m *Message) compactBody() {
	if tight(m.Body) {
		return
	}
	c := newCompactor(m.Body)
	defer c.free()
	if c.wholeObject(); !c.failed && !bytes.Equal(c.out, m.Body) {
		m.Body = bytes.Clone(c.out)
	}
}

// tight says that there is nothing for [Compact] to take out of body, as in all that [Parse] made but for strings
// with an escape. It leaps over strings, which makes it far quicker than a walk.
func tight(body []byte) bool {
	if bytes.IndexByte(body, '\\') >= 0 {
		return false
	}
	for inString := false; ; inString = !inString {
		n := bytes.IndexByte(body, '"')
		if n < 0 {
			n = len(body)
		}
		if !inString && hasSpace(body[:n]) {
			return false
		}
		if n == len(body) {
			return true
		}
		body = body[n+1:]
	}
}

// Recipient is to whom the message goes, as reports say it: an openid, list:N, tag:ID or all.
func (m *Message) Recipient() string {
	switch {
	case m.Kind != Mass:
		return string(m.To)
	case m.List != nil:
		return "list:" + strconv.Itoa(len(m.List))
	default:
		return massRange(m.Body)
	}
}

func (c *checker) account(name string) {
	switch {
	case name == "":
		c.findIn("account", "required: the account's name in the configuration, or its appid", "")
	case len(name) > maxAccountBytes || !printable(name) || strings.Contains(name, " "):
		c.findIn("account", fmt.Sprintf("at most %d printable bytes without spaces", maxAccountBytes), quoted(name))
	}
}

// content checks kind and body, and says whether a mass send has a filter.
func (c *checker) content(m *Message) (filtered bool) {
	limit := MaxBytes
	if m.Kind == Mass {
		limit = MaxMassBytes
	}
	if sh := shapeOf(m.Kind); sh == nil {
		c.findIn("kind", "want one of "+join(Kinds()), quoted(m.Kind))
		return false
	}
	c.path.push(string(m.Kind))
	defer c.path.pop()
	switch {
	case len(m.Body) == 0:
		c.find("required: WeChat's own JSON for the call, without touser", "")
	case len(m.Body) > limit:
		c.find(fmt.Sprintf("at most %d KiB", limit>>10), fmt.Sprintf("%d bytes", len(m.Body)))
	case c.compact(m.Body):
		return c.body(m.Kind, m.Body)
	}
	return false
}

func shapeOf(kind Kind) shape {
	switch kind {
	case Template:
		return templateShape
	case Subscribe:
		return subscribeShape
	case Custom:
		return customShape
	case Mass:
		return massShape
	}
	return nil
}

// compact checks that the body is strict JSON in our form, which what follows relies upon.
func (c *checker) compact(body []byte) bool {
	again := newCompactor(body)
	defer again.free()
	again.path = append(again.path, c.path...)
	again.wholeObject()
	switch {
	case again.failed:
		c.found = append(c.found, again.found...)
	case !bytes.Equal(again.out, body):
		c.find("must be compact UTF-8 without needless escapes, as message.Compact writes it", "")
	default:
		return true
	}
	return false
}

func (c *checker) body(kind Kind, body []byte) (filtered bool) {
	c.in, c.at = body, 0
	switch kind {
	case Custom:
		c.typed(customShape)
	case Mass:
		return c.typed(massShape)&hasFilter != 0
	default:
		c.object(shapeOf(kind))
	}
	return false
}

func (c *checker) recipients(m *Message, filtered bool) {
	switch {
	case m.Kind == Mass:
		c.massRecipients(m, filtered)
	case m.List != nil:
		c.findIn("to", "want one openid; a list is for mass", "a list")
	case m.To == "":
		c.findIn("to", "required: the user's openid", "")
	default:
		c.path.push("to")
		c.openid(m.To)
		c.path.pop()
	}
}

// Check says what is wrong with the openid's shape, if anything; who is behind it, WeChat knows.
func (o OpenID) Check() error {
	var c checker
	c.openid(o)
	return c.err()
}

// openid checks the shape alone: who is behind it, WeChat knows.
func (c *checker) openid(o OpenID) {
	if o == "" || len(o) > maxOpenIDBytes {
		c.find(fmt.Sprintf("an openid has 1 to %d characters", maxOpenIDBytes), strconv.Itoa(len(o)))
		return
	}
	for i := range len(o) {
		if ch := o[i]; !isDigit(ch) && ch != '-' && ch != '_' && (ch|0x20 < 'a' || 'z' < ch|0x20) {
			r, _ := utf8.DecodeRuneInString(string(o[i:]))
			c.find("an openid has only letters, digits, - and _", fmt.Sprintf("%q at %d", r, i+1))
			return
		}
	}
}

// envelope checks what a message and a fallback both have.
func (c *checker) envelope(m *Message, now time.Time) {
	if len(m.Key) > MaxKeyBytes {
		c.findIn("key", fmt.Sprintf("at most %d bytes", MaxKeyBytes), strconv.Itoa(len(m.Key)))
	} else if !printable(m.Key) {
		c.findIn("key", "only printable characters", quoted(m.Key))
	}
	switch m.Lane {
	case "", Urgent, Normal, Bulk:
	default:
		c.findIn("lane", "want one of "+join(Lanes()), quoted(m.Lane))
	}
	c.times(m.NotBefore, m.ExpiresAt, now)
	c.labels(m.Labels)
}

func (c *checker) times(notBefore, expiresAt, now time.Time) {
	if ahead := c.rules.ahead(); notBefore.After(now.Add(ahead)) {
		c.findIn("not_before", "at most "+days(ahead)+" ahead", notBefore.Format(time.RFC3339))
	}
	switch {
	case expiresAt.IsZero():
	case !expiresAt.After(now):
		c.findIn("expires_at", "must be in the future", expiresAt.Format(time.RFC3339))
	case !expiresAt.After(notBefore):
		c.findIn("expires_at", "must be after not_before", expiresAt.Format(time.RFC3339))
	}
}

func days(d time.Duration) string {
	if n := d / (24 * time.Hour); d%(24*time.Hour) == 0 {
		return fmt.Sprintf("%d days", n)
	}
	return d.String()
}

func (c *checker) labels(labels map[string]string) {
	c.path.push("labels")
	defer c.path.pop()
	if len(labels) > MaxLabels {
		c.find(fmt.Sprintf("at most %d", MaxLabels), strconv.Itoa(len(labels)))
		return
	}
	var bad []string
	for name, value := range labels {
		if !validLabelName(name) || !validLabel(value) {
			bad = append(bad, name)
		}
	}
	slices.Sort(bad) // an error says the same every time
	for _, name := range bad {
		c.path.pushKey([]byte(name))
		if !validLabelName(name) {
			c.find(fmt.Sprintf("a label's name has 1 to %d printable bytes", maxLabelNameBytes), "")
		}
		if value := labels[name]; !validLabel(value) {
			c.find(fmt.Sprintf("at most %d printable bytes", maxLabelBytes), strconv.Itoa(len(value)))
		}
		c.path.pop()
	}
}

func validLabelName(name string) bool {
	return name != "" && len(name) <= maxLabelNameBytes && printable(name)
}

func validLabel(value string) bool { return len(value) <= maxLabelBytes && printable(value) }

// fallback checks the message that goes instead. WeChat's window closes on customer-service messages only.
func (c *checker) fallback(m *Message, now time.Time) {
	c.path.push("fallback")
	defer c.path.pop()
	f := m.Fallback
	if m.Kind != Custom {
		c.find("only a custom message can have a fallback", "")
		return
	}
	if f.Kind == Mass {
		c.findIn("kind", "want one of template, subscribe, custom", quoted(f.Kind))
		return
	}
	c.content(f)
	if f.Account != "" {
		c.findIn("account", "leave it out of a fallback", "")
	}
	if f.To != "" || f.List != nil {
		c.findIn("to", "leave it out of a fallback", "")
	}
	if f.Fallback != nil {
		c.findIn("fallback", "leave it out of a fallback", "")
	}
	if f.Key != "" && f.Key == m.Key {
		c.findIn("key", "must differ from the message's own key", "")
	}
	c.envelope(f, now)
}

// printable says whether text is valid UTF-8 that shows on one line.
func printable(text string) bool {
	ascii := true
	for i := range len(text) {
		switch c := text[i]; {
		case c < ' ' || c == 0x7f:
			return false
		case c >= utf8.RuneSelf:
			ascii = false
		}
	}
	return ascii || utf8.ValidString(text) && strings.IndexFunc(text, notPrinted) < 0
}

func notPrinted(r rune) bool { return !unicode.IsPrint(r) }
