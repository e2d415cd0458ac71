"""The files beside the program that systemd, D-Bus, NetworkManager, man and shells look for, from an installed wheel.

A wheel puts them below its environment's `share`, where nothing but man and completion would find them. Packages and
`./run install` place them themselves.
"""

from __future__ import annotations

import gzip
import os
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import NamedTuple

_SHARE = "share/salsa-agent/"
_HIDDEN_FROM_THE_UNIT = ("/home/", "/root/", "/run/user/")  # ProtectHome=yes of the unit


class OwnFile(NamedTuple):
    """One file: what it is called in the wheel, its place below the root directory, its mode."""

    source: str
    place: str
    mode: int = 0o644


# where systemd, D-Bus and the others look on a machine whose packages are in /usr
_PLACES = (
    OwnFile("salsa-agent.service", "usr/local/lib/systemd/system/salsa-agent.service"),
    OwnFile("salsa-metrics.service", "usr/local/lib/systemd/system/salsa-metrics.service"),
    OwnFile("salsa-metrics.timer", "usr/local/lib/systemd/system/salsa-metrics.timer"),
    OwnFile("salsa-agent.sysusers.conf", "usr/local/lib/sysusers.d/salsa-agent.conf"),
    OwnFile("org.salsa.Agent1.conf", "etc/dbus-1/system.d/org.salsa.Agent1.conf"),
    OwnFile("org.salsa.Agent1.service", "usr/local/share/dbus-1/system-services/org.salsa.Agent1.service"),
    OwnFile("org.salsa.Agent1.xml", "usr/local/share/dbus-1/interfaces/org.salsa.Agent1.xml"),
    OwnFile("90-salsa-agent", "etc/NetworkManager/dispatcher.d/no-wait.d/90-salsa-agent", 0o755),
    OwnFile("salsactl.1", "usr/local/share/man/man1/salsactl.1.gz"),
    OwnFile("salsa-agent.toml.5", "usr/local/share/man/man5/salsa-agent.toml.5.gz"),
    OwnFile("salsa-agent.8", "usr/local/share/man/man8/salsa-agent.8.gz"),
    OwnFile("salsactl.bash", "usr/local/share/bash-completion/completions/salsactl"),
    OwnFile("salsa-agent.bash", "usr/local/share/bash-completion/completions/salsa-agent"),
    OwnFile("_salsactl", "usr/local/share/zsh/site-functions/_salsactl"),
    OwnFile("_salsa-agent", "usr/local/share/zsh/site-functions/_salsa-agent"),
    OwnFile("salsactl.fish", "usr/local/share/fish/vendor_completions.d/salsactl.fish"),
    OwnFile("salsa-agent.fish", "usr/local/share/fish/vendor_completions.d/salsa-agent.fish"),
    OwnFile("salsa-agent.toml", "usr/local/share/doc/salsa-agent/examples/salsa-agent.toml"),
)
# without waiting (no-wait.d) NetworkManager runs only what is linked to from the directory above
_LINK = "etc/NetworkManager/dispatcher.d/90-salsa-agent", "no-wait.d/90-salsa-agent"
# of a package: nothing of its own is replaced or hidden
_PACKAGED = ("usr/lib/systemd/system/salsa-agent.service", "lib/systemd/system/salsa-agent.service")


class NotPlaced(Exception):
    """Nothing was placed; the message is one sentence that says why."""


def place(root: Path, programs: Path) -> Iterator[Path]:
    """Put the files below `root`, each in the place of one that is there; the paths, as they are written.

    `programs`: the directory of `salsa-agent` and `salsactl`, which the units are to start. Raises OSError, and
    NotPlaced before anything is written.
    """
    shipped = _shipped()
    for name in _PACKAGED:
        if (root / name).exists():
            raise NotPlaced(f"a package has its own files here ({root / name}); remove it first")
    for file in _PLACES:
        content = (shipped / file.source).read_bytes()
        if "/systemd/" in file.place:
            content = content.replace(b"/usr/bin/", os.fsencode(programs) + b"/")
        if file.place.endswith(".gz"):
            content = gzip.compress(content, mtime=0)
        yield _write(root / file.place, content, file.mode)
    link = root / _LINK[0]
    link.unlink(missing_ok=True)
    link.symlink_to(_LINK[1])
    yield link


def hidden_from_the_units(programs: Path) -> bool:
    """Whether the units, which see no home directories, could not start programs of this directory."""
    return f"{programs}/".startswith(_HIDDEN_FROM_THE_UNIT)


def _shipped() -> Path:
    """The directory that the wheel brought. Raises NotPlaced."""
    try:
        files = distribution("salsa-agent").files or []
    except PackageNotFoundError:
        files = []
    for file in files:
        if file.as_posix().endswith(f"{_SHARE}salsa-agent.service"):
            return Path(str(file.locate())).resolve().parent
    raise NotPlaced("this program was not installed by pip; a package, or ./run install, places these files itself")


def _write(path: Path, content: bytes, mode: int) -> Path:
    path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, mode), "wb") as file:
        os.fchmod(file.fileno(), mode)
        file.write(content)
    return path
