# shellcheck shell=sh
# Puts the program's files below $DESTDIR, and takes them away again by the list it wrote.

# directory PATH: made with its parents where missing; those made are in the manifest, to be removed with it
directory() {
	[ ! -d "$DESTDIR$1" ] || return 0
	directory "$(dirname "$1")"
	printf '%s/\n' "$1" >>"$list"
	mkdir -m 755 "$DESTDIR$1"
}

# put MODE SOURCE PATH: one file
put() {
	directory "$(dirname "$3")"
	printf '%s\n' "$3" >>"$list"
	rm -f "$DESTDIR$3"
	install -m "$1" "$2" "$DESTDIR$3"
}

# put_text MODE PATH: one file from standard input
put_text() {
	cat >"$work/text"
	put "$1" "$work/text" "$2"
}

# put_tree SOURCE PATH: all files below a directory
put_tree() {
	(cd "$1" && find . -type f) | sed 's,^\./,,' | sort >"$work/files"
	while IFS= read -r file; do
		put 644 "$1/$file" "$2/$file"
	done <"$work/files"
}

# prepare: what can fail, before anything is touched
prepare() {
	umask 022
	temporary
	list=$work/manifest
	: >"$list"
	find_system_python
	gather "$work/lib"
	need_wanted
	find_system_python
}

# All that is made is in the manifest first, so that what a full disk or a signal left half done can be uninstalled.
place() {
	mkdir -p "$DESTDIR/"
	directory "$libdir"
	install -m 644 "$list" "$DESTDIR$manifest"
	list=$DESTDIR$manifest
	put_tree "$work/lib" "$libdir"
	launcher agent | put_text 755 "$bindir/salsa-agent"
	launcher salsactl.main | put_text 755 "$bindir/salsactl"
	for page in man/*.[1-8]; do
		gzip -9nc "$page" | put_text 644 "$mandir/man${page##*.}/${page#man/}.gz"
	done
	for file in completions/*; do
		name=${file#completions/}
		case $name in
		*.bash) put 644 "$file" "$bashdir/${name%.bash}" ;;
		*.fish) put 644 "$file" "$fishdir/$name" ;;
		_*) put 644 "$file" "$zshdir/$name" ;;
		esac
	done
	put 644 examples/salsa-agent.toml "$docdir/examples/salsa-agent.toml"
	for unit in salsa-agent.service salsa-metrics.service salsa-metrics.timer; do
		sed "s,/usr/bin/,$bindir/," "systemd/$unit" | put_text 644 "$unitdir/$unit"
	done
	put 644 systemd/salsa-agent.sysusers.conf "$sysusersdir/salsa-agent.conf"
	put 644 dbus/org.salsa.Agent1.conf "$policydir/org.salsa.Agent1.conf"
	put 644 dbus/org.salsa.Agent1.service "$dbusdir/system-services/org.salsa.Agent1.service"
	put 644 dbus/org.salsa.Agent1.xml "$dbusdir/interfaces/org.salsa.Agent1.xml"
	# without waiting (no-wait.d) NetworkManager runs only what is linked to from the directory above
	put 755 networkmanager/90-salsa-agent "$dispatcherdir/no-wait.d/90-salsa-agent"
	printf '%s\n' "$dispatcherdir/90-salsa-agent" >>"$list"
	ln -sfn no-wait.d/90-salsa-agent "$DESTDIR$dispatcherdir/90-salsa-agent"
	compile_all
}

# find_libraries: set `libraries` to the directory with the libraries that the program needs, as plain modules
find_libraries() {
	libraries=$cache/libraries-$(cksum <requirements/run.txt | tr ' ' -)
	[ -d "$libraries" ] || { ensure_venv && fetch "$libraries"; }
}

# gather DIRECTORY: the program and the libraries it needs, as plain modules, but for those that the system has
gather() {
	find_libraries
	copy "$libraries" "$1"
	for library in $SYSTEM_LIBRARIES; do
		case $library in
		dnspython) module=dns ;;
		*) module=$(printf '%s' "$library" | tr - _) ;;
		esac
		rm -r "${1:?}/$module" "${1:?}/$(printf '%s' "$library" | tr - _)"-*.dist-info
	done
	copy salsa_agent "$1/salsa_agent"
	find "$1" -depth -type d -name __pycache__ -exec rm -rf {} +
}

# fetch DIRECTORY: the libraries, plain Python only, so that they suit every machine and every Python from 3.11 on
fetch() {
	say "fetching the libraries"
	{ mkdir -p "$cache" && fetched=$(mktemp -d "$cache/fetched.XXXXXX"); } 2>/dev/null || fail 1 "$cache cannot be written to (read-only, or full?)"
	said=$(pip install --target "$fetched" --no-compile --only-binary :all: --platform any --implementation py --abi none \
		--python-version 3.11 --require-hashes --no-deps --requirement requirements/run.txt 2>&1) || {
		rm -rf "$fetched"
		fail 1 "the libraries could not be fetched: $(because_of_pip "$said" "$cache")"
	}
	# commands are made here; of a library's metadata its name, version and licence stay
	rm -rf "${fetched:?}/bin"
	find "$fetched" -path '*.dist-info/*' \( -name RECORD -o -name INSTALLER -o -name REQUESTED -o -name WHEEL \
		-o -name entry_points.txt -o -name top_level.txt -o -name direct_url.json \) -delete
	find "$fetched" -name '*.py' -exec sed -i '1s/^#!.*/#/' {} + # modules, not commands
	chmod 755 "$fetched"
	mv -T "$fetched" "$1" 2>/dev/null || rm -rf "$fetched" # another run was faster
}

