package wechattest

// sendSubscribe is POST /cgi-bin/message/subscribe/bizsend: each permission of the user pays for one
// message. The user need not follow the account.
func sendSubscribe(c *call) *refusal {
	n := readNotice(c.body)
	if bad := c.mayReceive(n.to, false); bad != nil {
		return bad
	}
	if bad := c.checkNotice(&n); bad != nil {
		if bad.code == badPagePath {
			bad = refuse(badSubscribePage)
		}
		return bad
	}
	if bad := c.payWithPermission(&n); bad != nil {
		return bad
	}
	id := c.sim.newMsgID()
	c.accepted(n.to, n.clientID, contentHash(n.template, n.data), 1, id, 0)
	c.noticeReceipt(&n, id)
	c.giveMsgID(id)
	return nil
}

func (c *call) payWithPermission(n *notice) *refusal {
	a := c.account
	a.mu.Lock()
	defer a.mu.Unlock()
	u := a.users[string(n.to)]
	switch {
	case u == nil, u.paid[string(n.template)] == 0:
		return refuse(userRefuses)
	case u.paid[string(n.template)] > 0:
		u.paid[string(n.template)]--
	}
	return nil
}
