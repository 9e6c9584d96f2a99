package campaign

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/hongyan-dispatch/hongyan/message"
)

// A Template is a template's own definition, as WeChat tells it.
type Template struct {
	Title   string
	Content string // with keywords such as {{thing1.DATA}}
}

// keyword finds the keywords of a definition.
var keyword = regexp.MustCompile(`\{\{\s*([^{}\s]+?)\.DATA\s*\}\}`)

// Keywords lists the keywords that a template asks for, in its order.
func (t Template) Keywords() []string {
	var names []string
	for _, found := range keyword.FindAllStringSubmatch(t.Content, -1) {
		if !slices.Contains(names, found[1]) {
			names = append(names, found[1])
		}
	}
	return names
}

// Lint compares a message with the template that it goes by, and lists what WeChat would refuse or show empty: keywords
// that the message lacks, keywords that the template lacks, and values that break the rule of their keyword. A message
// without a template has nothing to compare.
func Lint(def Template, m *message.Message) []string {
	if m.Kind != message.Template && m.Kind != message.Subscribe {
		return nil
	}
	var list []string
	given := keywordsOf(m)
	want := def.Keywords()
	for _, name := range want {
		if !slices.Contains(given, name) {
			list = append(list, fmt.Sprintf("%s: the template %q asks for it and the message has none", name, def.Title))
		}
	}
	for _, name := range given {
		if !slices.Contains(want, name) {
			list = append(list, fmt.Sprintf("%s: the template %q has no such keyword; it has %s", name, def.Title, strings.Join(want, ", ")))
		}
	}
	data := string(m.Kind) + ".data."
	alone := *m
	alone.Fallback = nil
	for _, e := range found(alone.Validate(time.Time{})) {
		if rest, ok := strings.CutPrefix(e.Path, data); ok {
			list = append(list, strings.TrimSuffix(rest, ".value")+": "+withGot(e))
		}
	}
	return list
}

// keywordsOf lists the keywords that a message fills.
func keywordsOf(m *message.Message) (names []string) {
	walkStrings(m.Body, func(s spot) {
		if s.key && s.path == "data" {
			names = append(names, s.text)
		}
	})
	return names
}
