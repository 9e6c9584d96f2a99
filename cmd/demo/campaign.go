package main

import (
	"bytes"
	"context"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/hongyan-dispatch/hongyan/client"
	"github.com/hongyan-dispatch/hongyan/internal/campaign"
	"github.com/hongyan-dispatch/hongyan/internal/ratelimit"
	"github.com/hongyan-dispatch/hongyan/internal/report"
	"github.com/hongyan-dispatch/hongyan/internal/tasks"
	"github.com/hongyan-dispatch/hongyan/internal/token"
	"github.com/hongyan-dispatch/hongyan/internal/wechat"
	"github.com/hongyan-dispatch/hongyan/internal/wechattest"
	"github.com/hongyan-dispatch/hongyan/message"
	"github.com/hongyan-dispatch/hongyan/outcome"
)

// The campaign. A Redis in this process is slow: the crowd is smaller there.
const (
	campaignPerSecond = 2500
	recipients        = 20_000
	fewRecipients     = 4_000
	stopsWithin       = 3 * time.Second // 2 s are promised; a machine that stands still for one breaks no promise
	pauseFor          = 4 * time.Second
)

// A tour is the campaign as it went.
type tour struct {
	id       message.ID
	name     string
	crowd    *crowd
	imported client.AudienceState
	took     time.Duration // of the import
	rejects  []client.Reject
	check    client.CampaignCheck

	started, paused, resumed, ended time.Time
	atPause                         int           // recipients whose messages had ended when it was paused
	before, after                   map[int]int64 // WeChat's refusals of template messages, by code
	rows                            []row         // of the export
}

// campaign sends the campaign of the examples to a crowd, with a look before the start, a pause and a resume.
func (d *director) campaign(ctx context.Context) error {
	if err := d.settled(ctx); err != nil { // what others do would be counted with it
		return err
	}
	d.tour = &tour{}
	for _, step := range []func(context.Context) error{d.draft, d.preflight, d.launch} {
		if err := step(ctx); err != nil {
			return fmt.Errorf("campaign: %w", err)
		}
	}
	return nil
}

// draft writes the campaign down and imports its audience, from a file in the demo's folder.
func (d *director) draft(ctx context.Context) error {
	t, g, files := d.tour, d.generator, d.examples.campaign
	n := recipients
	if d.redisInside {
		n = fewRecipients
		d.progress.say("the Redis in this process is slow: the campaign has %d recipients, and %d with a redis-server", n, recipients)
	}
	t.crowd = g.crowd(n, d.left)
	d.at(shop).AddFollowers(t.crowd.followers()...)
	path := filepath.Join(d.dir, filepath.Base(files.audience))
	if err := t.crowd.write(path, files.columns); err != nil {
		return err
	}
	created, err := d.producer.CreateCampaign(ctx, files.text)
	if err != nil {
		return err
	}
	t.id, t.name = created.ID, created.Name
	d.progress.say("campaign %s from %s: %d rows, made from those of %s, for %d recipients", t.name, files.path, t.crowd.lines-1, files.audience, n)
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	defer file.Close()
	start := time.Now()
	t.imported, err = d.producer.ImportAudience(ctx, t.id.String(), path, file, client.ImportOptions{
		Rejected: func(r client.Reject) error { t.rejects = append(t.rejects, r); return nil },
	})
	if err != nil {
		return err
	}
	t.took = time.Since(start)
	const shown = 3
	for i, r := range t.rejects {
		if i == shown {
			d.progress.say("  … and %d more", len(t.rejects)-shown)
			break
		}
		d.progress.say("  %s:%d: %s", filepath.Base(path), r.Line, r.Reason)
	}
	d.progress.say("imported in %v: %s", t.took.Round(time.Millisecond), importedText(t.imported))
	return nil
}

func importedText(a client.AudienceState) string {
	return fmt.Sprintf("%d recipients; dropped: %d duplicates, %d rows that are broken, %d users who want no messages",
		a.Recipients, a.Duplicates, a.Refused, a.Suppressed)
}

