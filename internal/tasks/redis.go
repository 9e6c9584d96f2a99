package tasks

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
)

const (
	// ioTimeout bounds dial, read and write: a frozen Redis must be noticed well within asynq's lease of
	// 30 s.
	ioTimeout = 2 * time.Second
	// poolSize is more than all classes' handlers together with asynq's own loops; connections are
	// opened when they are needed.
	poolSize = 128
)

// Redis opens a client for one of
//
//	redis://[user:password@]host[:port][/DB]
//	redis-cluster://[user:password@]host[:port][,host[:port]…]
//	redis-sentinel://[user:password@]host[:port][,host[:port]…][/DB]?master=NAME
//
// and their kin over TLS, rediss://, rediss-cluster:// and rediss-sentinel://. User and password are those
// of the Redis servers; sentinels' own are ?sentinel_username= and ?sentinel_password=. Over TLS, ?tls_ca= names a
// file with the authority of the servers' certificates, ?tls_cert= and ?tls_key= our own. Further
// settings of go-redis may stand in the query, such as pool_size or read_timeout. Nothing is dialled yet.
// Errors do not hold the URL.
func Redis(rawURL string) (redis.UniversalClient, error) {
	u, more, err := parseURL(rawURL)
	if err != nil {
		return nil, fmt.Errorf("redis url: %w", err)
	}
	scheme, flavour, _ := strings.Cut(u.Scheme, "-")
	u.Scheme = scheme
	files, err := takeTLS(u)
	var client redis.UniversalClient
	switch {
	case scheme != "redis" && scheme != "rediss":
		err = fmt.Errorf("unknown scheme %q", scheme)
	case err != nil:
	case flavour == "" && len(more) > 0:
		err = errors.New("several hosts want redis-cluster:// or redis-sentinel://")
	case flavour == "":
		client, err = openSingle(u, files)
	case flavour == "cluster":
		client, err = openCluster(u, more, files)
	case flavour == "sentinel":
		client, err = openSentinel(u, more, files)
	default:
		err = fmt.Errorf("unknown scheme %q", scheme+"-"+flavour)
	}
	if err != nil {
		return nil, fmt.Errorf("redis url: %w", err)
	}
	return client, nil
}

// parseURL parses the URL with its first host, and returns the other hosts beside it: net/url knows no
// list of hosts.
func parseURL(raw string) (first *url.URL, more []string, err error) {
	scheme, rest, ok := strings.Cut(raw, "://")
	if !ok {
		return nil, nil, errors.New("want redis://host:port/0 or the like")
	}
	end := len(rest)
	if i := strings.IndexAny(rest, "/?#"); i >= 0 {
		end = i
	}
	user, hosts := "", rest[:end]
	if i := strings.LastIndexByte(hosts, '@'); i >= 0 {
		user, hosts = hosts[:i+1], hosts[i+1:]
	}
	list := strings.Split(hosts, ",")
	u, err := url.Parse(scheme + "://" + user + list[0] + rest[end:])
	if err != nil || strings.Contains(rest[end:], "@") {
		// What the parser says may quote a part of the password.
		return nil, nil, errors.New("it cannot be parsed; a password with special characters must be percent-encoded")
	}
	return u, list[1:], nil
}

func openSingle(u *url.URL, files tlsFiles) (redis.UniversalClient, error) {
	o, err := redis.ParseURL(u.String())
	if err == nil {
		err = files.apply(o.TLSConfig)
	}
	if err != nil {
		return nil, err
	}
	o.DialTimeout = cmp.Or(o.DialTimeout, ioTimeout)
	o.ReadTimeout = cmp.Or(o.ReadTimeout, ioTimeout)
	o.WriteTimeout = cmp.Or(o.WriteTimeout, ioTimeout)
	o.PoolSize = cmp.Or(o.PoolSize, poolSize)
	o.ContextTimeoutEnabled = true
	o.MaintNotificationsConfig = noNotifications()
	return redis.NewClient(o), nil
}

func openCluster(u *url.URL, more []string, files tlsFiles) (redis.UniversalClient, error) {
	addHosts(u, more, "6379")
	o, err := redis.ParseClusterURL(u.String())
	if err == nil {
		err = files.apply(o.TLSConfig)
	}
	if err != nil {
		return nil, err
	}
	if o.TLSConfig != nil {
		o.TLSConfig.ServerName = "" // each node has its own name, not the first one's
	}
	o.DialTimeout = cmp.Or(o.DialTimeout, ioTimeout)
	o.ReadTimeout = cmp.Or(o.ReadTimeout, ioTimeout)
	o.WriteTimeout = cmp.Or(o.WriteTimeout, ioTimeout)
	o.PoolSize = cmp.Or(o.PoolSize, poolSize)
	o.ContextTimeoutEnabled = true
	o.MaintNotificationsConfig = noNotifications()
	return redis.NewClusterClient(o), nil
}

func openSentinel(u *url.URL, more []string, files tlsFiles) (redis.UniversalClient, error) {
	const defaultPort = "26379"
	if u.Port() == "" {
		u.Host = net.JoinHostPort(u.Hostname(), defaultPort)
	}
	addHosts(u, more, defaultPort)
	q := u.Query()
	user := u.User
	u.User = url.UserPassword(q.Get("sentinel_username"), q.Get("sentinel_password"))
	q.Set("master_name", q.Get("master"))
	for _, own := range []string{"sentinel_username", "sentinel_password", "master"} {
		q.Del(own)
	}
	u.RawQuery = q.Encode()
	o, err := redis.ParseFailoverURL(u.String())
	if err == nil {
		err = files.apply(o.TLSConfig)
	}
	if err != nil {
		return nil, err
	}
	if o.MasterName == "" {
		return nil, errors.New("a sentinel wants ?master=NAME")
	}
	if user != nil {
		o.Username = user.Username()
		o.Password, _ = user.Password()
	}
	if o.TLSConfig != nil {
		o.TLSConfig.ServerName = ""
	}
	o.DialTimeout = cmp.Or(o.DialTimeout, ioTimeout)
	o.ReadTimeout = cmp.Or(o.ReadTimeout, ioTimeout)
	o.WriteTimeout = cmp.Or(o.WriteTimeout, ioTimeout)
	o.PoolSize = cmp.Or(o.PoolSize, poolSize)
	o.ContextTimeoutEnabled = true
	return redis.NewFailoverClient(o), nil
}

// addHosts adds further hosts in the way that go-redis' own URLs name them.
func addHosts(u *url.URL, hosts []string, defaultPort string) {
	q := u.Query()
	for _, h := range hosts {
		host := &url.URL{Host: h}
		q.Add("addr", net.JoinHostPort(host.Hostname(), cmp.Or(host.Port(), defaultPort)))
	}
	u.RawQuery = q.Encode()
}

// noNotifications saves each new connection a command that only managed clouds understand.
func noNotifications() *maintnotifications.Config {
	return &maintnotifications.Config{Mode: maintnotifications.ModeDisabled}
}
