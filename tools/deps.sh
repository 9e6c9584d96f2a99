#!/bin/sh
# Installs what the demo and the tests need and this machine lacks, with the system's package manager,
# and says so. A server that HONGYAN_REDIS_URL or HONGYAN_DATABASE_URL names needs no installation.
#
#   tools/deps.sh [make] [cc] [redis] [postgres]
set -eu

say() { echo "deps: $*" >&2; }

die() {
	say "$*"
	exit 1
}

# first_of prints the first of its arguments that is an executable file; globs arrive here expanded.
first_of() {
	for candidate in "$@"; do
		if [ -x "$candidate" ]; then
			echo "$candidate"
			return
		fi
	done
	return 1
}

have_go() {
	command -v go >/dev/null || die "Go is missing: install Go 1.26 or newer, https://go.dev/dl"
	go list -m >/dev/null || die "$(go version) cannot build this module: install Go 1.26 or newer, https://go.dev/dl"
}

have_make() { command -v make >/dev/null; }

have_cc() { command -v "${CC:-cc}" >/dev/null || command -v gcc >/dev/null || command -v clang >/dev/null; }

have_redis() {
	[ -n "${HONGYAN_REDIS_URL:-}" ] || command -v redis-server >/dev/null || command -v valkey-server >/dev/null ||
		first_of /usr/sbin/redis-server /opt/homebrew/bin/redis-server /opt/local/bin/redis-server >/dev/null
}

# The same folders as internal/devstack looks into.
have_postgres() {
	[ -n "${HONGYAN_DATABASE_URL:-}" ] || command -v initdb >/dev/null ||
		first_of /usr/lib/postgresql/*/bin/initdb /usr/pgsql-*/bin/initdb /usr/local/pgsql/bin/initdb \
			/usr/libexec/postgresql*/initdb /opt/homebrew/opt/postgresql*/bin/initdb \
			/usr/local/opt/postgresql*/bin/initdb /opt/local/lib/postgresql*/bin/initdb \
			/Applications/Postgres.app/Contents/Versions/*/bin/initdb >/dev/null
}

# packages MANAGER WHAT prints the names under which a package manager knows what is missing.
packages() {
	case "$1 $2" in
	*' make') echo make ;;
	'apt-get cc') echo gcc libc6-dev ;;
	'dnf cc') echo gcc glibc-devel ;;
	'apk cc') echo gcc musl-dev ;;
	'apt-get redis') echo redis-server ;;
	*' redis') echo redis ;;
	'apt-get postgres' | 'apk postgres') echo postgresql ;;
	'dnf postgres') echo postgresql-server ;;
	'brew postgres') echo postgresql@17 ;;
	esac
}

as_root() {
	if [ "$(id -u)" = 0 ]; then
		"$@"
	elif command -v sudo >/dev/null; then
		sudo "$@"
	else
		say "neither root nor sudo; as root run: $*"
		return 1
	fi
}

# install_with MANAGER PACKAGE... ; its talk goes to standard error, so that only ours is on standard output.
install_with() {
	manager=$1
	shift
	say "installing with $manager: $*"
	case $manager in
	apt-get)
		as_root apt-get update -qq || say "apt-get update did not succeed; going on with what it knows"
		as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@"
		;;
	dnf) as_root dnf install -y -q "$@" ;;
	apk) as_root apk add --quiet "$@" ;;
	brew) brew install --quiet "$@" ;;
	esac >&2
}

have_go
missing=
for what in "$@"; do
	"have_$what" || missing="$missing $what"
done
[ -n "$missing" ] || exit 0

for candidate in apt-get dnf apk brew none; do
	if command -v "$candidate" >/dev/null; then break; fi
done
names=
for what in $missing; do
	if [ "$candidate" != none ]; then names="$names $(packages "$candidate" "$what")"; fi
done
# shellcheck disable=SC2086 # names are words
if [ -n "${names# }" ]; then install_with "$candidate" $names || say "$candidate could not install:$names"; fi

for what in $missing; do
	if "have_$what"; then continue; fi
	case $what in
	cc) say "no C compiler: the tests will run without the race detector" ;;
	redis) die "redis-server is missing: install Redis 6.2 or newer, or set HONGYAN_REDIS_URL" ;;
	postgres) die "initdb and postgres are missing: install PostgreSQL 14 or newer, or set HONGYAN_DATABASE_URL" ;;
	*) die "$what is missing: install it" ;;
	esac
done
