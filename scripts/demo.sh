# shellcheck shell=sh
# tell in a minute what the agent does, with the agent itself in networks of its own: ./run demo [--fast]

lack dbus-daemon dbus-daemon
lack ip iproute2
ensure_venv

# works OPTION…: can a program have a network of its own that way?
works() {
	unshare "$@" ip link set lo up 2>/dev/null
}

# off FILE VALUE: does the kernel have this setting, at this value?
off() {
	[ "$(cat "/proc/sys/$1" 2>/dev/null)" = "$2" ]
}

if works --user --map-root-user --net; then
	exec unshare --user --map-root-user --net "$venv/bin/python" -m demo "$@"
elif is_root && works --net; then # where even root may have no user namespaces
	exec unshare --net "$venv/bin/python" -m demo "$@"
fi

say "run: the demo needs user and network namespaces of its own, and may not have them here."
advice=
if off kernel/apparmor_restrict_unprivileged_userns 1; then
	say "AppArmor keeps them from ordinary users. To allow them until the next start:"
	say "  sudo sysctl kernel.apparmor_restrict_unprivileged_userns=0"
	advice=given
fi
if off kernel/unprivileged_userns_clone 0; then
	say "The kernel keeps them from ordinary users. To allow them until the next start:"
	say "  sudo sysctl kernel.unprivileged_userns_clone=1"
	advice=given
fi
if off user/max_user_namespaces 0; then
	say "The kernel allows none of them. To allow them until the next start:"
	say "  sudo sysctl user.max_user_namespaces=10000"
	advice=given
fi
[ -n "$advice" ] || say "No setting known here does that; a container may: of Docker, start it with --privileged."
say "Or run it as root, which needs no user namespace: sudo ./run demo"
exit 1
