package devstack

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// The environment variables that name servers to use instead of private ones.
const (
	EnvRedis    = "HONGYAN_REDIS_URL"
	EnvDatabase = "HONGYAN_DATABASE_URL"
)

// Options say what to start.
type Options struct {
	Dir      string    // for data and logs, kept at Close and used again; empty: a temporary one, removed at Close
	Redis    bool      // start Redis, or use HONGYAN_REDIS_URL
	Postgres bool      // start Postgres, or use HONGYAN_DATABASE_URL
	Private  bool      // start private servers even where the environment names others: for fault tests
	Log      io.Writer // one line per server started; nil for none

	TLS              bool              // the URLs ask for TLS, under an authority of their own that the URLs name
	RedisAppendOnly  bool              // keep Redis' data over Kill and Restart, synced every second
	NoFsync          bool              // Postgres never waits for the disk: for plain tests, never for fault tests or benchmarks
	PostgresSettings map[string]string // such as shared_buffers or max_wal_size, over our own

	sharedRedis bool // several tests have a database each: nobody may empty all of them
}

// A Stack is the servers of one run.
type Stack struct {
	redisURL, databaseURL string
	redis, postgres       *Server
	dir                   *directory
}

// Start brings up what the options ask for and returns when it answers. Whoever starts a stack closes it.
func Start(ctx context.Context, o Options) (*Stack, error) {
	s := &Stack{}
	if err := s.start(ctx, o); err != nil {
		return nil, errors.Join(fmt.Errorf("devstack: %w", err), s.Close())
	}
	return s, nil
}

func (s *Stack) start(ctx context.Context, o Options) (err error) {
	if !o.Private {
		s.redisURL, s.databaseURL = os.Getenv(EnvRedis), os.Getenv(EnvDatabase)
	}
	startRedis, startPostgres := o.Redis && s.redisURL == "", o.Postgres && s.databaseURL == ""
	if !startRedis && !startPostgres {
		return nil
	}
	if s.dir, err = openDirectory(o.Dir); err != nil {
		return err
	}
	password, err := s.dir.password()
	if err != nil {
		return err
	}
	var certs *certificates
	if o.TLS {
		if certs, err = newCertificates(s.dir.path, ownerOfServers()); err != nil {
			return err
		}
	}
	if startRedis {
		node := redisNode{name: "Redis", password: password, appendOnly: o.RedisAppendOnly, tls: certs}
		if o.sharedRedis {
			node.settings = "rename-command FLUSHALL \"\"\n"
		}
		server, err := newRedis(s.dir.path, node)
		if err != nil {
			return err
		}
		if s.redis, err = server, server.start(ctx); err != nil {
			return err
		}
		s.redisURL = node.url(server.port)
		logf(o.Log, "Redis listens on %s", server.Addr())
	}
	if startPostgres {
		server, err := newPostgres(ctx, s.dir.path, password, certs, o)
		if err != nil {
			return err
		}
		if s.postgres, err = server, server.start(ctx); err != nil {
			return err
		}
		s.databaseURL = postgresURL(server.port, password, "hongyan", certs)
		logf(o.Log, "Postgres listens on %s", server.Addr())
	}
	return nil
}

func logf(w io.Writer, format string, args ...any) {
	if w != nil {
		fmt.Fprintf(w, format+"\n", args...)
	}
}

// RedisURL is the URL of Redis, with its password; empty if none was asked for.
func (s *Stack) RedisURL() string { return s.redisURL }

// DatabaseURL is the URL of an empty database, with its password; empty if none was asked for. (Of a
// server that the environment names, it is what the environment says.)
func (s *Stack) DatabaseURL() string { return s.databaseURL }

// Redis is the started Redis; nil where the environment named one.
func (s *Stack) Redis() *Server { return s.redis }

// Postgres is the started Postgres; nil where the environment named one.
func (s *Stack) Postgres() *Server { return s.postgres }

// Close stops what was started and removes its directory unless [Options.Dir] gave it. It may be called
// again.
func (s *Stack) Close() error {
	var errs []error
	for _, server := range []*Server{s.redis, s.postgres} {
		if server != nil && server.proc != nil {
			errs = append(errs, server.Stop())
		}
	}
	if s.dir != nil {
		errs = append(errs, s.dir.close())
	}
	return errors.Join(errs...)
}

// A directory holds the data and logs of a stack. Its lock file is locked for as long as the process
// that made it lives, which is how the next one knows what may be swept away.
type directory struct {
	path      string
	lock      *os.File
	temporary bool
}

const (
	directoryPrefix = "hongyan-devstack-"
	sweepAge        = time.Minute // younger ones may not have locked their lock yet
)

func openDirectory(path string) (*directory, error) {
	d := &directory{path: path, temporary: path == ""}
	var err error
	if d.temporary {
		sweep(os.TempDir())
		if d.path, err = os.MkdirTemp("", directoryPrefix); err != nil {
			return nil, err
		}
	} else {
		if err := os.MkdirAll(path, 0o711); err != nil {
			return nil, err
		}
		if d.path, err = filepath.Abs(path); err != nil {
			return nil, err
		}
	}
	if err := os.Chmod(d.path, 0o711); err != nil { // the servers' user must get through, not look around
		return nil, err
	}
	d.lock, err = os.OpenFile(filepath.Join(d.path, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(d.lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		d.lock.Close()
		return nil, fmt.Errorf("directory %s is in use by another stack: %w", d.path, err)
	}
	return d, nil
}

// password is the password of the directory's servers, made at the first call.
func (d *directory) password() (string, error) {
	file := filepath.Join(d.path, "password")
	b, err := os.ReadFile(file)
	if err == nil {
		return strings.TrimSpace(string(b)), nil
	}
	if !errors.Is(err, os.ErrNotExist) {
		return "", err
	}
	password := rand.Text()
	return password, os.WriteFile(file, []byte(password+"\n"), 0o600)
}

func (d *directory) close() error {
	var err error
	if d.temporary {
		err = os.RemoveAll(d.path)
	}
	d.lock.Close() // and with it the lock; closed before is as good
	return err
}

// sweep removes the directories of processes that ended without closing their stack.
func sweep(folder string) {
	paths, _ := filepath.Glob(filepath.Join(folder, directoryPrefix+"*"))
	for _, path := range paths {
		info, err := os.Stat(path)
		if err != nil || time.Since(info.ModTime()) < sweepAge {
			continue
		}
		lock, err := os.OpenFile(filepath.Join(path, "lock"), os.O_RDWR, 0)
		if err != nil {
			continue
		}
		if syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB) == nil {
			_ = os.RemoveAll(path)
		}
		lock.Close()
	}
}
