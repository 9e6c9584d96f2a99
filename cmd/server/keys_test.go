package main

import (
	"encoding/json"
	"fmt"
	"regexp"
	"strings"
	"testing"
)

func TestKeys(t *testing.T) {
	h := startAPI(t)
	var made struct{ ID, Key, State string }
	if err := json.Unmarshal([]byte(h.command(exitDone, "key", "create", "crm", "--scope", "wx00000000000000c1:*:enqueue", "--expires", "8s", "--json", "--config", h.file)), &made); err != nil {
		t.Fatal(err)
	}
	if !regexp.MustCompile(`^hy_[0-9a-f]{12}_[A-Za-z0-9_-]{43}$`).MatchString(made.Key) {
		t.Errorf("key %q", made.Key)
	}
	h.eventually("server that knows the key", func() bool {
		status, _, _ := h.do(made.Key, "POST", "/v1/messages", jsonType, posted("shop", "oA", "k"))
		return status == 202
	})
	h.eventually("key that is over", func() bool {
		status, _, _ := h.do(made.Key, "POST", "/v1/messages", jsonType, posted("shop", "oA", "k"))
		return status == 401
	})
	lasting := h.key("crm", "shop:*:enqueue")
	h.key("crm", "shop:*:enqueue") // the other one, while it is changed
	h.command(exitBadInput, "key", "create", "crm", "--scope", "shop:*:enqueue", "--config", h.file)
	if text := h.command(exitDone, "key", "list", "--config", h.file); strings.Count(text, "live") != 2 || strings.Contains(text, lasting) || strings.Contains(text, strings.SplitN(lasting, "_", 3)[2]) {
		t.Errorf("list:\n%s", text)
	}
	h.command(exitDone, "key", "revoke", strings.Split(lasting, "_")[1], "--config", h.file)
	h.eventually("key that is revoked", func() bool {
		status, _, _ := h.do(lasting, "POST", "/v1/messages", jsonType, posted("shop", "oA", "k"))
		return status == 401
	})
	for _, bad := range [][]string{
		{"key", "create", "crm"},
		{"key", "create", "x y", "--scope", "shop:*:read"},
		{"key", "create", "crm", "--scope", "shop:read"},
		{"key", "create", "crm", "--scope", "shop:letter:read"},
		{"key", "create", "crm", "--scope", "strange:*:read"},
		{"key", "create", "crm", "--scope", "shop:*:read", "--expires", "-3d"},
		{"key", "create", "crm", "--scope", "shop:*:read", "--per-second=-1"},
		{"key", "create", "crm", "--scope", "shop:*:read", "--per-second", "NaN"},
		{"key", "create", "crm", "--scope", "shop:*:read", "--per-second", "Inf"},
		{"key", "create", "crm", "--scope", "shop:*:read", "--per-second", "1e-300"},
		{"key", "revoke", "strange"},
	} {
		h.command(exitBadInput, append(bad, "--config", h.file)...)
	}
	for _, stranger := range []string{"", "hy", "hy_x_y", "hy_" + made.ID + "_" + strings.Repeat("A", 43), strings.ToUpper(lasting)} {
		status, header, _ := h.do(stranger, "GET", "/v1/accounts/shop/quota", "", "")
		if status != 401 || header.Get("WWW-Authenticate") == "" {
			t.Errorf("%q: %d", stranger, status)
		}
	}
	if log := h.stderr.String(); strings.Contains(log, strings.SplitN(lasting, "_", 3)[2]) {
		t.Error("the log tells a key")
	}
}

func TestTheRateOfAKey(t *testing.T) {
	h := startAPI(t)
	key := strings.TrimSpace(h.command(exitDone, "key", "create", "slow", "--scope", "*:*:*", "--per-second", "0.01", "--config", h.file))
	h.eventually("server that knows the key", func() bool {
		status, _, _ := h.do(key, "GET", "/v1/accounts/shop/gates", "", "")
		return status == 200
	})
	var list strings.Builder
	for i := range 990 {
		list.WriteString("," + posted("shop", "oA", fmt.Sprint(i)))
	}
	h.want(202, key, "POST", "/v1/messages", "["+list.String()[1:]+"]", nil)
	status, header, text := h.do(key, "POST", "/v1/messages", jsonType, "["+list.String()[1:]+"]")
	if status != 429 || header.Get("Retry-After") == "" {
		t.Errorf("%d %v %s", status, header, text)
	}
}
