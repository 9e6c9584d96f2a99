package wechattest

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

func TestTemplateRules(t *testing.T) {
	for _, c := range []struct {
		name string
		body string
		code int
		text string
	}{
		{"a good one is accepted", template(alice, ""), 0, "ok"},
		{"no template", `{"touser":"oAlice"}`, badTemplateIDLength, ""},
		{"an unknown template", `{"touser":"oAlice","template_id":"nope"}`, badTemplateID, ""},
		{"no data", `{"touser":"oAlice","template_id":"paid"}`, badArgument, "argument invalid! data is empty"},
		{"a missing keyword", `{"touser":"oAlice","template_id":"paid","data":{"character_string1":{"value":"1"}}}`, badArgument, "argument invalid! data.thing2.value is empty"},
		{"a keyword written with .DATA is missing", `{"touser":"oAlice","template_id":"paid","data":{"character_string1.DATA":{"value":"1"}}}`, badArgument, "argument invalid! data.character_string1.value is empty"},
		{"a keyword without value", `{"touser":"oAlice","template_id":"paid","data":{"character_string1":"1"}}`, badArgument, "argument invalid! data.character_string1.value is empty"},
		{"a value against its type", `{"touser":"oAlice","template_id":"paid","data":{"character_string1":{"value":"订单"}}}`, badArgument, "argument invalid! data.character_string1.value invalid"},
		{"a thing of 21 characters", `{"touser":"oAlice","template_id":"paid","data":{"character_string1":{"value":"1"},"thing2":{"value":"` + strings.Repeat("茶", 21) + `"}}}`, badArgument, "argument invalid! data.thing2.value invalid"},
		{"more keys, a number and a color are taken", `{"touser":"oAlice","template_id":"paid","data":{"first":{"value":"x"},"character_string1":{"value":7,"color":"#173177"},"thing2":{"value":"\u8336"}}}`, 0, "ok"},
		{"old keywords have no types", `{"touser":"oAlice","template_id":"free","data":{"first":{"value":"` + strings.Repeat("茶", 99) + `"},"keyword1":{"value":"x"}}}`, 0, "ok"},
		{"a mini program that is not bound", `{"touser":"oAlice","template_id":"paid","miniprogram":{"appid":"wx8","pagepath":"a"}}`, badAppID, ""},
		{"a page that is not there", `{"touser":"oAlice","template_id":"paid","miniprogram":{"appid":"wx7","pagepath":"b?x=1"}}`, badPagePath, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := setup(t, func(s *Settings) { s.MiniPrograms = []MiniProgram{{AppID: "wx7", Pages: []string{"a"}}} })
			r := b.post(PathTemplate, c.body)
			b.want(r, c.code)
			if !strings.HasPrefix(r.Errmsg, c.text) {
				t.Errorf("errmsg %q, want %q", r.Errmsg, c.text)
			}
			if c.code == 0 && r.MsgID <= 1<<53 {
				t.Errorf("msgid %d fits a float64", r.MsgID)
			}
			b.accepted(map[bool]int{true: 1, false: 0}[c.code == 0])
		})
	}
}

func TestRecipients(t *testing.T) {
	b := setup(t)
	b.want(b.post(PathTemplate, template("oNobody", "")), badOpenID)
	for _, c := range []struct {
		action Action
		code   int
	}{{Unsubscribe, notFollowing}, {Follow, 0}, {Refuse, userRefuses}, {Allow, 0}, {Blacklist, inBlacklist}, {Unblacklist, 0}} {
		if err := b.shop.Act(alice, c.action); err != nil {
			t.Fatal(err)
		}
		b.want(b.post(PathTemplate, template(alice, "")), c.code)
	}
	b.accepted(3)
}

