package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/hongyan-dispatch/hongyan/client"
	"github.com/hongyan-dispatch/hongyan/internal/api"
	"github.com/hongyan-dispatch/hongyan/internal/postgres"
	"github.com/hongyan-dispatch/hongyan/message"
	"github.com/hongyan-dispatch/hongyan/outcome"
)

// What goes over the HTTP API.
const (
	overHTTP = 200 // orders
	repeated = 5   // of them posted again
	takeback = 2
)

// An errand is what a producer did over HTTP, and what it was told.
type errand struct {
	Accepted int                     // orders, as JSON Lines
	Again    map[message.ID][]string // the first ids, and what became of the repetitions
	Refused  []refusal
	Taken    []client.Status // of those that were taken back
	Told     []client.Status // of some of the others, in the end
	ids      []message.ID
}

// A refusal is the answer to what must be refused.
type refusal struct {
	What      string
	Got, Want int    // HTTP status
	Path, At  string // of the field that is wrong: told, and where it is
}

// makeKey makes a key for the run, as `server key create` does.
func (s *servers) makeKey(ctx context.Context) error {
	store, err := postgres.Open(ctx, s.dbURL, postgres.Options{Name: "hongyan-demo-key", MaxConns: 2})
	if err != nil {
		return fmt.Errorf("postgres: %w", err)
	}
	defer store.Close()
	id, text, hash := api.NewKey()
	scopes := []string{
		api.Scope{Account: shop, Kind: "*", Action: string(api.Enqueue)}.String(),
		api.Scope{Account: shop, Kind: "*", Action: string(api.Read)}.String(),
	}
	s.apiKey = text
	now := time.Now()
	return store.CreateAPIKey(ctx, postgres.APIKey{ID: id, Name: "demo", Hash: hash[:], Scopes: scopes, Created: now},
		postgres.AuditEntry{At: now, Name: "demo", Action: "key create", Target: id})
}

// overAPI is what a producer in any language would do: it posts orders, posts some of them again, takes some back, and
// makes mistakes.
func (d *director) overAPI(ctx context.Context) error {
	remote, err := client.HTTP(d.serverURL(), d.apiKey)
	if err != nil {
		return err
	}
	defer remote.Close()
	g, lines := d.generator, d.generator.examples.of(shop, message.Template, anyLine)
	d.errand = &errand{Again: map[message.ID][]string{}}
	d.progress.say("over the HTTP API: %d order messages, %d of them twice, %d taken back, two mistakes", overHTTP, repeated, takeback)
	all := g.many(actOverHTTP, lines, overHTTP, d.followers(shop, overHTTP))
	for i := range all {
		all[i].Key = fmt.Sprintf("over-http-%d", i)
	}
	for i, r := range remote.EnqueueBatch(ctx, all) {
		if err := d.note(r); err != nil {
			return fmt.Errorf("post message %d: %w", i, err)
		}
		d.errand.ids = append(d.errand.ids, r.ID)
		d.errand.Accepted++
	}
	for i, m := range all[:repeated] {
		r, err := remote.Enqueue(ctx, m)
		if err != nil {
			return fmt.Errorf("post it again: %w", err)
		}
		first := d.errand.ids[i]
		d.errand.Again[first] = append(d.errand.Again[first], fmt.Sprintf("%s, duplicate: %t", r.ID, r.Duplicate))
	}
	if err := d.takeBack(ctx, remote, lines); err != nil {
		return err
	}
	return d.mistakes(ctx, all[0])
}

// takeBack enqueues for tomorrow and takes it back today.
func (d *director) takeBack(ctx context.Context, remote *client.Remote, lines []message.Message) error {
	for _, m := range d.generator.many(actCancelled, lines, takeback, d.followers(shop, takeback)) {
		m.NotBefore = message.NextDay(time.Now()).Add(9 * time.Hour)
		r, err := remote.Enqueue(ctx, m)
		if err != nil {
			return err
		}
		if err := d.note(r); err != nil {
			return err
		}
		if _, err := remote.Cancel(ctx, r.ID); err != nil {
			return fmt.Errorf("cancel: %w", err)
		}
		s, err := remote.Status(ctx, r.ID)
		if err != nil {
			return fmt.Errorf("status: %w", err)
		}
		d.errand.Taken = append(d.errand.Taken, s)
	}
	return nil
}

