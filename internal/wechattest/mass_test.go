package wechattest

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

func massTo(text, clientID string, openids ...string) string {
	return fmt.Sprintf(`{"touser":["%s"],"msgtype":"text","text":{"content":"%s"},"clientmsgid":"%s"}`,
		strings.Join(openids, `","`), text, clientID)
}

func massAll(text, clientID string) string {
	return fmt.Sprintf(`{"filter":{"is_to_all":true},"msgtype":"text","text":{"content":"%s"},"clientmsgid":"%s"}`, text, clientID)
}

func massTag(text, clientID string, tag int) string {
	return fmt.Sprintf(`{"filter":{"is_to_all":false,"tag_id":"%d"},"msgtype":"text","text":{"content":"%s"},"clientmsgid":"%s"}`, tag, text, clientID)
}

func setupMass(t *testing.T, change ...func(*Settings)) *bundle {
	t.Helper()
	b := setup(t, append(change, func(s *Settings) { s.Tags = []Tag{{2, "会员"}} })...)
	b.shop.Tag(2, alice)
	return b
}

func TestMassContent(t *testing.T) {
	b := setupMass(t, func(s *Settings) { s.AnyMedia, s.Materials = false, []string{"M1"} })
	to := `"touser":["oAlice","oBob"],`
	for _, c := range []struct {
		name, path, body string
		code             int
	}{
		{"no list", PathMassSend, `{"msgtype":"text","text":{"content":"x"}}`, badOpenIDList},
		{"a list of one", PathMassSend, massTo("x", "a", alice), tooFewOpenIDs},
		{"a list with a number", PathMassSend, `{"touser":["a",1],"msgtype":"text","text":{"content":"x"}}`, badOpenIDList},
		{"more than 10,000", PathMassSend, massTo("x", "a", make([]string, 10_001)...), tooManyOpenIDs},
		{"a type that is none", PathMassSend, `{` + to + `"msgtype":"link","link":{}}`, badMassMsgType},
		{"a type that is none, to all", PathMassSendAll, `{"msgtype":"link","link":{}}`, badMsgType},
		{"a card", PathMassSend, `{` + to + `"msgtype":"wxcard","wxcard":{"card_id":"1"}}`, cardsWithdrawn},
		{"an empty text", PathMassSend, `{` + to + `"msgtype":"text","text":{"content":""}}`, textEmpty},
		{"unknown material", PathMassSend, `{` + to + `"msgtype":"image","images":{"media_ids":["M1","M2"]}}`, badMediaID},
		{"an unknown tag", PathMassSendAll, massTag("x", "a", 3), badTagID},
		{"no filter", PathMassSendAll, `{"msgtype":"text","text":{"content":"x"}}`, badTagID},
		{"a clientmsgid of 33 bytes", PathMassSend, massTo("x", strings.Repeat("a", 33), alice, bob), clientMsgIDTooLong},
		{"images", PathMassSend, `{` + to + `"msgtype":"image","images":{"media_ids":["M1"]}}`, 0},
		{"one image, the older form", PathMassSend, `{` + to + `"msgtype":"image","image":{"media_id":"M1"},"send_ignore_reprint":0}`, 0},
	} {
		if got := b.post(c.path, c.body); got.Errcode != c.code {
			t.Errorf("%s: got %s, want %d", c.name, got.Raw, c.code)
		}
	}
	b.accepted(2)
}

