package callback

import (
	"fmt"
	"reflect"
	"strings"
	"testing"

	"github.com/hongyan-dispatch/hongyan/message"
)

const (
	noticesXML = `<xml><ToUserName><![CDATA[gh_1]]></ToUserName><FromUserName><![CDATA[oABC]]></FromUserName><CreateTime>1610969440</CreateTime>` +
		`<MsgType><![CDATA[event]]></MsgType><Event><![CDATA[subscribe_msg_sent_event]]></Event><SubscribeMsgSentEvent>` +
		`<List><TemplateId><![CDATA[t1]]></TemplateId><MsgID>1700827132819554304</MsgID><ErrorCode>0</ErrorCode><ErrorStatus><![CDATA[success]]></ErrorStatus></List>` +
		`<List><TemplateId>t2</TemplateId><MsgID>1700827132819554305</MsgID><ErrorCode>1</ErrorCode><ErrorStatus>system error</ErrorStatus></List>` +
		`</SubscribeMsgSentEvent></xml>`
	noticesJSON = `{"ToUserName":"gh_1","FromUserName":"oABC","CreateTime":"1610969440","MsgType":"event","Event":"subscribe_msg_sent_event",` +
		`"SubscribeMsgSentEvent":{"List":[{"TemplateId":"t1","MsgID":1700827132819554304,"ErrorCode":0,"ErrorStatus":"success"},` +
		`{"TemplateId":"t2","MsgID":"1700827132819554305","ErrorCode":1,"ErrorStatus":"system error"}]}}`
	massXML = `<MsgID>1000001625</MsgID><Status><![CDATA[err(30003)]]></Status><TotalCount>4</TotalCount><FilterCount>3</FilterCount>` +
		`<SentCount>2</SentCount><ErrorCount>1</ErrorCount><CopyrightCheckResult><Count>2</Count><ResultList><item><ArticleIdx>1</ArticleIdx>` +
		`<UserDeclareState>0</UserDeclareState><AuditState>2</AuditState><OriginalArticleUrl><![CDATA[Url_1]]></OriginalArticleUrl>` +
		`<OriginalArticleType>1</OriginalArticleType><CanReprint>1</CanReprint><NeedReplaceContent>1</NeedReplaceContent>` +
		`<NeedShowReprintSource>1</NeedShowReprintSource></item><item><ArticleIdx>2</ArticleIdx></item></ResultList><CheckState>2</CheckState>` +
		`</CopyrightCheckResult><ArticleUrlResult><Count>1</Count><ResultList><item><ArticleIdx>1</ArticleIdx><ArticleUrl><![CDATA[Url]]>` +
		`</ArticleUrl></item></ResultList></ArticleUrlResult>`
)

