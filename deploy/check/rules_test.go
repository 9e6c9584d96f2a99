package check

import (
	"regexp"
	"strings"
	"testing"

	"github.com/prometheus/prometheus/model/rulefmt"
)

const rulesFile = "../prometheus/hongyan.rules.yaml"

func alerts(t *testing.T) []rulefmt.Rule {
	t.Helper()
	groups, errs := rulefmt.ParseFile(rulesFile, false)
	for _, err := range errs {
		t.Error(err)
	}
	if t.Failed() {
		t.FailNow()
	}
	var all []rulefmt.Rule
	for _, g := range groups.Groups {
		all = append(all, g.Rules...)
	}
	return all
}

func TestAlertsAskForWhatIsExported(t *testing.T) {
	all := exported(t)
	for _, a := range alerts(t) {
		for _, c := range complaints(a.Expr, all) {
			t.Errorf("%s: %s", a.Alert, c)
		}
		if s := a.Labels["severity"]; s != "critical" && s != "warning" {
			t.Errorf("%s: severity %q", a.Alert, s)
		}
		if a.Annotations["summary"] == "" {
			t.Errorf("%s has no summary", a.Alert)
		}
	}
}

var section = regexp.MustCompile(`(?ms)^### (Hongyan\w+)\n\n(.+?)\n(?:#|\z)`)

// Whoever is woken finds what to do, in either language.
func TestEachAlertSaysWhatToDo(t *testing.T) {
	for _, page := range []string{"../../docs/operations.md", "../../docs/zh/operations.md"} {
		sections := map[string]string{}
		for text := read(t, page); ; {
			m := section.FindStringSubmatchIndex(text)
			if m == nil {
				break
			}
			sections[text[m[2]:m[3]]] = text[m[4]:m[5]]
			text = text[m[5]:]
		}
		for _, a := range alerts(t) {
			if len(sections[a.Alert]) < 40 {
				t.Errorf("%s has no section for %s that says what to do", page, a.Alert)
			}
			delete(sections, a.Alert)
			if _, anchor, _ := strings.Cut(a.Annotations["runbook_url"], "#"); anchor != strings.ToLower(a.Alert) {
				t.Errorf("%s: its runbook_url leads to %q", a.Alert, anchor)
			}
		}
		for name := range sections {
			t.Errorf("%s has a section for %s, which is no alert", page, name)
		}
	}
}

