# shellcheck shell=sh
# do every fault of DNS, relays, kernel, bus and machine to the whole agent: ./run torture [--quick] [WORD]…

is_root || fail 1 "it makes network namespaces, so it needs root; type: sudo ./run torture${*:+ $*}"
ensure_venv test
need dbus-daemon iproute2 libfaketime systemd util-linux
exec "$venv/bin/python" -m tests.torture "$@"
