# shellcheck shell=sh
# For scripts that do what an administrator would write.

# tell BUS ADDRESS: emit bench.Shell.Changed from /bench/Shell, with the relay that the reverse tree gives for it
tell() {
	name=$(printf '%s\n' "$2" | awk -F. '{ print $4 "." $3 "." $2 "." $1 }').in-addr.arpa
	for _ in 32 24 16; do
		relay=$(dig +short MX "$name" | sort -n | sed -n '1s/^[0-9]* \(.*\)\.$/\1/p')
		[ -z "$relay" ] || break
		name=${name#*.}
	done
	[ -z "$relay" ] || busctl --address="$1" emit /bench/Shell bench.Shell Changed s "$relay"
}

# dispatched BUS LINK CALLS: the same for the last address of a link; a line in the file CALLS says that it was called
dispatched() {
	echo called >>"$3"
	tell "$1" "$(ip -4 -oneline address show dev "$2" | sed -n '$s/.* inet \([0-9.]*\).*/\1/p')"
}
