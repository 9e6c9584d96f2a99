package devstack

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/redis/go-redis/v9"
)

// The numbers of a [RedisFleet].
const (
	replicas    = 2 // beside the master
	sentinels   = 3
	clusterSize = 3 // masters

	masterName = "hongyan"
)

// A RedisFleet is several Redis servers that stand for one: a master and its replicas under sentinels, or a cluster of
// masters. Its servers are always private.
type RedisFleet struct {
	url       string
	servers   []*Server
	sentinels []*Server
	dir       *directory
}

// URL is the fleet's URL, with its password: redis-sentinel:// or redis-cluster://.
func (f *RedisFleet) URL() string { return f.url }

// Servers are the servers that hold data; of sentinels' the one that begins as the master stands first.
func (f *RedisFleet) Servers() []*Server { return f.servers }

// Sentinels are the sentinels; none of a cluster.
func (f *RedisFleet) Sentinels() []*Server { return f.sentinels }

// Close stops everything and removes the directory.
func (f *RedisFleet) Close() error {
	var errs []error
	for _, server := range slices.Concat(f.sentinels, f.servers) {
		if server.proc != nil {
			errs = append(errs, server.Stop())
		}
	}
	if f.dir != nil {
		errs = append(errs, f.dir.close())
	}
	return errors.Join(errs...)
}

// StartSentinels brings up a master with two replicas under three sentinels, and returns when all know each other.
// A master that is silent for a second is replaced. Whoever starts a fleet closes it.
func StartSentinels(ctx context.Context) (*RedisFleet, error) {
	return startFleet(ctx, (*RedisFleet).sentinelled)
}

// StartCluster brings up a cluster of three masters and returns when it takes commands.
func StartCluster(ctx context.Context) (*RedisFleet, error) {
	return startFleet(ctx, (*RedisFleet).clustered)
}

func startFleet(ctx context.Context, bringUp func(*RedisFleet, context.Context, string) error) (*RedisFleet, error) {
	dir, err := openDirectory("")
	if err != nil {
		return nil, fmt.Errorf("devstack: %w", err)
	}
	f := &RedisFleet{dir: dir}
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	if err := bringUp(f, ctx, rand.Text()); err != nil {
		return nil, errors.Join(fmt.Errorf("devstack: %w", err), f.Close())
	}
	return f, nil
}

// serve starts one more server that holds data.
func (f *RedisFleet) serve(ctx context.Context, password, settings string) (*Server, error) {
	server, err := newRedis(f.dir.path, redisNode{
		name: fmt.Sprintf("Redis-%d", len(f.servers)), password: password, appendOnly: true, settings: settings,
	})
	if err != nil {
		return nil, err
	}
	f.servers = append(f.servers, server)
	return server, server.start(ctx)
}

func (f *RedisFleet) sentinelled(ctx context.Context, password string) error {
	auth := "masterauth " + password + "\nrepl-diskless-sync-delay 0\n"
	master, err := f.serve(ctx, password, auth)
	if err != nil {
		return err
	}
	for range replicas {
		if _, err := f.serve(ctx, password, auth+fmt.Sprintf("replicaof 127.0.0.1 %d\n", master.port)); err != nil {
			return err
		}
	}
	var hosts []string
	for range sentinels {
		s, err := f.newSentinel(master.port, password)
		if err != nil {
			return err
		}
		f.sentinels = append(f.sentinels, s)
		if err := s.start(ctx); err != nil {
			return err
		}
		hosts = append(hosts, s.Addr())
	}
	f.url = fmt.Sprintf("redis-sentinel://:%s@%s/0?master=%s&sentinel_password=%s", password, strings.Join(hosts, ","), masterName, url.QueryEscape(password))
	return f.agreed(ctx, password)
}

