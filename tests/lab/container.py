"""Containers: the image of examples/Containerfile, built by buildah on a Debian made by mmdebstrap, and run bare.

No registry is asked: what `debian:bookworm-slim` names is mmdebstrap's Debian, whose archive is kept below build/.
"""

from __future__ import annotations

import fcntl
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.lab.bus import PROJECT
from tests.lab.needs import Need, require
from tests.lab.netns import Netns

CONTAINERFILE = PROJECT / "examples" / "Containerfile"
CACHE = PROJECT / os.environ.get("SALSA_CACHE", "build")
SUITE = "bookworm"
BASE = f"localhost/debian:{SUITE}-slim"
SLOW = 300.0  # seconds that Debian's mirror may take
QUICK = 60.0

# sh -c, arguments: root of the image, ro or rw, a resolv.conf, a directory that is seen as /work or nothing; a command.
# There is /proc, and of /dev only null. What is written is gone at the end.
_CONTAINER = r"""
set -e
root=$1 mode=$2 resolver=$3 work=$4
shift 4
mount --make-rprivate /
top=$(mktemp -d /tmp/salsa-container.XXXXXX)
mount -t tmpfs -o mode=755 tmpfs "$top"
mkdir "$top/upper" "$top/scratch" "$top/root"
chmod 755 "$top/upper"
mount -t overlay -o lowerdir="$root",upperdir="$top/upper",workdir="$top/scratch" overlay "$top/root"
cd "$top/root"
cp "$resolver" etc/resolv.conf
mkdir -p work .old
[ -z "$work" ] || mount --bind "$work" work
mount -t proc proc proc
touch dev/null
mount --bind /dev/null dev/null
[ "$mode" = rw ] || mount -o remount,bind,ro "$top/root"
pivot_root . .old
cd /
umount -l .old
exec "$@"
"""


def base() -> Path:
    """The archive of a minimal Debian with Python. Made where it is not there yet, which takes a minute."""
    require(Need.BOOT)  # root of the machine
    archive = CACHE / f"debian-{SUITE}.tar"
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / "debian.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not archive.exists():
            new = archive.with_suffix(".new.tar")
            lean = [f"--dpkgopt=path-exclude=/usr/share/{name}/*" for name in ("doc", "locale", "man")]
            run("mmdebstrap", "--quiet", "--variant=minbase", "--include=python3", *lean, SUITE, str(new))
            new.rename(archive)
    return archive


def run(*argv: str, cwd: Path = PROJECT, timeout: float = SLOW, **environment: str) -> str:
    """Run a command to its end; what it printed. Raises AssertionError with all of that if it fails."""
    done = subprocess.run(
        argv, cwd=cwd, check=False, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL,
        text=True, timeout=timeout, env={**os.environ, **environment},
    )  # fmt: skip
    assert done.returncode == 0, f"{' '.join(argv)}: status {done.returncode}: {done.stdout[-3000:]}"
    return done.stdout


def context(directory: Path) -> Path:
    """A copy of the project as a checkout has it, and of the libraries where they are at hand."""
    listed = ["git", "-c", "safe.directory=*", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    for name in filter(None, subprocess.run(listed, cwd=PROJECT, capture_output=True, text=True).stdout.split("\0")):
        if (PROJECT / name).is_file():
            (directory / name).parent.mkdir(parents=True, exist_ok=True)
            (directory / name).write_bytes((PROJECT / name).read_bytes())
            (directory / name).chmod((PROJECT / name).stat().st_mode & 0o777)
    (directory / "build").mkdir()
    for libraries in CACHE.glob("libraries-*"):
        run("cp", "-R", str(libraries), str(directory / "build"))
    return directory


@contextmanager
def image(directory: Path) -> Iterator[Path]:
    """The root of the image of examples/Containerfile, built in this directory by the command of its comment."""
    storage = ["--root", f"{directory}/storage", "--runroot", f"{directory}/run", "--storage-driver", "vfs"]

    def buildah(*argv: str, cwd: Path = directory) -> str:
        return run("buildah", *storage, *argv, cwd=cwd, BUILDAH_ISOLATION="chroot").strip()

    empty = buildah("from", "scratch")
    buildah("add", "--quiet", empty, str(base()), "/")
    buildah("commit", "--quiet", "--rm", empty, BASE)
    found = re.search(r"podman build (.+)", CONTAINERFILE.read_text())
    assert found
    # Debian 13's would raise them, which its isolation by chroot may not; to lower them anybody may
    bud = ["bud", "--pull-never", "--ulimit=nofile=1024:16384", "--ulimit=nproc=16384:16384"]
    buildah(*bud, *found[1].split(), cwd=context(directory / "context"))
    made = buildah("from", "--pull-never", "localhost/salsactl")
    yield Path(buildah("mount", made))
    buildah("umount", made)


def inside(
    space: Netns,
    root: Path,
    script: str,
    *,
    resolver: Path,
    read_only: bool = True,
    user: int = 65534,
    work: Path | None = None,
) -> subprocess.CompletedProcess[str]:
    """Run a shell script as PID 1 of a container in this network namespace. It ends with its last exit command."""
    who = [] if user == 0 else ["setpriv", f"--reuid={user}", f"--regid={user}", "--clear-groups"]
    return subprocess.run(
        ["ip", "netns", "exec", space.name, "unshare", "--mount", "--pid", "--fork", "--kill-child", "--uts", "--ipc",
         "sh", "-c", _CONTAINER, "sh", str(root), "ro" if read_only else "rw", str(resolver), str(work or ""),
         *who, "env", "-i", "PATH=/usr/bin:/bin", "/bin/sh", "-c", f"{script}\nexit $?"],
        check=False, capture_output=True, text=True, timeout=QUICK, stdin=subprocess.DEVNULL,
    )  # fmt: skip


def libraries_of(*files: Path) -> set[str]:
    """The shared libraries that these programs and modules load, and the loader, by their paths."""
    said = subprocess.run(["ldd", *files], check=True, capture_output=True, text=True, timeout=QUICK).stdout
    return set(re.findall(r"(/\S+) \(0x", said))


def minimal(root: Path, program: Path) -> None:
    """A root as an initramfs has it: Python, its standard library, what those load, and the program below `program`.

    No shell, no users, no /proc, no /dev, no /etc but what the test puts there.
    """
    version = f"python{sys.version_info[0]}.{sys.version_info[1]}"
    interpreter, standard = Path("/usr/bin", version).resolve(), Path("/usr/lib", version)
    (root / "usr/bin").mkdir(parents=True)
    run("cp", str(interpreter), str(root / "usr/bin/python3"))
    run("mkdir", "-p", str(root / "usr/lib"))
    run("cp", "-R", str(standard), str(root / "usr/lib"))
    run("cp", "-R", str(program / "usr/lib/salsa-agent"), str(root / "usr/lib"))
    run("cp", str(program / "usr/bin/salsactl"), str(root / "usr/bin"))
    for library in libraries_of(interpreter, *standard.glob("lib-dynload/*.so")):
        (root / library.lstrip("/")).parent.mkdir(parents=True, exist_ok=True)
        run("cp", "-L", library, str(root / library.lstrip("/")))