# The installed program runs by a Python that every user can reach, hence not by one in a home directory.
find_system_python() {
	for python in ${PYTHON:+"$PYTHON"} /usr/bin/python3 /usr/local/bin/python3 /usr/bin/python3.11 /usr/bin/python3.12 \
		/usr/bin/python3.13 /usr/bin/python3.14; do
		! suits "$python" || return 0
	done
	python=/usr/bin/python3
	if have dpkg-query && [ -n "$(lacking python3)" ]; then
		wanted="${wanted-} python3" # with what else is missing
		return
	fi
	fail 1 "the installed program needs a Python from 3.11 to 3.14 as /usr/bin/python3, or named by PYTHON=/path/to/python3"
}

# launcher MODULE: a command; isolated (-I) and without site directories (-S), so that only these libraries count, and
# last of all those of the system, if any are to be used
launcher() {
	last=
	[ -z "$SYSTEM_LIBRARIES" ] || last=", \"$SYSTEM_DIRECTORY\""
	cat <<-END
		#!$python -IS
		import sys

		sys.path = ["$libdir", *sys.path$last]
		from salsa_agent.cli.$1 import main

		sys.exit(main())
	END
}

# Compiled now, as the agent may not write there. A package compiles at its installation instead: NO_COMPILE=1.
# Without the times of the sources: the layers of an image, and other copies, round them, and what then seems out of date
# would be compiled at each start.
compile_all() {
	[ -z "${NO_COMPILE-}" ] || return 0
	tag=$("$python" -IS -c 'import sys; print(sys.implementation.cache_tag)')
	sed -n "s,^\($libdir/.*\)/\([^/]*\)\.py\$,\1/__pycache__/\2.$tag.pyc,p" "$list" >"$work/compiled"
	{ cat "$work/compiled" && sed 's,[^/]*$,,' "$work/compiled" | sort -u; } >>"$list"
	"$python" -IS -m compileall -q --invalidation-mode unchecked-hash -s "$DESTDIR" -p / "$DESTDIR$libdir"
}

# Remove the files of the manifest, then the directories that it says were made here, if nothing else is in them.
remove_installed() {
	entries=$(mktemp)
	# a path with .. leads out of where it seems to be: this script wrote none; a last line without an end is half a path
	[ -z "$(tail -c 1 "$DESTDIR$manifest")" ] || sed -i '$d' "$DESTDIR$manifest"
	sed -n '/\/\.\.\//d; /^\//p' "$DESTDIR$manifest" >"$entries"
	printf '%s\n' "$manifest" >>"$entries" # the last, or what is left of an interrupted removal could not be removed
	grep -v '/$' "$entries" | while IFS= read -r path; do
		rm -f "$DESTDIR$path"
	done
	grep '/$' "$entries" | sort -r | while IFS= read -r path; do
		rmdir "$DESTDIR$path" 2>/dev/null || :
	done
	rm -f "$entries"
}
