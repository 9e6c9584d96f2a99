package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/hongyan-dispatch/hongyan/internal/wechattest"
	"github.com/hongyan-dispatch/hongyan/message"
)

// Examples are the messages of examples/*.jsonl and the campaign, of which the scenario makes its own.
type examples struct {
	campaign *campaignFiles // nil: none is sent
	lines    map[exampleKind][]message.Message
	unfit    int // lines of other accounts, or of kinds that an account cannot send
}

type exampleKind struct {
	account string
	kind    message.Kind
}

// needed is what the scenario cannot do without; of mass sends, one of shop to a list and one of club by filter. A
// 订阅号 sends neither templates nor notices, nor to lists.
var needed = []exampleKind{
	{shop, message.Template},
	{shop, message.Subscribe},
	{shop, message.Custom},
	{shop, message.Mass},
	{club, message.Custom},
	{club, message.Mass},
}

// readExamples reads every line of every *.jsonl file of a folder by the rules of `enqueue batch`. All that is
// wrong comes back as one error, a line each.
func readExamples(folder string, now time.Time) (*examples, error) {
	files, err := filepath.Glob(filepath.Join(folder, "*.jsonl"))
	if err != nil || len(files) == 0 {
		return nil, badInput("%s: no *.jsonl files here; run the demo from the top of the repository, or say --examples FOLDER", folder)
	}
	all := &examples{lines: map[exampleKind][]message.Message{}}
	var found []string
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			return nil, badInput("%v", err)
		}
		for i, line := range bytes.Split(text, []byte("\n")) {
			if line = bytes.TrimSpace(line); len(line) == 0 {
				continue
			}
			if err := all.add(line, now); err != nil {
				found = append(found, fmt.Sprintf("%s:%d: %v", file, i+1, err))
			}
		}
	}
	for _, n := range needed {
		usable := slices.ContainsFunc(all.lines[n], func(m message.Message) bool { return n.kind != message.Mass || goesToList(m) == (n.account == shop) })
		if !usable && len(found) == 0 {
			found = append(found, fmt.Sprintf("%s: no message with account %s and kind %s that the demo can use; it needs at least one", folder, n.account, n.kind))
		}
	}
	if len(found) > 0 {
		return nil, badInput("%s", strings.Join(found, "\n"))
	}
	return all, nil
}

func (e *examples) add(line []byte, now time.Time) error {
	m, err := message.Parse(line)
	if err != nil {
		return err
	}
	m.Defaults(true)
	if err := m.Validate(now); err != nil {
		return err
	}
	at := exampleKind{m.Account, m.Kind}
	for name, appID := range appIDs {
		if at.account == appID {
			at.account = name
		}
	}
	if !slices.Contains(needed, at) || at.account == club && m.List != nil {
		e.unfit++
		return nil
	}
	m.Account = at.account
	e.lines[at] = append(e.lines[at], *m)
	return nil
}

// of are the lines of an account and kind; with a fallback, without one, or, where there are none such, all.
func (e *examples) of(account string, kind message.Kind, keep func(message.Message) bool) []message.Message {
	all := e.lines[exampleKind{account, kind}]
	var kept []message.Message
	for _, m := range all {
		if keep(m) {
			kept = append(kept, m)
		}
	}
	if len(kept) == 0 {
		return all
	}
	return kept
}

func anyLine(message.Message) bool        { return true }
func noFallback(m message.Message) bool   { return m.Fallback == nil }
func hasFallback(m message.Message) bool  { return m.Fallback != nil }
func goesByFilter(m message.Message) bool { return m.List == nil }
func goesToList(m message.Message) bool   { return m.List != nil }

// templates are what the simulated account must know for the lines to be good: their templates, each with the
// keywords that all its lines fill in.
func (e *examples) templates() []wechattest.Template {
	keys := map[string][]string{}
	e.bodies(func(b body) {
		if before, seen := keys[b.TemplateID]; seen {
			keys[b.TemplateID] = slices.DeleteFunc(before, func(key string) bool { _, has := b.Data[key]; return !has })
		} else if b.TemplateID != "" {
			keys[b.TemplateID] = slices.Sorted(maps.Keys(b.Data))
		}
	})
	var all []wechattest.Template
	for _, id := range slices.Sorted(maps.Keys(keys)) {
		all = append(all, wechattest.Template{ID: id, Title: id, Keys: keys[id]})
	}
	return all
}

// miniPrograms are those that the lines name.
func (e *examples) miniPrograms() []wechattest.MiniProgram {
	var all []wechattest.MiniProgram
	e.bodies(func(b body) {
		for _, appID := range []string{b.MiniProgram.AppID, b.MiniProgramPage.AppID} {
			program := wechattest.MiniProgram{AppID: appID}
			if appID != "" && !slices.ContainsFunc(all, func(p wechattest.MiniProgram) bool { return p.AppID == appID }) {
				all = append(all, program)
			}
		}
	})
	return all
}

// tags are those that the mass sends of the account name.
func (e *examples) tags(account string) []wechattest.Tag {
	var all []wechattest.Tag
	for _, m := range e.lines[exampleKind{account, message.Mass}] {
		if id := bodyOf(m.Body).tagID(); id != 0 && !slices.ContainsFunc(all, func(t wechattest.Tag) bool { return t.ID == id }) {
			all = append(all, wechattest.Tag{ID: id, Name: fmt.Sprint("tag ", id)})
		}
	}
	return all
}

func (e *examples) bodies(visit func(body)) {
	if e.campaign != nil {
		visit(bodyOf(e.campaign.spec.Body))
	}
	for _, lines := range e.lines {
		for _, m := range lines {
			visit(bodyOf(m.Body))
			if m.Fallback != nil {
				visit(bodyOf(m.Fallback.Body))
			}
		}
	}
}

// body is what the demo must know of WeChat's JSON.
type body struct {
	TemplateID string `json:"template_id"`
	Data       map[string]struct {
		Value json.RawMessage `json:"value"`
	} `json:"data"`
	MiniProgram     struct{ AppID string } `json:"miniprogram"`
	MiniProgramPage struct{ AppID string } `json:"miniprogrampage"`
	Text            struct {
		Content json.RawMessage `json:"content"`
	} `json:"text"`
	Filter struct {
		TagID json.RawMessage `json:"tag_id"`
	} `json:"filter"`
}

func bodyOf(raw json.RawMessage) body {
	var b body
	_ = json.Unmarshal(raw, &b) // was validated
	return b
}

func (b body) tagID() int64 {
	var id int64
	_ = json.Unmarshal(bytes.Trim(b.Filter.TagID, `"`), &id) // none: 0
	return id
}
