package callback

import "errors"

// What a push may be at most. WeChat's largest known one, MASSSENDJOBFINISH for eight articles, has 120 elements in
// five levels and takes some 5 KB.
const (
	MaxBody     = 64 << 10 // bytes of a request's body
	maxDepth    = 8
	maxElements = 256
)

// The ways in which a body is not one of WeChat's. None quotes the body.
var (
	errMalformed  = errors.New("body is neither XML nor JSON")
	errDepth      = errors.New("body is nested too deep")
	errElements   = errors.New("body has too many elements")
	errDuplicate  = errors.New("body has an element twice")
	errTrailing   = errors.New("body goes on behind its end")
	errNotData    = errors.New("body has a directive, comment, namespace or processing instruction")
	errMixed      = errors.New("body mixes text and elements")
	errForbidden  = errors.New("body has a character that no text may hold")
	errTooLarge   = errors.New("body is larger than 64 KiB")
	errIncomplete = errors.New("push lacks MsgType")
	errNoTime     = errors.New("push has no usable CreateTime")
	errNumber     = errors.New("push has text where a number belongs")
)

// A node is an element of a body, of its XML or of its JSON form: it has a text or children. What repeats (List, item)
// is several children of one name in both forms.
type node struct {
	name     string
	text     string
	children []*node
}

// child is the first child of a name, or an empty node.
func (n *node) child(name string) *node {
	for _, c := range n.children {
		if c.name == name {
			return c
		}
	}
	return &node{}
}

// has says whether there is a child of a name.
func (n *node) has(name string) bool { return n.child(name).name != "" }

// get is the text of a child, empty without one.
func (n *node) get(name string) string { return n.child(name).text }

// all are the children of a name.
func (n *node) all(name string) []*node {
	var found []*node
	for _, c := range n.children {
		if c.name == name {
			found = append(found, c)
		}
	}
	return found
}

// A Form is how a body is written.
type Form string

// The forms. Official Accounts get XML; where the account stands in cloud hosting (云托管) JSON may be chosen.
const (
	XML  Form = "xml"
	JSON Form = "json"
)

// parse reads a body of either form, told by its first byte.
func parse(body []byte) (*node, Form, error) {
	if len(body) > MaxBody {
		return nil, "", errTooLarge
	}
	for _, c := range body {
		switch c {
		case ' ', '\t', '\r', '\n':
			continue
		case '<':
			root, err := parseXML(body)
			return root, XML, err
		case '{':
			root, err := parseJSON(body)
			return root, JSON, err
		}
		break
	}
	return nil, "", errMalformed
}

// A builder grows the tree of a body, of any form, inside the bounds.
type builder struct {
	path     []*node // from the root to the element that is open
	elements int
}

// open begins an element. Repeated says that the form itself tells a list, as JSON's arrays do.
func (b *builder) open(name string, repeated bool) error {
	if b.elements++; b.elements > maxElements {
		return errElements
	}
	if len(b.path) >= maxDepth {
		return errDepth
	}
	n := &node{name: name}
	if len(b.path) > 0 {
		parent := b.path[len(b.path)-1]
		if !repeated && name != "List" && name != "item" && parent.has(name) {
			return errDuplicate
		}
		parent.children = append(parent.children, n)
	}
	b.path = append(b.path, n)
	return nil
}

// top is the open element.
func (b *builder) top() *node { return b.path[len(b.path)-1] }

// shut ends the open element and returns it.
func (b *builder) shut() *node {
	n := b.top()
	b.path = b.path[:len(b.path)-1]
	return n
}
