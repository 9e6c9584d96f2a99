package wechattest

import (
	"encoding/json"
	"strconv"
	"strings"
)

// A node is one element of a push. It has a text, a number or children.
type node struct {
	name     string
	text     string
	isNumber bool // in the XML form without CDATA, in the JSON form without quotes
	children []node
	isList   bool // children repeat under one name, which is theirs: elements of the XML form, an array of the JSON form
}

func textNode(name, s string) node { return node{name: name, text: s} }

func numberNode(name string, n int64) node {
	return node{name: name, text: strconv.FormatInt(n, 10), isNumber: true}
}

func group(name string, children ...node) node { return node{name: name, children: children} }

// list is a node whose children are items of one name.
func list(name string, items []node) node { return node{name: name, children: items, isList: true} }

// write gives nodes the form of a whole body.
func (f CallbackForm) write(nodes []node) []byte {
	var b strings.Builder
	if f == JSONForm {
		writeJSONNodes(&b, nodes)
	} else {
		b.WriteString("<xml>")
		writeXMLNodes(&b, nodes)
		b.WriteString("</xml>")
	}
	return []byte(b.String())
}

func writeXMLNodes(b *strings.Builder, nodes []node) {
	for _, n := range nodes {
		b.WriteString("<" + n.name + ">")
		switch {
		case n.children != nil || n.isList:
			writeXMLNodes(b, n.children)
		case n.isNumber:
			b.WriteString(n.text)
		default:
			// A CDATA section ends at the first "]]>", which is therefore split over two.
			b.WriteString("<![CDATA[" + strings.ReplaceAll(n.text, "]]>", "]]]]><![CDATA[>") + "]]>")
		}
		b.WriteString("</" + n.name + ">")
	}
}

func writeJSONNodes(b *strings.Builder, nodes []node) {
	b.WriteByte('{')
	for i, n := range nodes {
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteString(jsonText(n.name) + ":")
		writeJSONNode(b, n)
	}
	b.WriteByte('}')
}

func writeJSONNode(b *strings.Builder, n node) {
	switch {
	case n.isList && n.oneName() == "List":
		b.WriteString(`{"List":`) // an object where there is one, an array of several
		if len(n.children) == 1 {
			writeJSONNodes(b, n.children[0].children)
		} else {
			writeJSONArray(b, n.children)
		}
		b.WriteByte('}')
	case n.isList:
		writeJSONArray(b, n.children)
	case n.children != nil:
		writeJSONNodes(b, n.children)
	case n.isNumber:
		b.WriteString(n.text)
	default:
		b.WriteString(jsonText(n.text))
	}
}

func (n node) oneName() string {
	if len(n.children) == 0 {
		return ""
	}
	return n.children[0].name
}

func writeJSONArray(b *strings.Builder, items []node) {
	b.WriteByte('[')
	for i, item := range items {
		if i > 0 {
			b.WriteByte(',')
		}
		writeJSONNodes(b, item.children)
	}
	b.WriteByte(']')
}

func jsonText(s string) string {
	var b strings.Builder
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	_ = e.Encode(s) // a string is always encoded
	return strings.TrimSuffix(b.String(), "\n")
}
