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
case $DESTDIR/:$PREFIX/ in
*/../*) fail 2 "DESTDIR and PREFIX are paths without .." ;;
esac
# for a distribution's package: which of the libraries the system has in a version that suffices, and where
SYSTEM_LIBRARIES=${SYSTEM_LIBRARIES-}
SYSTEM_DIRECTORY=${SYSTEM_DIRECTORY:-/usr/lib/python3/dist-packages}
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

# is the Debian package on this system, or what it left for its purge? Unit, policy and user are its own then.
packaged() {
	have dpkg-query && [ -z "$DESTDIR" ] || return 1
	case $PREFIX,$(dpkg-query -W -f='${db:Status-Status}' salsa-agent 2>/dev/null) in
	*, | *,not-installed) return 1 ;;
	/usr,* | /usr/local,*) return 0 ;;
	*) return 1 ;;
	esac
}

# may PATH be made or written to by this user?
writable() {
	nearest=$1
	while [ ! -e "$nearest" ]; do
		nearest=$(dirname "$nearest")
	done
	[ -d "$nearest" ] && [ -w "$nearest" ]
}

# have systemd and the message bus read their files again
tell_system() {
	systemctl daemon-reload
	busctl --quiet call org.freedesktop.DBus /org/freedesktop/DBus org.freedesktop.DBus ReloadConfig || :
}
