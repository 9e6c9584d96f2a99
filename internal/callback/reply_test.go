package callback

import (
	"encoding/json"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// readAnswer opens an encrypted answer as WeChat does.
func (c counterpart) readAnswer(t testing.TB, answer []byte) string {
	t.Helper()
	between := func(before, after string) string {
		_, rest, ok := strings.Cut(string(answer), before)
		value, _, ends := strings.Cut(rest, after)
		if !ok || !ends {
			t.Fatalf("answer %q lacks %s", answer, before)
		}
		return value
	}
	var encrypt, signature, timestamp, nonce string
	if answer[0] == '{' {
		var a struct {
			Encrypt, MsgSignature, Nonce string
			TimeStamp                    int64
		}
		if err := json.Unmarshal(answer, &a); err != nil {
			t.Fatal(err)
		}
		encrypt, signature, nonce, timestamp = a.Encrypt, a.MsgSignature, a.Nonce, between(`"TimeStamp":`, ",")
	} else {
		encrypt, signature = between("<Encrypt><![CDATA[", "]]></Encrypt>"), between("<MsgSignature><![CDATA[", "]]></MsgSignature>")
		timestamp, nonce = between("<TimeStamp>", "</TimeStamp>"), between("<Nonce><![CDATA[", "]]></Nonce>")
	}
	if want := c.signature(timestamp, nonce, encrypt); signature != want {
		t.Fatalf("MsgSignature got %s, want %s", signature, want)
	}
	_, msg := c.unseal(t, encrypt)
	return msg
}

const replyHead = "<xml><ToUserName><![CDATA[oABC]]></ToUserName><FromUserName><![CDATA[gh_1]]></FromUserName>" +
	"<CreateTime>1795348800</CreateTime><MsgType><![CDATA["

var replies = []struct {
	reply     Reply
	xml, json string
}{
	{
		Text{"您好 <a href=\"x\">&</a>"},
		"text]]></MsgType><Content><![CDATA[您好 <a href=\"x\">&</a>]]></Content></xml>",
		`"text","Content":"您好 <a href=\"x\">&</a>"}`,
	},
	{Image{"m1"}, "image]]></MsgType><Image><MediaId><![CDATA[m1]]></MediaId></Image></xml>", `"image","Image":{"MediaId":"m1"}}`},
	{Voice{"m1"}, "voice]]></MsgType><Voice><MediaId><![CDATA[m1]]></MediaId></Voice></xml>", `"voice","Voice":{"MediaId":"m1"}}`},
	{
		Video{"m1", "t", ""},
		"video]]></MsgType><Video><MediaId><![CDATA[m1]]></MediaId><Title><![CDATA[t]]></Title></Video></xml>",
		`"video","Video":{"MediaId":"m1","Title":"t"}}`,
	},
	{
		Music{"", "d", "u", "h", "m1"},
		"music]]></MsgType><Music><Description><![CDATA[d]]></Description><MusicUrl><![CDATA[u]]></MusicUrl>" +
			"<HQMusicUrl><![CDATA[h]]></HQMusicUrl><ThumbMediaId><![CDATA[m1]]></ThumbMediaId></Music></xml>",
		`"music","Music":{"Description":"d","MusicUrl":"u","HQMusicUrl":"h","ThumbMediaId":"m1"}}`,
	},
	{
		News{[]Article{{"t", "d", "p", "u"}}},
		"news]]></MsgType><ArticleCount>1</ArticleCount><Articles><item><Title><![CDATA[t]]></Title>" +
			"<Description><![CDATA[d]]></Description><PicUrl><![CDATA[p]]></PicUrl><Url><![CDATA[u]]></Url></item></Articles></xml>",
		`"news","ArticleCount":1,"Articles":[{"Title":"t","Description":"d","PicUrl":"p","Url":"u"}]}`,
	},
	{Transfer{}, "transfer_customer_service]]></MsgType></xml>", `"transfer_customer_service"}`},
	{
		Transfer{"test1@test"},
		"transfer_customer_service]]></MsgType><TransInfo><KfAccount><![CDATA[test1@test]]></KfAccount></TransInfo></xml>",
		`"transfer_customer_service","TransInfo":{"KfAccount":"test1@test"}}`,
	},
}

func TestRepliesAreWrittenInTheFormOfTheirRequest(t *testing.T) {
	asJSON := `{"ToUserName":"gh_1","FromUserName":"oABC","CreateTime":1795348740,"MsgType":"text","Content":"hi","MsgId":1}`
	for _, c := range replies {
		for _, body := range []string{words("<Content>hi</Content>"), asJSON} {
			want := replyHead + c.xml
			if body == asJSON {
				want = `{"ToUserName":"oABC","FromUserName":"gh_1","CreateTime":1795348800,"MsgType":` + c.json
			}
			in, err := newDoor(t, Plain).Open(weChat.query(noon), []byte(body), noon)
			if err != nil {
				t.Fatal(err)
			}
			if got, err := in.Answer(c.reply, noon); err != nil || string(got) != want {
				t.Errorf("plain: got  %s, %v\nwant %s", got, err, want)
			}
			q, sealed := weChat.push(body, noon)
			if in, err = newDoor(t, Encrypted).Open(q, sealed, noon); err != nil {
				t.Fatal(err)
			}
			got, err := in.Answer(c.reply, noon)
			if err != nil {
				t.Fatal(err)
			}
			if inside := weChat.readAnswer(t, got); inside != want {
				t.Errorf("encrypted: got  %s\nwant %s", inside, want)
			}
		}
	}
}

func TestKnownReplyIsWrittenToTheByte(t *testing.T) {
	v := vectors(t).Enc[1]
	d, err := New(Config{AppID: "wxba5fad812f8e6fb9", Tokens: []string{v.Token}, AESKeys: []string{v.Key}})
	if err != nil {
		t.Fatal(err)
	}
	in := &Delivery{door: d}
	want := `{"Encrypt":"` + v.Want + `","MsgSignature":"` + v.WantSig + `","TimeStamp":1713424427,"Nonce":"415670741"}`
	if got := in.wrap([]byte(v.Msg), [randomHead]byte([]byte(v.Random)), v.Nonce, 1713424427).body(JSON); string(got) != want {
		t.Errorf("got %s\nwant %s", got, want)
	}
}

func TestRepliesThatLackSomethingAreRefused(t *testing.T) {
	eight := News{make([]Article, 8)}
	for _, r := range []Reply{Text{}, Image{}, Voice{}, Video{}, Music{}, News{}, News{make([]Article, 9)}} {
		if CheckReply(r) == nil {
			t.Errorf("%#v is accepted", r)
		}
		if _, err := envelope(&Push{MsgType: "event"}, r, 1); err == nil {
			t.Errorf("%#v is written", r)
		}
	}
	if _, err := envelope(&Push{MsgType: "text"}, eight, 1); err == nil {
		t.Error("eight articles answer a message; WeChat allows one")
	}
	if _, err := envelope(&Push{MsgType: "event"}, eight, 1); err != nil {
		t.Errorf("eight articles answer an event: %v", err)
	}
}

func TestAnyTextComesThroughAReply(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		s := rapid.OneOf(rapid.String(), rapid.StringMatching(`[\]>a<&]{0,20}`)).Draw(rt, "text")
		s = strings.ReplaceAll(strings.ReplaceAll(s, "\r", ""), "\x00", "")
		r := group("xml", text("Content", s), text("Other", "x"))
		n, form, err := parse(r.body(XML))
		if err != nil || form != XML || n.get("Other") != "x" {
			rt.Fatalf("%q: %v", s, err)
		}
		want := strings.Map(func(c rune) rune {
			if c < ' ' && c != '\t' && c != '\n' || c == 0xFFFE || c == 0xFFFF {
				return 0xFFFD
			}
			return c
		}, s)
		if got := n.get("Content"); got != want {
			rt.Fatalf("XML got %q, want %q", got, want)
		}
		if n, form, err = parse(r.body(JSON)); err != nil || form != JSON || n.get("Content") != strings.ToValidUTF8(s, "\uFFFD") {
			rt.Fatalf("JSON got %q, want %q: %v", n.get("Content"), s, err)
		}
	})
}