func TestMassSend(t *testing.T) {
	t.Run("a list reaches its followers", func(t *testing.T) {
		b := setupMass(t)
		_ = b.shop.Act("oCarol", Refuse)
		r := b.post(PathMassSend, massTo("x", "id", alice, bob, alice, "oNobody", "oCarol"))
		b.want(r, 0)
		got := b.sim.AllAccepts()
		if len(got) != 1 || got[0].Recipients != 2 || got[0].To != "list:5" || got[0].MsgID != r.MassID || got[0].ClientID != "id" {
			t.Errorf("the log is %+v", got)
		}
		if s := b.post(PathMassGet, fmt.Sprintf(`{"msg_id":"%d"}`, r.MassID)); s.Status != "SEND_SUCCESS" || s.MassID != r.MassID {
			t.Errorf("mass/get says %s", s.Raw)
		}
		b.want(b.post(PathMassGet, `{"msg_id":1}`), badMassMsgID)
	})
	t.Run("an article has a msg_data_id and can be deleted", func(t *testing.T) {
		b := setupMass(t)
		r := b.post(PathMassSend, `{"touser":["oAlice","oBob"],"msgtype":"mpnews","mpnews":{"media_id":"D1"}}`)
		if r.DataID == 0 {
			t.Errorf("got %s", r.Raw)
		}
		b.want(b.post(PathMassDelete, fmt.Sprintf(`{"msg_id":%d,"article_idx":0}`, r.MassID)), 0)
		if s := b.post(PathMassGet, fmt.Sprintf(`{"msg_id":%d}`, r.MassID)); s.Status != "DELETE" {
			t.Errorf("mass/get says %s", s.Raw)
		}
	})
	t.Run("only a service account sends to a list", func(t *testing.T) {
		for _, kind := range []Type{Subscription, Test} {
			b := newBundle(t, func(s *Settings) { s.Type = kind })
			b.want(b.post(PathMassSend, massTo("x", "id", alice, bob)), unauthorized)
		}
	})
	t.Run("60 requests a minute, 100 a day, of both calls together", func(t *testing.T) {
		b := setupMass(t)
		for i := range 60 {
			b.want(b.post([]string{PathMassSend, PathMassSendAll}[i%2], `{"msgtype":"x"}`), []int{badMassMsgType, badMsgType}[i%2])
		}
		b.want(b.post(PathMassSend, massTo("x", "id", alice, bob)), minuteQuotaReached)
		b.sim.Clock.Advance(time.Minute)
		for range 40 {
			b.want(b.post(PathMassSend, `{"msgtype":"x"}`), badMassMsgType)
		}
		b.want(b.post(PathMassSend, massTo("x", "id", alice, bob)), dayQuotaReached)
	})
	t.Run("lists at the same time answer 42010 by a switch", func(t *testing.T) {
		b := setupMass(t, func(s *Settings) { s.Mass.ChunkGap = time.Minute })
		b.want(b.post(PathMassSend, massTo("x", "1", alice, bob)), 0)
		b.want(b.post(PathMassSend, massTo("y", "2", alice, bob)), massTooFast)
		b.sim.Clock.Advance(time.Minute)
		b.want(b.post(PathMassSend, massTo("y", "2", alice, bob)), 0)
	})
}

func TestMassCaps(t *testing.T) {
	t.Run("a subscription account sends once a day", func(t *testing.T) {
		b := setupMass(t, func(s *Settings) { s.Type = Subscription })
		b.want(b.post(PathMassSendAll, massTag("x", "1", 2)), 0)
		b.want(b.post(PathMassSendAll, massAll("y", "2")), noMassQuota)
		b.sim.Clock.Set(noon.Add(12 * time.Hour))
		b.want(b.post(PathMassSendAll, massAll("y", "2")), 0)
		b.accepted(2)
	})
	t.Run("a user of a service account gets 4 in a calendar month", func(t *testing.T) {
		b := setupMass(t)
		for i := range 4 {
			b.want(b.post(PathMassSendAll, massTag(fmt.Sprint(i), fmt.Sprint(i), 2)), 0) // alice only
		}
		b.want(b.post(PathMassSend, massTo("x", "5", alice, bob)), 0)
		all := b.sim.AllAccepts()
		if got := all[4].Recipients; got != 1 || b.shop.MassReceived(alice) != 4 || b.shop.MassReceived(bob) != 1 {
			t.Errorf("the fifth reached %d; alice has %d, bob %d", got, b.shop.MassReceived(alice), b.shop.MassReceived(bob))
		}
		b.sim.Clock.Set(time.Date(2026, 12, 1, 0, 0, 0, 0, Beijing))
		b.want(b.post(PathMassSend, massTo("y", "6", alice, bob)), 0)
		if b.shop.MassReceived(alice) != 1 || b.shop.MassMost(noon) != 4 {
			t.Error("December counts November's, or November is forgotten")
		}
	})
	t.Run("a service account sends to all once a day and 4 times a month", func(t *testing.T) {
		b := setupMass(t)
		b.sim.Clock.Set(time.Date(2026, 11, 1, 12, 0, 0, 0, Beijing))
		for i := range 5 {
			want := 0
			if i == 4 {
				want = noMassQuota
			}
			b.want(b.post(PathMassSendAll, massAll(fmt.Sprint(i), fmt.Sprint(i))), want)
			b.want(b.post(PathMassSendAll, massAll("again", fmt.Sprint(i, "again"))), noMassQuota)
			b.sim.Clock.Advance(24 * time.Hour)
		}
		b.sim.Clock.Set(time.Date(2026, 11, 30, 23, 59, 59, 0, Beijing))
		b.want(b.post(PathMassSendAll, massAll("x", "x")), noMassQuota)
		b.sim.Clock.Advance(time.Second)
		b.want(b.post(PathMassSendAll, massAll("x", "x")), 0)
	})
	t.Run("a test account has no quota to send to all", func(t *testing.T) {
		b := setupMass(t, func(s *Settings) { s.Type = Test })
		b.want(b.post(PathMassSendAll, massAll("x", "1")), noMassQuota)
	})
}

