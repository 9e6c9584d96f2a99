package config

import (
	"fmt"
	"math"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
)

// A decoder lays the keys of a YAML tree over structs. It does by hand what yaml's own strict decoding
// does, because that one stops short of what its reader needs: it names Go types instead of paths,
// takes the number 5 for a duration of 5 ns, and puts values into its messages, be they secrets.
type decoder struct {
	file     string
	env      Env
	override map[string]override // by path
	lines    map[string]int      // path → line
	spoiled  map[string]bool     // paths whose value could not be read; no rule is asked about them
	found    []Finding
}

// An override is a value of the environment that goes before the file's.
type override struct{ variable, value string }

func (d *decoder) add(path, rule, remedy string) {
	d.spoiled[path] = true
	f := Finding{File: d.file, Line: d.line(path), Path: path, Rule: rule, Remedy: remedy}
	if o, ok := d.override[path]; ok {
		f.File, f.Line, f.Path = "", 0, o.variable
	}
	d.found = append(d.found, f)
}

// line is that of the path, or of the nearest one above that stands in the file.
func (d *decoder) line(path string) int {
	for path != "" {
		if n, ok := d.lines[path]; ok {
			return n
		}
		path = path[:max(strings.LastIndexAny(path, ".["), 0)]
	}
	return 0
}

func (d *decoder) value(n *yaml.Node, v reflect.Value, path, oneOf string) {
	if n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	if _, ok := d.override[path]; ok || n.Kind == yaml.ScalarNode && n.ShortTag() == "!!null" {
		return
	}
	switch v.Interface().(type) {
	case Secret, time.Duration:
		d.scalar(n, v, path, oneOf)
		return
	}
	switch v.Kind() {
	case reflect.Struct:
		d.mapping(n, v, path)
	case reflect.Slice:
		d.list(n, v, path)
	default:
		d.scalar(n, v, path, oneOf)
	}
}

func (d *decoder) mapping(n *yaml.Node, v reflect.Value, path string) {
	if n.Kind != yaml.MappingNode {
		d.add(path, "want keys and values, got "+kindOf(n), "")
		return
	}
	if a, ok := v.Addr().Interface().(*Account); ok { // its defaults depend on its type
		accountType := scalarAt(n, "type")
		if text, err := expand(accountType, d.env); err == nil {
			accountType = text
		}
		*a = DefaultAccount(accountType)
	}
	d.keys(n, v, path)
}

// keys lays the mapping n over the struct v; what << merges goes first, so that n's own keys win.
func (d *decoder) keys(n *yaml.Node, v reflect.Value, path string) {
	for key, value := range pairs(n) {
		if key.ShortTag() == "!!merge" {
			for _, merged := range mergedBy(value) {
				d.keys(merged, v, path)
			}
		}
	}
	seen := map[string]bool{}
	for key, value := range pairs(n) {
		if key.ShortTag() == "!!merge" {
			continue
		}
		at := join(path, key.Value)
		field, known := fieldOf(v.Type(), key.Value)
		d.lines[at] = key.Line
		switch {
		case seen[key.Value]:
			d.add(at, "the key stands here twice", "keep one")
		case !known || key.Kind != yaml.ScalarNode:
			d.add(at, "unknown key", "known here: "+strings.Join(keysOf(v.Type()), ", "))
		default:
			d.value(value, v.FieldByIndex(field.Index), at, field.Tag.Get("oneof"))
		}
		seen[key.Value] = true
	}
}

func (d *decoder) list(n *yaml.Node, v reflect.Value, path string) {
	if n.Kind != yaml.SequenceNode {
		d.add(path, "want a list, got "+kindOf(n), "")
		return
	}
	v.Set(reflect.MakeSlice(v.Type(), len(n.Content), len(n.Content)))
	for i, item := range n.Content {
		at := fmt.Sprintf("%s[%d]", path, i)
		d.lines[at] = item.Line
		d.value(item, v.Index(i), at, "")
	}
}

func (d *decoder) scalar(n *yaml.Node, v reflect.Value, path, oneOf string) {
	if n.Kind != yaml.ScalarNode {
		d.add(path, "want one value, got "+kindOf(n), "")
		return
	}
	text, err := expand(n.Value, d.env)
	if err != nil {
		d.add(path, err.Error(), "")
		return
	}
	if rule := set(v, text); rule != "" {
		d.add(path, rule, "")
		return
	}
	if oneOf != "" && !slices.Contains(strings.Split(oneOf, ","), text) {
		d.add(path, fmt.Sprintf("unknown value %q", text), "one of: "+strings.ReplaceAll(oneOf, ",", ", "))
	}
}

// set parses text into v, or returns the rule that text breaks.
func set(v reflect.Value, text string) (rule string) {
	switch v.Interface().(type) {
	case Secret:
		v.Set(reflect.ValueOf(NewSecret(text)))
		return ""
	case time.Duration:
		t, err := time.ParseDuration(text)
		if err != nil {
			return fmt.Sprintf("%q is no duration such as 10s, 5m or 48h", text)
		}
		v.SetInt(int64(t))
		return ""
	}
	switch v.Kind() {
	case reflect.String:
		v.SetString(text)
	case reflect.Bool:
		if text != "true" && text != "false" {
			return fmt.Sprintf("%q is neither true nor false", text)
		}
		v.SetBool(text == "true")
	case reflect.Int, reflect.Int64:
		i, err := strconv.ParseInt(strings.ReplaceAll(text, "_", ""), 10, 64)
		if err != nil {
			return fmt.Sprintf("%q is no whole number", text)
		}
		v.SetInt(i)
	case reflect.Float64:
		f, err := strconv.ParseFloat(text, 64)
		if err != nil || math.IsNaN(f) || math.IsInf(f, 0) {
			return fmt.Sprintf("%q is no number", text)
		}
		v.SetFloat(f)
	default:
		panic("config: no rule for a field of type " + v.Type().String())
	}
	return ""
}
