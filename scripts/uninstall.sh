# shellcheck shell=sh
# remove what ./run install installed, and nothing else (same DESTDIR and PREFIX)

. scripts/lib/layout.sh
. scripts/lib/stage.sh

[ -f "$DESTDIR$manifest" ] || fail 1 "nothing is installed: there is no $DESTDIR$manifest"
if live; then
	systemctl --quiet disable --now salsa-agent.service 2>/dev/null || :
fi
remove_installed
if live; then
	tell_system
	if id salsa-agent >/dev/null 2>&1; then
		userdel salsa-agent
	fi
fi
