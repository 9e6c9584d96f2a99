package wechattest

import (
	"testing"
	"time"
)

func (b *bundle) stable(force string) reply {
	b.Helper()
	return b.request("POST", PathStableToken,
		`{"grant_type":"client_credential","appid":"`+appID+`","secret":"`+secret+`","force_refresh":`+force+`}`)
}

func (b *bundle) legacy() reply {
	b.Helper()
	return b.request("GET", PathToken+"?grant_type=client_credential&appid="+appID+"&secret="+secret, "")
}

// with calls an API that every account may call, with this token.
func (b *bundle) with(token string) int {
	b.Helper()
	return b.request("GET", PathDomainIP+"?access_token="+token, "").Errcode
}

func TestStableToken(t *testing.T) {
	t.Run("normal mode gives the same token with less left", func(t *testing.T) {
		b := setup(t)
		first := b.stable("false")
		b.sim.Clock.Advance(time.Hour)
		second := b.stable("false")
		if first.AccessToken == "" || first.AccessToken != second.AccessToken || first.ExpiresIn != 7200 || second.ExpiresIn != 3600 {
			t.Errorf("got %+v, then %+v", first, second)
		}
	})
	t.Run("in the last 5 minutes there is a new one, and both are good", func(t *testing.T) {
		b := setup(t)
		first := b.stable("false").AccessToken
		b.sim.Clock.Advance(7200*time.Second - tokenOverlap)
		if again := b.stable("false"); again.AccessToken != first || again.ExpiresIn != 300 {
			t.Errorf("with 5 minutes left: got %+v, want the first", again)
		}
		b.sim.Clock.Advance(time.Second)
		second := b.stable("false").AccessToken
		if second == first || b.with(first) != 0 || b.with(second) != 0 {
			t.Error("want a new token and both good")
		}
		b.sim.Clock.Advance(tokenOverlap)
		if got := b.with(first); got != tokenExpired {
			t.Errorf("after its end the old one gives %d", got)
		}
		if b.with(second) != 0 {
			t.Error("the new one is no longer good")
		}
	})
	t.Run("forced mode kills the old one at once", func(t *testing.T) {
		b := setup(t)
		first := b.stable("false").AccessToken
		second := b.stable("true").AccessToken
		if b.with(first) != badCredential || b.with(second) != 0 {
			t.Error("want the first refused and the second good")
		}
	})
	t.Run("two forced calls within 30 s refresh once", func(t *testing.T) {
		b := setup(t)
		first := b.stable("true").AccessToken
		b.sim.Clock.Advance(29 * time.Second)
		if b.stable("true").AccessToken != first {
			t.Error("refreshed after 29 s")
		}
		b.sim.Clock.Advance(time.Second)
		if b.stable("true").AccessToken == first {
			t.Error("not refreshed after 30 s")
		}
	})
	t.Run("20 forced refreshes a day", func(t *testing.T) {
		b := setup(t)
		for range forcesPerDay {
			b.want(b.stable("true"), 0)
			b.sim.Clock.Advance(time.Minute)
		}
		b.want(b.stable("true"), dayQuotaReached)
		b.sim.Clock.Set(noon.Add(12 * time.Hour)) // Beijing midnight
		b.want(b.stable("true"), 0)
	})
	t.Run("10,000 calls a minute", func(t *testing.T) {
		b := setup(t, func(s *Settings) { s.Limits = map[string]Limit{PathStableToken: {PerMinute: 3}} })
		for range 3 {
			b.want(b.stable("false"), 0)
		}
		b.want(b.stable("false"), minuteQuotaReached)
		b.sim.Clock.Advance(time.Minute)
		b.want(b.stable("false"), 0)
		if got := b.shop.Calls(PathStableToken); got.Arrived != 5 || got.Max60s != 4 {
			t.Errorf("the witness counts %+v", got)
		}
	})
}

