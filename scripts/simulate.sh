# shellcheck shell=sh
# run the engine through random schedules beside a plain oracle: ./run simulate [--seeds N] [--seed SEED]

ensure_venv
exec "$venv/bin/python" -m tests.core.schedules "$@"
