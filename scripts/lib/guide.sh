# shellcheck shell=sh
# Tells the person at the terminal what the agent found and how to ask it.

name="org.salsa.Agent1 /org/salsa/Agent1 org.salsa.Agent1"

# guide PID DIRECTORY OPTION…: wait until the agent with this process id owns its name, then tell
guide() {
	agent=$1 directory=$2
	shift 2
	trap '' INT # ends with the agent
	pass_on "$directory" &
	while [ -d "$directory" ]; do
		for bus in "$(given_bus "$@")" --system --user "$(private_bus "$directory")"; do
			if [ -z "$bus" ] || ! owned_by "$agent" "$bus"; then
				continue
			fi
			tell "$bus"
			wait
			return
		done
		sleep 0.2
	done
	wait
}

# pass on what the agent prints, and note the address of a private bus; when the agent ends, so does the directory
pass_on() {
	while IFS= read -r line; do
		printf '%s\n' "$line"
		case $line in
		unix:*) printf '%s\n' "$line" >"$1/address" ;;
		esac
	done <"$1/stdout"
	rm -rf "$1"
}

# busctl's option for the bus that --bus named, if it did
given_bus() {
	while [ $# -gt 0 ]; do
		case $1 in
		--bus=*:*) printf -- '--address=%s' "${1#--bus=}" ;;
		--bus)
			case ${2-} in
			*:*) printf -- '--address=%s' "$2" ;;
			esac
			;;
		esac
		shift
	done
}

private_bus() {
	[ ! -s "$1/address" ] || printf -- '--address=%s' "$(cat "$1/address")"
}

owned_by() {
	owner=$(busctl "$2" --timeout=2 call org.freedesktop.DBus /org/freedesktop/DBus org.freedesktop.DBus \
		GetConnectionUnixProcessID s org.salsa.Agent1 2>/dev/null) && [ "$owner" = "u $1" ]
}

# property NAME: its value alone, without type and quotes
property() {
	# shellcheck disable=SC2086
	busctl "$bus" --timeout=2 get-property $name "$1" | sed 's/^[^ ]* //; s/^"\(.*\)"$/\1/'
}

tell() {
	bus=$1
	case $bus in
	--system) where="the system bus" option="--bus system" ;;
	--user) where="the session bus" option="--bus session" ;;
	*) where="a bus of its own" option="--bus '${bus#--address=}'" ;;
	esac
	case $bus in
	--address=*) ask="--address='${bus#--address=}'" ;;
	*) ask=$bus ;;
	esac
	host=$(property BestRelay)
	case $(property BestRelaySource) in
	dns) from="as this network's reverse DNS says" ;;
	link) from="as this link's own configuration says" ;;
	site) from="from your table of networks" ;;
	static) from="from your configuration" ;;
	*) from= ;;
	esac
	found="This network names no relay, and none is configured."
	[ -z "$host" ] || found="The relay to use now is $host, port $(property BestRelayPort), $from."
	salsactl=$venv/bin/salsactl
	case $salsactl in
	*[!A-Za-z0-9/._-]*) salsactl="'$salsactl'" ;;
	esac
	cat <<-END

		salsa-agent runs, on $where; its state is "$(property State)", with $(property Addresses | sed 's/ .*//') of this host's addresses to ask about.
		$found

		Ask it from another terminal:
		  busctl $ask get-property $name BestRelay
		  busctl $ask get-property $name Relays
		  $salsactl $option status
		Follow its changes:
		  $salsactl $option watch

		Its log follows; Ctrl-C ends it.

	END
}
