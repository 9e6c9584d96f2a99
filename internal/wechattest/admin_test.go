package wechattest

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

func (b *bundle) admin(method, path, body string) (int, string) {
	b.Helper()
	w := httptest.NewRecorder()
	b.sim.ServeHTTP(w, httptest.NewRequest(method, path, strings.NewReader(body)))
	return w.Code, strings.TrimSpace(w.Body.String())
}

func TestAdministration(t *testing.T) {
	const account = "/_sim/accounts/" + appID
	ok := func(b *bundle, method, path, body string) string {
		b.Helper()
		code, out := b.admin(method, path, body)
		if code != http.StatusOK {
			b.Fatalf("%s %s: %d %s", path, body, code, out)
		}
		return out
	}
	t.Run("the log comes as JSON Lines, from a number on", func(t *testing.T) {
		b := setup(t)
		b.post(PathTemplate, template(alice, "id-1"))
		b.post(PathTemplate, template(bob, "id-2"))
		lines := strings.Split(ok(b, "GET", "/_sim/accepts?after=1", ""), "\n")
		var a Accept
		if err := json.Unmarshal([]byte(lines[0]), &a); err != nil || len(lines) != 1 || a.To != bob || a.Seq != 2 {
			t.Errorf("got %s", lines)
		}
	})
	t.Run("the state shows WeChat's counts and the witness's", func(t *testing.T) {
		b := setup(t)
		b.post(PathTemplate, template(alice, ""))
		b.post(PathTemplate, template("oNobody", ""))
		ok(b, "POST", account+"/used", `{"template/send": 60000}`)
		ok(b, "POST", "/_sim/faults", `{"kind":"drop","when":"after","api":"custom/send"}`)
		var s State
		if err := json.Unmarshal([]byte(ok(b, "GET", "/_sim/state", "")), &s); err != nil {
			t.Fatal(err)
		}
		api := s.Accounts[0].APIs[PathTemplate]
		if api.Used != 60000 || api.Limit.PerDay != 100_000 || api.Arrived != 2 || api.Accepted != 1 || api.Refused[badOpenID] != 1 {
			t.Errorf("got %+v", api)
		}
		if len(s.Faults) != 1 || s.Faults[0].API != PathCustom || !s.Now.Equal(noon) || s.Accepted != 1 {
			t.Errorf("got %+v", s)
		}
	})
	t.Run("faults are injected and healed", func(t *testing.T) {
		b := setup(t)
		if got := ok(b, "POST", "/_sim/faults", "{kind: errcode, api: template/send, for: 1s}"); got != `{"id":1}` {
			t.Errorf("got %s", got)
		}
		b.want(b.post(PathTemplate, template(alice, "")), systemBusy)
		ok(b, "DELETE", "/_sim/faults?id=1", "")
		b.want(b.post(PathTemplate, template(alice, "")), 0)
	})
	t.Run("the clock is set and advanced", func(t *testing.T) {
		b := setup(t)
		ok(b, "POST", "/_sim/clock", `{"set":"2026-11-30T23:59:58+08:00"}`)
		if got := ok(b, "POST", "/_sim/clock", `{"advance":"1m2s"}`); got != `{"now":"2026-12-01T00:01:00+08:00"}` {
			t.Errorf("got %s", got)
		}
		ok(b, "POST", "/_sim/clock", `{"real":true}`)
		if d := time.Since(b.sim.Clock.Now()); d > time.Minute {
			t.Errorf("the real clock is %s behind", d)
		}
	})
	t.Run("users act", func(t *testing.T) {
		b := setup(t)
		ok(b, "POST", account+"/users", `{"openid":"oNew","actions":["message"],"permits":{"paid":1}}`)
		b.want(b.post(PathCustom, textTo("oNew")), 0)
		b.want(b.post(PathSubscribe, template("oNew", "")), 0)
		ok(b, "POST", account+"/users", `{"openids":["oNew","oAlice"],"actions":["unsubscribe"]}`)
		b.want(b.post(PathTemplate, template(alice, "")), notFollowing)
	})
	t.Run("settings change one by one", func(t *testing.T) {
		b := setup(t)
		ok(b, "POST", account, `{"limits":{"template/send":{"per_day":1}},"duplicate":"40241"}`)
		b.want(b.post(PathTemplate, template(alice, "")), 0) // templates are still there
		b.want(b.post(PathTemplate, template(alice, "")), dayQuotaReached)
	})
	t.Run("accounts are added, tokens break, masses are decided", func(t *testing.T) {
		b := setup(t, func(s *Settings) { s.Mass.Protected = true })
		ok(b, "POST", "/_sim/accounts", `{"appid":"wx2","secret":"s","followers":{"prefix":"oN","count":3}}`)
		if got := b.sim.Account("wx2").state().Users; got != 3 {
			t.Errorf("%d users", got)
		}
		token := b.shop.Token()
		ok(b, "POST", account+"/tokens", `{"do":"kick"}`)
		if b.with(token) != badCredential {
			t.Error("the kicked token is good")
		}
		b.post(PathMassSendAll, massAll("x", "1"))
		ok(b, "POST", account+"/mass", `{"msg_id":3000000001,"allow":true}`)
		b.accepted(1)
		ok(b, "POST", "/_sim/latency", `{"latency":"1ms-2ms"}`)
		ok(b, "POST", "/_sim/log", `{"mode":"counts"}`)
	})
	t.Run("bad requests get one line", func(t *testing.T) {
		b := setup(t)
		for _, c := range [][2]string{
			{"/_sim/faults", `{"kind":"boom"}`},
			{"/_sim/faults", `{"knd":"drop"}`},
			{"/_sim/clock", `{"advance":"-1h"}`},
			{"/_sim/log", `{"mode":"all"}`},
			{"/_sim/accounts", `{"appid":"` + appID + `","secret":"x"}`},
			{"/_sim/accounts/wx9/users", `{"openid":"x"}`},
			{account + "/users", `{"openid":"x","actions":["dance"]}`},
			{account, `{"appid":"wx9"}`},
			{account, `{"limits":{"nope":{}}}`},
			{account + "/tokens", `{"do":"lose"}`},
			{account + "/mass", `{"msg_id":1}`},
			{account + "/used", `{"nope":1}`},
		} {
			if code, out := b.admin("POST", c[0], c[1]); code != http.StatusBadRequest || strings.Contains(out, "\n") || out == "" {
				t.Errorf("%s %s: %d %q", c[0], c[1], code, out)
			}
		}
	})
}
