package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hongyan-dispatch/hongyan/client"
	"github.com/hongyan-dispatch/hongyan/message"
	"github.com/hongyan-dispatch/hongyan/outcome"
)

// replayAnswer is the last line about a replay.
type replayAnswer struct {
	Done             bool
	DryRun           bool `json:"dry_run"`
	Replayed, Spared int
	Counts           []client.ReplayCount
}

// fail posts n messages of an account and has them end so.
func (h *house) fail(key, account string, n int, body func(account, to string) string, state, reason string) []string {
	h.Helper()
	var list []string
	for i := range n {
		list = append(list, body(account, fmt.Sprintf("oFAIL%d", i)))
	}
	var accepted struct{ Messages []struct{ ID string } }
	h.want(202, key, "POST", "/v1/messages", "["+strings.Join(list, ",")+"]", &accepted)
	ids := make([]string, n)
	for i, m := range accepted.Messages {
		ids[i] = m.ID
	}
	tag, err := h.db.Exec(h.Context(), `UPDATE message SET state = $2::text::message_state, reason = $3::text::message_reason, finished_at = now() WHERE id = ANY ($1::text[]::uuid[])`,
		ids, state, reason)
	if err != nil || tag.RowsAffected() != int64(n) {
		h.Fatalf("%v of %d messages ended: %v", tag, n, err)
	}
	return ids
}

func template(account, to string) string { return posted(account, to, "") }

// replay asks for a replay since an hour ago, with more fields.
func (h *house) replay(key, more string) (r replayAnswer) {
	h.Helper()
	h.want(200, key, "POST", "/v1/replay", fmt.Sprintf(`{"since":%q,%s}`, time.Now().Add(-time.Hour).Format(time.RFC3339), more), &r)
	if !r.Done {
		h.Errorf("a replay that is not done: %+v", r)
	}
	return r
}

