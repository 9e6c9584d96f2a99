package campaign

import (
	"testing"
	"time"

	"github.com/hongyan-dispatch/hongyan/message"
)

func TestPartsOfAMassSend(t *testing.T) {
	start := time.UnixMilli(1_780_000_000_123)
	for text, want := range map[string]string{
		"":                              `{"msgtype":"text","text":{"content":"上新"}}`,
		"audience: {tag: 102}":          `{"filter":{"is_to_all":false,"tag_id":102},"msgtype":"text","text":{"content":"上新"}}`,
		"audience: {followers: true}":   `{"filter":{"is_to_all":true},"msgtype":"text","text":{"content":"上新"}}`,
		"audience: {file: members.csv}": `{"msgtype":"text","text":{"content":"上新"}}`,
	} {
		s, err := ParseSpec([]byte("name: news\naccount: shop\nkind: mass\nmass: {msgtype: text, text: {content: 上新}}\nexpires_after: 2h\n" + text))
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		var list []message.OpenID
		if !s.Filtered() {
			list = []message.OpenID{"oA", "oB"}
		}
		first, second := s.Mass(start, 7, 1, list), s.Mass(start, 7, 10_001, list)
		if string(first.Body) != want || !first.ExpiresAt.Equal(start.Add(2*time.Hour)) || first.Lane != message.Bulk {
			t.Errorf("%s: %s, %+v, want %s", text, first.Body, first, want)
		}
		if err := first.Validate(start); err != nil {
			t.Errorf("%s: %v", text, err)
		}
		if !first.Parent.IsZero() || second.Parent != first.ID || second.ID != MessageID(start, 7, 10_001) || second.Firing != 7 || second.N != 10_001 {
			t.Errorf("%s: the parts are %+v and %+v", text, first, second)
		}
	}
}
