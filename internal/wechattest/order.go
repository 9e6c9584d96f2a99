package wechattest

import (
	"net/url"
	"strings"
)

// order is the order in which every call is judged; the first step that objects answers. What follows it
// is the endpoint's: recipient, content, its own rules, acceptance.
var order = []struct {
	name string
	step func(*call) *refusal
}{
	{"the path exists", pathExists},                     // 40066
	{"the method is right", methodIsRight},              // 43001 43002
	{"the token is good", tokenIsGood},                  // 41001 40014 40001 42001
	{"the address may call", addressMayCall},            // 40164
	{"the account has the permission", mayCall},         // 48001, and what Settings.Closed says
	{"the short-term quota has room", withinRate},       // 45011
	{"the day's quota has room", withinDay},             // 45009
	{"no fault strikes before acceptance", faultBefore}, // whatever was injected
	{"the body is JSON", bodyIsJSON},                    // 44002 47001
}

// judge decides about the call; what it accepts is in the log when it returns.
func (c *call) judge() *refusal {
	for _, o := range order {
		if bad := o.step(c); bad != nil {
			return bad
		}
		if c.strike != nil {
			return nil
		}
	}
	if bad := c.ep.decide(c); bad != nil {
		return bad
	}
	if c.account != nil {
		c.strike = c.sim.faults.draw(c, After)
	}
	return nil
}

func pathExists(c *call) *refusal {
	if c.ep == nil {
		return refuse(badURL)
	}
	return nil
}

func methodIsRight(c *call) *refusal {
	switch {
	case c.ep.method == "" || c.ep.method == c.req.Method:
		return nil
	case c.ep.method == "GET":
		return refuse(getNeeded)
	default:
		return refuse(postNeeded)
	}
}

func tokenIsGood(c *call) *refusal {
	if c.ep.noToken { // a token call names its account itself
		if a := c.sim.Account(c.appID()); a != nil {
			c.belongsTo(a)
			c.meter().arrived(c.now)
		} else {
			c.sim.unknown.Add(1)
		}
		return nil
	}
	value := param(c.query, "access_token")
	if value == "" {
		c.sim.unknown.Add(1)
		return refuse(tokenMissing)
	}
	found, ok := c.sim.tokens.Load(value)
	if !ok {
		c.sim.unknown.Add(1)
		if _, secret, cut := strings.Cut(value, "_"); cut && len(secret) > 100 {
			return refuse(badCredential) // a token, but none that is known
		}
		return refuse(badToken)
	}
	t := found.(*token)
	c.belongsTo(t.account)
	if bad := t.at(c.now); bad != nil {
		return bad
	}
	c.meter().arrived(c.now)
	return nil
}

func addressMayCall(c *call) *refusal {
	if c.account == nil || !c.ep.noToken && !c.set.WhitelistAll {
		return nil
	}
	if ip, ok := c.set.allows(c.req.RemoteAddr); !ok {
		return refusef(badCallerIP, "invalid ip %s, not in whitelist", ip)
	}
	return nil
}

func mayCall(c *call) *refusal {
	if c.account == nil {
		return nil
	}
	if code := c.set.closed[c.ep.path]; code != 0 {
		return refuse(code)
	}
	if c.ep.who != nil && !c.ep.who(c.set) {
		return refuse(unauthorized)
	}
	return nil
}

func withinRate(c *call) *refusal {
	if c.account == nil {
		return nil
	}
	if !c.meter().withinRate(c.set.limits[c.ep.quota], c.now) {
		return refuse(minuteQuotaReached)
	}
	return nil
}

func withinDay(c *call) *refusal {
	if c.account == nil {
		return nil
	}
	if !c.meter().spend(c.dayLimit(), c.now) {
		return refuse(dayQuotaReached)
	}
	c.spent = true
	return nil
}

// dayLimit is the limit at which the day's quota strikes, off by what Inaccuracy allows.
func (c *call) dayLimit() int64 {
	limit := c.set.limits[c.ep.quota].PerDay
	if c.set.Inaccuracy == 0 {
		return limit
	}
	// A value between -1 and 1 that is the same for the whole day.
	h := (uint64(dayOf(c.now)) + c.sim.seed) * 0x9E3779B97F4A7C15
	off := float64(h>>11)/(1<<52) - 1
	return limit + int64(off*c.set.Inaccuracy*float64(limit))
}

func faultBefore(c *call) *refusal {
	f := c.sim.faults.draw(c, Before)
	switch {
	case f == nil:
		return nil
	case f.Kind == Hang:
		c.sim.hang(f.For)
		return nil
	case f.Kind == Errcode:
		if c.account != nil {
			c.meter().damaged()
		}
		return refuse(f.Code)
	default:
		c.strike = f
		return nil
	}
}

func bodyIsJSON(c *call) *refusal {
	switch {
	case !c.ep.json:
		return nil
	case len(c.body) == 0:
		return refuse(bodyEmpty)
	case !validObject(c.body):
		return refuse(notJSON)
	default:
		return nil
	}
}

func (c *call) belongsTo(a *Account) { c.account, c.set = a, a.set.Load() }

func (c *call) meter() *meter { return &c.account.meters[c.ep.meter] }

// param is one parameter of a query string, without a map of all of them.
func param(query, name string) string {
	for query != "" {
		var pair string
		pair, query, _ = strings.Cut(query, "&")
		if k, v, _ := strings.Cut(pair, "="); k == name {
			if strings.ContainsAny(v, "%+") {
				v, _ = url.QueryUnescape(v)
			}
			return v
		}
	}
	return ""
}
