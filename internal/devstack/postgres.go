package devstack

import (
	"context"
	"fmt"
	"maps"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"

	"github.com/jackc/pgx/v5"
)

const postgresUser = "hongyan"

// newPostgres prepares a Postgres in dir, with an empty database named hongyan, and returns it unstarted.
func newPostgres(ctx context.Context, dir, password string, certs *certificates, o Options) (*Server, error) {
	folder, err := findPostgres()
	if err != nil {
		return nil, err
	}
	data := filepath.Join(dir, "postgres")
	owner := ownerOfServers()
	if _, err := os.Stat(filepath.Join(data, "PG_VERSION")); err != nil {
		if err := initdb(ctx, filepath.Join(folder, "initdb"), data, password, owner); err != nil {
			return nil, err
		}
	}
	settings := map[string]string{
		"listen_addresses":        "127.0.0.1",
		"unix_socket_directories": "",
		"max_connections":         "200",
		"shared_buffers":          "128MB",
		"timezone":                "UTC",
		"log_timezone":            "UTC",
	}
	if o.NoFsync {
		settings["fsync"] = "off"
		settings["full_page_writes"] = "off"
	}
	if certs != nil {
		settings["ssl"], settings["ssl_cert_file"], settings["ssl_key_file"] = "on", certs.cert, certs.key
	}
	maps.Copy(settings, o.PostgresSettings)
	return &Server{
		name:    "Postgres",
		logFile: filepath.Join(dir, "postgres.log"),
		stop:    syscall.SIGINT,  // fast: ends sessions instead of waiting for them
		death:   syscall.SIGQUIT, // at once, but without leaving shared memory behind
		command: func(port int) *exec.Cmd {
			args := []string{"-D", data, "-p", strconv.Itoa(port)}
			for _, name := range slices.Sorted(maps.Keys(settings)) {
				args = append(args, "-c", name+"="+settings[name])
			}
			cmd := exec.Command(filepath.Join(folder, "postgres"), args...)
			owner.runs(cmd, data)
			return cmd
		},
		ready: func(ctx context.Context, port int) error {
			conn, err := pgx.Connect(ctx, postgresURL(port, password, "postgres", certs))
			if err != nil {
				return err
			}
			defer conn.Close(ctx)
			return createDatabaseOnce(ctx, conn, "hongyan")
		},
	}, nil
}

// initdb makes the files of a new Postgres.
func initdb(ctx context.Context, program, data, password string, owner account) error {
	if err := os.MkdirAll(data, 0o700); err != nil {
		return err
	}
	if err := owner.takes(data); err != nil {
		return err
	}
	secret := filepath.Join(filepath.Dir(data), "initdb-password")
	if err := os.WriteFile(secret, []byte(password+"\n"), 0o600); err != nil {
		return err
	}
	defer os.Remove(secret)
	if err := owner.takes(secret); err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, program, "-D", data, "-U", postgresUser, "--pwfile", secret,
		"--auth=scram-sha-256", "--encoding=UTF8", "--locale=C", "--no-sync")
	owner.runs(cmd, data)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("initdb: %w: %s", err, out)
	}
	return nil
}

func createDatabaseOnce(ctx context.Context, conn *pgx.Conn, name string) error {
	var there bool
	err := conn.QueryRow(ctx, "SELECT EXISTS (SELECT FROM pg_database WHERE datname = $1)", name).Scan(&there)
	if err != nil || there {
		return err
	}
	_, err = conn.Exec(ctx, "CREATE DATABASE "+pgx.Identifier{name}.Sanitize())
	return err
}

func postgresURL(port int, password, database string, certs *certificates) string {
	u := url.URL{
		Scheme: "postgres", User: url.UserPassword(postgresUser, password), Host: addr(port),
		Path: "/" + database, RawQuery: "sslmode=disable",
	}
	if certs != nil {
		u.RawQuery = url.Values{"sslmode": {"verify-full"}, "sslrootcert": {certs.ca}}.Encode()
	}
	return u.String()
}
