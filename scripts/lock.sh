# shellcheck shell=sh
# write requirements/*.txt anew, the very files that pyproject.toml's libraries are taken from: ./run lock

find_python
temporary
"$python" -m venv "$work/venv" || fail 1 "a virtual environment could not be made"
venv=$work/venv
pip install "pip-tools>=7,<8" || fail 1 "pip-tools could not be installed; is the Python package index within reach?"
for extra in run test fleet fuzz; do
	case $extra in
	run) options= ;;
	*) options="--extra=$extra" ;;
	esac
	# shellcheck disable=SC2086
	"$venv/bin/pip-compile" --quiet --generate-hashes --strip-extras --allow-unsafe --no-header --no-annotate --no-emit-index-url \
		--no-emit-find-links $options --output-file "requirements/$extra.txt" pyproject.toml || fail 1 "requirements/$extra.txt could not be made"
	# the extra `fuzz` names the project itself, which is not installed from anywhere
	sed -i -e '/^# WARNING/,/^salsa-agent @/d' -e '/^# The following packages are considered to be unsafe/d' "requirements/$extra.txt"
done
say "requirements/*.txt are new; see what changed with: git diff requirements"
