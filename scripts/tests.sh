# shellcheck shell=sh
# install what the tests need and run them: ./run tests [OPTION of pytest]… (then without style and types)

is_root || fail 1 "the tests make network namespaces and boot systemd in them, so they need root; type: sudo ./run tests${*:+ $*}"
ensure_venv test
# shellcheck disable=SC2046
need $(sed -n 's/^\([a-z][^ ]*\) .*/\1/p' scripts/test-packages)
# shellcheck disable=SC2046
unpack $(sed -n 's/^\([a-z][^ ]*\) .*/\1/p' scripts/test-packages-unpacked)

if [ $# -eq 0 ]; then
	bin=$venv/bin
	"$bin/ruff" check
	"$bin/ruff" format --check
	"$bin/mypy"
	"$bin/lint-imports"
	shellcheck -x run .ci/run scripts/*.sh scripts/lib/*.sh benchmarks/peers/*.sh networkmanager/90-salsa-agent
fi

# Namespaces of their own for processes and mounts, and a scratch directory that is a mount: when the shell in
# contained.sh ends, for whatever reason, all that the tests started, mounted and wrote ends with it.
scratch=$(mktemp -d /tmp/salsa.XXXXXX)
chmod 755 "$scratch"
finish() {
	rmdir "$scratch" 2>/dev/null || :
	# shellcheck disable=SC2046  # a path each
	find $(sed -n 's/^[^ ]* \([^ ]*\) cgroup2 .*/\1/p' /proc/self/mounts) -maxdepth 1 -name "salsa-${scratch##*.}-*" \
		-exec find {} -depth -type d -exec rmdir {} + \; 2>/dev/null || :
}
trap finish EXIT

# In a session of their own a Ctrl-C reaches them once, from here. Pytest ends well by SIGINT, which a shell has its
# background jobs ignore.
SALSA_RUN=salsa-${scratch##*.} env --default-signal=INT setsid setpriv --pdeathsig KILL \
	unshare --pid --fork --kill-child --mount --mount-proc sh scripts/lib/contained.sh "$scratch" "$venv/bin/python" "$@" </dev/null &
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
