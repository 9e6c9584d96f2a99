package client_test

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/hongyan-dispatch/hongyan/client"
	"github.com/hongyan-dispatch/hongyan/message"
)

// exec changes the database behind the client's back.
func (b *bundle) exec(sql string, args ...any) {
	b.Helper()
	conn, err := pgx.Connect(b.Context(), b.options.Database)
	if err != nil {
		b.Fatal(err)
	}
	defer conn.Close(b.Context())
	if _, err := conn.Exec(b.Context(), sql, args...); err != nil {
		b.Fatal(err)
	}
}

// replayOf is the message that goes again instead of another.
func (b *bundle) replayOf(id message.ID) message.ID {
	b.Helper()
	conn, err := pgx.Connect(b.Context(), b.options.Database)
	if err != nil {
		b.Fatal(err)
	}
	defer conn.Close(b.Context())
	var as [16]byte
	if err := conn.QueryRow(b.Context(), `SELECT id FROM replay WHERE of = $1`, id.String()).Scan(&as); err != nil {
		b.Fatal(err)
	}
	return as
}

// tagged creates a campaign whose audience workers fetch.
func (b *bundle) tagged(name, more string) message.ID {
	b.Helper()
	c, err := b.CreateCampaign(b.Context(), fmt.Appendf(nil,
		`{"name": "%s", "account": "shop", "kind": "custom", "custom": {"msgtype": "text", "text": {"content": "您好"}}, "audience": {"tag": 2}%s}`, name, more))
	if err != nil {
		b.Fatal(err)
	}
	return c.ID
}

// An operator's clock may be wrong: ticks are counted from the database's, and what campaigns and replays make comes due by it.
func TestCampaignsAndReplaysGoByTheDatabasesClock(t *testing.T) {
	b := withLedger(t)
	b.exec(`CREATE SCHEMA ahead; CREATE FUNCTION ahead.now() RETURNS timestamptz LANGUAGE sql STABLE AS 'SELECT pg_catalog.now() + interval ''3 hours'''`)
	ahead := b.options
	sign := "?"
	if strings.Contains(ahead.Database, "?") {
		sign = "&"
	}
	ahead.Database += sign + "search_path=ahead,pg_catalog,public"
	c, err := client.New(t.Context(), ahead)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	now := time.Now().Add(3 * time.Hour)
	near := func(what string, at time.Time, want time.Time) {
		t.Helper()
		if at.Sub(want).Abs() > 2*time.Minute {
			t.Errorf("%s is %v, want about %v", what, at, want)
		}
	}
	started := func(id message.ID) client.Campaign {
		t.Helper()
		if _, err := c.StartCampaign(t.Context(), id.String()); err != nil {
			t.Fatal(err)
		}
		row, err := c.Campaign(t.Context(), id.String())
		if err != nil {
			t.Fatal(err)
		}
		return row
	}
	near("a start by hand", started(b.tagged("by hand", "")).NextTick, now)
	near("the next tick of each minute", started(b.tagged("by the minute", `, "schedule": {"cron": "* * * * *"}`)).NextTick, now)
	past := b.tagged("past", fmt.Sprintf(`, "schedule": {"at": "%s"}`, time.Now().Add(time.Hour).Format(time.RFC3339)))
	if _, err := c.StartCampaign(t.Context(), past.String()); !isNotReady(err) || !strings.Contains(err.Error(), "is past") {
		t.Errorf("a start whose time is past for the database: %v", err)
	}

	draft, err := c.CreateCampaign(t.Context(), []byte(`{"name": "draft", "account": "shop", "kind": "custom", "custom": {"msgtype": "text", "text": {"content": "您好"}}, "audience": {"tag": 2}}`))
	if err != nil {
		t.Fatal(err)
	}
	near("a new campaign", draft.ID.Time(), now)
	m := template("oUSER1", "")
	r, err := b.Enqueue(t.Context(), m)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.Cancel(t.Context(), r.ID); err != nil {
		t.Fatal(err)
	}
	went, err := c.Replay(t.Context(), client.Replay{IDs: []message.ID{r.ID}})
	if err != nil || went.Replayed != 1 {
		t.Fatalf("replayed %+v, %v; want one", went, err)
	}
	near("a replay", b.replayOf(r.ID).Time(), now)
}