// meanings are pushes, and what they mean beside their key, user and time.
var meanings = []struct {
	name, body string
	want       Meaning
}{
	{"text", words("<Content>hi</Content><MsgId>6972028683187026694</MsgId>"), Meaning{Trigger: MessageTrigger, Presence: Active}},
	{"tap on a msgmenu", words("<Content>yes</Content><MsgId>2</MsgId><bizmsgmenuid>101</bizmsgmenuid>"), Meaning{Trigger: MenuTrigger, Presence: Active}},
	{"image", asType("image"), Meaning{Trigger: MessageTrigger, Presence: Active}},
	{"voice", asType("voice"), Meaning{Trigger: MessageTrigger, Presence: Active}},
	{"video", asType("video"), Meaning{Trigger: MessageTrigger, Presence: Active}},
	{"shortvideo", asType("shortvideo"), Meaning{Trigger: MessageTrigger, Presence: Active}},
	{"location message", asType("location"), Meaning{Trigger: MessageTrigger, Presence: Active}},
	{"link", asType("link"), Meaning{Trigger: MessageTrigger, Presence: Active}},
	{"CLICK", event("CLICK", "<EventKey>k</EventKey>"), Meaning{Trigger: MenuTrigger, Presence: Active}},
	{"scancode_push", event("scancode_push", "<EventKey>k</EventKey>"), Meaning{Trigger: MenuTrigger, Presence: Active}},
	{"scancode_waitmsg", event("scancode_waitmsg", "<EventKey>k</EventKey>"), Meaning{Trigger: MenuTrigger, Presence: Active}},
	{"VIEW", event("VIEW", "<EventKey>http://x</EventKey><MenuId>1</MenuId>"), Meaning{Presence: Active}},
	{"view_miniprogram", event("view_miniprogram", ""), Meaning{Presence: Active}},
	{"pic_sysphoto", event("pic_sysphoto", ""), Meaning{Presence: Active}},
	{"pic_photo_or_album", event("pic_photo_or_album", ""), Meaning{Presence: Active}},
	{"pic_weixin", event("pic_weixin", "<SendPicsInfo><Count>2</Count><PicList><item><PicMd5Sum>a</PicMd5Sum></item><item/></PicList></SendPicsInfo>"), Meaning{Presence: Active}},
	{"location_select", event("location_select", ""), Meaning{Presence: Active}},
	{"subscribe", event("subscribe", "<EventKey></EventKey>"), Meaning{Trigger: FollowTrigger, Presence: Followed}},
	{"subscribe by a code", event("subscribe", "<EventKey>qrscene_123</EventKey><Ticket>t</Ticket>"), Meaning{Trigger: FollowTrigger, Presence: Followed, Scene: "123"}},
	{"SCAN", event("SCAN", "<EventKey>qrscene_x</EventKey><Ticket>t</Ticket>"), Meaning{Trigger: ScanTrigger, Presence: Active, Scene: "qrscene_x"}},
	{"unsubscribe", event("unsubscribe", "<EventKey/>"), Meaning{Presence: Left}},
	{"LOCATION", event("LOCATION", "<Latitude>1</Latitude>"), Meaning{}},
	{
		"template arrived", event("TEMPLATESENDJOBFINISH", "<MsgID>200163836</MsgID><Status><![CDATA[success]]></Status>"),
		Meaning{Receipts: []Receipt{{Kind: message.Template, MsgID: 200163836, Delivered: true}}},
	},
	{
		"template in lower case", event("templatesendjobfinish", "<MsgID>1</MsgID><Status> Success </Status>"),
		Meaning{Receipts: []Receipt{{Kind: message.Template, MsgID: 1, Delivered: true}}},
	},
	{
		"template refused by the user", event("TEMPLATESENDJOBFINISH", "<MsgID>1</MsgID><Status>failed:user block</Status>"),
		Meaning{Receipts: []Receipt{{Kind: message.Template, MsgID: 1, Reason: Blocked}}},
	},
	{
		"template, system failed", event("TEMPLATESENDJOBFINISH", "<MsgID>1</MsgID><Status>failed: system failed</Status>"),
		Meaning{Receipts: []Receipt{{Kind: message.Template, MsgID: 1, Reason: "system failed"}}},
	},
	{
		"template, undocumented reason", event("TEMPLATESENDJOBFINISH", "<MsgID>0</MsgID><Status>failed:freq limit: 3</Status>"),
		Meaning{Receipts: []Receipt{{Kind: message.Template, Reason: "freq limit: 3"}}},
	},
	{
		"template, unknown status", event("TEMPLATESENDJOBFINISH", "<MsgID>1</MsgID><Status>success:not</Status>"),
		Meaning{Receipts: []Receipt{{Kind: message.Template, MsgID: 1, Reason: "success:not"}}},
	},
	{
		"two notices", noticesXML, Meaning{Receipts: []Receipt{
			{Kind: message.Subscribe, MsgID: 1700827132819554304, TemplateID: "t1", Delivered: true},
			{Kind: message.Subscribe, MsgID: 1700827132819554305, TemplateID: "t2", Reason: "system error", Code: 1},
		}},
	},
	{
		"notice without code", event("subscribe_msg_sent_event", "<SubscribeMsgSentEvent><List><MsgID>1</MsgID><ErrorStatus>success</ErrorStatus></List></SubscribeMsgSentEvent>"),
		Meaning{Receipts: []Receipt{{Kind: message.Subscribe, MsgID: 1, Delivered: true, Code: -1}}},
	},
	{
		"choices", event("subscribe_msg_popup_event", "<SubscribeMsgPopupEvent><List><TemplateId>t1</TemplateId><SubscribeStatusString>accept</SubscribeStatusString><PopupScene>2</PopupScene></List>"+
			"<List><TemplateId>t2</TemplateId><SubscribeStatusString>reject</SubscribeStatusString></List><List><TemplateId>t3</TemplateId><SubscribeStatusString>later</SubscribeStatusString></List></SubscribeMsgPopupEvent>"),
		Meaning{Choices: []Choice{{"t1", false}, {"t2", true}}},
	},
	{
		"change", event("subscribe_msg_change_event", "<SubscribeMsgChangeEvent><List><TemplateId>t2</TemplateId><SubscribeStatusString>reject</SubscribeStatusString></List></SubscribeMsgChangeEvent>"),
		Meaning{Choices: []Choice{{"t2", true}}},
	},
	{
		"mass job", event("MASSSENDJOBFINISH", massXML), Meaning{Mass: &MassReceipt{
			MsgID: 1000001625, Code: 30003, Status: "err(30003)", Reason: massReasons[30003],
			Job: MassJob{
				TotalCount: 4, FilterCount: 3, SentCount: 2, ErrorCount: 1, CheckState: 2,
				Copyright: []CopyrightCheck{
					{1, 0, 2, "Url_1", 1, true, true, true}, {ArticleIdx: 2},
				},
				URLs: []ArticleURL{{1, "Url"}},
			},
		}},
	},
	{
		"mass job without articles", event("MASSSENDJOBFINISH", "<MsgID>1</MsgID><Status>send success</Status><TotalCount>1</TotalCount>"+
			"<CopyrightCheckResult><Count>0</Count><ResultList/><CheckState>0</CheckState></CopyrightCheckResult><ArticleUrlResult><Count>0</Count><ResultList>\n </ResultList></ArticleUrlResult>"),
		Meaning{Mass: &MassReceipt{MsgID: 1, Sent: true, Status: "send success", Job: MassJob{TotalCount: 1}}},
	},
	{"unknown event", event("novelty", "<Thing>1</Thing>"), Meaning{}},
	{"unknown message", asType("hologram"), Meaning{}},
}

