package main

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hongyan-dispatch/hongyan/message"
)

// What a key may do is the product of accounts, kinds and actions; every route is asked by every kind of key. The table
// says which action a route takes, and for which kinds of message it asks.
var matrix = []struct {
	operation    string
	method, path string // with %s for the account or the id
	action       string
	kind         message.Kind // whose scope it takes; empty: any kind's will do; every: it takes that of all
	success      int
	hidden       bool // who may not sees 404 and not 403, for it is not told that there is such a thing
}{
	{"postMessages", "POST", "/v1/messages", "enqueue", message.Custom, 202, false},
	{"findMessage", "GET", "/v1/messages?account=%s&key=there", "read", message.Custom, 200, true},
	{"getMessage", "GET", "/v1/messages/%s", "read", message.Custom, 200, true},
	{"cancelMessage", "POST", "/v1/messages/%s/cancel", "enqueue", message.Custom, 200, true},
	{"replay", "POST", "/v1/replay", "replay", message.Custom, 200, false},
	{"postEvents", "POST", "/v1/events", "enqueue", message.Custom, 200, false},
	{"getQuota", "GET", "/v1/accounts/%s/quota", "read", "", 200, false},
	{"getGates", "GET", "/v1/accounts/%s/gates", "read", "", 200, false},
	{"openGate", "POST", "/v1/accounts/%s/gates/custom/open", "admin", message.Custom, 200, false},
	{"openGate", "POST", "/v1/accounts/%s/gates/all/open", "admin", every, 200, false},
	{"closeGate", "POST", "/v1/accounts/%s/gates/custom/close", "admin", message.Custom, 200, false},
	{"closeGate", "POST", "/v1/accounts/%s/gates/all/close", "admin", every, 200, false},
	{"getWindow", "GET", "/v1/accounts/%s/window/oA", "read", message.Custom, 200, false},
	{"getApprovals", "GET", "/v1/accounts/%s/approvals", "read admin", message.Mass, 200, false},
	{"getApproval", "GET", "/v1/approvals/%s", "read admin", message.Mass, 200, true},
	{"approve", "POST", "/v1/approvals/%s/approve", "admin", message.Mass, 200, true},
	{"refuse", "POST", "/v1/approvals/%s/refuse", "admin", message.Mass, 200, true},
	{"createCampaign", "POST", "/v1/campaigns", "enqueue", message.Custom, 201, false},
	{"listCampaigns", "GET", "/v1/campaigns?account=%s", "read", "", 200, false},
	{"getCampaign", "GET", "/v1/campaigns/%s", "read", message.Custom, 200, true},
	{"checkCampaign", "POST", "/v1/campaigns/%s/check", "read", message.Custom, 200, true},
	{"exportOutcomes", "GET", "/v1/campaigns/%s/outcomes", "read", message.Custom, 200, true},
	// A draft without an audience does not start, pause or resume, has no import to roll back, and nobody to retry: who gets
	// as far as that was let in.
	{"startCampaign", "POST", "/v1/campaigns/%s/start", "enqueue", message.Custom, 409, true},
	{"pauseCampaign", "POST", "/v1/campaigns/%s/pause", "enqueue", message.Custom, 409, true},
	{"resumeCampaign", "POST", "/v1/campaigns/%s/resume", "enqueue", message.Custom, 409, true},
	{"rollBackAudience", "POST", "/v1/campaigns/%s/audience/rollback", "enqueue", message.Custom, 409, true},
	{"retryFailed", "POST", "/v1/campaigns/%s/retry-failed", "replay", message.Custom, 409, true},
	{"importAudience", "POST", "/v1/campaigns/%s/audience?restart=true", "enqueue", message.Custom, 200, true},
	{"cancelCampaign", "POST", "/v1/campaigns/%s/cancel", "enqueue", message.Custom, 200, true},
}

const every message.Kind = "every"

