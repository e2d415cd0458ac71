"""`distributions.py TREE DIRECTORY`: wheel and source distribution of the tree, the same bytes for the same tree.

The build backend sets the times in a wheel by SOURCE_DATE_EPOCH, but not those in a source distribution, nor its owners
and modes.
"""

from __future__ import annotations

import gzip
import io
import os
import sys
import tarfile
from pathlib import Path


def main(tree: Path, to: Path) -> None:
    """Build both into `to`."""
    from setuptools import build_meta

    to = to.resolve()
    os.chdir(tree)
    build_meta.build_wheel(str(to))
    archive = to / build_meta.build_sdist(str(to))
    archive.write_bytes(normalized(archive.read_bytes(), int(os.environ["SOURCE_DATE_EPOCH"])))


def normalized(archive: bytes, when: int) -> bytes:
    """The archive with all that depends on who builds it, and when, made the same. `when`: seconds since 1970."""
    made = io.BytesIO()
    with (
        tarfile.open(fileobj=io.BytesIO(archive)) as old,
        gzip.GzipFile(fileobj=made, mode="wb", filename="", mtime=when) as packed,
        tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as new,
    ):
        for member in sorted(old.getmembers(), key=lambda member: member.name):
            plain = tarfile.TarInfo(member.name)
            plain.type, plain.size, plain.linkname, plain.mtime = member.type, member.size, member.linkname, when
            plain.mode = 0o755 if member.isdir() or member.mode & 0o100 else 0o644
            new.addfile(plain, old.extractfile(member) if member.isfile() else None)
    return made.getvalue()


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
