package wechattest

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

func TestEveryAcceptedMessageHasItsReceipt(t *testing.T) {
	plain := func(c *Callback) { c.Mode = PlainMode }
	t.Run("a template", func(t *testing.T) {
		b, l := listening(t, plain)
		id := b.post(PathTemplate, template(alice, "id-1")).MsgID
		b.settled()
		want := fmt.Sprintf("<Event><![CDATA[TEMPLATESENDJOBFINISH]]></Event><MsgID>%d</MsgID><Status><![CDATA[success]]></Status></xml>", id)
		if got := l.all()[0].body; !strings.HasSuffix(got, want) || !strings.Contains(got, "<FromUserName><![CDATA[oAlice]]>") {
			t.Errorf("pushed %s", got)
		}
		b.post(PathTemplate, template(alice, "id-1")) // the same message
		b.post(PathTemplate, template("oNobody", "id-2"))
		if all := b.settled(); len(all) != 1 || all[0].MsgID != id || all[0].Status != statusSuccess {
			t.Errorf("got %+v", all)
		}
	})
	t.Run("a template to a user who blocks", func(t *testing.T) {
		b, l := listening(t, plain)
		b.do(Deed{Action: Block})
		b.want(b.post(PathTemplate, template(alice, "")), 0)
		b.settled()
		if got := l.all()[0].body; !strings.Contains(got, "<Status><![CDATA[failed:user block]]></Status>") {
			t.Errorf("pushed %s", got)
		}
	})
	t.Run("a template whose msgid WeChat forgets", func(t *testing.T) {
		b, l := listening(t, plain, func(c *Callback) { c.Receipts.NoMsgID, c.Receipts.Failed = 1, 1 })
		b.post(PathTemplate, template(alice, "id-1"))
		if got := b.settled()[0]; got.MsgID == 0 || !strings.Contains(l.all()[0].body, "<MsgID>0</MsgID><Status><![CDATA[failed: system failed]]>") {
			t.Errorf("got %+v of %s", got, l.all()[0].body)
		}
	})
	t.Run("a notice", func(t *testing.T) {
		for share, want := range map[float64]string{0: "<ErrorCode>0</ErrorCode><ErrorStatus><![CDATA[success]]>", 1: "<ErrorCode>1</ErrorCode>"} {
			b, l := newListening(t, plain, func(c *Callback) { c.Receipts.Failed = share })
			b.shop.Permit(alice, "paid", 1)
			id := b.post(PathSubscribe, template(alice, "")).MsgID
			b.settled()
			if got := l.all()[0].body; !strings.Contains(got, fmt.Sprintf("<SubscribeMsgSentEvent><List><TemplateId><![CDATA[paid]]></TemplateId><MsgID>%d</MsgID>%s", id, want)) {
				t.Errorf("pushed %s", got)
			}
		}
	})
	t.Run("a mass send", func(t *testing.T) {
		b, l := listening(t, plain)
		b.shop.AddFollowers("oCarol")
		b.do(Deed{Action: Refuse})
		id := b.post(PathMassSend, `{"touser":["oAlice","oBob","oCarol","oNobody"],"msgtype":"mpnews","mpnews":{"media_id":"m"}}`).MassID
		b.settled()
		got := l.all()[0].body
		for _, want := range []string{
			"<Event><![CDATA[MASSSENDJOBFINISH]]></Event>", fmt.Sprintf("<MsgID>%d</MsgID><Status><![CDATA[send success]]>", id),
			"<TotalCount>3</TotalCount><FilterCount>2</FilterCount><SentCount>2</SentCount><ErrorCount>0</ErrorCount>",
			"<ArticleUrlResult><Count>1</Count><ResultList><item><ArticleIdx>1</ArticleIdx><ArticleUrl>", "<CheckState>1</CheckState>",
		} {
			if !strings.Contains(got, want) {
				t.Errorf("no %s in %s", want, got)
			}
		}
	})
	t.Run("a mass send that is judged afterwards", func(t *testing.T) {
		b, l := listening(t, plain)
		_ = b.shop.Change(func(s *Settings) { s.Mass.Verdict = "err(30003)" })
		id := b.post(PathMassSend, `{"touser":["oAlice","oBob"],"msgtype":"text","text":{"content":"hi"}}`).MassID
		b.settled()
		if got := l.all()[0].body; !strings.Contains(got, "err(30003)") || !strings.Contains(got, "<ResultList></ResultList>") {
			t.Errorf("pushed %s", got)
		}
		if got := b.post(PathMassGet, fmt.Sprintf(`{"msg_id":"%d"}`, id)); got.Status != "SEND_FAIL" || b.shop.MassReceived(alice) != 0 {
			t.Errorf("mass/get says %s", got.Raw)
		}
	})
	t.Run("a mass send that an administrator refuses", func(t *testing.T) {
		b, l := listening(t, plain)
		_ = b.shop.Change(func(s *Settings) { s.Mass.Protected = true })
		id := b.post(PathMassSendAll, `{"filter":{"is_to_all":true},"msgtype":"text","text":{"content":"hi"}}`).MassID
		b.settled()
		b.shop.DecideMass(id, false)
		b.settled()
		if all := l.all(); len(all) != 1 || !strings.Contains(all[0].body, "err(40001)") {
			t.Errorf("pushed %v", all)
		}
	})
}

func TestEarlyReceiptsComeBeforeTheAnswer(t *testing.T) {
	b, l := listening(t, func(c *Callback) { c.Receipts.Early, c.Receipts.Delay = 1, Latency{Min: time.Hour, Max: time.Hour} })
	var answered atomic.Bool
	var late atomic.Int32
	l.answer = func(http.ResponseWriter, url.Values, []byte) {
		if answered.Load() {
			late.Add(1)
		}
	}
	b.post(PathTemplate, template(alice, "id-1"))
	b.post(PathMassSend, `{"touser":["oAlice","oBob"],"msgtype":"text","text":{"content":"hi"}}`)
	answered.Store(true)
	if all := b.settled(); late.Load() != 0 || len(l.all()) != 2 || !all[0].Early || !all[1].Early {
		t.Errorf("%d of %d came late: %+v", late.Load(), len(l.all()), all)
	}
}

func TestSharesOfReceipts(t *testing.T) {
	fortunes := func() (lost, twice int) {
		b, _ := newListening(t, func(c *Callback) {
			c.Receipts.Fortune = Fortune{Delay: Latency{Max: 5 * time.Millisecond}, Lost: 0.1, Twice: 0.1, Reorder: 0.1}
		})
		for i := range 400 {
			b.post(PathTemplate, template(alice, fmt.Sprint("id-", i)))
		}
		for _, p := range b.settled() {
			switch {
			case p.Fate == Lost:
				lost++
			case p.Twice:
				twice++
			}
		}
		counts := b.sim.PushCounts()
		if counts.Made != 400 || counts.Waiting != 0 || int(counts.Lost) != lost || int(counts.Delivered) != 400-lost {
			t.Errorf("counts %+v", counts)
		}
		return lost, twice
	}
	lost, twice := fortunes()
	if lost < 20 || lost > 70 || twice < 20 || twice > 70 {
		t.Errorf("%d lost and %d doubled of 400; want about 40 each", lost, twice)
	}
	if l, d := fortunes(); l != lost || d != twice {
		t.Errorf("with the same seed %d lost and %d doubled, then %d and %d", lost, twice, l, d)
	}
}