// TestAuthorisation is the whole matrix: every route × action × kind, for the key's own account and a foreign one.
func TestAuthorisation(t *testing.T) {
	h := startAPI(t)
	all := h.key("all", "*:*:*")
	kinds := append([]message.Kind{"*"}, message.Kinds()...)
	type scoped struct{ account, kind, action, key string }
	var keys []scoped
	for _, account := range []string{"shop", "news"} {
		for _, kind := range kinds {
			for _, action := range []string{"enqueue", "read", "replay", "admin"} {
				if account == "news" && kind != "*" {
					continue // foreign is foreign
				}
				name := fmt.Sprintf("%s-%s-%s", account, strings.ReplaceAll(string(kind), "*", "any"), action)
				key := strings.TrimSpace(h.command(exitDone, "key", "create", name, "--scope", fmt.Sprintf("%s:%s:%s", account, kind, action), "--config", h.file))
				keys = append(keys, scoped{account, string(kind), action, key})
			}
		}
	}
	h.eventually("server that knows the last key", func() bool {
		status, _, _ := h.do(keys[len(keys)-1].key, "GET", "/v1/messages", "", "")
		return status != http.StatusUnauthorized
	})
	var there struct{ ID string }
	h.want(202, all, "POST", "/v1/messages", strings.Replace(customTo("shop", "oA"), `"to"`, `"key":"there","to"`, 1), &there)
	event := fmt.Sprintf(`{"account":"shop","openid":"oA","type":"message","at":%q}`, time.Now().Format(time.RFC3339))
	approvals := 0
	asked := func() string {
		approvals++
		var a struct {
			ID string `json:"approval_id"`
		}
		h.want(202, all, "POST", "/v1/messages", strings.Replace(massAll, "tonight", fmt.Sprint("m", approvals), 1), &a)
		return a.ID
	}
	waiting := asked()
	campaigns := 0
	spec := func() string {
		campaigns++
		return strings.Replace(customCampaign, "greeting", fmt.Sprint("greeting-", campaigns), 1)
	}
	var draft struct{ ID string }
	planned := func() { h.want(201, all, "POST", "/v1/campaigns", spec(), &draft) }
	planned()

	operations := map[string]bool{}
	for _, route := range matrix {
		operations[route.operation] = true
		for _, k := range keys {
			body, kind, path := "", "", route.path
			switch route.operation {
			case "postMessages":
				body, kind = customTo("shop", "oA"), jsonType
			case "postEvents":
				body, kind = event, jsonType
			case "replay":
				body, kind = `{"accounts":["shop"],"kinds":["custom"],"statuses":["failed"],"since":"2026-01-01T00:00:00Z"}`, jsonType
			case "createCampaign":
				body, kind = spec(), jsonType
			case "importAudience":
				body, kind, path = "openid\noA\n", "text/csv", fmt.Sprintf(path, draft.ID)
			case "getCampaign", "checkCampaign", "exportOutcomes", "startCampaign", "pauseCampaign", "resumeCampaign", "rollBackAudience", "retryFailed", "cancelCampaign":
				path = fmt.Sprintf(path, draft.ID)
			case "getMessage", "cancelMessage":
				path = fmt.Sprintf(path, there.ID)
			case "getApproval", "approve", "refuse":
				path = fmt.Sprintf(path, waiting)
			default:
				path = fmt.Sprintf(path, "shop")
			}
			mine := k.account == "shop"
			kindFits := k.kind == "*" || route.kind == "" || k.kind == string(route.kind)
			actionFits := strings.Contains(route.action, k.action)
			want := http.StatusForbidden
			switch {
			case mine && kindFits && actionFits:
				want = route.success
			case route.operation == "postMessages" || route.operation == "postEvents" || route.operation == "replay" || route.operation == "createCampaign":
			case !mine:
				want = http.StatusNotFound
			case route.hidden && !mayRead(route.operation, k.kind, k.action, route.kind):
				want = http.StatusNotFound
			}
			status, _, text := h.do(k.key, route.method, path, kind, body)
			if status != want {
				t.Errorf("%s %s with %s:%s:%s: %d, want %d: %s", route.method, path, k.account, k.kind, k.action, status, want, text)
			}
			if status == 200 && (route.operation == "approve" || route.operation == "refuse") {
				waiting = asked()
			}
			if status == 200 && route.operation == "cancelCampaign" {
				planned()
			}
		}
		if status, _, _ := h.do("", route.method, strings.ReplaceAll(route.path, "%s", "x"), "", ""); status != http.StatusUnauthorized {
			t.Errorf("%s without a key: %d", route.operation, status)
		}
	}
	for _, o := range theContract().operations {
		if !operations[o.id] {
			t.Errorf("%s is not in the matrix", o.id)
		}
	}
}