// preflight looks before the start, as `enqueue campaign check` does. A spec or rows of the examples that do not fit are
// the user's to mend.
func (d *director) preflight(ctx context.Context) error {
	t, files := d.tour, d.examples.campaign
	o, err := d.checkOptions(ctx)
	if err != nil {
		return err
	}
	if t.check, err = d.producer.CheckCampaign(ctx, t.id.String(), o); err != nil {
		return err
	}
	for _, p := range t.check.Problems {
		return badInput("%s does not fit %s: %s", files.audience, files.path, p.What)
	}
	d.progress.say("check: %s", checkedText(t.check))
	return nil
}

func checkedText(k client.CampaignCheck) string {
	text := fmt.Sprintf("%d messages rendered, %d may be sent", k.Recipients, k.Good)
	if f := k.Forecast; f != nil {
		text += fmt.Sprintf("; needs %d, left today %d, of which %d are kept for urgent ones; started now, it is done at %s, Beijing time",
			f.Needs, f.LeftToday, f.Reserve, message.Beijing(f.Done).Format("15:04:05"))
	}
	return text
}

// checkOptions ask WeChat for the account's templates and what is left of its day.
func (d *director) checkOptions(ctx context.Context) (o client.CheckOptions, err error) {
	rdb, err := tasks.Redis(d.redisURL)
	if err != nil {
		return o, err
	}
	defer rdb.Close()
	a, _ := d.config.Account(shop)
	wx, app := wechat.New(wechat.Config{BaseURL: a.BaseURL}), message.AppID(a.AppID)
	access, err := token.New(rdb, token.Options{Pod: "demo's check", Accounts: []token.Account{{
		AppID: app, Secret: wechat.NewSecret(a.Secret.Reveal()), WeChat: wx, RefreshMargin: a.Token.RefreshMargin,
	}}}).Token(ctx, app)
	if err != nil {
		return o, err
	}
	list, err := wx.Templates(ctx, access)
	if err != nil {
		return o, err
	}
	for _, one := range list {
		o.Templates = append(o.Templates, client.Template{ID: one.ID, Title: one.Title, Content: one.Content})
	}
	q, err := wx.QuotaGet(ctx, access, wechat.PathOf(message.Template))
	if err != nil {
		return o, err
	}
	l := a.Limits.Template
	o.Limits = client.CampaignLimits(report.RoomOf(ratelimit.Limits{
		PerDay: l.PerDay, PerSecond: l.PerSecond, UrgentDay: a.Reserve.UrgentDay, UrgentPace: a.Reserve.UrgentPace, Margin: a.Reserve.Margin,
	}, q.Remain))
	return o, nil
}

// launch starts the campaign, pauses it when a third has gone, resumes it, and lets things happen in its midst.
func (d *director) launch(ctx context.Context) error {
	t, id := d.tour, d.tour.id.String()
	if err := d.let(shop, t.crowd.refusing, wechattest.Refuse); err != nil {
		return err
	}
	if err := d.unnoticed(shop, t.crowd.left, wechattest.Unsubscribe); err != nil {
		return err
	}
	if err := d.let(shop, t.crowd.blocking, wechattest.Block); err != nil {
		return err
	}
	d.inject(
		wechattest.Fault{Kind: wechattest.Errcode, API: wechattest.PathTemplate, Skip: 200, Every: 300, Next: 6},
		wechattest.Fault{Kind: wechattest.Drop, API: wechattest.PathTemplate, Skip: 300, Every: 400, Next: 3},
		wechattest.Fault{Kind: wechattest.Drop, When: wechattest.After, API: wechattest.PathTemplate, Skip: 500, Every: 400, Next: 3},
	)
	t.before, t.started = d.refusals(), time.Now()
	if _, err := d.producer.StartCampaign(ctx, id); err != nil {
		return err
	}
	d.follow(t.id)
	d.progress.say("started, at %d a second; of its recipients %d refuse messages, %d have left, %d block %s", campaignPerSecond,
		len(t.crowd.refusing), len(t.crowd.left), len(t.crowd.blocking), shop)
	p, err := d.reaches(ctx, len(t.crowd.recipients)/3)
	if err != nil {
		return err
	}
	if _, err := d.producer.PauseCampaign(ctx, id, "a look at the first ones"); err != nil {
		return err
	}
	t.paused, t.atPause = time.Now(), p.Ended()
	d.progress.say("paused when %d had ended: the last ones leave within %v, and it goes on in %v", t.atPause, stopsWithin, pauseFor)
	if err := wait(ctx, pauseFor); err != nil {
		return err
	}
	t.resumed = time.Now()
	if _, err := d.producer.ResumeCampaign(ctx, id); err != nil {
		return err
	}
	d.progress.say("resumed")
	if _, err := d.reaches(ctx, len(t.crowd.recipients)/2); err != nil {
		return err
	}
	if err := d.interruptions(ctx); err != nil {
		return err
	}
	if _, err := d.reaches(ctx, math.MaxInt); err != nil {
		return err
	}
	t.ended, t.after = time.Now(), d.refusals()
	return nil
}