func asType(msgType string) string {
	return strings.Replace(words("<MediaId>m</MediaId><MsgId>3</MsgId>"), ">text<", ">"+msgType+"<", 1)
}

// meaning reads a body that must be one.
func meaning(t testing.TB, body string) Meaning {
	t.Helper()
	n, _, err := parse([]byte(body))
	if err != nil {
		t.Fatalf("%s: %v", body, err)
	}
	p, err := newPush(n)
	if err != nil {
		t.Fatalf("%s: %v", body, err)
	}
	return p.Meaning()
}

func TestMeanings(t *testing.T) {
	for _, c := range meanings {
		got, want := meaning(t, c.body), c.want
		want.Known = !strings.HasPrefix(c.name, "unknown")
		want.Key, want.At, want.User = got.Key, got.At, "oABC"
		if want.Mass != nil {
			want.User = "" // a helper account, not a recipient
		}
		if !reflect.DeepEqual(got, want) {
			t.Errorf("%s: got  %+v\nwant %+v", c.name, got, want)
		}
	}
}

func TestPushesOfNobodyChangeNoUser(t *testing.T) {
	for _, user := range []string{"", "o A", "o\u00e9", strings.Repeat("o", 65)} {
		for _, body := range []string{words("<MsgId>1</MsgId>"), event("subscribe", ""), event("unsubscribe", "")} {
			m := meaning(t, strings.Replace(body, "oABC", user, 1))
			if m.User != "" || m.Trigger != NoTrigger || m.Presence != NoPresence {
				t.Errorf("user %q: got %+v", user, m)
			}
		}
	}
	if m := meaning(t, strings.Replace(noticesXML, "oABC", "", 1)); len(m.Receipts) != 2 {
		t.Errorf("the receipts are lost: %+v", m)
	}
}

