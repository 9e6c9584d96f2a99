package internal_test

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/hongyan-dispatch/hongyan/outcome"
)

// pairs lists each page with its translation, as paths from this folder.
func pairs(t *testing.T) map[string]string {
	t.Helper()
	english, err := filepath.Glob("../docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]string{"../README.md": "../README.zh-CN.md"}
	for _, page := range english {
		all[page] = filepath.Join("../docs/zh", filepath.Base(page))
	}
	chinese, err := filepath.Glob("../docs/zh/*.md")
	if err != nil {
		t.Fatal(err)
	}
	if want := len(all) - 1; len(chinese) != want {
		t.Errorf("docs/zh has %d pages, want one for each of %d", len(chinese), want)
	}
	return all
}

func read(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

var (
	fence   = regexp.MustCompile("(?ms)^```([^\n]*)\n(.*?)^```$")
	heading = regexp.MustCompile(`(?m)^(#+) (.+)$`)
	label   = regexp.MustCompile(`"[^"]*"`)
	row     = regexp.MustCompile(`(?m)^\|.*\|$`)
)

// block is a fenced block as both languages must have it: of a diagram, all but the words.
func block(found []string) string {
	if found[1] == "mermaid" {
		return label.ReplaceAllString(found[2], `""`)
	}
	return found[1] + "\n" + found[2]
}

// levels are a page's headings without their words, and how many rows of tables stand under each.
func levels(text string) (found []string) {
	text = fence.ReplaceAllString(text, "")
	marks := heading.FindAllStringSubmatchIndex(text, -1)
	for i, m := range marks {
		end := len(text)
		if i+1 < len(marks) {
			end = marks[i+1][0]
		}
		rows := len(row.FindAllString(text[m[1]:end], -1))
		found = append(found, text[m[2]:m[3]]+" "+strings.Repeat("|", rows))
	}
	return found
}

func TestTranslationsAreInStep(t *testing.T) {
	for english, chinese := range pairs(t) {
		a, b := read(t, english), read(t, chinese)
		if x, y := levels(a), levels(b); !slices.Equal(x, y) {
			t.Errorf("%s and %s differ in their headings and rows:\n%q\n%q", english, chinese, x, y)
		}
		x, y := fence.FindAllStringSubmatch(a, -1), fence.FindAllStringSubmatch(b, -1)
		if len(x) != len(y) {
			t.Errorf("%s has %d blocks, %s has %d", english, len(x), chinese, len(y))
			continue
		}
		for i := range x {
			if block(x[i]) != block(y[i]) {
				t.Errorf("%s and %s differ in a block:\n%s\n%s", english, chinese, x[i][2], y[i][2])
			}
		}
	}
}

var link = regexp.MustCompile(`\]\(([^)#:\s]*)(#[^)\s]*)?\)`)

func TestLinksLeadSomewhere(t *testing.T) {
	pages := []string{"../CHANGELOG.md"}
	for english, chinese := range pairs(t) {
		pages = append(pages, english, chinese)
	}
	decisions, _ := filepath.Glob("../docs/adr/*.md") // the pattern is well formed
	for _, page := range append(pages, decisions...) {
		text := read(t, page)
		for _, m := range link.FindAllStringSubmatch(text, -1) {
			target := page
			if m[1] != "" {
				target = filepath.Join(filepath.Dir(page), m[1])
			}
			if _, err := os.Stat(target); err != nil {
				t.Errorf("%s: %s leads nowhere: %v", page, m[0], err)
			} else if m[2] != "" && !slices.Contains(anchors(read(t, target)), m[2]) {
				t.Errorf("%s: %s: no such heading; there are %v", page, m[0], anchors(read(t, target)))
			}
		}
	}
}

var notInAnchor = regexp.MustCompile(`[^\p{L}\p{N} _-]`)

// anchors are the headings of a page as GitHub names them in links.
func anchors(text string) (found []string) {
	for _, m := range heading.FindAllStringSubmatch(fence.ReplaceAllString(text, ""), -1) {
		name := notInAnchor.ReplaceAllString(strings.ToLower(m[2]), "")
		found = append(found, "#"+strings.ReplaceAll(name, " ", "-"))
	}
	return found
}

func TestOperationsExplainsEveryStatusAndReason(t *testing.T) {
	for _, page := range []string{"../docs/operations.md", "../docs/zh/operations.md"} {
		text := read(t, page)
		words := map[string]bool{}
		for _, s := range outcome.Statuses() {
			words[string(s)] = true
		}
		for _, r := range outcome.Reasons() {
			words[string(r)] = true
		}
		for word := range words {
			if !strings.Contains(text, "\n| `"+word+"` |") {
				t.Errorf("%s has no row for %s", page, word)
			}
		}
	}
}