// mayRead says whether a key that may not do something may at least know that the thing is there.
func mayRead(operation, kind, action string, of message.Kind) bool {
	if kind != "*" && kind != string(of) {
		return false
	}
	switch operation {
	case "cancelMessage", "startCampaign", "pauseCampaign", "resumeCampaign", "cancelCampaign", "importAudience", "rollBackAudience", "retryFailed":
		return action == "read"
	case "approve", "refuse":
		return action == "read" || action == "admin"
	}
	return false
}

// A quota tells how many messages wait, and when the last of them can have gone.
func TestTheForecastOfAQuota(t *testing.T) {
	h := startAPI(t)
	key := h.key("all", "*:*:*")
	for range 3 {
		h.want(202, key, "POST", "/v1/messages", posted("news", "oA", ""), nil)
	}
	later := time.Now().Add(time.Hour).Format(time.RFC3339)
	h.want(202, key, "POST", "/v1/messages", strings.Replace(posted("news", "oA", ""), `"to"`, fmt.Sprintf(`"not_before":%q,"to"`, later), 1), nil)
	h.want(202, key, "POST", "/v1/messages", posted("shop", "oA", ""), nil)
	var a struct {
		Quotas []struct {
			Kind     string
			Forecast struct {
				Waiting, Today int
				DoneAt         *time.Time `json:"done_at"`
			}
		}
	}
	h.want(200, key, "GET", "/v1/accounts/news/quota", "", &a)
	for _, q := range a.Quotas {
		want := map[string]int{"template": 4}[q.Kind]
		if f := q.Forecast; f.Waiting != want || f.Today != want || (f.DoneAt != nil) != (want > 0) {
			t.Errorf("%s: %+v, want %d", q.Kind, f, want)
		}
	}
	if len(a.Quotas) != 4 {
		t.Errorf("%d quotas", len(a.Quotas))
	}
}

// Quotas and gates are shown of the kinds that the key may read, and no other; the account's own gate stands before all.
func TestQuotasAndGatesOfTheKindsOfAKey(t *testing.T) {
	h := startAPI(t)
	key := h.key("reader", "shop:template:read", "shop:mass:read", "news:custom:enqueue")
	var quotas struct{ Quotas []struct{ Kind string } }
	h.want(200, key, "GET", "/v1/accounts/shop/quota", "", &quotas)
	if fmt.Sprint(quotas.Quotas) != "[{template} {mass}]" {
		t.Errorf("quotas %v", quotas.Quotas)
	}
	all := h.key("all", "*:*:*")
	for _, gate := range []string{"custom", "mass", "all"} {
		h.want(200, all, "POST", "/v1/accounts/shop/gates/"+gate+"/close", "", nil)
	}
	for reader, want := range map[string]string{key: "[{all} {mass}]", all: "[{all} {custom} {mass}]", h.key("template", "shop:template:read"): "[{all}]"} {
		var gates struct{ Gates []struct{ API string } }
		h.want(200, reader, "GET", "/v1/accounts/shop/gates", "", &gates)
		slices.SortFunc(gates.Gates, func(a, b struct{ API string }) int { return strings.Compare(a.API, b.API) })
		if fmt.Sprint(gates.Gates) != want {
			t.Errorf("gates %v, want %s", gates.Gates, want)
		}
	}
	h.want(403, key, "GET", "/v1/accounts/news/quota", "", nil)
	h.want(404, key, "GET", "/v1/accounts/strange/quota", "", nil)
}

// A fallback is a message of its own: who may not send its kind cannot send it behind another.
func TestAFallbackTakesItsOwnScope(t *testing.T) {
	h := startAPI(t)
	key := h.key("custom", "shop:custom:enqueue")
	body := strings.Replace(customTo("shop", "oA"), `"to"`, `"fallback":{"kind":"template","template":{"template_id":"t","data":{"thing1":{"value":"x"}}}},"to"`, 1)
	var p problemAnswer
	h.want(403, key, "POST", "/v1/messages", body, &p)
	if len(p.Errors) != 1 || p.Errors[0].Path != "fallback.kind" {
		t.Errorf("%+v", p)
	}
	h.want(202, key, "POST", "/v1/messages", customTo("shop", "oA"), nil)
}
