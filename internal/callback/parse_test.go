package callback

import (
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"
)

// hostileXML are bodies that encoding/xml takes, or that cost much, and that are refused.
var hostileXML = map[string]string{
	"DOCTYPE":                   `<!DOCTYPE xml><xml><MsgType>text</MsgType></xml>`,
	"entity bomb":               `<!DOCTYPE x [<!ENTITY a "aaaaaaaa"><!ENTITY b "&a;&a;&a;">]><xml><MsgType>&b;</MsgType></xml>`,
	"external entity":           `<!DOCTYPE x [<!ENTITY a SYSTEM "file:///etc/passwd">]><xml><MsgType>&a;</MsgType></xml>`,
	"unknown entity":            `<xml><MsgType>&nbsp;</MsgType></xml>`,
	"directive inside":          `<xml><!ELEMENT a><MsgType>text</MsgType></xml>`,
	"comment":                   `<xml><MsgType>te<!-- -->xt</MsgType></xml>`,
	"processing instruction":    `<?php x?><xml><MsgType>text</MsgType></xml>`,
	"instruction inside":        `<xml><?xml version="1.0"?><MsgType>text</MsgType></xml>`,
	"second declaration":        `<?xml version="1.0"?><?xml version="1.0"?><xml><MsgType>text</MsgType></xml>`,
	"other encoding":            `<?xml version="1.0" encoding="gbk"?><xml><MsgType>text</MsgType></xml>`,
	"element twice":             `<xml><Encrypt>a</Encrypt><Encrypt>b</Encrypt></xml>`,
	"element twice inside":      `<xml><a><b/><b/></a></xml>`,
	"second document":           `<xml><MsgType>text</MsgType></xml><xml><MsgType>event</MsgType></xml>`,
	"text behind":               `<xml><MsgType>text</MsgType></xml>x`,
	"text before":               `x<xml><MsgType>text</MsgType></xml>`,
	"byte order mark":           "\uFEFF<xml><MsgType>text</MsgType></xml>",
	"namespace":                 `<a:xml><a:MsgType>text</a:MsgType></a:xml>`,
	"attribute":                 `<xml xmlns="x"><MsgType>text</MsgType></xml>`,
	"text beside elements":      `<xml>x<MsgType>text</MsgType></xml>`,
	"nine levels":               strings.Repeat("<a>", 9) + strings.Repeat("</a>", 9),
	"10,000 levels":             strings.Repeat("<a>", 10_000),
	"257 elements":              "<xml>" + strings.Repeat("<List/>", 256) + "</xml>",
	"crossed":                   `<xml><a><b></a></b></xml>`,
	"unclosed":                  `<xml><MsgType>text</MsgType>`,
	"never opened":              `</xml>`,
	"closed twice":              `<xml></xml></xml>`,
	"invalid UTF-8":             "<xml><MsgType>\xff</MsgType></xml>",
	"NUL":                       "<xml><MsgType>\x00</MsgType></xml>",
	"NUL by number":             "<xml><MsgType>&#0;</MsgType></xml>",
	"nothing":                   "",
	"space":                     "  \n",
	"only a declaration":        `<?xml version="1.0"?>`,
	"CDATA end in plain text":   `<xml><a>]]></a></xml>`,
	"CDATA that does not end":   `<xml><a><![CDATA[x</a></xml>`,
	"larger than a body may be": "<xml>" + strings.Repeat(" ", MaxBody) + "</xml>",
}

// hostileJSON are bodies that encoding/json takes, or that cost much, and that are refused.
var hostileJSON = map[string]string{
	"member twice":         `{"Encrypt":"a","Encrypt":"b"}`,
	"member twice inside":  `{"a":{"b":1,"b":2}}`,
	"List twice":           `{"List":[{"a":1}],"List":[]  ,"List":{}}`,
	"trailing object":      `{"MsgType":"text"}{"MsgType":"event"}`,
	"trailing text":        `{"MsgType":"text"} x`,
	"trailing comma":       `{"MsgType":"text",}`,
	"lists of lists":       `{"a":[[1]]}`,
	"nine levels":          strings.Repeat(`{"a":`, 9) + "1" + strings.Repeat("}", 9),
	"30,000 levels":        strings.Repeat(`{"a":`, 10_000),
	"257 elements":         `{"a":[1` + strings.Repeat(",1", 256) + `]}`,
	"invalid UTF-8":        "{\"MsgType\":\"\xff\"}",
	"escaped NUL":          `{"MsgType":"\u0000"}`,
	"escaped NUL in names": `{"\u0000":"x"}`,
	"empty name":           `{"":1}`,
	"unclosed":             `{"MsgType":"text"`,
	"no object":            `["MsgType"]`,
	"no number":            `{"a":01}`,
}

func TestHostileBodiesAreRefused(t *testing.T) {
	for _, bodies := range []map[string]string{hostileXML, hostileJSON} {
		for name, body := range bodies {
			if n, _, err := parse([]byte(body)); err == nil {
				t.Errorf("%s: read as %+v", name, n)
			}
		}
	}
}