// newSentinel prepares a sentinel. It rewrites its configuration, so that has a file, which none but its user can read.
func (f *RedisFleet) newSentinel(master int, password string) (*Server, error) {
	program, err := findRedis()
	if err != nil {
		return nil, err
	}
	name := fmt.Sprintf("Sentinel-%d", len(f.sentinels))
	data := filepath.Join(f.dir.path, strings.ToLower(name))
	if err := os.MkdirAll(data, 0o700); err != nil {
		return nil, err
	}
	owner := ownerOfServers()
	if err := owner.takes(data); err != nil {
		return nil, err
	}
	return &Server{
		name: name, logFile: data + ".log", stop: syscall.SIGTERM, death: syscall.SIGKILL,
		command: func(port int) *exec.Cmd {
			file := filepath.Join(data, fmt.Sprintf("%d.conf", port))
			if _, err := os.Stat(file); err != nil { // it starts anew from what it wrote
				text := fmt.Sprintf("bind 127.0.0.1\nport %d\nrequirepass %[2]s\ndir %[3]q\nsentinel sentinel-pass %[2]s\n"+
					"sentinel monitor %[4]s 127.0.0.1 %[5]d 2\nsentinel auth-pass %[4]s %[2]s\n"+
					"sentinel down-after-milliseconds %[4]s 1000\nsentinel failover-timeout %[4]s 5000\n", port, password, data, masterName, master)
				if err := os.WriteFile(file, []byte(text), 0o600); err == nil {
					_ = owner.takes(file) // the sentinel says so if it cannot read it
				}
			}
			cmd := exec.Command(program, file, "--sentinel")
			owner.runs(cmd, data)
			return cmd
		},
		ready: func(ctx context.Context, port int) error {
			s := redis.NewSentinelClient(&redis.Options{Addr: addr(port), Password: password, MaxRetries: -1})
			defer s.Close()
			return s.Ping(ctx).Err()
		},
	}, nil
}

// agreed waits until each sentinel knows the others and the replicas: before that none of them can be outvoted.
func (f *RedisFleet) agreed(ctx context.Context, password string) error {
	for _, server := range f.sentinels {
		s := redis.NewSentinelClient(&redis.Options{Addr: server.Addr(), Password: password, MaxRetries: -1})
		defer s.Close()
		err := until(ctx, server.name+" knows its fleet", func() (bool, error) {
			others, err := s.Sentinels(ctx, masterName).Result()
			if err != nil || len(others) < sentinels-1 {
				return false, err
			}
			known, err := s.Replicas(ctx, masterName).Result()
			linked := 0
			for _, r := range known {
				if r["master-link-status"] == "ok" {
					linked++
				}
			}
			return linked == replicas, err
		})
		if err != nil {
			return err
		}
	}
	return nil
}

const clusterSlots = 16384

func (f *RedisFleet) clustered(ctx context.Context, password string) error {
	var nodes []*redis.Client
	var hosts []string
	for range clusterSize {
		server, err := f.serve(ctx, password, "cluster-enabled yes\ncluster-config-file nodes.conf\ncluster-node-timeout 2000\n")
		if err != nil {
			return err
		}
		rdb := redis.NewClient(&redis.Options{Addr: server.Addr(), Password: password, MaxRetries: -1})
		defer rdb.Close()
		nodes, hosts = append(nodes, rdb), append(hosts, server.Addr())
	}
	for i, rdb := range nodes {
		from, to := i*clusterSlots/clusterSize, (i+1)*clusterSlots/clusterSize-1
		if err := rdb.ClusterAddSlotsRange(ctx, from, to).Err(); err != nil {
			return fmt.Errorf("add slots: %w", err)
		}
		if err := rdb.ClusterMeet(ctx, "127.0.0.1", fmt.Sprint(f.servers[0].port)).Err(); err != nil {
			return fmt.Errorf("meet: %w", err)
		}
	}
	f.url = fmt.Sprintf("redis-cluster://:%s@%s", password, strings.Join(hosts, ","))
	for i, rdb := range nodes {
		err := until(ctx, f.servers[i].name+" knows the cluster", func() (bool, error) {
			info, err := rdb.ClusterInfo(ctx).Result()
			return strings.Contains(info, "cluster_state:ok") && strings.Contains(info, fmt.Sprintf("cluster_known_nodes:%d", clusterSize)), err
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// until asks until the answer is yes; errors on the way are forgotten, but for the last one.
func until(ctx context.Context, what string, ask func() (bool, error)) error {
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		ok, err := ask()
		if ok {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("wait until %s: %w", what, errors.Join(ctx.Err(), err))
		case <-tick.C:
		}
	}
}