func TestMassStatuses(t *testing.T) {
	for _, c := range []struct {
		status string
		sent   bool
		code   int
		reason string
	}{
		{"send success", true, 0, ""},
		{"sendsuccess", true, 0, ""},
		{" Send  Success ", true, 0, ""},
		{"send fail", false, 0, "failed"},
		{"err(10001)", false, 10001, "suspected advertising"},
		{"err (40002)", false, 40002, "no administrator answered within 30 minutes"},
		{"err(99999)", false, 99999, "err(99999)"},
		{"err(x)", false, 0, "err(x)"},
		{"novel words", false, 0, "novel words"},
		{"", false, 0, ""},
	} {
		p := Push{MsgType: "event", Event: "MASSSENDJOBFINISH", Status: c.status}
		got := p.Meaning().Mass
		if got.Sent != c.sent || got.Code != int32(c.code) || got.Reason != c.reason || got.Status != c.status {
			t.Errorf("%q: got %+v", c.status, got)
		}
	}
}

func TestRepetitionsHaveOneKeyAndOthersDoNot(t *testing.T) {
	seen := map[string]string{}
	// Of the menu's events with the same key, only the name differs; so it goes for follow and scan of one second.
	for _, c := range meanings {
		switch c.name {
		case "image", "voice", "video", "shortvideo", "location message", "link", "unknown message": // one MsgId each
			continue
		case "template refused by the user", "template, system failed", "template, unknown status", "template in lower case", "mass job without articles":
			continue
		}
		key := meaning(t, c.body).Key
		if other, taken := seen[key]; taken {
			t.Errorf("%s has the key of %s", c.name, other)
		}
		seen[key] = c.name
		if meaning(t, c.body).Key != key || len(key) != 32 {
			t.Errorf("%s: key %q does not repeat", c.name, key)
		}
	}
	for name, pair := range map[string][2]string{
		"form":                    {noticesXML, noticesJSON},
		"case of a job's event":   {event("TEMPLATESENDJOBFINISH", "<MsgID>1</MsgID>"), event("templatesendjobfinish", "<MsgID>1</MsgID>")},
		"time of a message":       {words("<MsgId>1</MsgId>"), strings.Replace(words("<MsgId>1</MsgId>"), fmt.Sprint(noon.Unix()-60), fmt.Sprint(noon.Unix()), 1)},
		"status of a job's event": {event("MASSSENDJOBFINISH", "<MsgID>1</MsgID><Status>a</Status>"), event("MASSSENDJOBFINISH", "<MsgID>1</MsgID>")},
	} {
		if a, b := meaning(t, pair[0]).Key, meaning(t, pair[1]).Key; a != b {
			t.Errorf("keys differ by %s: %s, %s", name, a, b)
		}
	}
	for name, pair := range map[string][2]string{
		"kind":             {words("<MsgId>1</MsgId>"), event("TEMPLATESENDJOBFINISH", "<MsgID>1</MsgID>")},
		"job":              {event("MASSSENDJOBFINISH", "<MsgID>1</MsgID>"), event("TEMPLATESENDJOBFINISH", "<MsgID>1</MsgID>")},
		"menu key":         {event("CLICK", "<EventKey>a</EventKey>"), event("CLICK", "<EventKey>b</EventKey>")},
		"status, MsgID 0":  {event("TEMPLATESENDJOBFINISH", "<Status>a</Status>"), event("TEMPLATESENDJOBFINISH", "<Status>b</Status>")},
		"notice":           {noticesXML, strings.Replace(noticesXML, "1700827132819554304", "5", 1)},
		"user":             {event("CLICK", ""), strings.Replace(event("CLICK", ""), "oABC", "oABD", 1)},
		"messages without": {words(""), event("CLICK", "")},
	} {
		if a, b := meaning(t, pair[0]).Key, meaning(t, pair[1]).Key; a == b {
			t.Errorf("one key although the %s differs: %s", name, a)
		}
	}
}
