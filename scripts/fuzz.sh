# shellcheck shell=sh
# feed random bytes to whatever reads bytes from outside: ./run fuzz [--seconds N] [TARGET]…

is_root || fail 1 "one of the targets is a network namespace, so it needs root; type: sudo ./run fuzz${*:+ $*}"
ensure_venv fuzz
need iproute2
SALSA_CACHE=$cache exec "$venv/bin/python" -m tests.fuzz "$@"
