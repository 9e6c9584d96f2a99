package callback

import (
	"strings"
	"testing"
	"time"
)

func TestRulesReply(t *testing.T) {
	rules := Rules{
		{Keyword: "price", Contains: true, Reply: Text{"1 yuan"}},
		{Keyword: "hello", Reply: Text{"welcome"}},
		{Event: OnFollow, Reply: Text{"thank you"}},
		{Event: OnMenu, Key: "ABOUT", Reply: News{[]Article{{Title: "About"}}}},
		{Reply: Transfer{}},
	}
	d := serve(t, Encrypted, func(e *Endpoint, _ *HandlerOptions) { e.Replies = rules })
	for body, want := range map[string]string{
		says("What is the PRICE?"):                     "1 yuan",
		says(" Hello "):                                "welcome",
		says("hello there"):                            "transfer_customer_service",
		happens("subscribe", ""):                       "thank you",
		happens("CLICK", "<EventKey>ABOUT</EventKey>"): "About",
		happens("CLICK", "<EventKey>OTHER</EventKey>"): Success,
		happens("unsubscribe", ""):                     Success,
	} {
		q, sealed := weChat.push(body, time.Now())
		status, text := d.post(q, sealed)
		if status != 200 {
			t.Errorf("%s: got %d", body, status)
		}
		if want != Success {
			_, text = weChat.unseal(t, between(text, "<Encrypt><![CDATA[", "]]></Encrypt>"))
		}
		if !strings.Contains(text, want) {
			t.Errorf("%s: answered %q, want %q in it", body, text, want)
		}
	}
}

func between(text, before, after string) string {
	_, text, _ = strings.Cut(text, before)
	text, _, _ = strings.Cut(text, after)
	return text
}
