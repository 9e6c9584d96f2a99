package message_test

import (
	"bufio"
	"os"
	"path/filepath"
	"testing"

	"github.com/hongyan-dispatch/hongyan/message"
)

// The files of examples/ are what users edit and send, and what the demo runs.
func TestExamplesAreValid(t *testing.T) {
	files, err := filepath.Glob("../examples/*.jsonl")
	if err != nil || len(files) < 4 {
		t.Fatalf("examples: %v, %v", files, err)
	}
	kinds := map[string]message.Kind{"notices.jsonl": message.Subscribe, "orders.jsonl": message.Template, "replies.jsonl": message.Custom, "mass.jsonl": message.Mass}
	keys := map[string]string{}
	for _, name := range files {
		f, err := os.Open(name)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		lines := bufio.NewScanner(f)
		n := 0
		for lines.Scan() {
			n++
			m, err := message.Parse(lines.Bytes())
			if err == nil {
				m.Defaults(true)
				err = m.Validate(now)
			}
			if err != nil {
				t.Errorf("%s:%d: %v", name, n, err)
				continue
			}
			if m.Account != "shop" && m.Account != "club" {
				t.Errorf("%s:%d: account %s is not of the demo", name, n, m.Account)
			}
			if want, ok := kinds[filepath.Base(name)]; ok && m.Kind != want {
				t.Errorf("%s:%d: a %s message among %s", name, n, m.Kind, want)
			}
			for _, m := range []*message.Message{m, m.Fallback} {
				if m == nil {
					continue
				}
				if other, twice := keys[m.Key]; twice && m.Key != "" {
					t.Errorf("%s:%d: the key %s stands in %s too", name, n, m.Key, other)
				}
				keys[m.Key] = name
			}
		}
		if err := lines.Err(); err != nil || n < 20 || n > 40 {
			t.Errorf("%s: %d lines (%v), want 20 to 40", name, n, err)
		}
	}
}
