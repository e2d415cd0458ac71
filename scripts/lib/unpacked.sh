# shellcheck shell=sh
# Debian packages that are not installed: their files, in trees of their own below $cache/unpacked.

# unpack PACKAGE…: each with the packages that it needs and this machine lacks
unpack() {
	have apt-get || {
		say "run: this is no Debian system; no tests can be run with $*"
		return
	}
	for package; do
		[ -d "$cache/unpacked/$package" ] || (unpack_one "$package") || fail 1 "cannot be unpacked: $package"
	done
}

unpack_one() {
	case $cache in
	/*) new=$cache/unpacked/.$1 ;;
	*) new=$(pwd)/$cache/unpacked/.$1 ;; # apt wants an absolute path
	esac
	umask 022
	say "fetching $1"
	rm -rf "$new"
	mkdir -p "$new/archives/partial" "$new/root/usr/bin" "$new/root/usr/lib" "$new/root/usr/sbin"
	for directory in bin lib sbin; do
		ln -s "usr/$directory" "$new/root/$directory"
	done
	without=$(sed -n "s/^$1  *without=\([^ ]*\) .*/\1-/p" scripts/test-packages-unpacked)
	fetch "$new/archives" "$1" ${without:+"$without"} 2>/dev/null || {
		apt-get -qq -o DPkg::Lock::Timeout=300 update </dev/null
		fetch "$new/archives" "$1" ${without:+"$without"} || exit 1
	}
	for archive in "$new"/archives/*.deb; do
		dpkg-deb --fsys-tarfile "$archive" >"$new/tar" || exit 1
		tar -x --keep-directory-symlink -C "$new/root" -f "$new/tar" || exit 1
	done
	mv -T "$new/root" "$cache/unpacked/$1" && rm -rf "$new"
}

# fetch DIRECTORY PACKAGE [OTHER-]: what an installation in place of the other package would download, and no more;
# the package itself also where it is installed
fetch() {
	archives=$1
	shift
	apt-get -qq -y --no-install-recommends --download-only -o DPkg::Lock::Timeout=300 -o Dir::Cache::archives="$archives" \
		install --reinstall "$@" </dev/null >/dev/null
}
