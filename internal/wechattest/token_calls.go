package wechattest

import (
	"strconv"
	"time"
)

// legacyToken is GET /cgi-bin/token (/doc/service/api/base/api_getaccesstoken).
func legacyToken(c *call) *refusal {
	appID, secret := param(c.query, "appid"), param(c.query, "secret")
	if bad := c.credentials(param(c.query, "grant_type"), appID, secret); bad != nil {
		return bad
	}
	t := c.account.tokens.giveLegacy(c.account, c.now)
	c.give(t, tokenLife)
	return nil
}

// stableToken is POST /cgi-bin/stable_token (/doc/service/api/base/api_getstableaccesstoken).
func stableToken(c *call) *refusal {
	var grant, appID, secret, force string
	for f := fieldsOf(c.body); ; {
		name, value, ok := f.next()
		if !ok {
			break
		}
		switch string(name) {
		case "grant_type":
			grant = string(text(value))
		case "appid":
			appID = string(text(value))
		case "secret":
			secret = string(text(value))
		case "force_refresh":
			force = string(value)
		}
	}
	if bad := c.credentials(grant, appID, secret); bad != nil {
		return bad
	}
	t, bad := c.account.tokens.giveStable(c.account, force == "true", c.now)
	if bad != nil {
		return bad
	}
	c.give(t, t.left(c.now))
	return nil
}

// credentials judges who asks for a token. A wrong secret is answered 40125 where its length is wrong and
// 40001 where it is not: the pages give both codes.
func (c *call) credentials(grant, appID, secret string) *refusal {
	switch {
	case grant != "client_credential":
		return refuse(badGrantType)
	case appID == "":
		return refuse(appIDMissing)
	case secret == "":
		return refuse(secretMissing)
	case c.account == nil:
		return refuse(badAppID)
	case c.set.SecretFrozen:
		return refuse(secretFrozen)
	case len(secret) != len(c.set.Secret):
		return refuse(badSecret)
	case secret != c.set.Secret:
		return refuse(badCredential)
	default:
		return nil
	}
}

func (c *call) give(t *token, left time.Duration) {
	c.out = append(c.out, `{"access_token":"`...)
	c.out = append(c.out, t.value...)
	c.out = append(c.out, `","expires_in":`...)
	c.out = strconv.AppendInt(c.out, int64(left/time.Second), 10)
	c.out = append(c.out, '}')
}
