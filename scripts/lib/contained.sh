#!/bin/sh
# contained.sh SCRATCH PYTHON [OPTION of pytest]…: PID 1 of the namespaces that the tests run in.
scratch=$1 python=$2
shift 2
trap : INT TERM # PID 1 would not see them otherwise, and has to outlive pytest
mount -t tmpfs -o mode=755 tmpfs "$scratch" || exit
ip link set lo up 2>/dev/null || : # in a network namespace of its own it is down
[ -w /run ] || mount -t tmpfs -o mode=755 tmpfs /run || exit # in a user namespace it is somebody else's
if [ ! -w /etc ]; then
	mkdir "$scratch/etc" "$scratch/etc-work"
	mount -t overlay -o "lowerdir=/etc,upperdir=$scratch/etc,workdir=$scratch/etc-work" overlay /etc 2>/dev/null ||
		printf 'run: /etc cannot be covered here; tests with name servers of their own will fail\n' >&2
fi
for directory in /run/netns /etc/netns; do # others' are not ours to sweep, nor ours theirs
	mkdir -p "$directory"
	mount -t tmpfs tmpfs "$directory"
done
TMPDIR=$scratch "$python" -m pytest -n 4 --dist loadfile "$@" # more than processors: most tests wait
exit $?
