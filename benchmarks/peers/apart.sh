# shellcheck shell=sh
# For daemons that are run in the mount namespace of a lab's process: they see and write files of their own.

# apart DIRECTORY: an empty /run but for the lab's DIRECTORY, which is below it; no udev, as in a container
apart() {
	mkdir "$1/run"
	mount -n -t tmpfs -o mode=755 tmpfs "$1/run"
	mkdir "$1/run/${1##*/}"
	mount -n --bind "$1" "$1/run/${1##*/}"
	mount -n --move "$1/run" /run
	mount -n -o remount,bind,ro /sys
}

# hide DIRECTORY…: empty ones in their places
hide() {
	for hidden; do
		[ ! -d "$hidden" ] || mount -n -t tmpfs -o mode=755 tmpfs "$hidden"
	done
}