// mistakes are what the API must refuse: a stranger, and a message with a field that WeChat would not take.
func (d *director) mistakes(ctx context.Context, m message.Message) error {
	for _, wrong := range []struct {
		what, key string
		body      []byte
		want      int
		at        string
	}{
		{"without a key", "", m.AppendJSON(nil), http.StatusUnauthorized, ""},
		{"a message to an openid that is none", d.apiKey, bytes.Replace(m.AppendJSON(nil), []byte(m.To), []byte("138 0000 0000"), 1), http.StatusBadRequest, "to"},
	} {
		status, problem, err := d.post(ctx, wrong.key, wrong.body)
		if err != nil {
			return err
		}
		r := refusal{What: wrong.what, Got: status, Want: wrong.want, At: wrong.at}
		if len(problem.Errors) > 0 {
			r.Path = problem.Errors[0].Path
		}
		d.errand.Refused = append(d.errand.Refused, r)
	}
	return nil
}

// post posts a message as curl does.
func (d *director) post(ctx context.Context, key string, body []byte) (status int, p client.Problem, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, d.serverURL()+"/v1/messages", bytes.NewReader(body))
	if err != nil {
		return 0, p, err
	}
	req.Header.Set("Content-Type", "application/json")
	if key != "" {
		req.Header.Set("Authorization", "Bearer "+key)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, p, err
	}
	defer res.Body.Close()
	return res.StatusCode, p, json.NewDecoder(res.Body).Decode(&p)
}

// lookedUp is how many messages are asked after in the end.
const lookedUp = 20

// lookUp asks the API what became of some of its messages.
func (d *director) lookUp(ctx context.Context) error {
	remote, err := client.HTTP(d.serverURL(), d.apiKey)
	if err != nil {
		return err
	}
	defer remote.Close()
	for _, id := range d.errand.ids[:lookedUp] {
		s, err := remote.Status(ctx, id)
		if err != nil {
			return fmt.Errorf("status over HTTP: %w", err)
		}
		d.errand.Told = append(d.errand.Told, s)
	}
	return nil
}

// http compares what a producer was told over HTTP with the ledger.
func (e evidence) http(v *verdict) {
	if e.Errand == nil {
		return
	}
	v.check(fmt.Sprintf("HTTP API: %d messages accepted, each repetition answered with the first id, what is wrong refused with its field, "+
		"and what it tells of them is what the ledger has", e.Errand.Accepted+len(e.Errand.Taken)), e.Errand.differs(e.Rows))
}

func (a *errand) differs(rows []row) (found []string) {
	ledger := map[message.ID]row{}
	for _, r := range rows {
		ledger[r.ID] = r
	}
	for first, told := range a.Again {
		for _, got := range told {
			if want := fmt.Sprintf("%s, duplicate: true", first); got != want {
				found = append(found, fmt.Sprintf("message %s posted again was answered %s", first, got))
			}
		}
	}
	for _, r := range a.Refused {
		if r.Got != r.Want || r.Path != r.At {
			found = append(found, fmt.Sprintf("%s was answered %d, field %q; want %d, field %q", r.What, r.Got, r.Path, r.Want, r.At))
		}
	}
	for _, s := range a.Taken {
		if s.Status != outcome.Cancelled || len(s.Timeline) == 0 || s.Timeline[len(s.Timeline)-1].Status != outcome.Cancelled {
			found = append(found, fmt.Sprintf("message %s was taken back, and is %s with the timeline %v", s.Message.ID, s.Status, s.Timeline))
		}
	}
	for _, s := range slices.Concat(a.Taken, a.Told) {
		r := ledger[s.Message.ID]
		if s.Status != r.Status || s.Reason != r.Reason || string(s.Message.To) != r.To || s.Attempts != r.Attempts {
			found = append(found, fmt.Sprintf("the API says that message %s is %s %s; the ledger has %s", s.Message.ID, s.Status, s.Reason, r))
		}
	}
	slices.Sort(found)
	return found
}