func TestValueRules(t *testing.T) {
	for key, c := range map[string]struct{ good, bad []string }{
		"number1":           {[]string{"12", "-3.5"}, []string{"1,000", "1.", "abc", strings.Repeat("1", 33)}},
		"letter1":           {[]string{"abC"}, []string{"ab1", strings.Repeat("a", 33)}},
		"symbol1":           {[]string{"-+~"}, []string{"a", "------"}},
		"character_string1": {[]string{"A-1001/b"}, []string{"订单", strings.Repeat("a", 33)}},
		"time1":             {[]string{"15:01", "2026-11-22 10:00:00", "2019年10月1日 15:01", "10:00~12:00"}, []string{"2026-11-22", "25:00", "3 pm", "10:60"}},
		"date1":             {[]string{"2026-11-22", "2019年10月1日", "2026/1/2 15:01", "2026-01-01~2026-01-31"}, []string{"22.11.2026", "2026-13-01", "tomorrow"}},
		"amount1":           {[]string{"¥100", "100.50元", "$3"}, []string{"12345678901", "free", "-1"}},
		"phone_number1":     {[]string{"+86-0766-66888866"}, []string{"call me", strings.Repeat("1", 18)}},
		"car_number1":       {[]string{"粤A8Z888挂"}, []string{"粤A8Z88888"}},
		"name1":             {[]string{"王小明", "Alexander"}, []string{strings.Repeat("王", 11), strings.Repeat("a", 21)}},
		"phrase1":           {[]string{"配送中"}, []string{"已经送到了家", "done"}},
		"keyword1":          {[]string{strings.Repeat("x", 300)}, nil},
	} {
		for _, v := range c.good {
			if !validValue(key, []byte(v), nil) {
				t.Errorf("%s refuses %q", key, v)
			}
		}
		for _, v := range c.bad {
			if validValue(key, []byte(v), nil) {
				t.Errorf("%s takes %q", key, v)
			}
		}
	}
	if validValue("const1", []byte("c"), []string{"a", "b"}) || !validValue("const1", []byte("a"), []string{"a", "b"}) {
		t.Error("a const is one of its list")
	}
}

func TestClientMsgID(t *testing.T) {
	for _, c := range []struct {
		mode Duplicate
		code int
		same bool
	}{{FirstMsgID, 0, true}, {NewMsgID, 0, false}, {Refused, duplicateIn60s, false}} {
		t.Run("a duplicate is sent once: "+string(c.mode), func(t *testing.T) {
			b := setup(t, func(s *Settings) { s.Duplicate = c.mode })
			first := b.post(PathTemplate, template(alice, "id-1"))
			b.sim.Clock.Advance(10*time.Minute - time.Second)
			second := b.post(PathTemplate, template(alice, "id-1"))
			b.want(second, c.code)
			if c.code == 0 && (second.MsgID == first.MsgID) != c.same {
				t.Errorf("first %d, second %d", first.MsgID, second.MsgID)
			}
			b.accepted(1)
			b.want(b.post(PathTemplate, template(bob, "id-1")), 0)
			b.accepted(2)
			b.sim.Clock.Advance(time.Second)
			b.want(b.post(PathTemplate, template(alice, "id-1")), 0)
			b.accepted(3)
		})
	}
	t.Run("a refused send does not take the id", func(t *testing.T) {
		b := setup(t)
		b.want(b.post(PathTemplate, `{"touser":"oAlice","template_id":"x","client_msg_id":"id-1"}`), badTemplateID)
		b.want(b.post(PathTemplate, template(alice, "id-1")), 0)
		b.accepted(1)
	})
}

func TestSubscribe(t *testing.T) {
	b := setup(t)
	b.want(b.post(PathSubscribe, template(alice, "")), userRefuses)
	b.shop.Permit(alice, "paid", 1)
	b.want(b.post(PathSubscribe, `{"touser":"oAlice","template_id":"paid","data":{}}`), badArgument) // does not use up the permission
	b.want(b.post(PathSubscribe, template(alice, "")), 0)
	b.want(b.post(PathSubscribe, template(alice, "")), userRefuses)
	b.shop.Permit(bob, "paid", -1)
	_ = b.shop.Act(bob, Unsubscribe) // need not follow
	for range 3 {
		b.want(b.post(PathSubscribe, template(bob, "")), 0)
	}
	b.accepted(4)
}

