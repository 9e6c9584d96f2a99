package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
)

type campaignExportCommand struct {
	theCampaign
	File string `arg:"" optional:"" default:"-" help:"Where it goes; a file that is there is replaced when all is written. - is standard output."`
}

func (*campaignExportCommand) Help() string {
	return `One line for each message of all its firings: firing, n, openid, id, status, reason, errcode, errmsg, wechat_msgid, attempts,
sent_at, finished_at, receipt, and of what went instead fallback_id, fallback_status, fallback_reason. Recipients that are no messages
yet have none.

Examples:

  enqueue campaign export double-eleven outcomes.csv
  enqueue campaign export double-eleven | gzip >outcomes.csv.gz`
}

// Run writes the file.
func (c *campaignExportCommand) Run(ctx context.Context, s *session) error {
	e, _, err := s.campaigns(ctx)
	if err != nil {
		return err
	}
	defer e.Close()
	before, err := e.CampaignProgress(ctx, c.ID)
	if err != nil {
		return campaignError(c.ID, err)
	}
	write := func(w io.Writer) error { return campaignError(c.ID, e.ExportCampaign(ctx, c.ID, w)) }
	if c.File == "-" {
		err = write(s.stdout)
	} else {
		err = replaceFile(c.File, write)
	}
	if left := before.Total - before.Ended(); err == nil && left > 0 {
		_, err = fmt.Fprintf(s.stderr, "note: %d of %s had no outcome yet; export again when its status says that it ended\n", left, count(before.Total, "recipient"))
	}
	return err
}

// replaceFile writes a file under another name first: nobody takes half of it for the whole.
func replaceFile(path string, write func(io.Writer) error) error {
	info, err := os.Stat(path)
	switch {
	case err == nil && info.IsDir():
		return refuse("FILE: %s: is a directory; want a file", path)
	case err == nil && !info.Mode().IsRegular(): // /dev/null, a pipe: not to be replaced
		f, err := os.OpenFile(path, os.O_WRONLY, 0)
		if err != nil {
			return refuse("FILE: %w", err)
		}
		return errors.Join(write(f), f.Close())
	}
	f, err := os.OpenFile(path+".part", os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return refuse("FILE: %w", err)
	}
	err = errors.Join(write(f), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	return nil
}
