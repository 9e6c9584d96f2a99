package main

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"strings"

	"github.com/hongyan-dispatch/hongyan/message"
)

// A generator multiplies the examples. The same seed makes the same users, orders and messages.
type generator struct {
	examples *examples
	random   *rand.Rand
	orders   int
}

func newGenerator(e *examples, seed uint64) *generator {
	return &generator{examples: e, random: rand.New(rand.NewPCG(seed, 0))}
}

// user makes an openid: 28 characters, as WeChat's are.
func (g *generator) user() message.OpenID {
	const letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
	openid := []byte("o")
	for len(openid) < 28 {
		openid = append(openid, letters[g.random.IntN(len(letters))])
	}
	return message.OpenID(openid)
}

func (g *generator) users(n int) []message.OpenID {
	all := make([]message.OpenID, n)
	for i := range all {
		all[i] = g.user()
	}
	return all
}

// actLabel is the label by which a report finds the messages of one act.
const actLabel = "act"

// message makes the i-th message of an act, like one of the lines: to a user, with an order number of its own.
func (g *generator) message(act string, lines []message.Message, i int, to message.OpenID) message.Message {
	m := lines[i%len(lines)]
	m.To = to
	m.Labels = maps.Clone(m.Labels)
	if m.Labels == nil {
		m.Labels = map[string]string{}
	}
	g.orders++
	old := orderOf(m)
	number := g.number(old)
	m.Body = renumber(m.Body, old, number)
	m.Key = rekey(m.Key, old, number)
	for name, value := range m.Labels {
		if value == old {
			m.Labels[name] = number
		}
	}
	if m.Fallback != nil {
		f := *m.Fallback
		f.Body = renumber(f.Body, cmp.Or(orderIn(f.Body), old), number)
		f.Key = rekey(f.Key, old, number)
		f.Labels = maps.Clone(f.Labels)
		if f.Labels == nil {
			f.Labels = map[string]string{}
		}
		f.Labels[actLabel] = act
		m.Fallback = &f
	}
	m.Labels[actLabel] = act
	return m
}

// number is the next order number, of the same form and length as the line's own.
func (g *generator) number(old string) string {
	n := fmt.Sprintf("%06d", g.orders)
	if len(old) < len(n) {
		return "HY2611" + n
	}
	return old[:len(old)-len(n)] + n
}

// orderOf is the line's own order number: its label, or the first character string of its template.
func orderOf(m message.Message) string {
	return cmp.Or(m.Labels["order"], orderIn(m.Body))
}

func orderIn(raw json.RawMessage) string {
	var order string
	for key, field := range bodyOf(raw).Data {
		if strings.HasPrefix(key, "character_string") {
			_ = json.Unmarshal(field.Value, &order) // a string, by the rules
			break
		}
	}
	return order
}

// renumber puts the number in place of the old one. A text without one gets it at its end, so that no two
// messages of the demo are the same.
func renumber(raw json.RawMessage, old, number string) json.RawMessage {
	if old != "" {
		if again := bytes.ReplaceAll(raw, []byte(old), []byte(number)); !bytes.Equal(again, raw) {
			return again
		}
	}
	content := bodyOf(raw).Text.Content
	if len(content) < 2 {
		return raw
	}
	longer := append(bytes.Clone(content[:len(content)-1]), " ["+number+"]\""...)
	return bytes.Replace(raw, content, longer, 1)
}

// rekey gives the message a key of its own, if its line has one.
func rekey(key, old, number string) string {
	switch {
	case key == "":
		return ""
	case old != "" && strings.Contains(key, old):
		return strings.ReplaceAll(key, old, number)
	default:
		return key + "-" + number
	}
}

// many makes n messages of an act to the users, in turn.
func (g *generator) many(act string, lines []message.Message, n int, to []message.OpenID) []message.Message {
	all := make([]message.Message, n)
	for i := range all {
		all[i] = g.message(act, lines, i, to[i%len(to)])
	}
	return all
}
