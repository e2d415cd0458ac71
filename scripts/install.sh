# shellcheck shell=sh
# install the program for the whole system: [DESTDIR=…] [PREFIX=/usr/local] ./run install

. scripts/lib/layout.sh
. scripts/lib/stage.sh

[ -n "$DESTDIR" ] || is_root || [ -w "$PREFIX" ] || fail 1 "$PREFIX is not yours to write; type: sudo ./run install"
prepare
if [ -f "$DESTDIR$manifest" ]; then
	say "removing the version that is installed"
	remove_installed
fi
place
if live; then
	systemd-sysusers "$sysusersdir/salsa-agent.conf"
	tell_system
	say "installed; to start it now and with the machine, type: systemctl enable --now salsa-agent"
elif [ -z "$DESTDIR" ]; then
	say "installed below $PREFIX; systemd, D-Bus and NetworkManager look for their files below /usr, /usr/local and /etc"
fi
