# shellcheck shell=sh
# Debian packages, installed so that the machine works as before: no service is started or enabled, and its name
# servers stay (systemd-resolved's package points resolv.conf at itself, which cuts the machine off).

saved_resolv=/etc/resolv.conf.salsa-saved
policy=/usr/sbin/policy-rc.d

# lacking PACKAGE…: those that are not installed, each after a space
lacking() {
	for package; do
		case $(dpkg-query -W -f='${db:Status-Status}' "$package" 2>/dev/null) in
		installed) ;;
		*) printf ' %s' "$package" ;;
		esac
	done
}

# need PACKAGE…: see to it that these are installed, or name the command that does it, and end
need() {
	have dpkg-query || {
		say "run: this is no Debian system; it is up to you that the counterparts of these packages are there: $*"
		return
	}
	missing=$(lacking "$@")
	[ -n "$missing" ] || return 0
	command="apt-get install --no-install-recommends$missing"
	is_root || fail 1 "packages are missing; type: sudo $command"
	say "installing$missing"
	# in a shell of its own: its traps put everything back, however it ends
	(quiet_apt "$missing") || fail 1 "the packages could not be installed; see for yourself: $command"
}

# quiet_apt "PACKAGE…": the installation itself
quiet_apt() {
	trap undo EXIT
	trap 'exit 130' HUP INT TERM
	undo # what a killed run left
	cp -dp /etc/resolv.conf "$saved_resolv" 2>/dev/null || :
	if [ ! -e $policy ]; then
		printf '#!/bin/sh\n# salsa-agent: for the time of an installation, start no service\nexit 101\n' >$policy
		chmod 755 $policy
	fi
	# masked first, so that even a run that is killed leaves no service that starts with the machine
	units=$(units_of "$1")
	# shellcheck disable=SC2086
	[ -z "$units" ] || ! have systemctl || systemctl --quiet mask $units
	export DEBIAN_FRONTEND=noninteractive
	apt="apt-get -qq -o DPkg::Lock::Timeout=300 -o Dpkg::Use-Pty=0"
	# shellcheck disable=SC2086
	$apt install -y --no-install-recommends $1 </dev/null >/dev/null 2>&1 || {
		$apt update </dev/null
		$apt install -y --no-install-recommends $1 </dev/null >/dev/null
	}
	if [ -n "$units" ] && have systemctl; then
		# shellcheck disable=SC2086
		systemctl --quiet unmask $units
		for unit in $units; do
			systemctl --quiet disable "$unit" >/dev/null 2>&1 || :
		done
	fi
}

# the services that come with some of these packages, by scripts/test-packages
units_of() {
	for package in $1; do
		sed -n "s/^$package  *units=\([^ ]*\).*/\1/p" scripts/test-packages | tr ',\n' '  '
	done
}

undo() {
	if [ -e "$saved_resolv" ] || [ -L "$saved_resolv" ]; then
		mv -fT "$saved_resolv" /etc/resolv.conf
	fi
	if grep -q '^# salsa-agent: ' $policy 2>/dev/null; then
		rm -f $policy
	fi
}
