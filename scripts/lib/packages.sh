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

# lack PROGRAM PACKAGE: if there is no such program, its package is wanted
lack() {
	have "$1" || wanted="${wanted-} $2"
}

# old_lists: are apt's lists of packages missing, or older than a day?
old_lists() {
	! ls /var/lib/apt/lists/*Packages* >/dev/null 2>&1 || [ -z "$(find /var/lib/apt/lists/partial -maxdepth 0 -mtime -1 2>/dev/null)" ]
}

# installing " PACKAGE…": the command that installs them
installing() {
	! old_lists || printf 'apt-get update && '
	printf 'apt-get install --no-install-recommends%s' "$1"
}

# need PACKAGE…: see to it that these are installed, or name the command that does it, and end
need() {
	have dpkg-query || {
		say "run: this is no Debian system; it is up to you that the counterparts of these packages are there: $*"
		return
	}
	missing=$(lacking "$@")
	[ -n "$missing" ] || return 0
	command=$(installing "$missing")
	is_root || fail 1 "packages are missing; $(as_root "$command")"
	say "installing$missing"
	# in a shell of its own: its traps put everything back, however it ends
	said=$(quiet_apt "$missing" 2>&1) || fail 1 "the packages could not be installed: $(because "$said"); see for yourself: $command"
}

# need_what_there_is PACKAGE…: the same for those that this release has; the others are named
need_what_there_is() {
	if ! have apt-cache || ! have dpkg-query || ! is_root; then
		need "$@"
		return
	fi
	[ -n "$(lacking "$@")" ] || return 0
	! old_lists || apt-get -qq -o DPkg::Lock::Timeout=300 update </dev/null >/dev/null 2>&1 || :
	# shellcheck disable=SC2046
	there=$(obtainable $(lacking "$@"))
	# shellcheck disable=SC2086
	[ -z "$there" ] || need $there
}

# obtainable PACKAGE…: those that this release has, each after a space; the others are named
obtainable() {
	# asked for all at once: in Debian's container images apt keeps no index, and makes it for each question
	known=$(apt-cache show "$@" 2>/dev/null | sed -n 's/^Package: //p')
	for package; do
		if printf '%s\n' "$known" | grep -qxF "$package"; then
			printf ' %s' "$package"
		else
			say "run: this release has no package $package; tests that need it cannot run"
		fi
	done
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
	installed=0
	# shellcheck disable=SC2086
	$apt install -y --no-install-recommends $1 </dev/null >/dev/null 2>&1 || {
		$apt update </dev/null || : # one source of several may be out of reach
		$apt install -y --no-install-recommends $1 </dev/null >/dev/null || installed=1
	}
	if [ -n "$units" ] && have systemctl; then
		# shellcheck disable=SC2086
		systemctl --quiet unmask $units
		for unit in $units; do
			systemctl --quiet disable "$unit" >/dev/null 2>&1 || :
		done
	fi
	return $installed
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
