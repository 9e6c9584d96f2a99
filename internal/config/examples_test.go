package config

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// yamlBlock is a block of YAML in a page.
var yamlBlock = regexp.MustCompile("(?s)```yaml\n(.*?)```")

// What the pages show of an account can be copied: with the account's own keys it is a configuration.
func TestExamplesOfThePagesAreAccepted(t *testing.T) {
	env := environment("SHOP_CALLBACK_TOKEN", "token", "SHOP_AES_KEY", strings.Repeat("A", 43), "SHOP_WEBHOOK_SECRET", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "SHOP_SECRET", "s")
	found := 0
	for _, page := range []string{"callbacks.md", "webhooks.md", "zh/callbacks.md", "zh/webhooks.md"} {
		text, err := os.ReadFile(filepath.Join("../../docs", page))
		if err != nil {
			t.Fatal(err)
		}
		for _, block := range yamlBlock.FindAllStringSubmatch(string(text), -1) {
			if !strings.HasPrefix(block[1], "accounts:\n  - name: shop\n") {
				continue
			}
			found++
			whole := strings.Replace(block[1], "name: shop\n", "name: shop\n    appid: wx0000000000000001\n    secret: s\n    type: service\n", 1)
			if _, err := Load(write(t, whole), env, NeedAccounts); err != nil {
				t.Errorf("%s: %v in\n%s", page, err, block[1])
			}
		}
	}
	if found < 8 {
		t.Errorf("found %d examples, want at least 8: the test reads no pages", found)
	}
}

func TestEveryKindOfReplyIsRead(t *testing.T) {
	c, err := Load(write(t, shop+`
    webhook: {url: "https://h/hook", secret: whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw, openid: true}
    callback:
      token: t
      aes_key: `+strings.Repeat("A", 43)+`
      replies:
        - {keyword: a, contains: true, text: b}
        - {event: follow, image: M1}
        - {event: scan, key: "7", voice: M2}
        - {event: menu, video: {media_id: M3, title: t, description: d}}
        - {keyword: c, contains: false, music: {title: t, description: d, url: "http://u", hq_url: "http://h", thumb_media_id: M4}}
        - {keyword: d, news: [{title: t, description: d, pic_url: "http://p", url: "http://u"}]}
        - {transfer: {enabled: true, kf_account: k@shop}}
`), environment())
	if err != nil {
		t.Fatal(err)
	}
	want := []Reply{
		{Keyword: "a", Contains: true, Text: "b"},
		{Event: "follow", Image: "M1"},
		{Event: "scan", Key: "7", Voice: "M2"},
		{Event: "menu", Video: VideoReply{MediaID: "M3", Title: "t", Description: "d"}},
		{Keyword: "c", Music: MusicReply{Title: "t", Description: "d", URL: "http://u", HQURL: "http://h", ThumbMediaID: "M4"}},
		{Keyword: "d", News: []ArticleReply{{Title: "t", Description: "d", PicURL: "http://p", URL: "http://u"}}},
		{Transfer: TransferReply{Enabled: true, KfAccount: "k@shop"}},
	}
	if diff := cmp.Diff(want, c.Accounts[0].Callback.Replies); diff != "" {
		t.Error(diff)
	}
	if !c.Accounts[0].Webhook.OpenID {
		t.Error("webhook.openid is not read")
	}
}
