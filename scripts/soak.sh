# shellcheck shell=sh
# 100,000 address changes in one process, to see whether it grows: ./run soak [--changes N]

is_root || fail 1 "it makes network namespaces, so it needs root; type: sudo ./run soak${*:+ $*}"
ensure_venv test
need dbus-daemon iproute2 systemd
exec "$venv/bin/python" -m tests.torture.soak "$@"
