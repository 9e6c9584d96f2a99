package tasks

import (
	"encoding/json"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/hongyan-dispatch/hongyan/message"
)

func TestPack(t *testing.T) {
	t.Parallel()
	t.Run("nothing makes no parcel", func(t *testing.T) {
		if got := Pack(nil, now); len(got) != 0 {
			t.Errorf("%d parcels", len(got))
		}
	})
	t.Run("250 messages make three parcels", func(t *testing.T) {
		if got := Pack(templateMessages(250), now); len(got) != 3 || len(got[2].Messages) != 50 {
			t.Errorf("%d parcels", len(got))
		}
	})
	t.Run("a heavy message travels alone", func(t *testing.T) {
		msgs := templateMessages(3)
		msgs[1].Body = json.RawMessage(`{"a":"` + strings.Repeat("x", maxParcelBytes) + `"}`)
		if got := Pack(msgs, now); len(got) != 3 {
			t.Errorf("%d parcels, want 3", len(got))
		}
	})
}

// Whatever is packed: every message is in one parcel, among its like, in order; every parcel can be
// encoded.
func TestPackLosesNothing(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(0, 400).Draw(t, "messages")
		msgs := make([]*message.Message, n)
		place := map[*message.Message]int{}
		for i := range msgs {
			m := templateMessage(i)
			m.Account = rapid.SampledFrom([]string{"shop", "news"}).Draw(t, "account")
			m.Kind = rapid.SampledFrom(message.Kinds()).Draw(t, "kind")
			m.Lane = rapid.SampledFrom([]message.Lane{message.Normal, message.Bulk}).Draw(t, "lane")
			m.Body = json.RawMessage(`{"a":"` + strings.Repeat("x", rapid.SampledFrom([]int{0, 100, 3000, 50_000}).Draw(t, "size")) + `"}`)
			msgs[i], place[m] = m, i
		}
		parcels := Pack(msgs, now)
		type label struct {
			account string
			kind    message.Kind
			lane    message.Lane
		}
		last := map[label]int{}
		seen := 0
		for _, p := range parcels {
			if _, err := Encode(p); err != nil {
				t.Fatal(err)
			}
			for _, m := range p.Messages {
				l := label{m.Account, m.Kind, m.Lane}
				if before, ok := last[l]; ok && place[m] < before {
					t.Fatalf("message %d stands behind %d", place[m], before)
				}
				last[l] = place[m]
				seen++
			}
		}
		if seen != n {
			t.Fatalf("%d messages packed, want %d", seen, n)
		}
	})
}
