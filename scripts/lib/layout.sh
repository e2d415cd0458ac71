# shellcheck shell=sh
# Where an installed system looks for what.

DESTDIR=${DESTDIR-}
PREFIX=${PREFIX:-/usr/local}
case $DESTDIR$PREFIX in
*[!A-Za-z0-9/._+~-]*) fail 2 "DESTDIR and PREFIX may hold letters, digits and /._+~- only" ;;
esac
case ${DESTDIR:-/},$PREFIX in
/*,/*) ;;
*) fail 2 "DESTDIR and PREFIX are absolute paths" ;;
esac
DESTDIR=${DESTDIR%/}
PREFIX=${PREFIX%/}

bindir=$PREFIX/bin
libdir=$PREFIX/lib/salsa-agent
mandir=$PREFIX/share/man
docdir=$PREFIX/share/doc/salsa-agent
dbusdir=$PREFIX/share/dbus-1
bashdir=$PREFIX/share/bash-completion/completions
zshdir=${ZSHDIR:-$PREFIX/share/zsh/site-functions}
fishdir=$PREFIX/share/fish/vendor_completions.d
unitdir=$PREFIX/lib/systemd/system
sysusersdir=$PREFIX/lib/sysusers.d
manifest=$libdir/manifest

# D-Bus reads policies, and NetworkManager its scripts, below /usr and /etc, but not below /usr/local
case $PREFIX in
/usr)
	policydir=/usr/share/dbus-1/system.d
	dispatcherdir=/usr/lib/NetworkManager/dispatcher.d
	;;
/usr/local)
	policydir=/etc/dbus-1/system.d
	dispatcherdir=/etc/NetworkManager/dispatcher.d
	;;
*)
	policydir=$PREFIX/etc/dbus-1/system.d
	dispatcherdir=$PREFIX/etc/NetworkManager/dispatcher.d
	;;
esac

# is it this running system that is installed to?
live() {
	[ -z "$DESTDIR" ] && is_root && [ -d /run/systemd/system ] && { [ "$PREFIX" = /usr ] || [ "$PREFIX" = /usr/local ]; }
}

# have systemd and the message bus read their files again
tell_system() {
	systemctl daemon-reload
	busctl --quiet call org.freedesktop.DBus /org/freedesktop/DBus org.freedesktop.DBus ReloadConfig || :
}