func TestReplay(t *testing.T) {
	h := startAPI(t)
	all := h.key("all", "*:*:*")
	const n = 700 // over a transaction of a replay
	h.fail(all, "shop", n, template, "failed", "retries_exhausted")
	doubtful := h.fail(all, "shop", 3, customTo, "unknown", "in_doubt")
	news := h.fail(all, "news", 4, template, "failed", "retries_exhausted")
	rows := func() int { return h.number("SELECT count(*)::int FROM message") }
	before := rows()

	if r := h.replay(all, `"statuses":["failed"],"dry_run":true`); r.Replayed != n+4 || !r.DryRun || rows() != before {
		t.Errorf("a dry run: %+v, and %d rows", r, rows()-before)
	}
	if r := h.replay(all, `"statuses":["failed"],"reasons":["refused_request"]`); r.Replayed+r.Spared != 0 {
		t.Errorf("of another reason: %+v", r)
	}
	var p problemAnswer
	h.want(400, all, "POST", "/v1/replay", `{"statuses":["sent"],"lane":"fast"}`, &p)
	var paths []string
	for _, f := range p.Errors {
		paths = append(paths, f.Path)
	}
	if fmt.Sprint(paths) != "[since statuses lane]" {
		t.Errorf("findings %+v", p.Errors)
	}
	h.want(400, all, "POST", "/v1/replay", `{"ids":["`+news[0]+`"],"statuses":["failed"]}`, nil)
	h.want(400, all, "POST", "/v1/replay", `{"status":["failed"]}`, nil)
	h.want(400, all, "POST", "/v1/replay", `{"ids":["`+strings.Repeat(news[0]+`","`, maxIDs)+news[0]+`"]}`, nil)

	t.Run("asked for by two at a time each goes once", func(t *testing.T) {
		var wg sync.WaitGroup
		sum := make(chan int, 2)
		for range 2 {
			wg.Go(func() {
				sum <- h.replay(all, `"statuses":["failed"],"accounts":["wx00000000000000c1"],"per_second":100`).Replayed
			})
		}
		wg.Wait()
		if got := <-sum + <-sum; got != n || rows() != before+n {
			t.Errorf("replayed %d and %d rows more, want %d", got, rows()-before, n)
		}
		if r := h.replay(all, `"statuses":["failed"],"accounts":["shop"]`); r.Replayed != 0 || r.Spared != n || len(r.Counts) != 1 || r.Counts[0].Spared != "replayed" {
			t.Errorf("a third time: %+v", r)
		}
		if got := h.number(`SELECT extract(epoch FROM max(due_at) - min(due_at))::int FROM parked WHERE reason = 'not_before'`); got < n/100/2-1 || got > n/100 {
			t.Errorf("they come due within %d s, want some %d at 100 a second from each of two", got, n/100)
		}
	})
	t.Run("what the user may have goes when that is accepted", func(t *testing.T) {
		if r := h.replay(all, `"statuses":["unknown"]`); r.Replayed != 0 || r.Spared != 3 || r.Counts[0].Spared != "maybe_sent" {
			t.Errorf("got %+v", r)
		}
		if r := h.replay(all, `"statuses":["unknown"],"accept_duplicates":true`); r.Replayed != 3 {
			t.Errorf("got %+v", r)
		}
	})
	t.Run("a key replays what it may, and knows of nothing else", func(t *testing.T) {
		key := h.key("template", "shop:template:replay")
		ids, _ := json.Marshal(append(doubtful, news...))
		var r replayAnswer
		h.want(200, key, "POST", "/v1/replay", `{"ids":`+string(ids)+`,"accept_duplicates":true}`, &r)
		if r.Replayed != 0 || r.Spared != 7 || len(r.Counts) != 1 || r.Counts[0] != (client.ReplayCount{Spared: "not_found", Messages: 7}) {
			t.Errorf("ids of others: %+v", r)
		}
		if r := h.replay(key, `"statuses":["failed","unknown"]`); r.Spared != n || len(r.Counts) != 1 {
			t.Errorf("all that is its: %+v", r)
		}
		for body, path := range map[string]string{`"accounts":["news"]`: "accounts[0]", `"accounts":["shop"],"kinds":["template","custom"]`: "kinds[1]", `"kinds":["custom"]`: "kinds[0]"} {
			var p problemAnswer
			h.want(403, key, "POST", "/v1/replay", `{"statuses":["failed"],"since":"2026-01-01T00:00:00Z",`+body+`}`, &p)
			if len(p.Errors) != 1 || p.Errors[0].Path != path {
				t.Errorf("%s: %+v, want %s", body, p.Errors, path)
			}
		}
	})
	t.Run("nobody sends a mass message past the second key", func(t *testing.T) {
		boss := h.key("boss", "shop:mass:admin")
		var asked struct {
			ID string `json:"approval_id"`
		}
		h.want(202, all, "POST", "/v1/messages", massAll, &asked)
		var approved struct{ Messages []string }
		h.want(200, boss, "POST", "/v1/approvals/"+asked.ID+"/approve", "", &approved)
		if _, err := h.db.Exec(t.Context(), `UPDATE message SET state = 'failed', reason = 'refused_request', finished_at = now() WHERE id = $1::text::uuid`, approved.Messages[0]); err != nil {
			t.Fatal(err)
		}
		if r := h.replay(all, `"statuses":["failed"],"reasons":["refused_request"]`); r.Replayed+r.Spared != 0 {
			t.Errorf("got %+v", r)
		}
		h.want(403, all, "POST", "/v1/replay", `{"statuses":["failed"],"since":"2026-01-01T00:00:00Z","accounts":["shop"],"kinds":["mass"]}`, nil)
	})
	t.Run("by the client", func(t *testing.T) {
		c, err := client.HTTP(h.url, all)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		ask := client.Replay{Statuses: []outcome.Status{outcome.Failed}, Accounts: []string{"news"}, Since: time.Now().Add(-time.Hour), DryRun: true}
		told := 0
		ask.Progress = func(client.ReplayResult) { told++ }
		for i, want := range []client.ReplayResult{{Replayed: 4}, {Replayed: 4}, {Spared: 4}} {
			r, err := c.Replay(t.Context(), ask)
			if err != nil || r.Replayed != want.Replayed || r.Spared != want.Spared || len(r.Counts) != 1 || told != i+1 {
				t.Errorf("call %d: %+v (%v), told %d times", i, r, err, told)
			}
			ask.DryRun = false
		}
		if _, err := c.Replay(t.Context(), client.Replay{Statuses: []outcome.Status{outcome.Sent}}); !errors.As(err, new(message.Invalid)) {
			t.Errorf("got %v", err)
		}
	})
	h.eventually("audit of it all", func() bool {
		return h.number(`SELECT coalesce(sum(n), 0)::int FROM api_audit WHERE action = 'replayed'`) == n+3+4
	})
	if got := h.number(`SELECT count(*)::int FROM api_audit WHERE action = 'replay' AND detail LIKE '%"accept_duplicates":true%' AND detail LIKE '%unknown%'`); got != 1 {
		t.Errorf("%d entries say what was asked for, want 1", got)
	}
}

const maxIDs = 1000
