"""Follows files by inotify(7), without polling, whatever changes what their paths name.

A path names another file when a file is renamed over it, when a symbolic link or a directory on the way is replaced or
first appears, and when something is mounted over any of these. So every directory on the way is watched for the next
name, links are followed by hand, and the mount table (proc_pid_mountinfo(5)), whose changes inotify does not tell, is
watched for them. Such directories may be busy (/tmp, /run): events about other names there are read and dropped.
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
MASK_ADD = 0x20000000
_DIRECTORY = MOVED_FROM | MOVED_TO | CREATE | DELETE | ATTRIB | DELETE_SELF | MOVE_SELF  # ATTRIB: who may enter
_FILE = MODIFY | CLOSE_WRITE | ATTRIB | DELETE_SELF | MOVE_SELF
_EVENT = struct.Struct("=iIII")  # wd, mask, cookie, length of the name
_OVERFLOW = -1  # the wd of the event that says that more came than the queue holds
_ITSELF = b""  # the name in an event of what is watched, not of something in it

MAX_LINKS = 40  # on one way, as in the kernel (path_resolution(7))
WRITING = 0.3  # seconds until a file that is written to but not closed counts as changed: most are closed, and whole

_libc = ctypes.CDLL(None, use_errno=True)
log = logging.getLogger("salsa-agent.watch")


class Follower:
    """Calls `on_change` (which must not raise) when one of `paths` (absolute) may name another file or other content.

    For the length of a `with` block, within a running event loop. Where the system is out of inotify instances or
    watches, a warning is logged and `complete` is false: the files are to be read from time to time then (rule E3).
    """

    def __init__(self, paths: Iterable[str], on_change: Callable[[], None]) -> None:
        self._paths = tuple(paths)
        self._on_change = on_change
        self._names: dict[int, set[bytes]] = {}  # watch -> the names in its events that matter
        self._resolved_path: list[tuple[object, ...]] = []  # what the paths led over and to
        self._pending_report: asyncio.TimerHandle | None = None
        self._warned = False
        self._inotify: int = -1  # its descriptor; less than 0: none

    @property
    def complete(self) -> bool:
        """Whether all that can change the files is watched."""
        return not self._warned

    def __enter__(self) -> Self:
        self._loop = asyncio.get_running_loop()
        self._open = contextlib.ExitStack()
        try:
            with contextlib.ExitStack() as opened:
                self._start(opened)
                self._open = opened.pop_all()
        except OSError as error:
            self._inotify = -1  # closed again
            self._warn(error.errno or 0)
        else:
            self._update_watches()
        return self

    def _start(self, opened: contextlib.ExitStack) -> None:
        self._inotify = _libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        if self._inotify < 0:
            self._warn(ctypes.get_errno())
        else:
            opened.callback(os.close, self._inotify)
            self._read_when_ready(opened, self._inotify, self._on_events)
        # an event loop watches for input only, which a mount table always has: hence an epoll of its own
        self._mounts = opened.enter_context(select.epoll())
        with contextlib.suppress(OSError):  # no /proc
            table = os.open("/proc/self/mountinfo", os.O_RDONLY | os.O_CLOEXEC)
            opened.callback(os.close, table)
            self._mounts.register(table, select.EPOLLPRI)
        self._read_when_ready(opened, self._mounts.fileno(), self._on_mounts)

    def _read_when_ready(self, opened: contextlib.ExitStack, fd: int, read: Callable[[], None]) -> None:
        self._loop.add_reader(fd, read)
        opened.callback(self._loop.remove_reader, fd)

    def follow(self, paths: Iterable[str]) -> None:
        """Follow these paths from now on, and no others."""
        self._paths = tuple(paths)
        self._update_watches()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        if self._pending_report is not None:
            self._pending_report.cancel()
        self._open.close()

    # --- events

    def _on_events(self) -> None:
        changed, written = self._read_events()
        if changed:
            self._update_watches()
            self._report()
        elif written and self._pending_report is None:
            self._pending_report = self._loop.call_later(WRITING, self._report)

    def _on_mounts(self) -> None:
        """Something was mounted or unmounted, somewhere. The event loop woke us, but only poll takes the event."""
        self._mounts.poll(0)
        if self._inotify >= 0:
            self._on_events()  # first, while the watches that they belong to are known
        before = self._resolved_path
        self._update_watches()
        if self._resolved_path != before:
            self._report()

    def _report(self) -> None:
        if self._pending_report is not None:
            self._pending_report.cancel()
            self._pending_report = None
        self._on_change()

    def _read_events(self) -> tuple[bool, bool]:
        """Whether something changed, and whether a file was written to and not (yet) closed."""
        changed = written = False
        try:
            data = os.read(self._inotify, 1 << 16)
        except BlockingIOError:
            data = b""
        at = 0
        while at < len(data):
            watch, mask, _, length = _EVENT.unpack_from(data, at)
            at += _EVENT.size
            if watch == _OVERFLOW or data[at : at + length].rstrip(b"\0") in self._names.get(watch, ()):
                if mask & MODIFY:
                    written = True
                else:  # such as IN_IGNORED of a watch that the kernel removed; those that we remove are forgotten first
                    changed = True
            at += length
        return changed, written

    # --- watches

    def _update_watches(self) -> None:
        """Follow the paths anew, watch what is on the way now, and nothing else."""
        old = self._names.keys()
        self._names, self._resolved_path = {}, []
        for path in self._paths:
            self._walk(path)
        for watch in old - self._names.keys():
            _libc.inotify_rm_watch(self._inotify, watch)  # fails for one that went with its file: all the same

    def _walk(self, path: str) -> None:
        """Resolve `path` as path_resolution(7) has it. Each directory is watched before it is looked into."""
        here, rest, links = "/", path.split("/"), 0
        self._remember(here)
        while rest:
            name = rest.pop(0)
            if name in ("", "."):
                continue
            if name == "..":
                here = here.rpartition("/")[0] or "/"
                continue
            self._watch(here, _DIRECTORY, os.fsencode(name))
            following = f"{here.rstrip('/')}/{name}"
            mode = self._remember(following)
            if stat.S_ISLNK(mode):
                links += 1
                if links > MAX_LINKS:
                    return
                try:
                    target = str(Path(following).readlink())
                except OSError:
                    return
                self._resolved_path.append((following, target))
                rest = target.split("/") + rest
                if target.startswith("/"):
                    here = "/"
            elif mode == 0 or (any(rest) and not stat.S_ISDIR(mode)):
                return
            else:
                here = following
        self._watch(here, _FILE)

    def _remember(self, path: str) -> int:
        """Remember which file this is; its mode, 0 if there is none."""
        try:
            found = os.lstat(path)
        except OSError:
            self._resolved_path.append((path,))
            return 0
        self._resolved_path.append((path, found.st_dev, found.st_ino))
        return found.st_mode

    # --- the system calls

    def _watch(self, path: str, mask: int, *names: bytes) -> None:
        """Watch `path` for what happens to itself, and to these names in it."""
        if self._inotify < 0:
            return
        watch: int = _libc.inotify_add_watch(self._inotify, os.fsencode(path), mask | MASK_ADD)
        if watch >= 0:
            self._names.setdefault(watch, {_ITSELF}).update(names)
        elif (code := ctypes.get_errno()) not in (errno.ENOENT, errno.ENOTDIR, errno.EACCES, errno.ELOOP):
            self._warn(code)

    def _warn(self, code: int) -> None:
        if not self._warned:
            self._warned = True
            log.warning("inotify: %s: changes of %s are noticed late", os.strerror(code), ", ".join(self._paths))
