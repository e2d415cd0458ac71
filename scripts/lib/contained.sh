#!/bin/sh
# contained.sh SCRATCH PYTHON [OPTION of pytest]…: PID 1 of the namespaces that the tests run in.
scratch=$1 python=$2
shift 2
trap : INT TERM # PID 1 would not see them otherwise, and has to outlive pytest
mount -t tmpfs -o mode=755 tmpfs "$scratch"
mkdir -p /run/netns
mount -t tmpfs tmpfs /run/netns
TMPDIR=$scratch "$python" -m pytest -n 4 --dist loadfile "$@" # more than processors: most tests wait
exit $?
