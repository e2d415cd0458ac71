# shellcheck shell=sh
# measure the agent beside its peers, into benchmarks/results.md: ./run bench [--quick] [--out DIRECTORY]

is_root || fail 1 "the measurements take place in network namespaces, so they need root; type: sudo ./run bench"
ensure_venv test
need bind9-dnsutils dbus-daemon gcc iproute2 libc6-dev libsystemd-dev network-manager networkd-dispatcher pkg-config postfix \
	systemd util-linux
mkdir -p "$cache/bench"
for source in benchmarks/tools/*.c benchmarks/peers/*.c; do
	# shellcheck disable=SC2046  # options
	gcc -O2 -Wall -Wextra -o "$cache/bench/$(basename "$source" .c)" "$source" $(pkg-config --cflags --libs libsystemd)
done
exec "$venv/bin/python" -m benchmarks --tools "$cache/bench" "$@"
