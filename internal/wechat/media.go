package wechat

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"mime/multipart"
	"net/http"
	"net/textproto"
	"path/filepath"
	"strings"
	"time"
)

// A MediaType is a type of temporary material (临时素材).
type MediaType string

// The media types.
const (
	Image MediaType = "image"
	Voice MediaType = "voice"
	Video MediaType = "video"
	Thumb MediaType = "thumb"
)

// MediaLifetime is how long WeChat keeps temporary material.
const MediaLifetime = 72 * time.Hour

// mediaRules are WeChat's limits on temporary material; for images another sentence of the page says 2 MB.
var mediaRules = map[MediaType]struct {
	maxBytes int64
	names    []string
}{
	Image: {10 << 20, []string{".png", ".jpg", ".jpeg", ".gif"}},
	Voice: {2 << 20, []string{".amr", ".mp3"}},
	Video: {10 << 20, []string{".mp4"}},
	Thumb: {64 << 10, []string{".jpg", ".jpeg"}},
}

// An Upload is a file to become temporary material.
type Upload struct {
	Type    MediaType
	Name    string // of the file; its extension must be one that WeChat takes
	Size    int64
	Content io.Reader // of exactly Size bytes
}

// A MediaError says why WeChat would refuse a file, of which nothing was sent.
type MediaError string

func (e MediaError) Error() string { return string(e) }

func mediaError(format string, args ...any) error { return MediaError(fmt.Sprintf(format, args...)) }

// Check says what WeChat would refuse: the type, the file's extension or its size. The error is a [MediaError].
func (u Upload) Check() error {
	rule, ok := mediaRules[u.Type]
	if !ok {
		return mediaError("media type %q: want image, voice, video or thumb", u.Type)
	}
	ext := strings.ToLower(filepath.Ext(u.Name))
	known := false
	for _, name := range rule.names {
		known = known || ext == name
	}
	switch {
	case !known:
		return mediaError("%s %s: want a file named %s", u.Type, filepath.Base(u.Name), strings.Join(rule.names, ", "))
	case u.Size <= 0:
		return mediaError("%s %s: the file is empty", u.Type, filepath.Base(u.Name))
	case u.Size > rule.maxBytes:
		return mediaError("%s %s: %d bytes exceed WeChat's %d", u.Type, filepath.Base(u.Name), u.Size, rule.maxBytes)
	}
	return nil
}

// Media is uploaded material.
type Media struct {
	Type      MediaType
	ID        string // media_id, or thumb_media_id of a thumb
	CreatedAt time.Time
	ExpiresAt time.Time // after [MediaLifetime]
}

// UploadMedia uploads temporary material, streaming it, after [Upload.Check] and a look at the first
// bytes: a file named .png that holds no PNG is refused here.
//
// WeChat: 素材管理, 新增临时素材; the page was read through SDKs that restate it.
func (c *Client) UploadMedia(ctx context.Context, tok Token, u Upload) (Media, error) {
	if tok.Value.IsZero() {
		return Media{}, fmt.Errorf("%s: %w", PathMediaUpload, errNoToken)
	}
	if err := u.Check(); err != nil {
		return Media{}, err
	}
	content := bufio.NewReaderSize(u.Content, 32<<10)
	if head, _ := content.Peek(12); !looksLike(strings.ToLower(filepath.Ext(u.Name)), head) {
		return Media{}, mediaError("%s %s: the content is of another type than the name", u.Type, filepath.Base(u.Name))
	}
	call := Call{
		Method: http.MethodPost, Path: PathMediaUpload, Token: tok.Value,
		Query: NewSecret("type=" + string(u.Type)),
	}
	call.Stream, call.Length, call.ContentType = u.multipart(content)
	var out struct {
		ID        string  `json:"media_id"`
		ThumbID   string  `json:"thumb_media_id"`
		CreatedAt integer `json:"created_at"`
	}
	reply, err := c.call(ctx, call, &out)
	if err != nil {
		return Media{}, err
	}
	if out.ID == "" {
		out.ID = out.ThumbID
	}
	if out.ID == "" {
		call.Base = c.base
		return Media{}, replyError(call, reply, errNoAnswer)
	}
	created := time.Now()
	if out.CreatedAt > 0 {
		created = time.Unix(int64(out.CreatedAt), 0)
	}
	return Media{u.Type, out.ID, created, created.Add(MediaLifetime)}, nil
}

// multipart wraps the content as the form field "media" of a known length.
func (u Upload) multipart(content io.Reader) (body io.Reader, length int64, contentType string) {
	var frame bytes.Buffer
	form := multipart.NewWriter(&frame)
	name := strings.NewReplacer(`"`, "_", `\`, "_", "\r", "_", "\n", "_").Replace(filepath.Base(u.Name))
	_, _ = form.CreatePart(textproto.MIMEHeader{ // a bytes.Buffer never fails
		"Content-Disposition": {fmt.Sprintf(`form-data; name="media"; filename="%s"; filelength=%d`, name, u.Size)},
		"Content-Type":        {"application/octet-stream"},
	})
	head := bytes.Clone(frame.Bytes())
	frame.Reset()
	_ = form.Close()
	body = io.MultiReader(bytes.NewReader(head), content, &frame)
	return body, int64(len(head)) + u.Size + int64(frame.Len()), form.FormDataContentType()
}

// looksLike compares a file's first bytes with what its extension promises.
func looksLike(ext string, head []byte) bool {
	starts := func(signs ...string) bool {
		for _, s := range signs {
			if bytes.HasPrefix(head, []byte(s)) {
				return true
			}
		}
		return false
	}
	switch ext {
	case ".png":
		return starts("\x89PNG\r\n\x1a\n")
	case ".jpg", ".jpeg":
		return starts("\xff\xd8\xff")
	case ".gif":
		return starts("GIF87a", "GIF89a")
	case ".amr":
		return starts("#!AMR")
	case ".mp3":
		return starts("ID3", "\xff\xfb", "\xff\xf3", "\xff\xf2", "\xff\xfa")
	case ".mp4":
		return len(head) >= 8 && string(head[4:8]) == "ftyp"
	}
	return false
}