func TestClientMsgIDOfMass(t *testing.T) {
	t.Run("too fast within a minute, known for 24 hours", func(t *testing.T) {
		b := setupMass(t)
		first := b.post(PathMassSend, massTo("x", "id", alice, bob))
		b.want(b.post(PathMassSend, massTo("x", "id", alice, bob)), clientMsgIDTooFast)
		b.sim.Clock.Advance(time.Minute)
		again := b.post(PathMassSend, massTo("x", "id", alice, bob))
		b.want(again, clientMsgIDExists)
		if again.MassID != first.MassID || again.DataID != 0 {
			t.Errorf("got %s, want the msg_id of %s", again.Raw, first.Raw)
		}
		b.accepted(1)
		b.sim.Clock.Set(noon.Add(24 * time.Hour))
		b.want(b.post(PathMassSend, massTo("x", "id", alice, bob)), 0)
	})
	t.Run("without one, range and content stand for it", func(t *testing.T) {
		b := setupMass(t, func(s *Settings) { s.Mass.RetryGap = -1 })
		b.want(b.post(PathMassSend, massTo("x", "", alice, bob)), 0)
		b.want(b.post(PathMassSend, massTo("y", "", alice, bob)), 0)
		b.want(b.post(PathMassSend, massTo("x", "", alice, bob)), clientMsgIDExists)
	})
}

func TestMassProtection(t *testing.T) {
	protected := func(s *Settings) { s.Mass.Protected = true }
	status := func(b *bundle, id int64) string {
		return b.post(PathMassGet, fmt.Sprintf(`{"msg_id":%d}`, id)).Status
	}
	t.Run("a send to all waits for the administrator", func(t *testing.T) {
		b := setupMass(t, protected)
		first := b.post(PathMassSendAll, massAll("x", "id"))
		b.want(first, enteredConfirmation)
		again := b.post(PathMassSendAll, massAll("x", "id"))
		b.want(again, inApproval)
		if first.MassID == 0 || again.MassID != first.MassID {
			t.Errorf("msg_id %d, then %d", first.MassID, again.MassID)
		}
		b.want(b.post(PathMassSendAll, massAll("y", "other")), noMassQuota) // the place is taken
		b.accepted(0)
		if !b.shop.DecideMass(first.MassID, true) || b.shop.DecideMass(first.MassID, true) {
			t.Error("want one decision")
		}
		b.accepted(1)
		if got := status(b, first.MassID); got != "SEND_SUCCESS" {
			t.Errorf("status %s", got)
		}
	})
	t.Run("a refusal fails it, and so do 30 minutes of silence", func(t *testing.T) {
		b := setupMass(t, protected)
		first := b.post(PathMassSendAll, massAll("x", "1")).MassID
		b.shop.DecideMass(first, false)
		second := b.post(PathMassSendAll, massAll("y", "2")).MassID
		b.sim.Clock.Advance(30 * time.Minute)
		if status(b, first) != "SEND_FAIL" || status(b, second) != "SEND_FAIL" || b.shop.DecideMass(second, true) {
			t.Error("want both failed and the second past deciding")
		}
		b.accepted(0)
	})
	t.Run("a list does not wait", func(t *testing.T) {
		b := setupMass(t, protected)
		b.want(b.post(PathMassSend, massTo("x", "1", alice, bob)), 0)
	})
}

func TestMassPreviewAndSpeed(t *testing.T) {
	b := setupMass(t, func(s *Settings) { s.WxNames = map[string]string{"alice1990": alice} })
	body := `,"msgtype":"text","text":{"content":"x"}}`
	b.want(b.post(PathMassPreview, `{"touser":"oBob"`+body), 0)
	b.want(b.post(PathMassPreview, `{"touser":"oNobody"`+body), badOpenID)
	b.want(b.post(PathMassPreview, `{"towxname":"nobody"`+body), badWxName)
	for range previewsByName {
		b.want(b.post(PathMassPreview, `{"touser":"oBob","towxname":"alice1990"`+body), 0)
	}
	b.want(b.post(PathMassPreview, `{"towxname":"alice1990"`+body), dayQuotaReached)
	if n := b.sim.CountBy(ByOpenID); n[alice] != previewsByName || n[bob] != 1 {
		t.Errorf("previews went to %v", n)
	}
	if got := b.post(PathMassSpeed, "").Raw; got != `{"speed":3,"realspeed":30}` {
		t.Errorf("speed/get says %s", got)
	}
	b.want(b.post(PathMassSetSpeed, `{}`), speedMissing)
	b.want(b.post(PathMassSetSpeed, `{"speed":5}`), speedOutOfRange)
	b.want(b.post(PathMassSetSpeed, `{"speed":0}`), 0)
	if got := b.post(PathMassSpeed, "{}").Raw; got != `{"speed":0,"realspeed":80}` {
		t.Errorf("speed/get says %s", got)
	}
}
