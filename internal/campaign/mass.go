package campaign

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/hongyan-dispatch/hongyan/message"
)

// Filtered says that a mass send goes to a tag or to everybody by WeChat's own filter: one call, and no list of ours.
func (s *Spec) Filtered() bool {
	return s.Kind == message.Mass && (s.Audience.Kind == FromTag || s.Audience.Kind == FromFollowers)
}

// Mass is the message of a firing to a part of the audience, which begins with recipient first. The parts of a firing are
// joined by the first one's id, as those of any long list.
func (s *Spec) Mass(start time.Time, firing, first int32, list []message.OpenID) *message.Message {
	m := s.message(message.Mass)
	m.To, m.ID, m.Firing, m.N = "", MessageID(start, firing, first), firing, first
	m.Body, m.List = s.Body, list
	if m.Lane == "" {
		m.Lane = message.Bulk
	}
	if first > 1 {
		m.Parent = MessageID(start, firing, 1)
	}
	if s.Expires > 0 {
		m.ExpiresAt = start.Add(s.Expires)
	}
	if s.Filtered() {
		m.Body = s.filtered()
	}
	if compact, err := message.Compact(m.Body); err == nil { // Postgres puts spaces into it
		m.Body = compact
	}
	return m
}

// filtered is the body with its filter.
func (s *Spec) filtered() json.RawMessage {
	filter := `{"filter":{"is_to_all":true}`
	if s.Audience.Kind == FromTag {
		filter = fmt.Sprintf(`{"filter":{"is_to_all":false,"tag_id":%d}`, s.Audience.Tag)
	}
	rest := s.Body[1:]
	if string(rest) != "}" {
		filter += ","
	}
	return append(json.RawMessage(filter), rest...)
}

// checkMass judges what a mass send is not.
func (s *Spec) checkMass(f *findings) {
	const one = "one text goes to all"
	if asked := s.Columns(); len(asked) > 0 {
		f.add(string(s.Kind), fmt.Sprintf("asks for {{.%s}}, and %s", asked[0], one), "write it without placeholders, or take kind template")
	}
	if s.Cap.Messages > 0 {
		f.add("frequency_cap", "is of messages to single users; a mass send has WeChat's own caps", "leave it out")
	}
	if s.Dedupe {
		f.add("dedupe", "is of messages to single users", "leave it out: WeChat takes a clientmsgid once")
	}
	if s.Canary == 1 || s.Canary > 0 && s.Filtered() {
		f.add("canary", "a mass send goes to 2 users or more, and to a tag or everybody in one call", "")
	}
	var body struct {
		Filter json.RawMessage `json:"filter"`
	}
	if json.Unmarshal(s.Body, &body) == nil && body.Filter != nil {
		f.add("mass.filter", "comes of the audience", "say audience: {tag: ID}, {followers: true}, or a file")
	}
}

// sampleMass is the message as a part of the audience might get it.
func (s *Spec) sampleMass() *message.Message {
	m := s.message(message.Mass)
	m.To = ""
	if !s.Filtered() {
		m.List = []message.OpenID{"o1", "o2"}
	}
	return m
}
