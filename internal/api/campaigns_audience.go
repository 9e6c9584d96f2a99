package api

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"mime"
	"net/http"
	"os"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/hongyan-dispatch/hongyan/client"
	"github.com/hongyan-dispatch/hongyan/message"
)

// What an upload has in hand.
const (
	uploadMemory = 24 << 20 // two blocks of rows
	largeMemory  = 64 << 20 // besides, an Excel file, which is held whole, or the window of zstd
	shownRejects = 100
	maxUpload    = 255 // bytes of its name
)

// audienceTypes are the media types of uploads; the empty format is found out by the content.
var audienceTypes = map[string]string{
	"text/csv": "csv",
	typeLines:  "jsonl", "application/jsonl": "jsonl", "application/jsonlines": "jsonl",
	"application/vnd.openxmlformats-officedocument.spreadsheetml.sheet": "xlsx",
	"application/octet-stream": "", "application/gzip": "", "application/zstd": "",
}

// upload is what the request says of its file.
func (c *call) upload() (Upload, error) {
	given, more, err := mime.ParseMediaType(c.r.Header.Get("Content-Type"))
	format, known := audienceTypes[given]
	if err != nil || !known {
		return Upload{}, unsupported("Content-Type "+quote(c.r.Header.Get("Content-Type")),
			"send the file itself as text/csv, "+typeLines+", or application/octet-stream, by which its content decides; no form")
	}
	if coding := c.r.Header.Get("Content-Encoding"); !slices.Contains([]string{"", "identity", "gzip", "zstd"}, coding) {
		return Upload{}, unsupported("Content-Encoding "+quote(coding), "pack it with gzip or zstd, or send it as it is")
	}
	q := c.r.URL.Query()
	u := Upload{Name: q.Get("name"), Format: format, Encoding: q.Get("encoding")}
	if q.Has("format") {
		u.Format = q.Get("format")
	}
	if charset := strings.ToLower(more["charset"]); u.Encoding == "" && charset != "" {
		u.Encoding = charset
		if charset == "gbk" || charset == "gb2312" {
			u.Encoding = "gb18030"
		}
	}
	if u.Name == "" {
		u.Name = "upload"
	}
	switch {
	case len(u.Name) > maxUpload || !utf8.ValidString(u.Name) || strings.ContainsFunc(u.Name, unicode.IsControl):
		return u, malformed(fmt.Sprintf("name: want at most %d bytes of text on one line", maxUpload), "")
	case !slices.Contains([]string{"", "csv", "jsonl", "xlsx"}, u.Format):
		return u, malformed("format: want csv, jsonl or xlsx", "")
	case !slices.Contains([]string{"", "utf-8", "gb18030"}, u.Encoding):
		return u, malformed("encoding: want utf-8 or gb18030", "")
	}
	for name, into := range map[string]*bool{"resume": &u.Resume, "restart": &u.Restart} {
		switch q.Get(name) {
		case "", "false":
		case "true":
			*into = true
		default:
			return u, malformed(name+": want true or false", "")
		}
	}
	if u.Resume && u.Restart {
		return u, malformed("resume and restart exclude each other", "resume goes on, restart rolls back and begins anew")
	}
	return u, nil
}

// importAudience imports the body, in bounded memory. What is committed when it breaks off stays until it is resumed or
// rolled back.
func (h *Handler) importAudience(c *call) error {
	found, err := h.campaign(c, Enqueue)
	if err != nil {
		return err
	}
	u, err := c.upload()
	if err != nil {
		return err
	}
	if err := h.hold(c, uploadMemory); err != nil {
		return err
	}
	body := &patient{body: c.r.Body, rc: c.rc, patience: h.options.Patience}
	packed := bufio.NewReaderSize(body, 4<<10)
	head, _ := packed.Peek(4) // an error comes again
	u.Body = packed
	if isLarge(head, u.Format) {
		if err := h.hold(c, largeMemory); err != nil {
			return err
		}
		u.MaxWorkbook = largeMemory
	}
	if err := h.audit.now(c.ctx(), c.entry(importedInto, found.Account, found.ID.String(), u.Name, 1)); err != nil {
		return err
	}
	rejects := []client.Reject{}
	u.Rejected = func(r client.Reject) {
		if len(rejects) < shownRejects {
			rejects = append(rejects, r)
		}
	}
	ctx, cancel := context.WithCancel(c.ctx())
	defer cancel()
	defer context.AfterFunc(h.closing, func() { cancel(); body.leave(atOnce) })()
	a, err := h.options.Campaigns.Import(ctx, found.ID, u)
	_ = c.rc.SetWriteDeadline(time.Now().Add(h.options.Patience)) // it may have taken long
	if err != nil {
		broke := body.broke(c.ctx().Err() != nil)
		body.leave(h.hears())
		return h.broken(c, a, broke, err)
	}
	write(c.w, http.StatusOK, struct {
		client.AudienceState
		Rejects []client.Reject `json:"rejects"` // the first of them
	}{a, rejects})
	return nil
}

// isLarge says whether the file may take much memory: Excel, zstd, and what may be Excel inside gzip.
func isLarge(head []byte, format string) bool {
	switch {
	case format == "xlsx", bytes.HasPrefix(head, []byte("\x28\xb5\x2f\xfd")):
		return true
	case format != "":
		return false
	}
	return bytes.HasPrefix(head, []byte("PK")) || bytes.HasPrefix(head, []byte("\x1f\x8b"))
}

// broken is the problem of an import that is not whole: why, what is committed, and how to go on.
func (h *Handler) broken(c *call, a client.AudienceState, broke, err error) error {
	p := (*problem)(nil)
	_, stands := errors.AsType[*Standing](err)
	switch {
	case stands:
		return shut(standing(err))
	case errors.Is(broke, os.ErrDeadlineExceeded):
		p = slow()
	case broke != nil:
		p = cut(a.Bytes, -1)
	case errors.Is(err, ErrUnreadable):
		p = malformed(err.Error(), "mend the file")
	case h.closing.Err() != nil:
		p = unavailable("the server is closing")
	case errors.As(err, new(message.Invalid)):
		return shut(refused(err))
	default:
		h.options.Log.Error("an import failed", "key", c.keyID(), "error", err)
		p = unavailable("a store does not answer, or not in time")
	}
	p.close = true
	if a.Source != "" {
		p.Detail += fmt.Sprintf("; %d recipients, up to line %d, are committed", a.Recipients, a.Lines)
		p.Remedy = "post the same file again with resume=true, which goes on behind them; or roll them back (POST …/audience/rollback)"
		if errors.Is(err, ErrUnreadable) && broke == nil {
			p.Remedy = "mend the file and post it with restart=true, or roll them back (POST …/audience/rollback)"
		}
	}
	return p
}

// shut has the connection end, for the rest of the body is not read.
func shut(err error) error {
	if p, ok := errors.AsType[*problem](err); ok {
		p.close = true
	}
	return err
}

func (h *Handler) rollBackAudience(c *call) error {
	found, err := h.campaign(c, Enqueue)
	if err != nil {
		return err
	}
	if err := h.audit.now(c.ctx(), c.entry("campaign rollback", found.Account, found.ID.String(), "", 1)); err != nil {
		return err
	}
	a, err := h.options.Campaigns.RollBack(context.WithoutCancel(c.ctx()), found.ID)
	if err != nil {
		return standing(err)
	}
	write(c.w, http.StatusOK, struct {
		RolledBack int `json:"rolled_back"`
	}{a.Recipients})
	return nil
}
