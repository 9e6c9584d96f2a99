package wechattest

import "fmt"

// listUsers is GET /cgi-bin/user/get: the followers, 10,000 a page.
func listUsers(c *call) *refusal {
	return c.page(param(c.query, "next_openid"), true, func(u *user) bool { return u.follows })
}

// listTagged is POST /cgi-bin/user/tag/get.
func listTagged(c *call) *refusal {
	tag, ok := number(field(c.body, "tagid"))
	if !ok || !c.set.hasTag(tag) {
		return refuse(badTagID)
	}
	next := string(text(field(c.body, "next_openid")))
	return c.page(next, false, func(u *user) bool { return u.follows && u.has(tag) })
}

// page answers the users after the one named after. A page that is empty has no data and no next_openid.
func (c *call) page(after string, withTotal bool, is func(*user) bool) *refusal {
	a := c.account
	a.mu.Lock()
	defer a.mu.Unlock()
	if after != "" && a.users[after] == nil {
		return refuse(badOpenID)
	}
	var openids []string
	total, begun := 0, after == ""
	for _, u := range a.order {
		if is(u) {
			total++
			if begun && len(openids) < pageOfFollowers {
				openids = append(openids, u.openid)
			}
		}
		begun = begun || u.openid == after
	}
	c.out = append(c.out, '{')
	if withTotal {
		c.out = fmt.Appendf(c.out, `"total":%d,`, total)
	}
	c.out = fmt.Appendf(c.out, `"count":%d,`, len(openids))
	next := ""
	if len(openids) > 0 {
		c.out = append(c.out, `"data":{"openid":[`...)
		for i, id := range openids {
			if i > 0 {
				c.out = append(c.out, ',')
			}
			c.out = quote(c.out, id)
		}
		c.out = append(c.out, `]},`...)
		next = openids[len(openids)-1]
	}
	c.out = append(quote(append(c.out, `"next_openid":`...), next), '}')
	return nil
}

// listTags is GET /cgi-bin/tags/get.
func listTags(c *call) *refusal {
	a := c.account
	a.mu.Lock()
	defer a.mu.Unlock()
	c.out = append(c.out, `{"tags":[`...)
	for i, t := range c.set.Tags {
		n := 0
		for _, u := range a.order {
			if u.follows && u.has(t.ID) {
				n++
			}
		}
		if i > 0 {
			c.out = append(c.out, ',')
		}
		c.out = quote(fmt.Appendf(c.out, `{"id":%d,"name":`, t.ID), t.Name)
		c.out = fmt.Appendf(c.out, `,"count":%d}`, n)
	}
	c.out = append(c.out, "]}"...)
	return nil
}
