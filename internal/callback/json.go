package callback

import (
	"bytes"
	"encoding/json"
	"strings"
	"unicode/utf8"
)

// parseJSON reads the JSON form into the same tree as [parseXML]: what WeChat gives as an object where there is one
// and as an array where there are several (List) is one child, or several.
func parseJSON(body []byte) (*node, error) {
	if !utf8.Valid(body) || !json.Valid(body) { // token by token, the decoder itself is more lenient
		return nil, errMalformed
	}
	d := json.NewDecoder(bytes.NewReader(body))
	d.UseNumber() // a MsgID is beyond what a float64 holds
	r := jsonReader{d: d}
	if t, err := d.Token(); err != nil || t != json.Delim('{') {
		return nil, errMalformed
	}
	if err := r.open("", false); err != nil {
		return nil, err
	}
	if err := r.members(); err != nil {
		return nil, err
	}
	return r.shut(), nil
}

type jsonReader struct {
	builder
	d *json.Decoder
}

// members reads the rest of an object into the open element.
func (r *jsonReader) members() error {
	for r.d.More() {
		t, err := r.d.Token()
		name, ok := t.(string)
		if err != nil || !ok {
			return errMalformed
		}
		if name == "" || strings.ContainsRune(name, 0) {
			return errForbidden
		}
		if r.top().has(name) { // of arrays, too: "List" twice is no list
			return errDuplicate
		}
		if err := r.value(name, false); err != nil {
			return err
		}
	}
	return r.end()
}

// value reads a member's value; within says that it stands in an array.
func (r *jsonReader) value(name string, within bool) error {
	t, err := r.d.Token()
	if err != nil {
		return errMalformed
	}
	if t == json.Delim('[') {
		if within {
			return errDepth // lists of lists are nothing of WeChat's
		}
		for r.d.More() {
			if err := r.value(name, true); err != nil {
				return err
			}
		}
		return r.end()
	}
	if err := r.open(name, within); err != nil {
		return err
	}
	defer r.shut()
	switch t := t.(type) {
	case json.Delim:
		return r.members()
	case string:
		if strings.ContainsRune(t, 0) { // Postgres keeps none
			return errForbidden
		}
		r.top().text = t
	case json.Number:
		r.top().text = t.String()
	case bool:
		if r.top().text = "false"; t {
			r.top().text = "true"
		}
	}
	return nil
}

// end reads a closing brace or bracket.
func (r *jsonReader) end() error {
	if _, err := r.d.Token(); err != nil {
		return errMalformed
	}
	return nil
}
