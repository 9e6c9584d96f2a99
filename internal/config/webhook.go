package config

import (
	"encoding/base64"
	"net"
	"net/url"
	"strings"
)

// Bounds of a webhook's key, in bytes, by standardwebhooks.com.
const (
	minWebhookKey = 24
	maxWebhookKey = 64
)

func (c *checker) webhook(at string, w *Webhook) {
	if w.URL == "" {
		c.rule(w.Secret.IsZero(), at+".url", "missing, although a secret is given", "")
		return
	}
	u, err := url.Parse(w.URL)
	if err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http" {
		c.rule(false, at+".url", "want an absolute https URL", "")
	} else {
		c.rule(u.Scheme == "https" || isInside(u.Hostname()), at+".url", "want https, because outcomes travel there",
			"plain http is for loopback and private addresses")
	}
	text, prefixed := strings.CutPrefix(w.Secret.Reveal(), "whsec_")
	key, err := base64.StdEncoding.DecodeString(text)
	c.rule(prefixed && err == nil && len(key) >= minWebhookKey && len(key) <= maxWebhookKey, at+".secret",
		"want whsec_ and then 24 to 64 bytes in base64", "such as: echo whsec_$(openssl rand -base64 32)")
}

// isInside says whether a host is a loopback or private address, or a name without dots.
func isInside(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && (ip.IsLoopback() || ip.IsPrivate()) || ip == nil && !strings.Contains(host, ".")
}
