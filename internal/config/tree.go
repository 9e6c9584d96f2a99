package config

import (
	"iter"
	"reflect"

	"go.yaml.in/yaml/v3"
)

// pairs are the keys and values of a mapping, in the order of the file.
func pairs(n *yaml.Node) iter.Seq2[*yaml.Node, *yaml.Node] {
	return func(yield func(key, value *yaml.Node) bool) {
		for i := 0; i+1 < len(n.Content); i += 2 {
			if !yield(n.Content[i], n.Content[i+1]) {
				return
			}
		}
	}
}

// mergedBy lists the mappings that the value of a << key stands for, the weakest first.
func mergedBy(n *yaml.Node) []*yaml.Node {
	switch n.Kind {
	case yaml.AliasNode:
		return mergedBy(n.Alias)
	case yaml.MappingNode:
		return []*yaml.Node{n}
	case yaml.SequenceNode:
		var all []*yaml.Node
		for _, item := range n.Content {
			all = append(mergedBy(item), all...)
		}
		return all
	}
	return nil
}

// scalarAt is the text under a key of a mapping, its merged mappings included; empty where there is none.
func scalarAt(n *yaml.Node, name string) (text string) {
	for key, value := range pairs(n) {
		if key.ShortTag() != "!!merge" {
			continue
		}
		for _, merged := range mergedBy(value) {
			if t := scalarAt(merged, name); t != "" {
				text = t
			}
		}
	}
	for key, value := range pairs(n) {
		if value.Kind == yaml.AliasNode {
			value = value.Alias
		}
		if key.Value == name && value.Kind == yaml.ScalarNode {
			text = value.Value
		}
	}
	return text
}

// endless says whether the tree under n comes back to n by an alias. done holds the nodes that were
// looked at: false while the search is inside them.
func endless(n *yaml.Node, done map[*yaml.Node]bool) bool {
	if finished, seen := done[n]; seen {
		return !finished
	}
	done[n] = false
	if n.Kind == yaml.AliasNode && endless(n.Alias, done) {
		return true
	}
	for _, child := range n.Content {
		if endless(child, done) {
			return true
		}
	}
	done[n] = true
	return false
}

func kindOf(n *yaml.Node) string {
	switch n.Kind {
	case yaml.MappingNode:
		return "keys and values"
	case yaml.SequenceNode:
		return "a list"
	}
	return "one value"
}

func join(path, key string) string {
	if path == "" {
		return key
	}
	return path + "." + key
}

func fieldOf(t reflect.Type, key string) (reflect.StructField, bool) {
	for f := range t.Fields() {
		if f.Tag.Get("yaml") == key {
			return f, true
		}
	}
	return reflect.StructField{}, false
}

func keysOf(t reflect.Type) []string {
	var keys []string
	for f := range t.Fields() {
		keys = append(keys, f.Tag.Get("yaml"))
	}
	return keys
}
