# shellcheck shell=sh
# Trees of Debian releases, below $cache/trees, as scripts/test-trees names them. Each is made once, in about two minutes;
# its name has a sum of what is asked for.

make_trees() {
	trees=
	while read -r name packages _; do
		case $name in
		'#'* | '') continue ;;
		esac
		tree=$cache/trees/$name-$(printf '%s' "$packages" | cksum | cut -d ' ' -f 1)
		[ -d "$tree" ] || {
			say "making a tree of Debian $name (takes two minutes)"
			make_tree "$tree" "${name##*-}" "$packages" &
			trees="$trees $!"
		}
	done <scripts/test-trees
	for job in $trees; do
		wait "$job" || fail 1 "a tree of Debian could not be made; are its packages within reach?"
	done
}

# make_tree DIRECTORY RELEASE PACKAGE,…
make_tree() (
	umask 022
	mkdir -p "$cache/trees"
	new=$(mktemp -d "$cache/trees/.$2.XXXXXX")
	# what it mounts there goes with it, however it ends
	unshare --mount --propagation private mmdebstrap --quiet --variant=minbase --mode=root --include="$3" --dpkgopt=force-unsafe-io \
		--dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/locale/*' --dpkgopt='path-exclude=/usr/share/man/*' \
		"$2" "$new/root" </dev/null >/dev/null || {
		rm -rf --one-file-system "$new"
		exit 1
	}
	mv -T "$new/root" "$1" 2>/dev/null || rm -rf --one-file-system "$new/root" # another run was faster
	rm -rf --one-file-system "$new"
)
