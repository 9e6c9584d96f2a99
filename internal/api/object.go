package api

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/hongyan-dispatch/hongyan/message"
)

// decodeObject reads a small object of our own into the struct that into points to, as strictly as [message.Parse] reads a
// message: a field that we do not know, also by another case, a key given twice, null, a value of the wrong type, invalid
// UTF-8, or anything behind the object is a finding with its path. encoding/json lets most of these pass in silence.
func decodeObject(text []byte, into any) error {
	var whole json.RawMessage
	if err := json.Unmarshal(text, &whole); err != nil {
		wrong, _ := errors.AsType[*json.SyntaxError](err)
		return message.Invalid{{Rule: fmt.Sprintf("malformed JSON at byte %d: %v", wrong.Offset, wrong)}}
	}
	o := object{into: reflect.ValueOf(into).Elem()}
	d := json.NewDecoder(bytes.NewReader(text))
	if first, _ := d.Token(); first != json.Delim('{') {
		return message.Invalid{{Rule: "want an object", Got: called(whole)}}
	}
	for seen := map[string]bool{}; d.More(); {
		key, _ := d.Token() // the text is JSON
		name, _ := key.(string)
		var value json.RawMessage
		_ = d.Decode(&value)
		switch {
		case strings.ContainsRune(name, utf8.RuneError): // which encoding/json puts in the place of what is none
			o.find("", "a key is not valid UTF-8", "")
		case seen[name]:
			o.find(name, "duplicate key", "")
		default:
			o.member(name, value)
		}
		seen[name] = true
	}
	if o.found != nil {
		return few(o.found)
	}
	return nil
}

// An object is read into a struct.
type object struct {
	into  reflect.Value
	found message.Invalid
}

func (o *object) find(path, rule, got string) {
	o.found = append(o.found, message.FieldError{Path: path, Rule: rule, Got: got})
}

// called is a value's type in words.
func called(value json.RawMessage) string {
	switch bytes.TrimLeft(value, " \t\r\n")[0] {
	case '{':
		return "an object"
	case '[':
		return "a list"
	case '"':
		return "a string"
	case 't', 'f':
		return "true or false"
	case 'n':
		return "null"
	}
	return "a number"
}

func (o *object) member(name string, value json.RawMessage) {
	var known []string
	for i := range o.into.NumField() {
		field, _, _ := strings.Cut(o.into.Type().Field(i).Tag.Get("json"), ",")
		if field == name && name != "-" {
			o.value(name, value, o.into.Field(i))
			return
		}
		if field != "-" {
			known = append(known, field)
		}
	}
	o.find(name, "unknown field; want "+strings.Join(known, ", "), "")
}

// value reads one value, or a list of such.
func (o *object) value(path string, text json.RawMessage, to reflect.Value) {
	is := called(text)
	if to.Kind() == reflect.Slice && is == "a list" {
		var all []json.RawMessage
		_ = json.Unmarshal(text, &all) // it is JSON
		list := reflect.MakeSlice(to.Type(), len(all), len(all))
		for i := range all {
			o.value(fmt.Sprintf("%s[%d]", path, i), all[i], list.Index(i))
		}
		to.Set(list)
		return
	}
	err := json.Unmarshal(text, to.Addr().Interface())
	_, wrongType := errors.AsType[*json.UnmarshalTypeError](err)
	at, isTime := to.Interface().(time.Time)
	var said string
	if is == "a string" {
		_ = json.Unmarshal(text, &said)
	}
	switch {
	case is == "null", wrongType, isTime && is != "a string":
		o.find(path, "want "+wanted(to), is)
	case !utf8.Valid(text):
		o.find(path, "a string is not valid UTF-8", "")
	case strings.ContainsRune(said, utf8.RuneError) && !bytes.ContainsRune(text, utf8.RuneError) && !bytes.Contains(bytes.ToLower(text), []byte(`\ufffd`)):
		o.find(path, "half of a surrogate pair in a string", "") // which encoding/json replaces, too
	case strings.ContainsRune(said, 0):
		o.find(path, "control character U+0000 in a string", "")
	case isTime && (err != nil || at.IsZero()):
		o.find(path, "want RFC 3339 with a time zone, such as 2026-12-01T09:00:00+08:00", quote(said))
	case err != nil: // such as of an id
		o.find(path, strings.TrimPrefix(err.Error(), "json: "), "")
	}
}

// wanted is a field's type in words.
func wanted(to reflect.Value) string {
	switch to.Kind() {
	case reflect.Bool:
		return "true or false"
	case reflect.Int:
		return "a whole number"
	case reflect.Float64:
		return "a number"
	case reflect.Slice:
		return "a list"
	}
	return "a string" // also for a time and an id
}
