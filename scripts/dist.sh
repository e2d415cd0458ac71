# shellcheck shell=sh
# build the wheel and the source distribution into dist/, to the same bytes each time

ensure_venv test
temporary
version=$("$venv/bin/python" -c 'import salsa_agent; print(salsa_agent.__version__)')
# what builds and tests leave behind is not copied
cp -R .ci .importlinter .shellcheckrc run scripts salsa_agent man completions examples systemd dbus networkmanager debian requirements docs conformance \
	benchmarks demo tests pyproject.toml MANIFEST.in README.md CHANGELOG.md CONTRIBUTING.md SECURITY.md LICENSE "$work"
[ ! -d contrib ] || cp -R contrib "$work"
chmod -R u=rwX,go=rX "$work"
find "$work" -depth \( -type d -name __pycache__ -o -name '*.egg-info' \) -exec rm -rf {} +
# the time of the last entry of debian/changelog, for every file in them
SOURCE_DATE_EPOCH=$(date -d "$(sed -n '0,/^ -- /s/^ -- .*>  //p' debian/changelog)" +%s)
export SOURCE_DATE_EPOCH
umask 022
mkdir -p dist || fail 1 "nothing can be written below $PWD"
said=$("$venv/bin/python" scripts/lib/distributions.py "$work" dist 2>&1) || fail 1 "they could not be built: $(because "$said")"
say "built dist/salsa_agent-$version-py3-none-any.whl and dist/salsa_agent-$version.tar.gz"
