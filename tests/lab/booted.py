"""A real systemd as PID 1 in namespaces of its own, on an overlay of this machine's root or of another tree.

What it changes stays in a tmpfs, and is gone when its block ends. It starts in half a second, with a message bus and
logind, and no network but `lo`. Needs root, cgroup2 and overlayfs.
"""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.lab.needs import Need, require
from tests.lab.netns import Netns

PATIENCE = 30.0

# sh -c, arguments: control group; the script below and its arguments
_OUTER = r"""
echo 0 >"$1/cgroup.procs"
shift
exec setpriv --pdeathsig KILL unshare --pid --fork --kill-child --mount --uts --ipc --net --cgroup \
    sh -c "$1" sh "$2" "$3" "$4" "$5"
"""

# sh -c, arguments: scratch directory; a directory whose files are laid over the root; the bus's service; the root
_INNER = r"""
set -e
mount --make-rprivate /
work=$1 root=$1/root
mount -t tmpfs -o mode=755 tmpfs "$work"
mkdir "$work/upper" "$work/work" "$root"
cp -a "$2/." "$work/upper/"
chmod 755 "$work/upper"
mount -t overlay -o lowerdir="$4",upperdir="$work/upper",workdir="$work/work" overlay "$root"
mount -t proc proc "$root/proc"
mount -t sysfs -o ro sysfs "$root/sys"
mount -t cgroup2 cgroup2 "$root/sys/fs/cgroup"
mount -t tmpfs -o mode=755 tmpfs "$root/run"
mount -t tmpfs -o mode=1777 tmpfs "$root/tmp"
mount -t tmpfs -o mode=755 tmpfs "$root/dev"
for device in null zero full random urandom tty; do
    touch "$root/dev/$device"
    mount --bind "/dev/$device" "$root/dev/$device"
done
mkdir "$root/dev/pts" "$root/dev/shm"
mount -t devpts -o newinstance,ptmxmode=0666 devpts "$root/dev/pts"
ln -s pts/ptmx "$root/dev/ptmx"
ln -s /proc/self/fd "$root/dev/fd"
[ -s "$root/etc/machine-id" ] || tr -d - </proc/sys/kernel/random/uuid >"$root/etc/machine-id"
# nothing that this machine has enabled starts here
find "$root/etc/systemd/system" -mindepth 1 -maxdepth 1 \( -name '*.wants' -o -name '*.requires' -o -name 'dbus*' \) \
    -exec rm -rf {} +
[ "$3" = dbus.service ] || ln -s "/lib/systemd/system/$3" "$root/etc/systemd/system/dbus.service"
cat >"$root/etc/systemd/system/lab.target" <<END
[Unit]
Description=What the tests boot to
Requires=basic.target
Wants=dbus.service systemd-logind.service
After=basic.target dbus.service systemd-logind.service
AllowIsolate=yes
END
cd "$root"
mkdir -p run/.old
pivot_root . run/.old
umount -l /run/.old
exec env -i container=lab PATH=/usr/sbin:/usr/bin:/sbin:/bin /lib/systemd/systemd --system --log-target=journal \
    --show-status=0 systemd.unit=lab.target </dev/null
"""


