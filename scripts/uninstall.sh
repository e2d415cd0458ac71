# shellcheck shell=sh
# remove what ./run install installed, and nothing else (same DESTDIR and PREFIX)

. scripts/lib/layout.sh
. scripts/lib/stage.sh

[ -f "$DESTDIR$manifest" ] || fail 1 "nothing is installed: there is no $DESTDIR$manifest"
[ -w "$DESTDIR$manifest" ] || fail 1 "$DESTDIR$manifest is not yours to remove; $(as_root ./run uninstall)"
enabled=
if live && packaged; then
	# the Debian package came later: user and units are its own, and go on from its files
	for unit in salsa-agent.service salsa-metrics.timer; do
		! systemctl --quiet is-enabled $unit || enabled="$enabled $unit"
	done
elif live; then
	systemctl --quiet disable --now salsa-agent.service salsa-metrics.timer 2>/dev/null || :
fi
remove_installed
if live && packaged; then
	tell_system
	# shellcheck disable=SC2086
	[ -z "$enabled" ] || systemctl --quiet reenable $enabled
	systemctl try-restart salsa-agent.service
	say "removed; the Debian package salsa-agent keeps its user and its service"
elif live; then
	tell_system
	# as systemd-sysusers made it; any other account of that name is somebody's own
	case $(getent passwd salsa-agent) in
	'salsa-agent:'*':Mail relay finder:/:'*)
		userdel salsa-agent || say "the user salsa-agent is left; to remove it, type: userdel salsa-agent"
		;;
	esac
fi
