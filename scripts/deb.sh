# shellcheck shell=sh
# build a Debian package into dist/, and have lintian judge it

need debhelper dh-python dpkg-dev lintian python3
ensure_venv
version=$(sed -n '1s/.*(\(.*\)).*/\1/p' debian/changelog)
built=build/deb
rm -rf "$built"
mkdir -p "$built/salsa-agent" "$cache" dist
# the build takes place in a copy of the tree, with this one's virtual environment and libraries
export SALSA_VENV="$venv" SALSA_CACHE="$cache"
cp -R run scripts salsa_agent man completions examples systemd dbus networkmanager debian pyproject.toml requirements README.md "$built/salsa-agent"
(
	cd "$built/salsa-agent"
	# the system's own tools, whatever comes first for this user
	PATH=/usr/sbin:/usr/bin:/sbin:/bin dpkg-buildpackage --unsigned-source --unsigned-changes --build=binary >../log 2>&1
) || fail 1 "the package could not be built; $built/log says why"
lintian --fail-on error,warning --tag-display-limit 0 --allow-root "$built"/*.changes || fail 1 "lintian found faults in the package"
cp "$built/salsa-agent_${version}_all.deb" dist/
say "built dist/salsa-agent_${version}_all.deb"
