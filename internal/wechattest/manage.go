package wechattest

import (
	"fmt"
	"strings"
	"time"
)

// getQuota is POST /cgi-bin/openapi/quota/get (/doc/service/api/apimanage/).
func getQuota(c *call) *refusal {
	ep := c.sim.routes[string(text(field(c.body, "cgi_path")))]
	if ep == nil {
		return refuse(badCGIPath)
	}
	limit := c.set.limits[ep.quota]
	used := c.account.meters[ep.meter].usage(c.now)
	c.out = fmt.Appendf(c.out, `{"errcode":0,"errmsg":"ok","quota":{"daily_limit":%d,"used":%d,"remain":%d}`,
		limit.PerDay, used, max(0, limit.PerDay-used))
	switch {
	case limit.PerMinute > 0:
		c.out = fmt.Appendf(c.out, `,"rate_limit":{"call_count":%d,"refresh_second":60}`, limit.PerMinute)
	case limit.PerSecond > 0:
		c.out = fmt.Appendf(c.out, `,"rate_limit":{"call_count":%d,"refresh_second":1}`, limit.PerSecond)
	}
	c.out = append(c.out, '}')
	return nil
}

// clearQuota is POST /cgi-bin/clear_quota: it resets every daily count, 10 times a month.
func clearQuota(c *call) *refusal {
	if string(text(field(c.body, "appid"))) != c.set.AppID {
		return refuse(badAppID)
	}
	a := c.account
	a.mu.Lock()
	defer a.mu.Unlock()
	if m := monthOf(c.now); m != a.clearedIn {
		a.clears, a.clearedIn = 0, m
	}
	if a.clears >= clearsPerMonth {
		return refuse(noClearsLeft)
	}
	a.clears++
	for i := range a.meters {
		a.meters[i].setUsed(0, c.now)
	}
	c.ok()
	return nil
}

const ridLife = 7 * 24 * time.Hour

// getRID is POST /cgi-bin/openapi/rid/get. Only the latest refusals are remembered.
func getRID(c *call) *refusal {
	rid := string(text(field(c.body, "rid")))
	if strings.Count(rid, "-") != 2 || len(rid) != 26 {
		return refuse(ridBad)
	}
	r, ok := c.sim.rids.find(rid)
	switch {
	case !ok:
		return refuse(ridUnknown)
	case r.account != c.account:
		return refusef(76003, "rid is not yours")
	case c.now.Sub(r.at) > ridLife:
		return refusef(76004, "rid expired")
	}
	c.out = fmt.Appendf(c.out, `{"errcode":0,"errmsg":"ok","request":{"invoke_time":%d,"cost_in_ms":%d,"request_url":`, r.at.Unix(), r.took.Milliseconds())
	c.out = append(quote(c.out, r.path+"?access_token=***"), `,"request_body":`...)
	c.out = append(quote(c.out, r.body), `,"response_body":`...)
	c.out = append(quote(c.out, r.answer), `,"client_ip":`...)
	c.out = append(quote(c.out, r.clientIP), "}}"...)
	return nil
}

// listIPs answers get_api_domain_ip and getcallbackip.
func listIPs(c *call) *refusal {
	c.out = append(c.out, `{"ip_list":["127.0.0.1"]}`...)
	return nil
}
