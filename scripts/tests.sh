# shellcheck shell=sh
# install what the tests need and run them: ./run tests [OPTION of pytest]… (then without style and types)

# With CI=1 every test has to run: as root, on a machine that lets it make namespaces and boot systemd in them. Elsewhere
# all runs that can; the end says in a line each what could not, and how it can.
all=${CI-}${SALSA_REQUIRE_ALL-}
is_root || [ -z "$all" ] || fail 1 "CI=1 asks for every test, and some of them need root; type: sudo CI=1 ./run tests${*:+ $*}"
# may OPTION…: may a program here have namespaces of its own that way?
may() {
	unshare "$@" --pid --fork --mount --mount-proc true 2>/dev/null
}

packages=$(sed -n 's/^\([a-z][^ ]*\) .*/\1/p' scripts/test-packages)
if is_root; then
	# before the environment, so that all packages that are missing are named and installed at once
	# shellcheck disable=SC2086
	need_what_there_is $packages
	# shellcheck disable=SC2046
	unpack $(sed -n 's/^\([a-z][^ ]*\) .*/\1/p' scripts/test-packages-unpacked)
	! { have mmdebstrap && may; } || make_trees # in a container that may not mount none can be made, nor booted
	ensure_fleet
elif have dpkg-query; then
	# shellcheck disable=SC2086
	missing=$(lacking $packages)
	# shellcheck disable=SC2086
	old_lists || ! have apt-cache || missing=$(obtainable $missing)
	[ -z "$missing" ] || say "run: tests that need these packages cannot run; for them $(as_root "$(installing "$missing")")"
fi
ensure_venv test

if [ $# -eq 0 ]; then
	bin=$venv/bin
	"$bin/ruff" check
	"$bin/ruff" format --check
	"$bin/mypy"
	"$bin/lint-imports"
	if have shellcheck; then
		shellcheck -x run .ci/run scripts/*.sh scripts/lib/*.sh benchmarks/peers/*.sh networkmanager/90-salsa-agent
	else
		say "run: shellcheck is not installed; the shell scripts are not judged"
	fi
fi

# Namespaces of their own for processes and mounts, and a scratch directory that is a mount: when the shell in
# contained.sh ends, for whatever reason, all that the tests started, mounted and wrote ends with it.
if is_root && may; then
	spaces=
elif ! is_root && may --user --map-root-user --net; then
	spaces="--user --map-root-user --net"
	(. scripts/lib/stage.sh && find_libraries) # from inside no index is in reach
	# sources of the rpm package
	! have rpmbuild || pip download --require-hashes --no-deps --only-binary :all: --requirement requirements/run.txt --dest "$cache/wheels" ||
		say "run: the wheels of the libraries could not be fetched; tests that need them cannot run"
	say "run: in a user namespace, as root of which most tests run that need root"
else
	say "run: without namespaces, which are not to be had here: what the tests that need them would show stays unseen"
	scratch=$(mktemp -d /tmp/salsa.XXXXXX)
	trap 'rm -rf "$scratch"' EXIT
	chmod 755 "$scratch" # root's tests have other users in it
	status=0
	TMPDIR=$scratch env --default-signal=INT "$venv/bin/python" -m pytest -n 4 --dist loadfile "$@" </dev/null || status=$?
	exit $status
fi

scratch=$(mktemp -d /tmp/salsa.XXXXXX)
chmod 755 "$scratch"
finish() {
	rmdir "$scratch" 2>/dev/null || :
	# shellcheck disable=SC2046  # a path each
	! is_root || find $(sed -n 's/^[^ ]* \([^ ]*\) cgroup2 .*/\1/p' /proc/self/mounts) -maxdepth 1 -name "salsa-${scratch##*.}-*" \
		-exec find {} -depth -type d -exec rmdir {} + \; 2>/dev/null || :
}
trap finish EXIT

# In a session of their own a Ctrl-C reaches them once, from here. Pytest ends well by SIGINT, which a shell has its
# background jobs ignore.
# shellcheck disable=SC2086
SALSA_RUN=salsa-${scratch##*.} env --default-signal=INT setsid setpriv --pdeathsig KILL \
	unshare $spaces --pid --fork --kill-child --mount --mount-proc sh scripts/lib/contained.sh "$scratch" "$venv/bin/python" "$@" </dev/null &
job=$!
trap 'kill -INT -$job 2>/dev/null || kill -INT $job' HUP INT TERM
status=0
wait $job || status=$?
while kill -0 $job 2>/dev/null; do # a signal ended the wait
	status=0
	wait $job || status=$?
done
trap - HUP INT TERM
exit $status
