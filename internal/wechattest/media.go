package wechattest

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"path"
	"slices"
	"strings"
)

// mediaRules are the sizes and endings of temporary material (media/upload; of images another sentence of
// the page says 2 MB).
var mediaRules = map[string]struct {
	size    int64
	endings []string
}{
	"image": {10 << 20, []string{".png", ".jpeg", ".jpg", ".gif"}},
	"voice": {2 << 20, []string{".amr", ".mp3"}},
	"video": {10 << 20, []string{".mp4"}},
	"thumb": {64 << 10, []string{".jpg", ".jpeg"}},
}

// uploadMedia is POST /cgi-bin/media/upload: temporary material, good for 3 days.
func uploadMedia(c *call) *refusal {
	kind := param(c.query, "type")
	rules, ok := mediaRules[kind]
	if !ok {
		return refuse(badMediaType)
	}
	name, size, err := c.uploaded()
	switch {
	case err != nil, size == 0:
		return refuse(mediaDataMissing)
	case !slices.Contains(rules.endings, strings.ToLower(path.Ext(name))):
		return refuse(badFileType)
	case size > rules.size:
		return refuse(badFileSize)
	}
	id := fmt.Sprintf("MEDIA_%s_%d", kind, c.sim.newMsgID())
	a := c.account
	a.mu.Lock()
	a.media[id] = medium{kind, c.now}
	a.mu.Unlock()
	member := "media_id"
	if kind == "thumb" {
		member = "thumb_media_id"
	}
	c.out = fmt.Appendf(c.out, `{"type":"%s","%s":"%s","created_at":%d}`, kind, member, id, c.now.Unix())
	return nil
}

// uploaded is the name and size of the file in the form's field media.
func (c *call) uploaded() (name string, size int64, err error) {
	kind, params, err := mime.ParseMediaType(c.req.Header.Get("Content-Type"))
	if err != nil || kind != "multipart/form-data" {
		return "", 0, errors.New("no form")
	}
	form := multipart.NewReader(bytes.NewReader(c.body), params["boundary"])
	for {
		part, err := form.NextPart()
		if err != nil {
			return "", 0, err
		}
		if part.FormName() == "media" {
			size, err = io.Copy(io.Discard, part)
			return part.FileName(), size, err
		}
	}
}
