# shellcheck shell=sh
# render docs/draft-salsa.md to text and HTML: ./run draft [DIRECTORY]

ensure_venv test
need mmark
exec "$venv/bin/python" scripts/lib/draft.py "${1:-docs}"
