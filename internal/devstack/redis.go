package devstack

import (
	"context"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/redis/go-redis/v9"
)

const redisDatabases = 512 // tests take one each

// A redisNode is a Redis server to be started: alone, or one of a fleet.
type redisNode struct {
	name       string // of the server, its folder and its log
	password   string
	appendOnly bool
	settings   string        // more lines of its configuration
	tls        *certificates // nil: plain
}

// newRedis prepares a Redis in dir and returns it unstarted.
func newRedis(dir string, n redisNode) (*Server, error) {
	program, err := findRedis()
	if err != nil {
		return nil, err
	}
	data := filepath.Join(dir, strings.ToLower(n.name))
	if err := os.MkdirAll(data, 0o700); err != nil {
		return nil, err
	}
	owner := ownerOfServers()
	if err := owner.takes(data); err != nil {
		return nil, err
	}
	return &Server{
		name:    n.name,
		logFile: data + ".log",
		stop:    syscall.SIGTERM,
		death:   syscall.SIGKILL,
		command: func(port int) *exec.Cmd {
			cmd := exec.Command(program, "-")
			cmd.Stdin = strings.NewReader(n.configuration(data, port)) // not as arguments: everyone can read those
			owner.runs(cmd, data)
			return cmd
		},
		ready: func(ctx context.Context, port int) error {
			rdb, err := n.client(port)
			if err != nil {
				return err
			}
			defer rdb.Close()
			return rdb.Ping(ctx).Err()
		},
	}, nil
}

func (n redisNode) configuration(data string, port int) string {
	listen := fmt.Sprintf("port %d\n", port)
	if n.tls != nil {
		listen = fmt.Sprintf("port 0\ntls-port %d\ntls-cert-file %q\ntls-key-file %q\ntls-ca-cert-file %q\ntls-auth-clients no\n",
			port, n.tls.cert, n.tls.key, n.tls.ca)
	}
	appendOnly := "no"
	if n.appendOnly {
		appendOnly = "yes"
	}
	return "bind 127.0.0.1\n" + listen + fmt.Sprintf(""+
		"requirepass %s\n"+
		"dir %q\n"+
		"databases %d\n"+
		"save \"\"\n"+
		"appendonly %s\n"+
		"appendfsync everysec\n"+
		"maxmemory-policy noeviction\n"+
		"daemonize no\n", n.password, data, redisDatabases, appendOnly) + n.settings
}

// client is for our own questions to the server.
func (n redisNode) client(port int) (*redis.Client, error) {
	o := &redis.Options{Addr: addr(port), Password: n.password, MaxRetries: -1}
	if n.tls != nil {
		var err error
		if o.TLSConfig, err = n.tls.trust(); err != nil {
			return nil, err
		}
	}
	return redis.NewClient(o), nil
}

func (n redisNode) url(port int) string {
	u := url.URL{Scheme: "redis", User: url.UserPassword("", n.password), Host: addr(port), Path: "/0"}
	if n.tls != nil {
		u.Scheme, u.RawQuery = "rediss", url.Values{"tls_ca": {n.tls.ca}}.Encode()
	}
	return u.String()
}
