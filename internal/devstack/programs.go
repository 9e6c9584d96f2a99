package devstack

import (
	"cmp"
	"errors"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
)

// Where package managers put servers that are not in PATH. Debian keeps every version of Postgres in a
// folder of its own; Homebrew and MacPorts likewise.
var (
	postgresFolders = []string{
		"/usr/lib/postgresql/*/bin",
		"/usr/pgsql-*/bin",
		"/usr/local/pgsql/bin",
		"/usr/libexec/postgresql*",
		"/opt/homebrew/opt/postgresql*/bin",
		"/usr/local/opt/postgresql*/bin",
		"/opt/local/lib/postgresql*/bin",
		"/Applications/Postgres.app/Contents/Versions/*/bin",
	}
	redisFolders = []string{"/usr/bin", "/usr/local/bin", "/usr/sbin", "/opt/homebrew/bin", "/opt/local/bin"}
)

// Errors of a machine on which a server's programs are missing.
var (
	ErrNoRedis = errors.New("redis-server not found: install it (Debian, Ubuntu: apt-get install redis-server; " +
		"Fedora: dnf install redis; Alpine: apk add redis; macOS: brew install redis) or set HONGYAN_REDIS_URL")
	ErrNoPostgres = errors.New("initdb and postgres not found: install them (Debian, Ubuntu: apt-get install postgresql; " +
		"Fedora: dnf install postgresql-server; Alpine: apk add postgresql; macOS: brew install postgresql@17) " +
		"or set HONGYAN_DATABASE_URL")
)

// findRedis is the path of redis-server, or of its twin valkey-server.
func findRedis() (string, error) {
	for _, name := range []string{"redis-server", "valkey-server"} {
		if path, err := exec.LookPath(name); err == nil {
			return filepath.Abs(path)
		}
		for _, folder := range redisFolders {
			if path, err := exec.LookPath(filepath.Join(folder, name)); err == nil {
				return path, nil
			}
		}
	}
	return "", ErrNoRedis
}

// findPostgres is the folder that holds initdb and postgres: the one in PATH, else the newest version.
func findPostgres() (string, error) {
	if path, err := exec.LookPath("initdb"); err == nil {
		if real, err := filepath.EvalSymlinks(path); err == nil && hasPostgres(filepath.Dir(real)) {
			return filepath.Abs(filepath.Dir(real))
		}
	}
	var folders []string
	for _, pattern := range postgresFolders {
		found, _ := filepath.Glob(pattern) // the patterns are well formed
		folders = append(folders, found...)
	}
	slices.SortStableFunc(folders, func(a, b string) int { return cmp.Compare(versionOf(b), versionOf(a)) })
	for _, folder := range folders {
		if hasPostgres(folder) {
			return folder, nil
		}
	}
	return "", ErrNoPostgres
}

func hasPostgres(folder string) bool {
	for _, name := range []string{"initdb", "postgres"} {
		if _, err := exec.LookPath(filepath.Join(folder, name)); err != nil {
			return false
		}
	}
	return true
}

var digits = regexp.MustCompile(`\d+`)

// versionOf reads the major version out of a folder's name; 0 where there is none.
func versionOf(folder string) int {
	v, _ := strconv.Atoi(digits.FindString(folder))
	return v
}
