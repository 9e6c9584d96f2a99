package tasks

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
)

func TestRedisURLs(t *testing.T) {
	t.Parallel()
	open := func(t *testing.T, url string) redis.UniversalClient {
		t.Helper()
		rdb, err := Redis(url)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { rdb.Close() })
		return rdb
	}
	t.Run("one server", func(t *testing.T) {
		o := open(t, "redis://joe:s3cret@example.test:6380/5?pool_size=7").(*redis.Client).Options()
		if o.Addr != "example.test:6380" || o.DB != 5 || o.Username != "joe" || o.Password != "s3cret" || o.PoolSize != 7 {
			t.Errorf("options = %+v", o)
		}
		if o.ReadTimeout != 2*time.Second || o.DialTimeout != 2*time.Second || o.TLSConfig != nil {
			t.Errorf("timeouts %v, %v, tls %v", o.ReadTimeout, o.DialTimeout, o.TLSConfig)
		}
	})
	t.Run("over TLS", func(t *testing.T) {
		o := open(t, "rediss://example.test").(*redis.Client).Options()
		if o.Addr != "example.test:6379" || o.TLSConfig == nil || o.TLSConfig.ServerName != "example.test" {
			t.Errorf("options = %+v", o)
		}
	})
	t.Run("a cluster", func(t *testing.T) {
		o := open(t, "redis-cluster://:s3cret@a.test:7000,b.test,[::1]:7002").(*redis.ClusterClient).Options()
		if got := strings.Join(o.Addrs, " "); got != "a.test:7000 b.test:6379 [::1]:7002" {
			t.Errorf("addresses = %s", got)
		}
		if o.Password != "s3cret" || o.ReadTimeout != 2*time.Second {
			t.Errorf("options = %+v", o)
		}
	})
	t.Run("a cluster over TLS asks each node for its own name", func(t *testing.T) {
		o := open(t, "rediss-cluster://a.test,b.test").(*redis.ClusterClient).Options()
		if o.TLSConfig == nil || o.TLSConfig.ServerName != "" {
			t.Errorf("tls = %+v", o.TLSConfig)
		}
	})
	t.Run("sentinels", func(t *testing.T) {
		rdb := open(t, "redis-sentinel://joe:s3cret@a.test,b.test:26380/3?master=hongyan&sentinel_password=other")
		o := rdb.(*redis.Client).Options()
		if o.DB != 3 || o.Username != "joe" || o.Password != "s3cret" || o.ReadTimeout != 2*time.Second {
			t.Errorf("options = %+v", o)
		}
	})
}

func TestBadRedisURLsAreExplainedWithoutTheirPassword(t *testing.T) {
	t.Parallel()
	for url, want := range map[string]string{
		"localhost:6379":                             "want redis://",
		"http://:s3cret@example.test":                `unknown scheme "http"`,
		"redis-ring://:s3cret@example.test":          `unknown scheme "redis-ring"`,
		"redis://:s3cret@example.test/x":             "invalid database number",
		"redis://:s3cret@example.test/0?a=b":         "unexpected option",
		"redis://:s3cret@a.test,b.test":              "redis-cluster://",
		"redis-sentinel://:s3cret@a.test":            "?master=NAME",
		"redis://:s3cret/with/slash@a.test/0":        "percent-encoded",
		"redis://:s3cret?question@a.test/0":          "percent-encoded",
		"redis://:123?s3cret@a.test/0":               "percent-encoded",
		"redis://:s3cret%zz@example.test/0":          "percent-encoded",
		"redis-sentinel://:s3cret@a.test/x?master=m": "invalid database number",
	} {
		_, err := Redis(url)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", url, err, want)
		}
		if err != nil && strings.Contains(err.Error(), "s3cret") {
			t.Errorf("%s: the error holds the password: %v", url, err)
		}
	}
}

func TestFilesOfTLS(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	empty := filepath.Join(dir, "empty.pem")
	if err := os.WriteFile(empty, []byte("no certificate"), 0o600); err != nil {
		t.Fatal(err)
	}
	for url, want := range map[string]string{
		"redis://a.test?tls_ca=" + empty:                           "want rediss://",
		"rediss://a.test?tls_ca=" + filepath.Join(dir, "gone.pem"): "tls_ca: open",
		"rediss-cluster://a.test?tls_ca=" + empty:                  "holds no certificate",
		"rediss-sentinel://a.test?master=m&tls_ca=" + empty:        "holds no certificate",
		"rediss://a.test?tls_cert=" + empty:                        "want each other",
		"rediss://a.test?tls_cert=" + empty + "&tls_key=" + empty:  "tls_cert, tls_key: ",
		"rediss://a.test?tls_certificate=" + empty:                 "unexpected option",
	} {
		if _, err := Redis(url); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", url, err, want)
		}
	}
}
