# shellcheck shell=sh
# install the program for the whole system: [DESTDIR=…] [PREFIX=/usr/local] ./run install

. scripts/lib/layout.sh
. scripts/lib/stage.sh

writable "${DESTDIR:-$PREFIX}" || fail 1 "${DESTDIR:-$PREFIX} is not yours to write; $(as_root ./run install)"
! packaged || fail 1 "the Debian package salsa-agent has its unit, policy and user here; remove it first: apt-get purge salsa-agent"
prepare
if [ -f "$DESTDIR$manifest" ]; then
	say "removing the version that is installed"
	remove_installed
fi
place
if live; then
	systemd-sysusers "$sysusersdir/salsa-agent.conf"
	tell_system
	if systemctl --quiet is-active salsa-agent.service; then
		systemctl restart salsa-agent.service || fail 1 "installed, but the agent that ran does not start again; see: journalctl -u salsa-agent"
		say "installed; the agent that ran was started again, as this version"
	else
		say "installed; to start it now and with the machine, type: systemctl enable --now salsa-agent"
	fi
elif [ -z "$DESTDIR" ] && is_root && [ ! -d /run/systemd/system ]; then
	say "installed below $PREFIX; systemd does not run here: start $bindir/salsa-agent by what does, as a user without privileges"
elif [ -z "$DESTDIR" ]; then
	say "installed below $PREFIX; systemd, D-Bus and NetworkManager look for their files below /usr, /usr/local and /etc"
fi
