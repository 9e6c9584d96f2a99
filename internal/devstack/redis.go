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

// newRedis prepares a Redis in dir and returns it unstarted.
func newRedis(dir, password string, o Options) (*Server, error) {
	program, err := findRedis()
	if err != nil {
		return nil, err
	}
	data := filepath.Join(dir, "redis")
	if err := os.MkdirAll(data, 0o700); err != nil {
		return nil, err
	}
	owner := ownerOfServers()
	if err := owner.takes(data); err != nil {
		return nil, err
	}
	appendOnly := "no"
	if o.RedisAppendOnly {
		appendOnly = "yes"
	}
	return &Server{
		name:    "Redis",
		logFile: filepath.Join(dir, "redis.log"),
		stop:    syscall.SIGTERM,
		death:   syscall.SIGKILL,
		command: func(port int) *exec.Cmd {
			cmd := exec.Command(program, "-")
			cmd.Stdin = strings.NewReader(fmt.Sprintf(""+ // not as arguments: everyone can read those
				"bind 127.0.0.1\n"+
				"port %d\n"+
				"requirepass %s\n"+
				"dir %q\n"+
				"databases %d\n"+
				"save \"\"\n"+
				"appendonly %s\n"+
				"appendfsync everysec\n"+
				"maxmemory-policy noeviction\n"+
				"daemonize no\n", port, password, data, redisDatabases, appendOnly))
			owner.runs(cmd, data)
			return cmd
		},
		ready: func(ctx context.Context, port int) error {
			opt, err := redis.ParseURL(redisURL(port, password))
			if err != nil {
				return err
			}
			opt.MaxRetries = -1
			rdb := redis.NewClient(opt)
			defer rdb.Close()
			return rdb.Ping(ctx).Err()
		},
	}, nil
}

func redisURL(port int, password string) string {
	u := url.URL{Scheme: "redis", User: url.UserPassword("", password), Host: addr(port), Path: "/0"}
	return u.String()
}
