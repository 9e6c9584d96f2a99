package main

import (
	"context"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/hongyan-dispatch/hongyan/internal/campaign"
	"github.com/hongyan-dispatch/hongyan/internal/postgres"
	"github.com/hongyan-dispatch/hongyan/message"
	"github.com/hongyan-dispatch/hongyan/outcome"
)

// produceCampaigns is a producer whose messages are two campaigns': templates to two thirds of the users, answers of
// customer service to the others. Both are accepted when they start; the books follow what is sent, so that trouble
// goes on for as long as something is.
func (r *rig) produceCampaigns(ctx context.Context) error {
	store, err := postgres.Open(ctx, r.stack.DatabaseURL(), postgres.Options{Name: "chaos"})
	if err != nil {
		return err
	}
	defer store.Close()
	templates := r.plan.messages * 2 / 3
	for _, c := range []struct {
		kind     message.Kind
		body     string
		from, to int
	}{
		{message.Template, `{"template_id":"order_paid","data":{"thing2":{"value":"订单 #{{.n}}#"}}}`, 0, templates},
		{message.Custom, `{"msgtype":"text","text":{"content":"您好 #{{.n}}#"}}`, templates, r.plan.messages},
	} {
		id, err := r.begin(ctx, store, &campaign.Spec{
			Name: "chaos " + string(c.kind), Account: account, Kind: c.kind, Lane: message.Bulk, Body: json.RawMessage(c.body), StopAt: 1,
		}, c.from, c.to)
		if err != nil {
			return err
		}
		r.mu.Lock()
		r.campaigns = append(r.campaigns, id)
		r.mu.Unlock()
	}
	for told := 0; told < r.plan.messages; {
		sent := r.sim.AcceptedTotal()
		if sent > r.plan.messages*9/10 { // what is left is for the end
			sent = r.plan.messages
		}
		for ; told < sent; told++ {
			kind := message.Template
			if told >= templates {
				kind = message.Custom
			}
			r.books.write(told, kind)
		}
		r.progress.say(r.name, "%d of %d sent, %d faults", r.sim.AcceptedTotal(), r.plan.messages, r.broken())
		if err := pause(ctx, 100*time.Millisecond); err != nil {
			return err
		}
	}
	return nil
}

// begin starts a campaign to the users from one number to another.
func (r *rig) begin(ctx context.Context, store *postgres.Store, spec *campaign.Spec, from, to int) (message.ID, error) {
	id := message.NewID(time.Now())
	if err := store.CreateCampaign(ctx, spec, id); err != nil {
		return id, err
	}
	a, err := store.BeginAudience(ctx, id, "file:chaos", []string{"n"})
	if err == nil {
		err = store.CopyRecipients(ctx, &a, people(from, to), nil)
	}
	if err == nil {
		err = store.FinishAudience(ctx, &a)
	}
	if err == nil {
		_, err = store.StartCampaign(ctx, id, time.Now(), time.Time{})
	}
	return id, err
}

func people(from, to int) iter.Seq2[message.OpenID, []string] {
	return func(yield func(message.OpenID, []string) bool) {
		for n := from; n < to; n++ {
			if !yield(user(n), []string{strconv.Itoa(n)}) {
				return
			}
		}
	}
}

// troubleCampaigns kills workers and Redis, and pauses and resumes the campaigns, for as long as they send. A number of
// troubles comes slower: so many people take minutes, and a chunk whose worker died rests for as long as its lease.
func troubleCampaigns(ctx context.Context, r *rig) error {
	store, err := postgres.Open(ctx, r.stack.DatabaseURL(), postgres.Options{Name: "chaos"})
	if err != nil {
		return err
	}
	defer store.Close()
	pauses, rest := 0, time.Second
	if r.plan.troubles > 0 {
		rest = 3 * time.Second
	}
	for i := 0; ; i++ {
		if err := pause(ctx, r.between(rest, 3*rest)); err != nil {
			return err
		}
		if !r.producing() || r.plan.troubles > 0 && i == r.plan.troubles {
			r.figure("pauses", pauses)
			return nil
		}
		switch i % 4 {
		case 0, 2:
			alive := r.crew.alive()
			err = r.crew.replace(alive[r.rand.IntN(len(alive))])
		case 1:
			pauses++
			err = r.pauseCampaigns(ctx, store)
		case 3:
			mended := r.broke("kill -9 of Redis", "")
			if err = r.stack.Redis().Kill(); err == nil {
				err = r.stack.Redis().Restart(ctx)
			}
			mended()
		}
		if err != nil {
			return err
		}
	}
}

