package message_test

import (
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/hongyan-dispatch/hongyan/message"
)

// example is a fenced block of a page that claims to be a message.
var example = regexp.MustCompile("(?ms)^```json message\n(.*?)^```$")

// pages are where messages are shown; their translations are compared with them elsewhere.
var pages = map[string]int{"../docs/messages.md": 7, "../README.md": 1}

func TestDocumentedMessagesAreValid(t *testing.T) {
	for page, want := range pages {
		text, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		found := example.FindAllSubmatch(text, -1)
		if len(found) < want {
			t.Errorf("%s: %d messages, want at least %d", page, len(found), want)
		}
		for _, block := range found {
			m, err := message.Parse(block[1])
			if err == nil {
				m.Defaults(false)
				err = m.Validate(now)
			}
			if err != nil {
				t.Errorf("%s: %v, in\n%s", page, err, block[1])
			}
		}
	}
}

func TestDocumentedFindingIsFound(t *testing.T) {
	text, err := os.ReadFile("../docs/messages.md")
	if err != nil {
		t.Fatal(err)
	}
	first := string(example.FindSubmatch(text)[1])
	long := strings.Replace(first, "明前龙井 250g", "西湖龙井明前特级礼盒两罐装赠茶具一套包邮到家", 1)
	m, err := message.Parse([]byte(long))
	if err != nil {
		t.Fatal(err)
	}
	finding := m.Validate(now)
	if finding == nil || !strings.Contains(string(text), "`"+finding.Error()+"`") {
		t.Errorf("docs/messages.md does not show the finding %q", finding)
	}
}
