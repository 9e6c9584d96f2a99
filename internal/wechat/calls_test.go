package wechat

import (
	"errors"
	"io"
	"mime"
	"mime/multipart"
	"net/http"
	"net/http/httptest"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/hongyan-dispatch/hongyan/message"
)

func TestCalls(t *testing.T) {
	ctx, tok, secret := t.Context(), canaryToken, NewSecret("s3cret&=")
	for _, c := range []struct {
		name                string
		call                func(*Client) (any, error)
		reply               string
		method, path, query string
		body                string
		want                any
	}{
		{
			"mass preview shows the first image and drops the filter", func(c *Client) (any, error) {
				return c.MassPreview(ctx, tok, MassPreview{To: "o1"}, []byte(`{"filter":{"is_to_all":true},"msgtype":"image","images":{"media_ids":["M1","M2"]}}`))
			}, `{"errcode":0,"errmsg":"preview success"}`,
			"POST", PathMassPreview, "", `{"image":{"media_id":"M1"},"msgtype":"image","touser":"o1"}`, int64(0),
		},
		{
			"mass preview by WeChat id", func(c *Client) (any, error) {
				return c.MassPreview(ctx, tok, MassPreview{WeChatID: "someone"}, []byte(`{"msgtype":"text","text":{"content":"<b>"}}`))
			}, `{"errcode":0,"msg_id":34182}`,
			"POST", PathMassPreview, "", `{"msgtype":"text","text":{"content":"<b>"},"towxname":"someone"}`, int64(34182),
		},
		{
			"mass delete", func(c *Client) (any, error) { return nil, c.MassDelete(ctx, tok, 30124, 1) }, `{"errcode":0}`,
			"POST", PathMassDelete, "", `{"article_idx":1,"msg_id":30124}`, nil,
		},
		{
			"mass status", func(c *Client) (any, error) { return c.MassStatus(ctx, tok, 201053012) },
			`{"msg_id":201053012,"msg_status":"SEND_SUCCESS"}`, "POST", PathMassGet, "", `{"msg_id":"201053012"}`, MassSuccess,
		},
		{
			"mass speed", func(c *Client) (any, error) { return c.MassSpeed(ctx, tok) }, `{"speed":3,"realspeed":15}`,
			"POST", PathMassSpeedGet, "", `{}`,
			MassSpeed{3, 15},
		},
		{
			"set mass speed", func(c *Client) (any, error) { return nil, c.SetMassSpeed(ctx, tok, 2) }, `{"errcode":0}`,
			"POST", PathMassSpeedSet, "", `{"speed":2}`, nil,
		},
		{
			"quota with a rate", func(c *Client) (any, error) { return c.QuotaGet(ctx, tok, PathCustom) },
			`{"errcode":0,"errmsg":"ok","quota":{"daily_limit":500000,"used":7,"remain":499993},"rate_limit":{"call_count":600,"refresh_second":60}}`,
			"POST", PathQuotaGet, "", `{"cgi_path":"/cgi-bin/message/custom/send"}`,
			Quota{500000, 7, 499993, RateLimit{600, time.Minute}},
		},
		{
			"quota without a rate", func(c *Client) (any, error) { return c.QuotaGet(ctx, tok, PathCustom) },
			`{"errcode":0,"quota":{"daily_limit":10,"used":10,"remain":0}}`,
			"POST", PathQuotaGet, "", `{"cgi_path":"/cgi-bin/message/custom/send"}`,
			Quota{DailyLimit: 10, Used: 10},
		},
		{
			"templates", func(c *Client) (any, error) { return c.Templates(ctx, tok) },
			`{"template_list":[{"template_id":"T","title":"订单","content":"{{thing1.DATA}}"}]}`,
			"GET", PathTemplates, "", "",
			[]PrivateTemplate{{ID: "T", Title: "订单", Content: "{{thing1.DATA}}"}},
		},
		{
			"followers", func(c *Client) (any, error) { return c.Followers(ctx, tok, "o1") },
			`{"total":3,"count":1,"data":{"openid":["o2"]},"next_openid":"o2"}`,
			"GET", PathUsers, "next_openid=o1", "",
			UserPage{[]message.OpenID{"o2"}, "o2"},
		},
		{
			"no more followers", func(c *Client) (any, error) { return c.Followers(ctx, tok, "") },
			`{"total":3,"count":0,"next_openid":""}`, "GET", PathUsers, "", "",
			UserPage{},
		},
		{
			"users of a tag", func(c *Client) (any, error) { return c.TagUsers(ctx, tok, 102, "") },
			`{"count":2,"data":{"openid":["o1","o2"]},"next_openid":"o2"}`,
			"POST", PathTagUsers, "", `{"tagid":102,"next_openid":""}`,
			UserPage{[]message.OpenID{"o1", "o2"}, "o2"},
		},
		{
			"stable token", func(c *Client) (any, error) {
				g, err := c.StableToken(ctx, "wx1", secret, false)
				return reveal(g), err
			},
			`{"access_token":"TOK","expires_in":7200}`, "POST", PathStableToken, "",
			`{"grant_type":"client_credential","appid":"wx1","secret":"s3cret&=","force_refresh":false}`, "TOK 2h0m0s",
		},
		{
			"stable token by force", func(c *Client) (any, error) { g, err := c.StableToken(ctx, "wx1", secret, true); return reveal(g), err },
			`{"access_token":"TOK","expires_in":"300"}`, "POST", PathStableToken, "",
			`{"grant_type":"client_credential","appid":"wx1","secret":"s3cret&=","force_refresh":true}`, "TOK 5m0s",
		},
		{
			"legacy token", func(c *Client) (any, error) { g, err := c.LegacyToken(ctx, "wx1", secret); return reveal(g), err },
			`{"access_token":"TOK","expires_in":7200}`,
			"GET", PathToken, "appid=wx1&grant_type=client_credential&secret=s3cret%26%3D", "", "TOK 2h0m0s",
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			client, r := recording(c.reply)
			got, err := c.call(client)
			if err != nil || !reflect.DeepEqual(got, c.want) {
				t.Errorf("got %v, %v, want %v", got, err, c.want)
			}
			if r.call.Method != c.method || r.call.Path != c.path || r.call.Query.Reveal() != c.query || string(r.call.Body) != c.body {
				t.Errorf("got %v ?%s %s", r.call, r.call.Query.Reveal(), r.call.Body)
			}
			isToken := c.path == PathToken || c.path == PathStableToken
			if r.call.Token.IsZero() != isToken {
				t.Errorf("with a token: %v", !r.call.Token.IsZero())
			}
			if refusing, _ := recording(`{"errcode":40164,"errmsg":"invalid ip 1.2.3.4, not in whitelist"}`); true {
				var e *Error
				if _, err := c.call(refusing); !errors.As(err, &e) || e.Code != 40164 || e.API != c.path || !strings.Contains(e.Msg, "1.2.3.4") {
					t.Errorf("refused: got %v", err)
				}
			}
			for _, body := range []string{"", "<html>", `{"errcode":`} {
				broken, _ := recording(body)
				if _, err := c.call(broken); !errors.Is(err, errNoAnswer) {
					t.Errorf("%q: got %v", body, err)
				}
			}
		})
	}
}

