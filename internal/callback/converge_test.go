package callback

import (
	"fmt"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// A state is what somebody keeps who heeds [Meaning]: the latest of each kind, and each receipt once.
type state struct {
	meanings map[string]Meaning
	triggers map[string]time.Time // latest, by user and trigger
	presence map[string]time.Time // latest, by user and presence
	refused  map[string]time.Time // latest, by user, template and choice
	receipts map[string]Receipt
}

func keep(latest map[string]time.Time, key string, at time.Time) {
	if at.After(latest[key]) {
		latest[key] = at
	}
}

func (s *state) heed(m Meaning) {
	s.meanings[m.Key] = m
	if m.Trigger != NoTrigger {
		keep(s.triggers, fmt.Sprint(m.User, m.Trigger), m.At)
	}
	if m.Presence != NoPresence {
		keep(s.presence, fmt.Sprint(m.User, m.Presence), m.At)
	}
	for _, c := range m.Choices {
		keep(s.refused, fmt.Sprint(m.User, c.TemplateID, c.Refused), m.At)
	}
	for _, r := range m.Receipts {
		s.receipts[fmt.Sprint(r.Kind, r.MsgID)] = r
	}
}

func heedAll(t *rapid.T, d *Door, deliveries []string) state {
	s := state{
		map[string]Meaning{}, map[string]time.Time{}, map[string]time.Time{}, map[string]time.Time{}, map[string]Receipt{},
	}
	for _, body := range deliveries {
		q, sealed := weChat.push(body, noon)
		in, err := d.Open(q, sealed, noon)
		if err != nil {
			t.Fatalf("%s: %v", body, err)
		}
		m := in.Push.Meaning()
		if m.Key == "" || m.At != in.Push.CreateTime {
			t.Fatalf("%s: got %+v", body, m)
		}
		s.heed(m)
	}
	return s
}

// story draws pushes that WeChat could make: each message and job has a number of its own.
func story(t *rapid.T) []string {
	var all []string
	for i := range rapid.IntRange(1, 12).Draw(t, "pushes") {
		body := rapid.SampledFrom(meanings).Draw(t, "push").body
		at := noon.Unix() - 60 - int64(rapid.IntRange(0, 4).Draw(t, "ago"))
		body = strings.Replace(body, fmt.Sprint(noon.Unix()-60), fmt.Sprint(at), 1)
		body = strings.Replace(body, "oABC", rapid.SampledFrom([]string{"oABC", "oXYZ"}).Draw(t, "user"), 1)
		for _, number := range []string{"MsgId", "MsgID"} {
			before, rest, ok := strings.Cut(body, "<"+number+">")
			_, after, _ := strings.Cut(rest, "</"+number+">")
			if ok && !strings.HasPrefix(rest, "0<") {
				body = fmt.Sprintf("%s<%s>%d</%s>%s", before, number, 1000+i, number, after)
			}
		}
		all = append(all, body)
	}
	return all
}

func TestDuplicatedAndReorderedPushesMeanTheSame(t *testing.T) {
	d := newDoor(t, Encrypted)
	rapid.Check(t, func(t *rapid.T) {
		once := story(t)
		r := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 1))
		var delivered []string
		for _, body := range once {
			for range 1 + r.IntN(4) { // WeChat repeats three times
				delivered = append(delivered, body)
			}
		}
		r.Shuffle(len(delivered), func(i, j int) { delivered[i], delivered[j] = delivered[j], delivered[i] })
		want, got := heedAll(t, d, once), heedAll(t, d, delivered)
		if !reflect.DeepEqual(got, want) {
			t.Fatalf("got  %+v\nwant %+v", got, want)
		}
	})
}

// TestOneKeyIsOneMeaning: whoever heeds only the first push of a key loses nothing.
func TestOneKeyIsOneMeaning(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		byKey := map[string]Meaning{}
		for _, body := range story(rt) {
			m := meaning(t, body)
			if before, ok := byKey[m.Key]; ok && !reflect.DeepEqual(before, m) {
				rt.Fatalf("one key, two meanings: %+v and %+v", before, m)
			}
			byKey[m.Key] = m
		}
	})
}