func TestLegacyToken(t *testing.T) {
	t.Run("the old one lives on for 5 minutes", func(t *testing.T) {
		b := setup(t)
		first, second := b.legacy().AccessToken, b.legacy().AccessToken
		b.sim.Clock.Advance(tokenOverlap - time.Second)
		if first == second || b.with(first) != 0 || b.with(second) != 0 {
			t.Error("within 5 minutes both must be good")
		}
		b.sim.Clock.Advance(time.Second)
		if b.with(first) != badCredential || b.with(second) != 0 {
			t.Error("after 5 minutes only the new one must be good")
		}
	})
	t.Run("the one before the old one dies at once", func(t *testing.T) {
		b := setup(t)
		first := b.legacy().AccessToken
		b.legacy()
		b.legacy()
		if b.with(first) != badCredential {
			t.Error("the first is still good")
		}
	})
	t.Run("it does not touch the stable token", func(t *testing.T) {
		b := setup(t)
		stable := b.stable("false").AccessToken
		legacy := b.legacy().AccessToken
		b.stable("true")
		if b.with(legacy) != 0 || b.with(stable) != badCredential {
			t.Error("the two kinds touch each other")
		}
	})
	t.Run("2000 a day", func(t *testing.T) {
		b := setup(t)
		_ = b.shop.SetUsed(PathToken, 1999)
		b.want(b.legacy(), 0)
		b.want(b.legacy(), dayQuotaReached)
	})
}

func TestTokenCallErrors(t *testing.T) {
	b := setup(t, func(s *Settings) { s.Whitelist = []string{"192.0.2.0/28"} })
	const q = PathToken + "?grant_type=client_credential&appid=" + appID
	b.want(b.request("GET", PathToken+"?grant_type=x", ""), badGrantType)
	b.want(b.request("GET", PathToken+"?grant_type=client_credential", ""), appIDMissing)
	b.want(b.request("GET", q, ""), secretMissing)
	b.want(b.request("GET", PathToken+"?grant_type=client_credential&appid=wx9&secret=x", ""), badAppID)
	b.want(b.request("GET", q+"&secret=short", ""), badSecret)
	b.want(b.request("GET", q+"&secret=f123456789abcdef0123456789abcdef", ""), badCredential)
	b.want(b.request("GET", PathStableToken, ""), postNeeded)
	b.from = "192.0.2.77:9"
	r := b.stable("false")
	b.want(r, badCallerIP)
	if want := "invalid ip 192.0.2.77, not in whitelist rid: "; r.Errmsg[:len(want)] != want {
		t.Errorf("errmsg is %q", r.Errmsg)
	}
	if b.with(b.shop.Token()) != 0 {
		t.Error("the whitelist holds for an ordinary call")
	}
	_ = b.shop.Change(func(s *Settings) { s.WhitelistAll = true })
	if b.with(b.shop.Token()) != badCallerIP {
		t.Error("WhitelistAll does not hold for an ordinary call")
	}
	_ = b.shop.Change(func(s *Settings) { s.Whitelist, s.SecretFrozen = nil, true })
	b.want(b.stable("false"), secretFrozen)
}

func TestTokenAccidents(t *testing.T) {
	t.Run("an expired token answers 42001, and normal mode gives a new one", func(t *testing.T) {
		b := setup(t)
		first := b.stable("false").AccessToken
		b.shop.ExpireTokens()
		if got := b.with(first); got != tokenExpired {
			t.Errorf("got %d", got)
		}
		if b.with(b.stable("false").AccessToken) != 0 {
			t.Error("the new one is not good")
		}
	})
	t.Run("a stranger's refresh answers 40001, and normal mode gives the stranger's", func(t *testing.T) {
		b := setup(t)
		first := b.stable("false").AccessToken
		b.shop.KickTokens()
		if b.with(first) != badCredential || b.with(b.stable("false").AccessToken) != 0 {
			t.Error("want the first refused and the next good")
		}
	})
	t.Run("a broken token needs a forced refresh", func(t *testing.T) {
		b := setup(t)
		first := b.stable("false").AccessToken
		b.shop.BreakToken()
		if again := b.stable("false").AccessToken; again != first || b.with(again) != badCredential {
			t.Error("want normal mode to give the refused token again")
		}
		if b.with(b.stable("true").AccessToken) != 0 {
			t.Error("the forced one is not good")
		}
	})
}
