"""Reading files that others may have put in our way: no endless wait, never more than a bound."""

from __future__ import annotations

import errno
import os
import select
import stat
import time
from pathlib import Path

_NULL = os.makedev(1, 3)  # /dev/null: an empty file, as administrators use it (Documentation/admin-guide/devices.txt)


def read_file(path: str | Path, most: int, *, pipe: float = 0.0) -> bytes:
    """The content of a regular file, its first `most` + 1 octets where it is longer than `most`.

    What could be waited for, a FIFO, a socket or a device, is not read; with `pipe` it is, as in `<(command)` of a
    shell, where its end comes within so many seconds. Raises OSError, with `strerror` as the one line that says why.
    """
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)  # O_NONBLOCK: no wait for a writer
    try:
        found = os.fstat(fd)
        if stat.S_ISDIR(found.st_mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
        regular = stat.S_ISREG(found.st_mode) or (stat.S_ISCHR(found.st_mode) and found.st_rdev == _NULL)
        if not regular and not pipe:
            raise OSError(errno.EINVAL, "not a regular file", str(path))
        content = _read(fd, most + 1, pipe)
        if stat.S_ISFIFO(found.st_mode) and not content:  # nobody has written to it: that is no empty file
            raise OSError(errno.ENODATA, "an empty pipe", str(path))
        return content
    finally:
        os.close(fd)


def _read(fd: int, most: int, patience: float) -> bytes:
    content, until = bytearray(), time.monotonic() + patience
    while len(content) < most:
        try:
            part = os.read(fd, most - len(content))
        except BlockingIOError:
            left = until - time.monotonic()
            if left <= 0 or not _readable(fd, left):
                raise TimeoutError(errno.ETIMEDOUT, f"it has no end within {patience:g} s") from None
            continue
        if not part:
            break
        content += part
    return bytes(content)


def _readable(fd: int, patience: float) -> bool:
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    return bool(poll.poll(patience * 1000))


def whole_lines(content: bytes, most: int) -> bytes:
    """`content` of `read_file`, up to the last line that was read whole: half an address is another one."""
    return content if len(content) <= most else content[: content.rfind(b"\n") + 1]
