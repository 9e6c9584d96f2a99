package callback

import (
	"bytes"
	"encoding/xml"
	"errors"
	"io"
	"strings"
)

// parseXML reads the XML form. It is stricter than encoding/xml, which accepts a DOCTYPE, takes the last of two equal
// elements and never looks behind the first document: two readers of such a body could understand two things.
func parseXML(body []byte) (*node, error) {
	d := xml.NewDecoder(bytes.NewReader(body))
	var b builder
	var root *node
	for first := true; ; first = false {
		token, err := d.RawToken()
		if errors.Is(err, io.EOF) && root != nil && len(b.path) == 0 {
			return root, nil
		}
		if err != nil {
			return nil, errMalformed
		}
		switch t := token.(type) {
		case xml.StartElement:
			err = startXML(&b, t, root != nil)
		case xml.EndElement:
			if len(b.path) == 0 || b.top().name != t.Name.Local || t.Name.Space != "" {
				return nil, errMalformed
			}
			var n *node
			if n, err = endXML(&b); len(b.path) == 0 {
				root = n
			}
		case xml.CharData:
			err = textXML(&b, string(t), root != nil)
		case xml.ProcInst:
			err = declaration(t, first)
		default: // xml.Directive, which a DOCTYPE is, and xml.Comment
			err = errNotData
		}
		if err != nil {
			return nil, err
		}
	}
}

func startXML(b *builder, t xml.StartElement, over bool) error {
	if over {
		return errTrailing
	}
	if t.Name.Space != "" || len(t.Attr) > 0 {
		return errNotData
	}
	return b.open(t.Name.Local, false)
}

func endXML(b *builder) (*node, error) {
	n := b.shut()
	if len(n.children) == 0 {
		return n, nil
	}
	if strings.TrimSpace(n.text) != "" {
		return nil, errMixed
	}
	n.text = ""
	return n, nil
}

func textXML(b *builder, text string, over bool) error {
	switch {
	case len(b.path) > 0:
		b.top().text += text
	case strings.TrimSpace(text) == "":
	case over:
		return errTrailing
	default:
		return errMalformed
	}
	return nil
}

// declaration accepts <?xml version="1.0" encoding="utf-8"?> at the very start; the decoder itself has refused
// other encodings by then.
func declaration(t xml.ProcInst, first bool) error {
	if !first || t.Target != "xml" {
		return errNotData
	}
	return nil
}
