#!/bin/sh
# contained.sh SCRATCH PYTHON [OPTION of pytest]…: PID 1 of the namespaces that the tests run in.
scratch=$1 python=$2
shift 2
trap : INT TERM # PID 1 would not see them otherwise, and has to outlive pytest
mount -t tmpfs -o mode=755 tmpfs "$scratch"
for directory in /run/netns /etc/netns; do # others' are not ours to sweep, nor ours theirs
	mkdir -p "$directory"
	mount -t tmpfs tmpfs "$directory"
done
TMPDIR=$scratch "$python" -m pytest -n 4 --dist loadfile "$@" # more than processors: most tests wait
exit $?