// plays are for each alert a past in which it fires and, next to it, one in which all is as it should be.
var plays = map[string]struct{ fires, quiet []string }{
	"HongyanNoWorkers": {
		[]string{`hongyan_build_info{program="server",version="v1"} 1x120`},
		[]string{`hongyan_workers{version="v1"} 1x120`},
	},
	"HongyanStoreAway": {
		[]string{`hongyan_store_up{store="redis",pod="a"} 1x120`, `hongyan_store_up{store="redis",pod="b"} 0x120`},
		[]string{`hongyan_store_up{store="redis",pod="a"} 1x120`},
	},
	"HongyanGateBroken": {
		[]string{`hongyan_gate_state{account="shop",api="all"} 0x60 2x60`},
		[]string{`hongyan_gate_state{account="shop",api="all"} 1x120`},
	},
	"HongyanCallUnanswered": {
		[]string{`hongyan_wechat_call_seconds_count{api="a",class="ambiguous"} 0+10x120`, `hongyan_wechat_call_seconds_count{api="a",class="sent"} 0+100x120`},
		[]string{`hongyan_wechat_call_seconds_count{api="a",class="ambiguous"} 0+1x120`, `hongyan_wechat_call_seconds_count{api="a",class="sent"} 0+100x120`},
	},
	"HongyanMessagesUnknown": {
		[]string{`hongyan_decisions_total{account="shop",kind="custom",status="unknown",reason="in_doubt"} 0x110 1x10`, `hongyan_resolved_total{account="shop",kind="custom",status="unknown"} 0x120`},
		[]string{`hongyan_decisions_total{account="shop",kind="custom",status="unknown",reason="in_doubt"} 5x120`, `hongyan_resolved_total{account="shop",kind="custom",status="unknown"} 0x120`},
	},
	"HongyanMessagesDead": {
		[]string{`hongyan_decisions_total{account="shop",kind="custom",status="dead",reason="poison"} 0x120`, `hongyan_resolved_total{account="shop",kind="custom",status="dead"} 0x110 2x10`},
		[]string{`hongyan_decisions_total{account="shop",kind="custom",status="dead",reason="poison"} 1x120`, `hongyan_resolved_total{account="shop",kind="custom",status="dead"} 0x120`},
	},
	"HongyanUrgentWaits": {
		[]string{`hongyan_queue_oldest_seconds{class="urgent"} 45x120`},
		[]string{`hongyan_queue_oldest_seconds{class="urgent"} 2x120`, `hongyan_queue_oldest_seconds{class="bulk"} 100x120`},
	},
	"HongyanQueueWaits": {
		[]string{`hongyan_queue_oldest_seconds{class="bulk"} 400x120`},
		[]string{`hongyan_queue_oldest_seconds{class="bulk"} 100x120`},
	},
	"HongyanBehind": {
		[]string{`hongyan_backlog_seconds{account="shop",kind="template"} 9000x120`},
		[]string{`hongyan_backlog_seconds{account="shop",kind="template"} 600x120`},
	},
	"HongyanQuotaRunsOut": {
		[]string{`hongyan_quota_left{account="shop",kind="template"} 50x120`, `hongyan_quota_limit{account="shop",kind="template"} 1000x120`, `hongyan_messages_dispatchable{account="shop",kind="template"} 9x120`},
		[]string{`hongyan_quota_left{account="shop",kind="template"} 50x120`, `hongyan_quota_limit{account="shop",kind="template"} 1000x120`, `hongyan_messages_dispatchable{account="shop",kind="template"} 0x120`},
	},
	"HongyanWindowsDisagree": {
		[]string{`hongyan_window_disagreements_total{account="shop",errcode="45015"} 0+2x120`, `hongyan_claims_total{account="shop",kind="custom",result="granted"} 0+100x120`},
		[]string{`hongyan_window_disagreements_total{account="shop",errcode="45015"} 0+2x120`, `hongyan_claims_total{account="shop",kind="custom",result="granted"} 0+1000x120`},
	},
	"HongyanTokenMissing": {
		[]string{`hongyan_token_left_seconds{account="shop",pod="a"} 0x120`, `hongyan_token_left_seconds{account="shop",pod="b"} 0x120`, `hongyan_messages_dispatchable{account="shop",kind="custom"} 3x120`},
		[]string{`hongyan_token_left_seconds{account="shop",pod="a"} 0x120`, `hongyan_token_left_seconds{account="shop",pod="b"} 3000x120`, `hongyan_messages_dispatchable{account="shop",kind="custom"} 3x120`},
	},
	"HongyanResolverLags": {[]string{`hongyan_resolver_lag_seconds 90x120`}, []string{`hongyan_resolver_lag_seconds 25x120`}},
	"HongyanCensusStale":  {[]string{`hongyan_census_timestamp_seconds 7000x120`}, []string{`hongyan_census_timestamp_seconds 0+60x120`}},
	"HongyanQueueLostMessages": {
		[]string{`hongyan_requeued_total 0x110 900x10`}, []string{`hongyan_requeued_total 0x110 3x10`},
	},
	"HongyanTasksRejected": {[]string{`hongyan_rejected_tasks 1x120`}, []string{`hongyan_rejected_tasks 0x120`}},
	"HongyanCallbackSlow": {
		[]string{`hongyan_callback_seconds_bucket{account="shop",le="2.5"} 0+50x120`, `hongyan_callback_seconds_bucket{account="shop",le="5"} 0+100x120`, `hongyan_callback_seconds_bucket{account="shop",le="+Inf"} 0+100x120`},
		[]string{`hongyan_callback_seconds_bucket{account="shop",le="2.5"} 0+100x120`, `hongyan_callback_seconds_bucket{account="shop",le="5"} 0+100x120`, `hongyan_callback_seconds_bucket{account="shop",le="+Inf"} 0+100x120`},
	},
	"HongyanCallbackFails": {
		[]string{`hongyan_callback_requests_total{account="shop",result="busy"} 0+5x120`, `hongyan_callback_requests_total{account="shop",result="recorded"} 0+100x120`},
		[]string{`hongyan_callback_requests_total{account="shop",result="refused"} 0+5x120`, `hongyan_callback_requests_total{account="shop",result="recorded"} 0+100x120`},
	},
	"HongyanCallbackRefused": {
		[]string{`hongyan_callback_requests_total{account="shop",result="refused"} 0+60x120`},
		[]string{`hongyan_callback_requests_total{account="shop",result="refused"} 0+1x120`, `hongyan_callback_requests_total{account="unknown",result="refused"} 0+60x120`},
	},
	"HongyanReceiptsWait":    {[]string{`hongyan_receipts_waiting 20000x120`}, []string{`hongyan_receipts_waiting 20x120`}},
	"HongyanWebhookDisabled": {[]string{`hongyan_webhook_disabled{account="shop"} 1x120`}, []string{`hongyan_webhook_disabled{account="shop"} 0x120`}},
	"HongyanWebhookBehind":   {[]string{`hongyan_webhook_oldest_seconds{account="shop"} 1000x120`}, []string{`hongyan_webhook_oldest_seconds{account="shop"} 5x120`}},
	"HongyanVersionsMixed": {
		[]string{`hongyan_workers{version="v1"} 1x120`, `hongyan_workers{version="v2"} 2x120`},
		[]string{`hongyan_workers{version="v1",pod="a"} 3x120`, `hongyan_workers{version="v1",pod="b"} 3x120`},
	},
}

func TestAlertsFireWhenTheyShould(t *testing.T) {
	for _, a := range alerts(t) {
		p, known := plays[a.Alert]
		if !known {
			t.Errorf("%s is not played", a.Alert)
			continue
		}
		if got := pastOf(t, p.fires...).ask(t, a.Expr); len(got) != 1 {
			t.Errorf("%s: got %v, want one alarm", a.Alert, got)
		}
		if got := pastOf(t, p.quiet...).ask(t, a.Expr); len(got) != 0 {
			t.Errorf("%s: got %v where all is well", a.Alert, got)
		}
	}
}