func TestWindow(t *testing.T) {
	send := func(b *bundle) int { return b.post(PathCustom, textTo(alice)).Errcode }
	for _, c := range []struct {
		action   Action
		messages int
		lasts    time.Duration
	}{{Message, 5, 48 * time.Hour}, {Menu, 3, time.Minute}, {Follow, 3, time.Minute}, {Scan, 3, time.Minute}, {Pay, 0, 0}} {
		t.Run(fmt.Sprintf("%s opens %d messages for %s", c.action, c.messages, c.lasts), func(t *testing.T) {
			b := setup(t)
			if got := send(b); got != outOfTime {
				t.Errorf("before: %d", got)
			}
			_ = b.shop.Act(alice, c.action)
			for i := range c.messages {
				if got := send(b); got != 0 {
					t.Errorf("message %d: %d", i+1, got)
				}
			}
			if got := send(b); c.messages > 0 && got != outOfCount {
				t.Errorf("one more: %d", got)
			}
			_ = b.shop.Act(alice, c.action)
			b.sim.Clock.Advance(c.lasts)
			if got := send(b); got != outOfTime {
				t.Errorf("after its time: %d", got)
			}
			b.accepted(c.messages)
		})
	}
	t.Run("separate allowances: the one that ends first is used first", func(t *testing.T) {
		b := setup(t)
		_ = b.shop.Act(alice, Message)
		_ = b.shop.Act(alice, Menu)
		for i := range 8 {
			if got := send(b); got != 0 {
				t.Errorf("message %d: %d", i+1, got)
			}
		}
		if got := send(b); got != outOfCount {
			t.Errorf("the ninth: %d", got)
		}
		_ = b.shop.Act(alice, Message)
		_ = b.shop.Act(alice, Menu)
		_, _, _ = send(b), send(b), send(b)
		b.sim.Clock.Advance(time.Minute) // the three came from the menu
		for i := range 5 {
			if got := send(b); got != 0 {
				t.Errorf("message %d after the menu: %d", i+1, got)
			}
		}
	})
	t.Run("the maximum rule does not add up", func(t *testing.T) {
		b := setup(t, func(s *Settings) { s.Combine = Maximum })
		_ = b.shop.Act(alice, Message)
		_ = b.shop.Act(alice, Menu)
		b.sim.Clock.Advance(time.Hour) // the longest end holds
		_, _, _ = send(b), send(b), send(b)
		if got := send(b); got != outOfCount {
			t.Errorf("the fourth: %d", got)
		}
	})
	t.Run("unsubscribing closes it; failed sends use nothing up", func(t *testing.T) {
		b := setup(t)
		_ = b.shop.Act(alice, Menu)
		for range 5 {
			b.want(b.post(PathCustom, `{"touser":"oAlice","msgtype":"text","text":{"content":""}}`), textEmpty)
		}
		if got := send(b); got != 0 {
			t.Errorf("after failures: %d", got)
		}
		_ = b.shop.Act(alice, Unsubscribe)
		if got := send(b); got != outOfTime {
			t.Errorf("after unsubscribing: %d", got)
		}
		if got := b.shop.WindowRefusals(alice); got != 1 {
			t.Errorf("%d window refusals, want 1", got)
		}
	})
}

func TestCustomContent(t *testing.T) {
	b := setup(t, func(s *Settings) { s.AnyMedia, s.AnyWindow, s.Materials = false, true, []string{"M1"} })
	for body, code := range map[string]int{
		`"msgtype":"text","text":{"content":"` + strings.Repeat("x", 2049) + `"}`: textTooLong,
		`"msgtype":"link","link":{}`:                                                                         badMsgType,
		`"msgtype":"image","image":{}`:                                                                       mediaIDMissing,
		`"msgtype":"image","image":{"media_id":"M2"}`:                                                        badMediaID,
		`"msgtype":"image","image":{"media_id":"M1"}`:                                                        0,
		`"msgtype":"news","news":{"articles":[{"title":"a"},{"title":"b"}]}`:                                 tooManyArticles,
		`"msgtype":"news","news":{"articles":[]}`:                                                            articlesEmpty,
		`"msgtype":"news","news":{"articles":[{"title":"a"}]}`:                                               0,
		`"msgtype":"msgmenu","msgmenu":{"list":[{"id":"1","content":"满意"}]}`:                                 0,
		`"msgtype":"miniprogrampage","miniprogrampage":{"appid":"wx8","pagepath":"a","thumb_media_id":"M1"}`: badAppID,
	} {
		r := b.post(PathCustom, `{"touser":"oAlice",`+body+`}`)
		if r.Errcode != code {
			t.Errorf("%s: got %s, want %d", body, r.Raw, code)
		}
	}
}

func TestTyping(t *testing.T) {
	b := setup(t)
	typing := `{"touser":"oAlice","command":"Typing"}`
	b.want(b.post(PathTyping, typing), noRecentExchange)
	_ = b.shop.Act(alice, Message)
	b.want(b.post(PathTyping, `{"touser":"oAlice","command":"Sleeping"}`), badTypingCommand)
	b.want(b.post(PathTyping, typing), 0)
	b.want(b.post(PathTyping, typing), typingAlready)
	b.want(b.post(PathTyping, `{"touser":"oAlice","command":"CancelTyping"}`), 0)
	b.sim.Clock.Advance(31 * time.Second)
	b.want(b.post(PathTyping, typing), noRecentExchange)
}
