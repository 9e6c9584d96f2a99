package campaign

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/hongyan-dispatch/hongyan/message"
)

// json reads an object of WeChat's: it becomes JSON, in its order.
func (p *parser) json(to *json.RawMessage) reader {
	return func(n *yaml.Node, path string) {
		if target(n).Kind != yaml.MappingNode {
			p.spoil(path, "want an object", "")
			return
		}
		t := tree{parser: p}
		if err := t.value(n, path, 0); err != nil {
			p.spoil(path, err.Error(), "")
			return
		}
		*to = t.out
	}
}

// A tree writes YAML as JSON.
type tree struct {
	*parser
	out []byte
}

// Bounds of a tree: an alias may stand for much, and for what it stands in.
var (
	errTreeSize  = fmt.Errorf("at most %d KiB", message.MaxBytes>>10)
	errTreeDepth = errors.New("nested deeper than 32")
)

const maxTreeDepth = 32

func (t *tree) value(n *yaml.Node, path string, depth int) error {
	switch n = target(n); {
	case len(t.out) > message.MaxBytes:
		return errTreeSize
	case depth > maxTreeDepth:
		return errTreeDepth
	case n.Kind == yaml.MappingNode:
		return t.object(n, path, depth)
	case n.Kind == yaml.SequenceNode:
		t.out = append(t.out, '[')
		for i, item := range n.Content {
			at := fmt.Sprintf("%s[%d]", path, i)
			t.begin(i, item, at)
			if err := t.value(item, at, depth+1); err != nil {
				return err
			}
		}
		t.out = append(t.out, ']')
		return nil
	}
	t.scalar(n, path)
	return nil
}

func (t *tree) object(n *yaml.Node, path string, depth int) error {
	t.out = append(t.out, '{')
	for i := 0; i+1 < len(n.Content); i += 2 {
		key := n.Content[i]
		if key.Kind != yaml.ScalarNode || key.ShortTag() == "!!merge" {
			return fmt.Errorf("line %d: want a name before the colon", key.Line)
		}
		at := join(path, key.Value)
		t.begin(i, key, at)
		t.quoted(key.Value)
		t.out = append(t.out, ':')
		if err := t.value(n.Content[i+1], at, depth+1); err != nil {
			return err
		}
	}
	t.out = append(t.out, '}')
	return nil
}

// begin begins a member or an element, and notes where it stands.
func (t *tree) begin(i int, n *yaml.Node, path string) {
	if i > 0 {
		t.out = append(t.out, ',')
	}
	t.lines[path] = n.Line
}

// scalar writes a number as it is written, if JSON has it so too.
func (t *tree) scalar(n *yaml.Node, path string) {
	switch n.ShortTag() {
	case "!!int", "!!float":
		if !json.Valid([]byte(n.Value)) {
			t.add(path, fmt.Sprintf("%q is no number in JSON", n.Value), "write it in quotes, or as digits")
			t.quoted(n.Value)
			return
		}
		t.out = append(t.out, n.Value...)
	case "!!bool":
		if b := strings.ToLower(n.Value); b != "true" && b != "false" {
			t.quoted(n.Value) // yes and no are texts
		} else {
			t.out = append(t.out, b...)
		}
	case "!!null":
		t.out = append(t.out, "null"...)
	default: // a date is a text
		t.quoted(n.Value)
	}
}

func (t *tree) quoted(text string) {
	t.out = append(t.out, '"')
	t.out = appendEscaped(t.out, text)
	t.out = append(t.out, '"')
}
