# shellcheck shell=sh
# build a Debian package into dist/, and have lintian judge it

. scripts/lib/stage.sh

case $PWD in
*[!A-Za-z0-9/._+~-]*) fail 2 "a package can be built only below a path of letters, digits and /._+~-, and this is $PWD" ;;
esac
temporary # the build makes some itself
need build-essential debhelper dh-python dpkg-dev lintian python3 python3-dbus-next python3-dnspython python3-venv
ensure_venv
find_libraries # the build itself uses no network
version=$(sed -n '1s/.*(\(.*\)).*/\1/p' debian/changelog)
built=build/deb
rm -rf "$built"
mkdir -p "$built/salsa-agent" "$cache" dist || fail 1 "nothing can be written below $PWD"
case $cache in
/*) ;;
*) cache=$PWD/$cache ;;
esac
# the build takes place in a copy of the tree, with this one's virtual environment and libraries
export SALSA_VENV="$venv" SALSA_CACHE="$cache"
copy run scripts salsa_agent man completions examples systemd dbus networkmanager debian requirements docs conformance contrib pyproject.toml \
	README.md CHANGELOG.md CONTRIBUTING.md SECURITY.md LICENSE "$built/salsa-agent"
find "$built/salsa-agent" -depth -type d -name __pycache__ -exec rm -rf {} +
offline=
! unshare --net true 2>/dev/null || offline="unshare --net"
(
	cd "$built/salsa-agent"
	# the system's own tools, whatever comes first for this user
	PATH=/usr/sbin:/usr/bin:/sbin:/bin
	umask 022
	# shellcheck disable=SC2086
	$offline dpkg-buildpackage --unsigned-source --unsigned-changes --build=full >../log 2>&1
) || fail 1 "the package could not be built: $(because "$(cat "$built/log")"); $built/log has all of it"
lintian --fail-on error,warning --tag-display-limit 0 --allow-root "$built"/*.changes || fail 1 "lintian found faults in the package"
cp "$built/salsa-agent_${version}_all.deb" "$built/salsa-agent-desktop_${version}_all.deb" dist/
say "built dist/salsa-agent_${version}_all.deb and, with the tray, dist/salsa-agent-desktop_${version}_all.deb"