// wait lets time pass that people are to see passing.
func wait(ctx context.Context, long time.Duration) error {
	timer := time.NewTimer(long)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}

// reaches waits until so many of the campaign's messages have ended, or all of them.
func (d *director) reaches(ctx context.Context, ended int) (p client.CampaignProgress, err error) {
	err = until(ctx, "for the campaign", func(ctx context.Context) (bool, error) {
		if p, err = d.producer.CampaignProgress(ctx, d.tour.id.String()); err != nil {
			return false, err
		}
		switch p.Campaign.State {
		case client.CampaignPaused, client.CampaignFailed, client.CampaignCancelled:
			return false, fmt.Errorf("it is %s: %s", p.Campaign.State, p.Campaign.Reason)
		case client.CampaignDone:
			return true, nil
		}
		return p.Ended() >= ended, nil
	})
	return p, err
}

// refusals are how many template messages of shop were refused, by WeChat's code.
func (d *director) refusals() map[int]int64 {
	for _, a := range d.sim.State().Accounts {
		if a.AppID == appIDs[shop] {
			return a.APIs[wechattest.PathTemplate].Refused
		}
	}
	return nil
}

// export reads what `enqueue campaign export` writes, and beside each outcome what its recipient was to get.
func (d *director) export(ctx context.Context) (err error) {
	t, files := d.tour, d.examples.campaign
	var b bytes.Buffer
	if err := d.producer.ExportCampaign(ctx, t.id.String(), &b); err != nil {
		return err
	}
	if t.rows, err = exported(&b); err != nil {
		return err
	}
	composer, err := campaign.NewComposer(files.spec, t.started, 0, files.columns)
	if err != nil {
		return err
	}
	texts := make(map[string]string, len(t.crowd.recipients))
	for i, p := range t.crowd.recipients {
		m, _, err := composer.Message(nil, int32(i+1), p.openid, p.vars)
		if err != nil {
			return err
		}
		texts[string(p.openid)] = string(m.Body)
	}
	for i := range t.rows {
		t.rows[i].Body = texts[t.rows[i].To]
	}
	return nil
}

// exported reads an export.
func exported(r io.Reader) (rows []row, err error) {
	lines := csv.NewReader(r)
	header, err := lines.Read()
	if err != nil {
		return nil, fmt.Errorf("export: %w", err)
	}
	for {
		cells, err := lines.Read()
		if errors.Is(err, io.EOF) {
			return rows, nil
		}
		if err != nil {
			return nil, fmt.Errorf("export: %w", err)
		}
		named := map[string]string{}
		for i, name := range header {
			named[name] = cells[i]
		}
		one := row{
			Account: shop, Kind: message.Template, To: named["openid"], Status: outcome.Status(named["status"]),
			Reason: outcome.Reason(named["reason"]), ErrMsg: named["errmsg"], MsgID: named["wechat_msgid"], Receipt: named["receipt"],
		}
		one.ErrCode, _ = strconv.Atoi(named["errcode"]) // none: 0
		if one.ID, err = message.ParseID(named["id"]); err != nil {
			return nil, fmt.Errorf("export: %w", err)
		}
		rows = append(rows, one)
	}
}
