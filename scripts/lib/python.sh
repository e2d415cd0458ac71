# shellcheck shell=sh
# The project's own virtual environment.

# is it a Python that the agent runs on?
suits() {
	"$1" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 15))' >/dev/null 2>&1
}

# can it make a virtual environment? (Debian keeps that in a package of its own)
makes_venvs() {
	"$1" -c 'import ensurepip, venv' >/dev/null 2>&1
}

# find_python: set `python` to a Python >= 3.11 that can make virtual environments, the system's own first
find_python() {
	found=
	for python in ${PYTHON:+"$PYTHON"} /usr/bin/python3 python3 python3.11 python3.12 python3.13 python3.14; do
		suits "$python" || continue
		! makes_venvs "$python" || return 0
		found=${found:-$python}
	done
	if [ -n "$found" ] && have dpkg-query; then
		wanted="${wanted-} python$("$found" -c 'import sys; print("%d.%d" % sys.version_info[:2])')-venv"
	elif have dpkg-query; then
		wanted="${wanted-} python3-venv"
	fi
	need_wanted
	for python in ${found:+"$found"} /usr/bin/python3; do
		! { suits "$python" && makes_venvs "$python"; } || return 0
	done
	fail 1 "no Python from 3.11 to 3.14 with the venv module was found; install one, or name it: PYTHON=/path/to/python3 ./run"
}

# need_wanted: install, or name in one command, what was found to be missing so far
need_wanted() {
	# shellcheck disable=SC2086
	[ -z "${wanted-}" ] || need $wanted
	wanted=
}

# ensure_venv [EXTRA]: the virtual environment stands and has what pyproject.toml names now.
# One that SALSA_VENV names is taken as it is; with SALSA_PYTHON it is another one, of this interpreter.
# What `lack` noted is installed first, and named in one command with what the environment itself takes.
ensure_venv() {
	if [ -n "${SALSA_VENV-}" ]; then
		suits "$venv/bin/python" ||
			fail 1 "SALSA_VENV: $SALSA_VENV is no virtual environment of a Python from 3.11 to 3.14 whose programs can be run"
		need_wanted
		return
	fi
	suffix=
	lock=requirements/${1:-run}.txt
	if [ -n "${SALSA_PYTHON-}" ]; then
		{ suits "$SALSA_PYTHON" && makes_venvs "$SALSA_PYTHON"; } ||
			fail 1 "SALSA_PYTHON: $SALSA_PYTHON is no Python from 3.11 to 3.14 with the venv module"
		PYTHON=$SALSA_PYTHON
		suffix=-$("$PYTHON" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
	fi
	[ -z "$suffix" ] || venv=$cache/venv$suffix
	stamp="$venv/salsa-${1:-run}"
	hashes=$(cksum <"$lock")
	[ ! -x "$venv/bin/python" ] || "$venv/bin/python" -c '' 2>/dev/null || rm -rf "$venv" # its Python is gone
	if [ "$(cat "$stamp" 2>/dev/null)" = "$hashes" ] && [ -x "$venv/bin/salsa-agent" ]; then
		need_wanted
		return 0
	fi
	if [ -e "$venv" ] && [ ! -w "$venv" ] && ! is_root; then
		fail 1 "$venv is not yours to write, and is not complete; remove it as its owner ($(stat -c %U "$venv"))"
	fi
	if [ ! -e "$venv/bin/pip" ]; then
		find_python
		need_wanted
		say "making a virtual environment in $venv with $python ($("$python" -V))"
		said=$("$python" -m venv --clear "$venv" 2>&1) || fail 1 "the virtual environment could not be made in $venv: $(because "$said" "$venv")"
	fi
	[ -x "$venv/bin/pip" ] || fail 1 "no program can be run from $venv (noexec?); put the project on a file system that allows it"
	need_wanted
	say "installing the libraries of $lock into $venv"
	# of the very files that the lock names by their hashes, and as they come: nothing is built here
	said=$(pip install --require-hashes --no-deps --only-binary :all: --requirement "$lock" 2>&1) ||
		fail 1 "the libraries could not be installed: $(because_of_pip "$said" "$venv")"
	link_project
	printf '%s\n' "$hashes" >"$stamp"
}

# because_of_pip TEXT DIRECTORY: why pip failed, which installs to a directory
because_of_pip() {
	reason=$(because "$1" "$2")
	case $reason in
	'the disk '* | 'the file system '*) printf '%s' "$reason" ;;
	*) printf '%s; is the Python package index within reach?' "$reason" ;;
	esac
}

# ensure_fleet: Ansible and its judge, in a virtual environment of their own below $cache
ensure_fleet() {
	fleet_lock=requirements/fleet.txt
	fleet=$cache/fleet-$(cksum <"$fleet_lock" | tr ' ' -)
	[ ! -e "$fleet/complete" ] || return 0
	find_python
	say "installing the libraries of $fleet_lock into $fleet"
	said=$("$python" -m venv --clear "$fleet" 2>&1 && "$fleet/bin/python" -m pip -qq --disable-pip-version-check --no-input \
		install --require-hashes --no-deps --only-binary :all: --requirement "$fleet_lock" </dev/null 2>&1) ||
		fail 1 "the libraries of $fleet_lock could not be installed: $(because_of_pip "$said" "$fleet")"
	: >"$fleet/complete"
}

# link_project: the virtual environment runs the program from this directory
link_project() {
	site=$("$venv/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
	rm -rf "$site"/__editable__*salsa_agent* "$site"/salsa_agent-*.dist-info # of an earlier version of this script
	printf '%s\n' "$PWD" >"$site/salsa-agent.pth"
	for command in salsa-agent:agent salsactl:salsactl.main; do
		cat >"$venv/bin/${command%%:*}" <<-END
			#!/bin/sh
			exec "\$(dirname "\$(readlink -f "\$0")")/python" -P -m salsa_agent.cli.${command##*:} "\$@"
		END
		chmod 755 "$venv/bin/${command%%:*}"
	done
}

# pip ARGUMENTS, with a home of its own where there is none
pip() {
	(
		if [ ! -d "${HOME:-}" ] || [ ! -w "${HOME:-}" ]; then
			mkdir -p "$cache/home"
			HOME=$cache/home
			export HOME
		fi
		"$venv/bin/python" -m pip -qq --disable-pip-version-check --no-input "$@" </dev/null
	)
}
