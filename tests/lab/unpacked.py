"""Programs that exclude each other, mail transfer agents above all: unpacked, and laid over this machine's files.

`./run tests` unpacks the packages of scripts/test-packages-unpacked. One of them is put in place by overlays of /etc,
/usr and /var in a mount namespace; what it changes there, and its processes, are gone when the block ends. /run is
empty.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pytest

from tests.lab.bus import PROJECT
from tests.lab.needs import Need, require
from tests.lab.netns import Netns
from tests.lab.whole import until

CACHE = PROJECT / os.environ.get("SALSA_CACHE", "build") / "unpacked"

# sh -c, arguments: scratch directory; the package's files; then pairs: a directory, the path where it is to be seen
_INNER = r"""
set -e
work=$1 package=$2
shift 2
mount --make-rprivate /
mount -t tmpfs -o mode=755 tmpfs "$work"
mkdir "$work/package"
mount --bind "$package" "$work/package"
cp /etc/resolv.conf "$work"
for directory in etc usr var; do
    upper=$work/$directory/upper scratch=$work/$directory/work lower=/$directory
    mkdir -p "$upper" "$scratch"
    [ ! -d "$work/package$lower" ] || lower=$work/package$lower:$lower
    mount -t overlay -o lowerdir="$lower",upperdir="$upper",workdir="$scratch" overlay "/$directory"
done
cp --remove-destination "$work/resolv.conf" /etc/resolv.conf
mount -t tmpfs -o mode=755 tmpfs /run
while [ $# -gt 0 ]; do
    mkdir -p "$2"
    mount --bind "$1" "$2"
    shift 2
done
touch "$work/ready"
sleep infinity &
wait # as PID 1, it also reaps what daemons leave
"""


class Unpacked:
    """`with` it the package is in place, for what is started by `run` or with `argv`, in the namespace `space`.

    `users`: names of users to add, each with a group of its own. `shared`: directories, by the path where they show.
    """

    def __init__(
        self, space: Netns, package: str, *, users: Sequence[str] = (), shared: Mapping[str, Path] | None = None
    ) -> None:
        self._space, self._package, self._users = space, CACHE / package, users
        self._shared = dict(shared or {})
        self._pid = 0

    def __enter__(self) -> Self:
        require(Need.NAMESPACES, Need.USERS)
        if not self._package.is_dir():
            pytest.skip(f"needs programs: {self._package.name} is not unpacked; ./run tests does that as root")
        self._work = Path(tempfile.mkdtemp(prefix="salsa-unpacked-"))
        self._work.chmod(0o755)
        try:
            pairs = [str(word) for path, directory in self._shared.items() for word in (directory, path)]
            self._process = self._space.exec(
                ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc",
                 "sh", "-c", _INNER, "sh", str(self._work), str(self._package), *pairs],
                stdin=subprocess.DEVNULL,
            )  # fmt: skip
            children = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children")
            self._pid = int(until(children.read_text, bool))
            until(Path(f"/proc/{self._pid}/root{self._work}/ready").exists, bool)
            for number, user in enumerate(self._users, 64900):
                with self.path("/etc/passwd").open("a") as passwd, self.path("/etc/group").open("a") as group:
                    passwd.write(f"{user}:x:{number}:{number}::/nonexistent:/usr/sbin/nologin\n")
                    group.write(f"{user}:x:{number}:\n")
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """End all that runs inside. Twice does no harm."""
        self._process.kill()
        self._process.wait()
        shutil.rmtree(self._work, ignore_errors=True)

    def path(self, path: str) -> Path:
        """Where this absolute path of the inside is found from outside."""
        return Path(f"/proc/{self._pid}/root{path}")

    def write(self, path: str, text: str, mode: int = 0o644) -> None:
        """A file inside, owned by root."""
        file = self.path(path)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        file.chmod(mode)

    def argv(self, *argv: str) -> list[str]:
        """This command, to be run inside, from the directory of the project."""
        return ["nsenter", "--target", str(self._pid), "--mount", "--pid", "--net", f"--wd={PROJECT}", "--", *argv]

    def run(self, *argv: str, check: bool = True, **kwargs: Any) -> subprocess.CompletedProcess[str]:
        """Run a command inside to its end. Raises AssertionError if it fails, unless `check` is false."""
        done = subprocess.run(self.argv(*argv), check=False, capture_output=True, text=True, timeout=30, **kwargs)
        assert not (check and done.returncode), f"{argv}: status {done.returncode}: {done.stdout}{done.stderr}"
        return done