func TestRefusalsNameTheirReason(t *testing.T) {
	for name, want := range map[string]error{
		"DOCTYPE": errNotData, "comment": errNotData, "namespace": errNotData, "attribute": errNotData,
		"element twice": errDuplicate, "second document": errTrailing, "text behind": errTrailing,
		"nine levels": errDepth, "10,000 levels": errDepth, "257 elements": errElements, "text beside elements": errMixed,
		"unclosed": errMalformed, "larger than a body may be": errTooLarge,
	} {
		if _, _, err := parse([]byte(hostileXML[name])); !errors.Is(err, want) {
			t.Errorf("%s: got %v, want %v", name, err, want)
		}
	}
	for name, want := range map[string]error{
		"member twice": errDuplicate, "nine levels": errDepth, "257 elements": errElements, "escaped NUL": errForbidden,
	} {
		if _, _, err := parse([]byte(hostileJSON[name])); !errors.Is(err, want) {
			t.Errorf("%s: got %v, want %v", name, err, want)
		}
	}
}

func TestPeculiarBodiesOfWeChatAreRead(t *testing.T) {
	for _, body := range []string{
		"<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<xml>\n  <MsgType><![CDATA[text]]></MsgType>\n <a></a><b/></xml>\n",
		`<xml><MsgType>te<![CDATA[x]]>t</MsgType></xml>`,
		`<root><MsgType>&#116;ext</MsgType></root>`,
		" \r\n{ \"MsgType\" : \"text\", \"a\": null, \"b\": [], \"c\": true, \"d\": 1.5 }\n",
		strings.Repeat("<a>", 7) + "<MsgType>x</MsgType>" + strings.Repeat("</a>", 7),
		"<xml><MsgType>text</MsgType>" + strings.Repeat("<List/>", 254) + "</xml>",
	} {
		n, _, err := parse([]byte(body))
		if err != nil || strings.HasPrefix(body, "<xml>") && n.get("MsgType") != "text" {
			t.Errorf("%s: got %+v, %v", body, n, err)
		}
	}
}

func TestTextIsKeptAsItCame(t *testing.T) {
	n, _, err := parse([]byte("<xml><Content><![CDATA[ a <b> ]]]]><![CDATA[> ]]></Content></xml>"))
	if err != nil || n.get("Content") != " a <b> ]]> " {
		t.Errorf("got %q, %v", n.get("Content"), err)
	}
}

func TestBothFormsMakeOnePush(t *testing.T) {
	pushes := map[Form]*Push{}
	for _, body := range []string{noticesXML, noticesJSON} {
		n, form, err := parse([]byte(body))
		if err != nil {
			t.Fatal(err)
		}
		if pushes[form], err = newPush(n); err != nil {
			t.Fatal(err)
		}
	}
	if !reflect.DeepEqual(pushes[XML], pushes[JSON]) || len(pushes[XML].Subscriptions) != 2 {
		t.Errorf("XML  %+v\nJSON %+v", pushes[XML], pushes[JSON])
	}
}

func TestPushesThatLackTheirMiddleAreRefused(t *testing.T) {
	for body, want := range map[string]error{
		`{"CreateTime":1}`:                                                               errIncomplete,
		`{"MsgType":"text"}`:                                                             errNoTime,
		`{"MsgType":"text","CreateTime":"soon"}`:                                         errNoTime,
		`{"MsgType":"text","CreateTime":-1}`:                                             errNoTime,
		`{"MsgType":"text","CreateTime":9223372036854775807}`:                            errNoTime,
		`{"MsgType":"text","CreateTime":1.5}`:                                            errNoTime,
		`{"MsgType":"text","CreateTime":1,"MsgId":"x"}`:                                  errNumber,
		`{"MsgType":"text","CreateTime":1,"MsgId":92233720368547758070}`:                 errNumber,
		`{"MsgType":"event","Event":"MASSSENDJOBFINISH","CreateTime":1,"SentCount":"x"}`: errNumber,
		`{"MsgType":"event","Event":"novelty","CreateTime":"1","MsgID":"x"}`:             nil,
	} {
		n, _, err := parse([]byte(body))
		if err == nil {
			_, err = newPush(n)
		}
		if !errors.Is(err, want) {
			t.Errorf("%s: got %v, want %v", body, err, want)
		}
	}
}

// TestFullestPushFits: WeChat's largest push, a mass job of eight articles, each with every field at its longest.
func TestFullestPushFits(t *testing.T) {
	var copyright, urls string
	link := "<![CDATA[http://mp.weixin.qq.com/s?" + strings.Repeat("x", 400) + "]]>"
	for i := range 8 {
		copyright += fmt.Sprintf("<item><ArticleIdx>%d</ArticleIdx><UserDeclareState>0</UserDeclareState><AuditState>2</AuditState>"+
			"<OriginalArticleUrl>%s</OriginalArticleUrl><OriginalArticleType>1</OriginalArticleType><CanReprint>1</CanReprint>"+
			"<NeedReplaceContent>1</NeedReplaceContent><NeedShowReprintSource>1</NeedShowReprintSource></item>", i+1, link)
		urls += fmt.Sprintf("<item><ArticleIdx>%d</ArticleIdx><ArticleUrl>%s</ArticleUrl></item>", i+1, link)
	}
	q, body := weChat.push(event("MASSSENDJOBFINISH", "<MsgID>1</MsgID><Status>send success</Status><CopyrightCheckResult><Count>8</Count><ResultList>"+
		copyright+"</ResultList><CheckState>1</CheckState></CopyrightCheckResult><ArticleUrlResult><Count>8</Count><ResultList>"+urls+
		"</ResultList></ArticleUrlResult>"), noon)
	in, err := newDoor(t, Encrypted).Open(q, body, noon)
	if err != nil || len(in.Push.Mass.Copyright) != 8 || len(in.Push.Mass.URLs) != 8 {
		t.Errorf("got %+v, %v", in, err)
	}
}
