# shellcheck shell=sh
# set up everything and run the agent here: ./run [OPTION OF salsa-agent]…

. scripts/lib/guide.sh

ensure_venv
have busctl || need systemd
have dbus-daemon || need dbus-daemon

# The agent takes this process's place, so that signals and exit status are its own; the guide tells beside it.
out=$(mktemp -d)
mkfifo "$out/stdout"
guide $$ "$out" "$@" &
exec "$venv/bin/salsa-agent" "$@" >"$out/stdout"