func reveal(g Grant) string { return g.Token.Reveal() + " " + g.ExpiresIn.String() }

func TestATokenReplyWithoutTokenIsNone(t *testing.T) {
	for _, body := range []string{`{}`, `{"access_token":"","expires_in":7200}`, `{"access_token":"T"}`, `{"access_token":"T","expires_in":-1}`} {
		client, _ := recording(body)
		if g, err := client.StableToken(t.Context(), "wx1", NewSecret("s"), false); err == nil || !g.Token.IsZero() {
			t.Errorf("%s: got %v, %v", body, g, err)
		}
	}
}

func TestUploadMedia(t *testing.T) {
	const png = "\x89PNG\r\n\x1a\nrest"
	t.Run("the file arrives as the field media", func(t *testing.T) {
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			_, params, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
			if err != nil || r.URL.Query().Get("type") != "image" || r.URL.Query().Get("access_token") != canary || r.ContentLength <= 0 {
				t.Errorf("type %v, length %d, query %s", err, r.ContentLength, r.URL.RawQuery)
			}
			part, err := multipart.NewReader(r.Body, params["boundary"]).NextPart()
			if err != nil {
				t.Error(err)
				return
			}
			content, _ := io.ReadAll(part)
			if part.FormName() != "media" || part.FileName() != "a_b.png" || string(content) != png {
				t.Errorf("got %s, %s, %q", part.FormName(), part.FileName(), content)
			}
			_, _ = io.WriteString(w, `{"type":"image","media_id":"MID","created_at":1700000000}`)
		}))
		defer s.Close()
		m, err := clientOf(t, s.URL).UploadMedia(t.Context(), canaryToken, Upload{Image, `/x/a"b.png`, int64(len(png)), strings.NewReader(png)})
		want := Media{Image, "MID", time.Unix(1700000000, 0), time.Unix(1700000000, 0).Add(72 * time.Hour)}
		if err != nil || m != want {
			t.Errorf("got %v, %v", m, err)
		}
	})
	t.Run("a thumb has a thumb_media_id", func(t *testing.T) {
		client, _ := recording(`{"type":"thumb","thumb_media_id":"TID","created_at":1700000000}`)
		m, err := client.UploadMedia(t.Context(), canaryToken, Upload{Thumb, "a.JPG", 4, strings.NewReader("\xff\xd8\xff\x00")})
		if err != nil || m.ID != "TID" {
			t.Errorf("got %v, %v", m, err)
		}
	})
	for _, c := range []struct {
		name   string
		upload Upload
		want   string
	}{
		{"an unknown type", Upload{"file", "a.png", 1, nil}, `media type "file"`},
		{"a foreign extension", Upload{Image, "a.bmp", 1, nil}, "want a file named .png, .jpg, .jpeg, .gif"},
		{"an empty file", Upload{Voice, "a.amr", 0, nil}, "empty"},
		{"a file too large", Upload{Thumb, "a.jpg", 64<<10 + 1, nil}, "65537 bytes exceed WeChat's 65536"},
		{"content of another type", Upload{Video, "a.mp4", 12, strings.NewReader(png)}, "another type"},
	} {
		t.Run(c.name+" is refused without a call", func(t *testing.T) {
			client, r := recording(`{}`)
			_, err := client.UploadMedia(t.Context(), canaryToken, c.upload)
			if err == nil || !strings.Contains(err.Error(), c.want) || r.call.Path != "" {
				t.Errorf("got %v, call %v", err, r.call)
			}
		})
	}
}
