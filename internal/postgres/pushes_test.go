package postgres

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/hongyan-dispatch/hongyan/message"
)

// A model says who is suppressed, from all that was heard of a user.
type model struct {
	left, followed, seen, refused time.Time
	chosen                        map[string]Choice
}

func (m *model) inbound(in Inbound) {
	switch in.Trigger {
	case TriggerLeft:
		m.left = later(m.left, in.At)
		return
	case triggerFollow:
		m.followed = later(m.followed, in.At)
	}
	m.seen = later(m.seen, in.At)
}

func (m *model) choice(c Choice) {
	if m.chosen == nil {
		m.chosen = map[string]Choice{}
	}
	if old, ok := m.chosen[c.TemplateID]; !ok || c.At.After(old.At) || c.At.Equal(old.At) && c.Refused {
		m.chosen[c.TemplateID] = c
	}
}

func (m *model) suppressed(template string) bool {
	return !m.left.IsZero() && !m.left.Before(m.followed) || !m.refused.IsZero() && !m.refused.Before(m.seen) || m.chosen[template].Refused
}

// Whatever the order, the doubling and the batches in which pushes come, the same users are suppressed.
func TestPushesConverge(t *testing.T) {
	b := setup(t)
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 1))
	epoch := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	templates := []string{"T1", "T2"}
	for round := range 150 {
		to := message.OpenID(fmt.Sprintf("oCONVERGE%d", round))
		var m model
		var all []Pushes
		for range 1 + r.IntN(7) {
			at := epoch.Add(time.Duration(r.IntN(6)) * time.Second)
			var p Pushes
			switch r.IntN(4) {
			case 0, 1:
				in := Inbound{"shop", to, []string{TriggerLeft, triggerFollow, "message", TriggerSeen}[r.IntN(4)], at}
				m.inbound(in)
				p.Inbound = []Inbound{in}
			case 2:
				c := Choice{"shop", to, templates[r.IntN(2)], r.IntN(2) == 0, at}
				m.choice(c)
				p.Choices = []Choice{c}
			default:
				m.refused = later(m.refused, at)
				p.Receipts = []Receipt{{
					Account: "shop", Key: fmt.Sprintf("%s-%d", to, at.Unix()), Kind: message.Template, OpenID: to, At: at,
					Reason: "user block", Blocked: true, Sealed: true,
				}}
			}
			for range 1 + r.IntN(3) {
				all = append(all, p)
			}
		}
		r.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
		for len(all) > 0 {
			var batch Pushes
			n := 1 + r.IntN(len(all))
			for _, p := range all[:n] {
				batch.Inbound, batch.Choices, batch.Receipts = append(batch.Inbound, p.Inbound...), append(batch.Choices, p.Choices...), append(batch.Receipts, p.Receipts...)
			}
			all = all[n:]
			if err := b.store.RecordPushes(b.ctx, batch); err != nil {
				t.Fatal(err)
			}
		}
		for _, template := range templates {
			got, err := b.store.IsSuppressed(b.ctx, "shop", to, template)
			if err != nil || got != m.suppressed(template) {
				t.Fatalf("round %d, template %s: suppressed %t (%v), want %t of %+v", round, template, got, err, m.suppressed(template), m)
			}
		}
	}
}

func TestLastEventsAreKept(t *testing.T) {
	b := setup(t)
	at := time.Now().Truncate(time.Second)
	to := message.OpenID("oLAST")
	for _, list := range [][]Inbound{
		{{"shop", to, "message", at}, {"shop", to, "message", at.Add(-time.Minute)}, {"shop", to, "menu", at.Add(-time.Hour)}},
		{{"shop", to, "message", at.Add(-time.Hour)}},
	} {
		if err := b.store.RecordInbound(b.ctx, list); err != nil {
			t.Fatal(err)
		}
	}
	list, err := b.store.LastInbound(b.ctx, "shop", to)
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]int64{}
	for _, in := range list {
		got[in.Trigger] = in.At.Unix()
	}
	if want := map[string]int64{"message": at.Unix(), "menu": at.Add(-time.Hour).Unix()}; !maps.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

// A hint, as a receipt in plain mode is, suppresses nobody.
func TestHintsSuppressNobody(t *testing.T) {
	b := setup(t)
	hint := Receipt{Account: "shop", Key: "k", Kind: message.Template, MsgID: 7, OpenID: "oHINT", At: time.Now(), Reason: "user block", Blocked: true}
	if err := b.store.RecordPushes(b.ctx, Pushes{Receipts: []Receipt{hint}}); err != nil {
		t.Fatal(err)
	}
	if got, err := b.store.IsSuppressed(b.ctx, "shop", "oHINT", ""); got || err != nil {
		t.Errorf("suppressed: %t, %v", got, err)
	}
	if n := b.count(`SELECT count(*)::int FROM receipt WHERE NOT sealed AND look_at IS NULL`); n != 1 {
		t.Errorf("%d hints are kept, want 1", n)
	}
}
