package wechattest

import (
	"bytes"
	"encoding/json"
	"mime/multipart"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

func TestFollowersComeInPages(t *testing.T) {
	b := setup(t, func(s *Settings) { s.Tags = []Tag{{2, "会员"}} })
	for i := range pageOfFollowers {
		b.shop.AddFollowers(OpenID("oP", i))
	}
	_ = b.shop.Act("oGone", Unsubscribe)
	b.shop.Tag(2, bob)
	type page struct {
		Total, Count int
		Data         *struct{ Openid []string }
		Next         string `json:"next_openid"`
	}
	read := func(r reply) (p page) {
		if err := json.Unmarshal([]byte(r.Raw), &p); err != nil {
			t.Fatal(err)
		}
		return p
	}
	first := read(b.get(PathUsers))
	second := read(b.get(PathUsers + "?next_openid=" + first.Next))
	third := read(b.get(PathUsers + "?next_openid=" + second.Next))
	if first.Count != pageOfFollowers || second.Count != 2 || third.Count != 0 || first.Total != pageOfFollowers+2 {
		t.Errorf("pages of %d, %d, %d of %d", first.Count, second.Count, third.Count, first.Total)
	}
	if third.Data != nil || third.Next != "" || first.Data.Openid[0] != alice {
		t.Errorf("the first begins with %s; the last is %+v", first.Data.Openid[0], third)
	}
	if p := read(b.post(PathTagUsers, `{"tagid":2,"next_openid":""}`)); p.Count != 1 || p.Data.Openid[0] != bob {
		t.Errorf("the tag has %+v", p)
	}
	b.want(b.post(PathTagUsers, `{"tagid":9}`), badTagID)
	if got := b.get(PathTags).Raw; got != `{"tags":[{"id":2,"name":"会员","count":1}]}` {
		t.Errorf("tags/get says %s", got)
	}
}

func TestMediaUpload(t *testing.T) {
	b := setup(t, func(s *Settings) { s.AnyMedia, s.AnyWindow = false, true })
	upload := func(kind, field, name string, size int) string {
		var body bytes.Buffer
		form := multipart.NewWriter(&body)
		part, _ := form.CreateFormFile(field, name)
		_, _ = part.Write(make([]byte, size))
		_ = form.Close()
		r := httptest.NewRequest("POST", PathMediaUpload+"?access_token="+b.shop.Token()+"&type="+kind, &body)
		r.Header.Set("Content-Type", form.FormDataContentType())
		w := httptest.NewRecorder()
		b.sim.ServeHTTP(w, r)
		return w.Body.String()
	}
	for _, c := range []struct {
		kind, field, name string
		size              int
		want              string
	}{
		{"pdf", "media", "a.png", 9, `{"errcode":40004,`},
		{"image", "file", "a.png", 9, `{"errcode":41005,`},
		{"image", "media", "a.png", 0, `{"errcode":41005,`},
		{"image", "media", "a.exe", 9, `{"errcode":40005,`},
		{"voice", "media", "a.mp3", 2<<20 + 1, `{"errcode":40006,`},
		{"thumb", "media", "a.jpg", 9, `{"type":"thumb","thumb_media_id":"MEDIA_`},
	} {
		if got := upload(c.kind, c.field, c.name, c.size); !strings.HasPrefix(got, c.want) {
			t.Errorf("%+v: got %s", c, got)
		}
	}
	var image struct {
		Type      string
		MediaID   string `json:"media_id"`
		CreatedAt int64  `json:"created_at"`
	}
	if err := json.Unmarshal([]byte(upload("image", "media", "Tea.PNG", 99)), &image); err != nil || image.CreatedAt != noon.Unix() {
		t.Fatalf("got %+v, %v", image, err)
	}
	send := func(code int) {
		t.Helper()
		b.want(b.post(PathCustom, `{"touser":"oAlice","msgtype":"image","image":{"media_id":"`+image.MediaID+`"}}`), code)
	}
	b.sim.Clock.Advance(3*24*time.Hour - time.Second)
	send(0)
	b.sim.Clock.Advance(time.Second)
	send(badMediaID) // kept for 3 days
}
