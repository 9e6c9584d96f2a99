package main

import (
	"encoding/json"
	"fmt"
	"path"
	"slices"
	"strings"
	"testing"
	"time"
)

type approvalAnswer struct {
	ID, Status string
	DecidedBy  string `json:"decided_by"`
	Messages   []string
}

// Whatever cuts an approval short, and however late somebody looks, its end is what became of its message.
func TestApprovalsThatAreCutShort(t *testing.T) {
	h := startAPI(t)
	crm, boss := h.key("crm", "shop:mass:enqueue", "shop:mass:read"), h.key("boss", "shop:mass:admin")
	n := 0
	ask := func(body string) string {
		n++
		var asked struct {
			ID string `json:"approval_id"`
		}
		h.want(202, crm, "POST", "/v1/messages", strings.Replace(body, "tonight", fmt.Sprint("night-", n), 1), &asked)
		return asked.ID
	}
	approve := func(id string) (a approvalAnswer) {
		t.Helper()
		h.want(200, boss, "POST", "/v1/approvals/"+id+"/approve", "", &a)
		return a
	}
	cut := func(id, ago string) { // between the commit of the message and the note of it
		t.Helper()
		if _, err := h.db.Exec(t.Context(), `UPDATE approval SET state = 'approving', messages = '{}', decided_by = 'boss', decided_at = now() - $2::interval,
			asked_at = now() - $2::interval WHERE id = $1::text::uuid`, id, ago); err != nil {
			t.Fatal(err)
		}
	}
	expire := func(id string) {
		t.Helper()
		if _, err := h.db.Exec(t.Context(), `UPDATE approval SET content = jsonb_set(content::jsonb, '{expires_at}', to_jsonb(now() - interval '1 second'))::text
			WHERE id = $1::text::uuid`, id); err != nil {
			t.Fatal(err)
		}
	}
	get := func(id string) (a approvalAnswer) {
		t.Helper()
		h.want(200, crm, "GET", "/v1/approvals/"+id, "", &a)
		return a
	}
	messages := func() int { return h.number("SELECT count(*)::int FROM message") }
	keyless := strings.Replace(massAll, `"key":"tonight",`, "", 1)
	users := make([]string, 10_001)
	for i := range users {
		users[i] = fmt.Sprintf("oLIST%d", i)
	}
	list, _ := json.Marshal(users)
	long := `{"account":"shop","kind":"mass","key":"tonight","to":` + string(list) + `,"mass":{"msgtype":"text","text":{"content":"今晚上新"}}}`

	for name, body := range map[string]string{"with a key": massAll, "without a key": keyless, "of a list in parts": long} {
		t.Run("behind the acceptance, "+name, func(t *testing.T) {
			for lapse, then := range map[string]func(id string) approvalAnswer{
				"approved again": approve,
				"looked at":      get,
				"refused": func(id string) approvalAnswer {
					h.want(409, boss, "POST", "/v1/approvals/"+id+"/refuse", "", nil)
					return get(id)
				},
			} {
				id := ask(body)
				was, before := approve(id), messages()
				cut(id, "2 minutes")
				expire(id)
				if a := then(id); a.Status != "approved" || !slices.Equal(a.Messages, was.Messages) || a.DecidedBy != "boss" || messages() != before {
					t.Errorf("%s: %+v and %d messages more, want approved as %v", lapse, a, messages()-before, was.Messages)
				}
			}
		})
	}
	t.Run("behind the acceptance, when the key is forgotten", func(t *testing.T) {
		id := ask(massAll)
		was, before := approve(id), messages()
		cut(id, "30 hours")
		if _, err := h.db.Exec(t.Context(), `DELETE FROM idempotency_key`); err != nil {
			t.Fatal(err)
		}
		if a := approve(id); a.Status != "approved" || !slices.Equal(a.Messages, was.Messages) || messages() != before {
			t.Errorf("%+v and %d messages more", a, messages()-before)
		}
	})
	t.Run("before the acceptance", func(t *testing.T) {
		id := ask(massAll)
		before := messages()
		cut(id, "2 minutes")
		if a := get(id); a.Status != "approving" {
			t.Errorf("%+v, want it still on its way", a)
		}
		h.want(409, boss, "POST", "/v1/approvals/"+id+"/refuse", "", nil)
		if a := approve(id); a.Status != "approved" || messages() != before+1 {
			t.Errorf("%+v and %d messages more, want one", a, messages()-before)
		}
	})
	t.Run("before the acceptance, a day ago", func(t *testing.T) {
		id := ask(massAll)
		before := messages()
		cut(id, "30 hours")
		var waiting struct{ Approvals []approvalAnswer }
		h.want(200, crm, "GET", "/v1/accounts/shop/approvals", "", &waiting)
		if len(waiting.Approvals) != 1 || waiting.Approvals[0].ID != id || waiting.Approvals[0].Status != "waiting" {
			t.Errorf("%+v, want it to wait again", waiting)
		}
		if a := approve(id); a.Status != "approved" || messages() != before+1 {
			t.Errorf("%+v and %d messages more, want one", a, messages()-before)
		}
	})
	t.Run("before the acceptance, of a message that is over", func(t *testing.T) {
		id := ask(massAll)
		before := messages()
		cut(id, "2 minutes")
		expire(id)
		var p problemAnswer
		h.want(400, boss, "POST", "/v1/approvals/"+id+"/approve", "", &p)
		if len(p.Errors) != 1 || p.Errors[0].Path != "expires_at" || get(id).Status != "lapsed" {
			t.Errorf("%+v, and it is %s", p, get(id).Status)
		}
		h.want(200, boss, "POST", "/v1/approvals/"+id+"/refuse", "", nil)
		if messages() != before {
			t.Error("it was accepted")
		}
	})
}

