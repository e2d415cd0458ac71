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

# because TEXT [DIRECTORY]: why a program that writes there failed, in a few words of what it printed
because() {
	# not every program says so: venv hides what its children printed
	if [ -n "${2-}" ] && [ "$(df -Pk "$2" 2>/dev/null | awk 'NR == 2 { print $4 }')" -lt 1024 ] 2>/dev/null; then
		printf 'the disk is full'
		return
	fi
	case $1 in
	*'No space left on device'* | *'Errno 28'*) printf 'the disk is full' ;;
	*'Disk quota exceeded'*) printf 'the disk quota is used up' ;;
	*'Read-only file system'*) printf 'the file system is read-only' ;;
	*) printf '%s\n' "$1" | awk '/[^ \t]/ { last = $0 } /^(E|ERROR|Error): ?/ { error = $0 } END { print error ? error : last }' | tr -d '\000-\037' | cut -c 1-200 ;;
	esac
}

# copy SOURCE… DIRECTORY: with all that is below them
copy() {
	said=$(cp -R "$@" 2>&1) || {
		shift $(($# - 1))
		fail 1 "nothing can be copied to $1: $(because "$said")"
	}
}

# temporary: set `work` to a new directory for temporary files, which goes when the shell ends
temporary() {
	work=$(mktemp -d 2>/dev/null) ||
		fail 1 "no temporary directory can be made in ${TMPDIR:-/tmp} (read-only, or full?); name another: TMPDIR=/path ./run"
	trap 'rm -rf "$work"' EXIT
	trap 'exit 130' HUP INT TERM
}

# as_root WORDS: what to type so that root runs them
as_root() {
	if is_root; then
		printf 'type: %s' "$*"
	elif have sudo; then
		printf 'type: sudo %s' "$(printf '%s' "$*" | sed 's/ && / \&\& sudo /g')"
	else
		printf 'as root, type: %s' "$*"
	fi
}

is_root() {
	[ "$(id -u)" -eq 0 ]
}

have() {
	command -v "$1" >/dev/null 2>&1
}

. scripts/lib/packages.sh
. scripts/lib/unpacked.sh
. scripts/lib/trees.sh
. scripts/lib/python.sh
