#!/bin/sh
# shell.sh BUS: what an administrator would write. Emits bench.Shell.Changed from /bench/Shell.
relay=
ip -4 -oneline monitor address | while read -r line; do
	case $line in
	Deleted*) continue ;;
	esac
	address=$(printf '%s\n' "$line" | sed 's/.* inet \([0-9.]*\).*/\1/')
	name=$(printf '%s\n' "$address" | awk -F. '{ print $4 "." $3 "." $2 "." $1 }').in-addr.arpa
	for _ in 32 24 16; do
		relay=$(dig +short MX "$name" | sort -n | sed -n '1s/^[0-9]* \(.*\)\.$/\1/p')
		[ -z "$relay" ] || break
		name=${name#*.}
	done
	[ -z "$relay" ] || busctl --address="$1" emit /bench/Shell bench.Shell Changed s "$relay"
done
