"""Follows files by inotify(7) through all that can change what a path names, and without polling.

A path names another file when a file is renamed over it, when a symbolic link or a directory on the way is replaced or
first appears, and when something is mounted over any of these. So every directory on the way is watched for the next
name, links are followed by hand, and the mount table (proc_pid_mountinfo(5)), whose changes inotify does not tell, is
watched for them.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import errno
import logging
import os
import select
import stat
import struct
from collections.abc import Callable, Iterable
from pathlib import Path
from types import TracebackType
from typing import Self

# linux/inotify.h
MODIFY, ATTRIB, CLOSE_WRITE = 0x2, 0x4, 0x8
MOVED_FROM, MOVED_TO, CREATE, DELETE, DELETE_SELF, MOVE_SELF = 0x40, 0x80, 0x100, 0x200, 0x400, 0x800
IGNORED = 0x8000
MASK_ADD = 0x20000000
_DIRECTORY = MOVED_FROM | MOVED_TO | CREATE | DELETE | DELETE_SELF | MOVE_SELF
_FILE = MODIFY | CLOSE_WRITE | ATTRIB | DELETE_SELF | MOVE_SELF
_EVENT = struct.Struct("=iIII")  # wd, mask, cookie, length of the name

MAX_LINKS = 40  # on one way, as in the kernel (path_resolution(7))
WRITING = 0.3  # seconds until a file counts as changed that is written to and not closed: most are closed, and whole

_libc = ctypes.CDLL(None, use_errno=True)
log = logging.getLogger("salsa-agent")


class Follower:
    """Calls `on_change` (which must not raise) when one of `paths` (absolute) may name another file or other content.

    For the length of a `with` block, within a running event loop. Where the system is out of inotify instances or
    watches, only a warning is logged: what it could not watch is not followed.
    """

    def __init__(self, paths: Iterable[str], on_change: Callable[[], None]) -> None:
        self._paths = tuple(paths)
        self._on_change = on_change
        self._names: dict[int, set[bytes]] = {}  # watch -> the names in this directory that matter
        self._files: set[int] = set()  # watches of the files themselves
        self._seen: list[tuple[object, ...]] = []  # what the paths led over and to
        self._lazy: asyncio.TimerHandle | None = None
        self._warned = False

    def __enter__(self) -> Self:
        self._loop = asyncio.get_running_loop()
        self._open = contextlib.ExitStack()
        try:
            with contextlib.ExitStack() as opened:
                self._start(opened)
                self._open = opened.pop_all()
        except OSError as error:
            self._warn(error.errno or 0)
        else:
            self._look()
        return self

    def _start(self, opened: contextlib.ExitStack) -> None:
        """One epoll for both: an event loop watches for input only, which a mount table always has."""
        self._epoll = opened.enter_context(select.epoll())
        self._inotify: int = _libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        if self._inotify < 0:
            self._warn(ctypes.get_errno())
        else:
            opened.callback(os.close, self._inotify)
            self._epoll.register(self._inotify, select.EPOLLIN)
        with contextlib.suppress(OSError):  # no /proc
            mounts = os.open("/proc/self/mountinfo", os.O_RDONLY | os.O_CLOEXEC)
            opened.callback(os.close, mounts)
            self._epoll.register(mounts, select.EPOLLPRI)
        self._loop.add_reader(self._epoll.fileno(), self._on_ready)
        opened.callback(self._loop.remove_reader, self._epoll.fileno())

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        if self._lazy is not None:
            self._lazy.cancel()
        self._open.close()

    # --- events

    def _on_ready(self) -> None:
        """Something came. That the mount table changed is only said once, maybe to the event loop: so it is assumed."""
        self._epoll.poll(0)
        changed, written = self._read_events()
        before = self._seen
        self._look()
        if changed or self._seen != before:
            self._tell()
        elif written and self._lazy is None:
            self._lazy = self._loop.call_later(WRITING, self._tell)

    def _tell(self) -> None:
        if self._lazy is not None:
            self._lazy.cancel()
            self._lazy = None
        self._on_change()

    def _read_events(self) -> tuple[bool, bool]:
        """Whether something changed, and whether a file was written to and not (yet) closed."""
        changed = written = False
        try:
            data = os.read(self._inotify, 1 << 16) if self._inotify >= 0 else b""
        except BlockingIOError:
            data = b""
        at = 0
        while at < len(data):
            watch, mask, _, length = _EVENT.unpack_from(data, at)
            name = data[at + _EVENT.size : at + _EVENT.size + length].rstrip(b"\0")
            at += _EVENT.size + length
            if mask & IGNORED:  # it was removed, by us or with its file
                continue
            if name:
                changed = changed or name in self._names.get(watch, ())
            elif mask & MODIFY:
                written = written or watch in self._files
            else:  # also when more came than the queue holds (IN_Q_OVERFLOW): anything may have changed
                changed = True
        return changed, written

    # --- watches

    def _look(self) -> None:
        """Follow the paths anew, watch what is on the way now, and nothing else."""
        old = self._names.keys() | self._files
        self._names, self._files, self._seen = {}, set(), []
        for path in self._paths:
            self._walk(path)
        for watch in old - self._names.keys() - self._files:
            _libc.inotify_rm_watch(self._inotify, watch)  # fails for one that went with its file: all the same

    def _walk(self, path: str) -> None:
        """Resolve `path` as path_resolution(7) has it. Each directory is watched before it is looked into."""
        here, rest, links = "/", path.split("/"), 0
        self._note(here)
        while rest:
            name = rest.pop(0)
            if name in ("", "."):
                continue
            if name == "..":
                here = here.rpartition("/")[0] or "/"
                continue
            watch = self._watch(here, _DIRECTORY)
            if watch is not None:
                self._names.setdefault(watch, set()).add(os.fsencode(name))
            following = f"{here.rstrip('/')}/{name}"
            mode = self._note(following)
            if stat.S_ISLNK(mode):
                links += 1
                if links > MAX_LINKS:
                    return
                try:
                    target = str(Path(following).readlink())
                except OSError:
                    return
                self._seen.append((following, target))
                rest = target.split("/") + rest
                if target.startswith("/"):
                    here = "/"
            elif mode == 0 or (any(rest) and not stat.S_ISDIR(mode)):
                return
            else:
                here = following
        watch = self._watch(here, _FILE)
        if watch is not None:
            self._files.add(watch)

    def _note(self, path: str) -> int:
        """Remember which file this is; its mode, 0 if there is none."""
        try:
            found = os.lstat(path)
        except OSError:
            self._seen.append((path,))
            return 0
        self._seen.append((path, found.st_dev, found.st_ino))
        return found.st_mode

    # --- the system calls

    def _watch(self, path: str, mask: int) -> int | None:
        if self._inotify < 0:
            return None
        watch: int = _libc.inotify_add_watch(self._inotify, os.fsencode(path), mask | MASK_ADD)
        if watch >= 0:
            return watch
        code = ctypes.get_errno()
        if code not in (errno.ENOENT, errno.ENOTDIR, errno.EACCES, errno.ELOOP):
            self._warn(code)
        return None

    def _warn(self, code: int) -> None:
        if not self._warned:
            self._warned = True
            log.warning("inotify: %s: changes of %s may go unnoticed", os.strerror(code), ", ".join(self._paths))
