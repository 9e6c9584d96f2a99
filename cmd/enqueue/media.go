package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/hongyan-dispatch/hongyan/internal/wechat"
	"github.com/hongyan-dispatch/hongyan/message"
)

type mediaCommands struct {
	Upload mediaUploadCommand `cmd:"" help:"Upload a file as temporary material."`
}

type mediaUploadCommand struct {
	Account string `help:"The account." placeholder:"NAME"`
	Type    string `help:"image, voice, video or thumb." enum:"image,voice,video,thumb" required:"" placeholder:"TYPE"`
	File    string `arg:"" help:"The file."`
}

func (*mediaUploadCommand) Help() string {
	return `WeChat keeps the material for 3 days. It takes images of png, jpg, gif up to 10 MiB; voices of amr, mp3 up to 2 MiB and
60 s; videos of mp4 up to 10 MiB; thumbs of jpg up to 64 KiB.

Example:

  enqueue media upload --account shop --type image poster.png`
}

// mediaView is what --json writes.
type mediaView struct {
	Type      wechat.MediaType `json:"type"`
	MediaID   string           `json:"media_id"`
	CreatedAt time.Time        `json:"created_at"`
	ExpiresAt time.Time        `json:"expires_at"`
}

// Run uploads the file.
func (c *mediaUploadCommand) Run(ctx context.Context, s *session) error {
	f, err := s.open("FILE", c.File)
	if err != nil {
		return err
	}
	defer f.Close()
	file, ok := f.(*os.File)
	if !ok || c.File == "-" {
		return refuse("FILE: standard input has no name and no size; give a file")
	}
	info, err := file.Stat()
	if err != nil {
		return err
	}
	upload := wechat.Upload{Type: wechat.MediaType(c.Type), Name: filepath.Base(c.File), Size: info.Size(), Content: file}
	if err := upload.Check(); err != nil {
		return fmt.Errorf("FILE: %w", err)
	}
	caller, _, err := s.caller(c.Account)
	if err != nil {
		return err
	}
	defer caller.Close()
	var media wechat.Media
	err = caller.call(ctx, func(t wechat.Token) (err error) {
		if _, err = file.Seek(0, 0); err != nil {
			return err
		}
		media, err = caller.wechat.UploadMedia(ctx, t, upload)
		return err
	})
	if err != nil {
		return err
	}
	view := mediaView{media.Type, media.ID, media.CreatedAt.UTC(), media.ExpiresAt.UTC()}
	return s.print(view, "media_id %s\nexpires %s in Beijing (%s)", media.ID,
		message.Beijing(media.ExpiresAt).Format("2006-01-02 15:04:05"), view.ExpiresAt.Format(time.RFC3339))
}