// Those that lapsed do not stand before those that wait.
func TestManyLapsedApprovals(t *testing.T) {
	h := startAPI(t)
	crm := h.key("crm", "shop:mass:enqueue", "shop:mass:read")
	var asked struct {
		ID string `json:"approval_id"`
	}
	h.want(202, crm, "POST", "/v1/messages", massAll, &asked)
	if _, err := h.db.Exec(t.Context(), `
		INSERT INTO approval (id, account, hash, content, asked_by, asked_at)
		SELECT gen_random_uuid(), account, hash, content, asked_by, now() - interval '8 days' FROM approval, generate_series(1, 1500);
		INSERT INTO approval (id, account, hash, content, asked_by, asked_at)
		SELECT gen_random_uuid(), account, hash, jsonb_set(content::jsonb, '{expires_at}', to_jsonb(now() - interval '1 second'))::text, asked_by, now() - interval '1 day'
		FROM approval, generate_series(1, 300) WHERE key IS NOT NULL`); err != nil {
		t.Fatal(err)
	}
	var waiting struct{ Approvals []approvalAnswer }
	h.want(200, crm, "GET", "/v1/accounts/shop/approvals", "", &waiting)
	if len(waiting.Approvals) != 1 || waiting.Approvals[0].ID != asked.ID {
		t.Errorf("%d wait, want the one: %+v", len(waiting.Approvals), waiting.Approvals)
	}
}

// Where a store's answer is lost the request's answer is that nobody knows, and not that nothing was accepted.
func TestAnswersThatAreLost(t *testing.T) {
	h := startAPI(t)
	all, boss := h.key("all", "*:*:*"), h.key("boss", "shop:mass:admin")
	var there struct{ ID string }
	h.want(202, all, "POST", "/v1/messages", posted("news", "oA", "k"), &there)
	var asked struct {
		ID string `json:"approval_id"`
	}
	h.want(202, all, "POST", "/v1/messages", massAll, &asked)
	h.want(200, all, "POST", "/v1/accounts/shop/gates/custom/close", "", nil)
	draft, running, paused, failed, broken := h.ready(all, "draft"), h.ready(all, "running"), h.ready(all, "paused"), h.ready(all, "failed"), h.draft(all, "broken")
	for _, at := range []string{running, paused, failed} {
		h.want(200, all, "POST", at+"/start", "", nil)
	}
	h.want(200, all, "POST", paused+"/pause", "", nil)
	h.fails(path.Base(failed), 1)
	h.number(`UPDATE firing SET ended_at = now() WHERE campaign = $1 RETURNING 1`, path.Base(failed))
	h.breaksOff(path.Base(broken))
	if _, err := h.db.Exec(t.Context(), `
		CREATE FUNCTION vanish() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_terminate_backend(pg_backend_pid()); RETURN NEW; END $$;
		CREATE TRIGGER vanish BEFORE INSERT OR UPDATE ON approval FOR EACH ROW EXECUTE FUNCTION vanish();
		CREATE TRIGGER vanish BEFORE INSERT OR UPDATE ON gate FOR EACH ROW EXECUTE FUNCTION vanish();
		CREATE TRIGGER vanish BEFORE INSERT OR UPDATE ON campaign FOR EACH ROW EXECUTE FUNCTION vanish();
		CREATE TRIGGER vanish BEFORE UPDATE ON audience FOR EACH ROW EXECUTE FUNCTION vanish();
		CREATE TRIGGER vanish BEFORE UPDATE ON message FOR EACH ROW EXECUTE FUNCTION vanish();
		CREATE TRIGGER vanish BEFORE INSERT ON replay FOR EACH ROW EXECUTE FUNCTION vanish()`); err != nil {
		t.Fatal(err)
	}
	since := time.Now().Add(-time.Hour).Format(time.RFC3339)
	for _, c := range []struct{ key, path, body string }{
		{all, "/v1/messages", strings.Replace(massAll, "tonight", "later", 1)},
		{boss, "/v1/approvals/" + asked.ID + "/approve", ""},
		{boss, "/v1/approvals/" + asked.ID + "/refuse", ""},
		{all, "/v1/messages/" + there.ID + "/cancel", ""},
		{all, "/v1/accounts/news/gates/custom/close", ""},
		{all, "/v1/accounts/shop/gates/custom/open", ""},
		{all, "/v1/campaigns", customCampaign},
		{all, draft + "/start", ""},
		{all, running + "/pause", ""},
		{all, paused + "/resume", ""},
		{all, running + "/cancel", ""},
		{all, failed + "/retry-failed", ""},
		{all, broken + "/audience/rollback", ""},
	} {
		var p problemAnswer
		h.want(503, c.key, "POST", c.path, c.body, &p)
		if !strings.HasSuffix(p.Type, "problem-in-doubt") || strings.Contains(p.Remedy+p.Detail, "nothing was accepted") {
			t.Errorf("%s: %+v", c.path, p)
		}
	}
	if _, err := h.db.Exec(t.Context(), `DROP TRIGGER vanish ON message; UPDATE message SET state = 'failed', reason = 'retries_exhausted'`); err != nil {
		t.Fatal(err)
	}
	var p problemAnswer
	h.want(503, all, "POST", "/v1/replay", `{"statuses":["failed"],"since":"`+since+`"}`, &p)
	if !strings.HasSuffix(p.Type, "problem-in-doubt") {
		t.Errorf("a replay: %+v", p)
	}
}
