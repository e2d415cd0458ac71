#!/bin/sh
# shell.sh BUS: what an administrator would write. Emits bench.Shell.Changed from /bench/Shell.
# shellcheck source=benchmarks/peers/relay.sh
. "${0%/*}/relay.sh"
ip -4 -oneline monitor address | while read -r line; do
	case $line in
	Deleted*) continue ;;
	esac
	tell "$1" "$(printf '%s\n' "$line" | sed 's/.* inet \([0-9.]*\).*/\1/')"
done
