# shellcheck shell=sh
# set up everything and run the agent here: ./run [OPTION OF salsa-agent]…

lack dbus-daemon dbus-daemon
ensure_venv
[ -x "$venv/bin/salsa-agent" ] || fail 1 "there is no salsa-agent that can be run in $venv"

# The agent takes this process's place, so that signals and exit status are its own; the guide tells beside it.
temporary
trap - EXIT HUP INT TERM # the guide removes it
mkfifo "$work/stdout"
"$venv/bin/python" -P scripts/lib/guide.py $$ "$work" "$venv/bin/salsactl" "$@" &
exec "$venv/bin/salsa-agent" "$@" >"$work/stdout"