func isNotReady(err error) bool {
	_, ok := errors.AsType[*client.NotReadyError](err)
	return ok
}

func TestACampaignSaysWhatToDoInsteadOfARetry(t *testing.T) {
	b := withLedger(t)
	id := b.tagged("news", "")
	b.exec(`WITH a AS (INSERT INTO audience (campaign, source, columns, state, total) VALUES ($1, 'tag:2', '{}', 'ready', 1) RETURNING id)
		INSERT INTO firing (campaign, tick, audience, total) SELECT $1, now(), id, 1 FROM a`, id.String())
	const open = "its last firing has not ended, and more may fail; wait for its end"
	for state, want := range map[client.CampaignState]string{
		client.CampaignDraft: "start it first", client.CampaignPaused: "resume it, or cancel it", client.CampaignCancelled: "create it anew",
		client.CampaignRunning: open, client.CampaignParked: open, client.CampaignThrottled: open,
	} {
		b.exec(`UPDATE campaign SET state = $2 WHERE id = $1`, id.String(), string(state))
		_, err := b.RetryFailed(t.Context(), id.String(), client.RetryOptions{})
		if !errors.Is(err, client.ErrState) || !strings.HasSuffix(err.Error(), want) {
			t.Errorf("retry of a campaign that is %s: %v, want it to end with %q", state, err, want)
		}
	}
	b.exec(`UPDATE campaign SET state = 'parked' WHERE id = $1`, id.String())
	for verb, do := range map[string]func() error{
		"start":  func() error { _, err := b.StartCampaign(t.Context(), id.String()); return err },
		"resume": func() error { _, err := b.ResumeCampaign(t.Context(), id.String()); return err },
	} {
		if err := do(); !errors.Is(err, client.ErrState) || !strings.HasSuffix(err.Error(), "parked; it goes on by itself") {
			t.Errorf("%s of a parked campaign: %v", verb, err)
		}
	}
}

// Of those who create a campaign under one name at the same moment, one does, and the others are told whose it is.
func TestANameThatIsTakenMeanwhile(t *testing.T) {
	b := withLedger(t)
	spec := fmt.Appendf(nil, greeting, "double-eleven")
	errs := make([]error, 8)
	var wg sync.WaitGroup
	for i := range errs {
		wg.Go(func() { _, errs[i] = b.CreateCampaign(t.Context(), spec) })
	}
	wg.Wait()
	made := 0
	for _, err := range errs {
		taken, ok := errors.AsType[*client.NameTakenError](err)
		switch {
		case err == nil:
			made++
		case !ok || !taken.Same || taken.Campaign.Name != "double-eleven" || !strings.Contains(err.Error(), "is the name of a campaign that has not ended"):
			t.Errorf("told %v", err)
		}
	}
	if made != 1 {
		t.Errorf("%d were created, want one", made)
	}
}

// A campaign that comes each month has the name of those before it, however many have ended.
func TestANameIsFreeOnceItsCampaignsHaveEnded(t *testing.T) {
	b := withLedger(t)
	for range 4 {
		c, err := b.CreateCampaign(t.Context(), fmt.Appendf(nil, greeting, "monthly"))
		if err != nil {
			t.Fatal(err)
		}
		found, err := b.Campaign(t.Context(), "monthly")
		if err != nil || found.ID != c.ID {
			t.Fatalf("the name means %v, %v; want %v", found.ID, err, c.ID)
		}
		if _, err := b.CancelCampaign(t.Context(), "monthly", "sold out"); err != nil {
			t.Fatal(err)
		}
	}
}
