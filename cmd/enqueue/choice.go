package main

import (
	"encoding/json"
	"maps"
	"slices"
	"strings"
)

// A choice is the ways to say what a message shows, of which one is to be taken: --text, --image and its like,
// --msgtype with --body, or --body alone.
type choice struct {
	text    string
	media   map[string]string // msgtype → media_id
	msgtype string
	body    string
}

// content returns the msgtype and its object, or no msgtype and WeChat's whole JSON.
func (c choice) content(s *session) (msgtype string, object json.RawMessage, err error) {
	var given []string
	if c.text != "" {
		given = append(given, "--text")
		msgtype = "text"
		object, err = marshal(map[string]string{"content": c.text})
	}
	for _, typ := range slices.Sorted(maps.Keys(c.media)) {
		if id := c.media[typ]; id != "" {
			given = append(given, "--"+typ)
			msgtype = typ
			object, err = marshal(map[string]string{"media_id": id})
		}
	}
	if c.body != "" {
		given = append(given, "--body")
		msgtype = c.msgtype
	}
	switch {
	case err != nil:
	case c.msgtype != "" && c.body == "":
		err = refuse("--msgtype: wants --body FILE with the object of type %s", c.msgtype)
	case len(given) == 0:
		err = refuse("want one of --text, %s--body", flagsOf(c.media))
	case len(given) > 1:
		err = refuse("%s: give one of them", strings.Join(given, " and "))
	case c.body != "":
		object, err = s.body(c.body)
	}
	return msgtype, object, err
}

func flagsOf(media map[string]string) string {
	flags := ""
	for _, typ := range slices.Sorted(maps.Keys(media)) {
		flags += "--" + typ + ", "
	}
	return flags
}
