package token

import (
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"net/url"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"
)

// TestNothingSecretLeaks goes through the good and the bad ways, and then reads all of Redis, the log
// and the errors.
func TestNothingSecretLeaks(t *testing.T) {
	b := setup(t, nil)
	old := must(t, b.pods[0])
	seen := []string{fmt.Sprintf("%v %+v %#v", old, old, b.pods[0])}
	b.wechat.set(func(force bool) string { return grant(fmt.Sprint("again", force), 7200) })
	if _, err := b.pods[1].Refresh(t.Context(), app, old); err != nil {
		t.Fatal(err)
	}
	b.wechat.set(func(bool) string {
		return `{"errcode":40001,"errmsg":"wrong ` + secret + ` or ` + url.QueryEscape(secret) + `"}`
	})
	_, err := b.pods[1].Refresh(t.Context(), app, must(t, b.pods[1]))
	seen = append(seen, fmt.Sprint(err))
	_, err = b.pods[2].Refresh(t.Context(), app, must(t, b.pods[2]))
	seen = append(seen, fmt.Sprint(err), dump(t, b.rdb), b.logs.String())
	for _, form := range []string{
		"CANARY", hex.EncodeToString([]byte("CANARY0")), base64.StdEncoding.EncodeToString([]byte("CANARY"))[:8],
	} {
		for _, text := range seen {
			if strings.Contains(text, form) {
				t.Errorf("%q shows in %q", form, text)
			}
		}
	}
	if len(seen[3]) < 100 || !strings.Contains(b.logs.String(), "token refreshed") {
		t.Error("the test looked at nothing")
	}
}

// dump is every key and value of Redis, and a complaint about each key that would stay for ever.
func dump(t *testing.T, rdb *redis.Client) string {
	t.Helper()
	var out strings.Builder
	ctx := t.Context()
	keys, err := rdb.Keys(ctx, "*").Result()
	if err != nil {
		t.Fatal(err)
	}
	for _, key := range keys {
		if ttl, err := rdb.TTL(ctx, key).Result(); err != nil || ttl <= 0 {
			t.Errorf("%s lives for ever (%v, %v)", key, ttl, err)
		}
		if !strings.Contains(key, "{"+string(app)+"}") {
			t.Errorf("%s has no {appid}", key)
		}
		switch kind, _ := rdb.Type(ctx, key).Result(); kind {
		case "hash":
			m, err := rdb.HGetAll(ctx, key).Result()
			_, _ = fmt.Fprintln(&out, key, m, err)
		default:
			v, err := rdb.Get(ctx, key).Result()
			_, _ = fmt.Fprintln(&out, key, v, err)
		}
	}
	return out.String()
}