// pauseCampaigns lets what runs stand still for a moment.
func (r *rig) pauseCampaigns(ctx context.Context, store *postgres.Store) error {
	r.mu.Lock()
	begun := slices.Clone(r.campaigns)
	r.mu.Unlock()
	for _, v := range []campaign.Verb{campaign.Pause, campaign.Resume} {
		for _, id := range begun {
			_, err := store.MoveCampaign(ctx, id, v, "for a moment")
			if _, moved := errors.AsType[*campaign.MoveError](err); err != nil && !moved { // it may be done already
				return err
			}
		}
		if err := pause(ctx, time.Second); err != nil {
			return err
		}
	}
	return nil
}

// afterCampaigns says what is wrong with the campaigns and with what they tell of themselves.
func afterCampaigns(ctx context.Context, r *rig) []string {
	return slices.Concat(campaignsEnded(ctx, r), exportsAgree(ctx, r), textsAreKept(ctx, r))
}

// textsAreKept says of which messages the ledger has no text, or two: what was simply sent has its recipient, all else a body.
func textsAreKept(ctx context.Context, r *rig) []string {
	var wrong int
	err := r.db.QueryRow(ctx, `
		SELECT count(*) FROM message m LEFT JOIN message_body b ON b.id = m.id
		WHERE (b.id IS NULL) <> (m.recipient <> '') OR b.id IS NULL AND m.state <> 'sent'`).Scan(&wrong)
	switch {
	case err != nil:
		return []string{"(a) " + err.Error()}
	case wrong > 0:
		return []string{fmt.Sprintf("(a) the ledger has no text, or two, of %d messages", wrong)}
	}
	return nil
}

// exportsAgree compares the campaigns' exports with what the simulator accepted: each person stands there, and those who got a
// message are those that the exports say were sent to, or may have been.
func exportsAgree(ctx context.Context, r *rig) []string {
	store, err := postgres.Open(ctx, r.stack.DatabaseURL(), postgres.Options{Name: "chaos"})
	if err != nil {
		return []string{err.Error()}
	}
	defer store.Close()
	got := map[string]bool{}
	for _, a := range r.sim.AllAccepts() {
		got[a.To] = true
	}
	people := 0
	told := map[string]bool{} // those that the exports say were sent to
	counts := map[string]int{}
	for _, id := range r.campaigns {
		from, to := io.Pipe()
		go func() { to.CloseWithError(store.ExportOutcomes(ctx, id, to)) }()
		defer from.Close() // or what is exported after an error would wait for a reader
		rows := csv.NewReader(from)
		rows.ReuseRecord = true
		for line := 0; ; line++ {
			row, err := rows.Read()
			if err == io.EOF {
				break
			}
			if err != nil {
				return []string{"export: " + err.Error()}
			}
			if line == 0 {
				continue
			}
			people++
			openid, status := strings.Clone(row[2]), outcome.Status(row[4])
			counts[string(status)]++
			if status == outcome.Sent || mayHaveLeft(status) && got[openid] {
				told[openid] = true
			}
		}
	}
	r.figure("exported sent", counts[string(outcome.Sent)])
	if people != r.plan.messages || !maps.Equal(told, got) {
		return []string{fmt.Sprintf("(a) %d people are exported, want %d; %d of them got a message by the exports (%v) and %d by the simulator",
			people, r.plan.messages, len(told), counts, len(got))}
	}
	return nil
}

// campaignsEnded says what campaigns have not ended although all their messages have.
func campaignsEnded(ctx context.Context, r *rig) []string {
	for _, id := range r.campaigns {
		var state string
		for range 100 { // the feeder looks each second
			if err := r.db.QueryRow(ctx, "SELECT state FROM campaign WHERE id = $1", id.String()).Scan(&state); err != nil {
				return []string{err.Error()}
			}
			if state == string(campaign.Done) {
				break
			}
			if err := pause(ctx, 100*time.Millisecond); err != nil {
				return []string{err.Error()}
			}
		}
		if state != string(campaign.Done) {
			return []string{fmt.Sprintf("(a) campaign %s is %s, want done", id, state)}
		}
	}
	return nil
}