class Booted:
    """A machine that runs systemd, for the length of a `with` block.

    `files` is a directory laid over its root (`usr/bin/...`); `bus` is `dbus` or `dbus-broker`; `root` is another root
    than this machine's, such as a tree of tests.lab.trees.
    """

    def __init__(self, files: Path | None = None, bus: str = "dbus", root: Path = Path("/")) -> None:
        self._files = files
        self._root = root
        self._bus = bus
        self._cgroup = _cgroup2() / f"{os.environ.get('SALSA_RUN', 'salsa-lab')}-{secrets.token_hex(4)}"
        self._outer: subprocess.Popen[bytes] | None = None
        self._scratch = ""
        self.pid = 0  # of its PID 1, as seen from here

    def __enter__(self) -> Self:
        require(Need.BOOT)
        self._scratch = tempfile.mkdtemp(prefix="lab-", dir="/tmp" if "TMPDIR" not in os.environ else None)
        empty = Path(self._scratch, "empty")
        work = Path(self._scratch, "work")
        empty.mkdir(mode=0o755)
        work.mkdir()
        files = str(self._files or empty)
        self._cgroup.mkdir()
        try:
            self._outer = subprocess.Popen(
                ["sh", "-c", _OUTER, "sh", str(self._cgroup), _INNER, str(work), files, f"{self._bus}.service",
                 str(self._root)],
                start_new_session=True,
                stdin=subprocess.DEVNULL,
            )  # fmt: skip
            self.until(self._is_up, "systemd is up")
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """End everything inside at once: nothing in there is worth an orderly end. Twice does no harm."""
        if self._outer is not None:
            self._outer.kill()  # unshare --kill-child takes PID 1 with it, and that everything
            self._outer.wait()
            self._outer = None
        deadline = time.monotonic() + PATIENCE
        while self._cgroup.exists():
            try:
                for directory, _, _ in os.walk(self._cgroup, topdown=False):
                    os.rmdir(directory)
            except OSError:  # a process in it is not quite dead
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.02)
        shutil.rmtree(self._scratch, ignore_errors=True)

    def cable(self, link: str, far: Netns, far_link: str) -> None:
        """A cable to a network namespace, both ends up."""
        far.ip("link", "add", far_link, "type", "veth", "peer", "name", link, "netns", str(self.pid))
        far.ip("link", "set", far_link, "up")
        self.run("ip", "link", "set", link, "up")

    def run(self, *argv: str, check: bool = True, timeout: float = PATIENCE, input: str | None = None) -> str:
        """Run a program inside to its end; what it printed, errors included."""
        done = self.result(*argv, timeout=timeout, input=input)
        if check and done.returncode:
            raise AssertionError(f"{' '.join(argv)}: status {done.returncode}: {done.stdout}")
        return done.stdout

    def result(
        self, *argv: str, timeout: float = PATIENCE, input: str | None = None
    ) -> subprocess.CompletedProcess[str]:
        """The same, with its status."""
        return subprocess.run(
            ["timeout", "-k", "1", str(timeout), *self.enter, *argv],
            check=False,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL if input is None else None,
            input=input,
            text=True,
        )

    @property
    def enter(self) -> Sequence[str]:
        """The words before a command that is to run inside."""
        clean = ["env", "-i", "PATH=/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C.UTF-8"]
        return ["nsenter", "-t", str(self.pid), "-a", *clean]

    def until(self, condition: Callable[[], bool], what: str, patience: float = PATIENCE) -> None:
        """Wait for a condition; fails with the journal when it does not come."""
        deadline = time.monotonic() + patience
        while not condition():
            if time.monotonic() > deadline:
                journal = self.run("journalctl", "--no-pager", "-n", "60", check=False) if self.pid else ""
                raise AssertionError(f"it never came that {what}\n{journal}")
            time.sleep(0.03)

    def show(self, unit: str, name: str) -> str:
        """A property of a unit."""
        return self.run("systemctl", "show", "--value", "-p", name, unit).strip()

    def write(self, path: str, text: str) -> None:
        """Write a file inside."""
        self.run("sh", "-c", 'mkdir -p "$(dirname "$1")" && cat >"$1"', "sh", path, input=text)

    def journal(self, unit: str) -> str:
        """What a unit logged."""
        return self.run("journalctl", "--no-pager", "-o", "cat", "-u", unit)

    def _is_up(self) -> bool:
        assert self._outer is not None
        if self._outer.poll() is not None:
            raise AssertionError(f"systemd did not start: status {self._outer.returncode}")
        if not self.pid:
            children = Path(f"/proc/{self._outer.pid}/task/{self._outer.pid}/children").read_text().split()
            if not children or Path(f"/proc/{children[0]}/comm").read_text().strip() != "systemd":
                return False
            self.pid = int(children[0])
        state = self.result("systemctl", "is-system-running", timeout=5).stdout.strip()
        return state in ("running", "degraded")


def _cgroup2() -> Path:
    """Where the second version of control groups is mounted."""
    for line in Path("/proc/self/mounts").read_text().splitlines():
        _, where, kind, *_ = line.split()
        if kind == "cgroup2":
            return Path(where)
    raise RuntimeError("there is no cgroup2 mount: systemd cannot be booted")
