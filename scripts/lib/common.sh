# shellcheck shell=sh
# What every verb may use. Paths are relative to the project, which is the working directory.

venv=${SALSA_VENV:-$PWD/.venv}
cache=${SALSA_CACHE:-$PWD/build}
# the shell of systemd, cron or su may lack the administrator's directories
PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin
export PATH

say() {
	printf '%s\n' "$*" >&2
}

# fail STATUS WORDS: one clear line, and the end
fail() {
	status=$1
	shift
	say "run: $*"
	exit "$status"
}

is_root() {
	[ "$(id -u)" -eq 0 ]
}

have() {
	command -v "$1" >/dev/null 2>&1
}

. scripts/lib/packages.sh
. scripts/lib/unpacked.sh
. scripts/lib/python.sh
