"""Signals on the event loop: none is lost, and those that come in a flood do not pile up.

With the loop's own `add_signal_handler` each signal is a byte in a socket and a callback to run: SIGTERM waits behind
half a million of SIGHUP, or is lost where the socket is full. Python itself keeps a flag for each number.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import partial
from types import FrameType


@contextmanager
def handled(handlers: Mapping[signal.Signals, Callable[[], None]]) -> Iterator[None]:
    """Within the block, call these in the running loop, once for all signals of a number that came since the last call.

    In the main thread only, as Python has it. Raises OSError where there are no descriptors.
    """
    loop = asyncio.get_running_loop()
    came: set[signal.Signals] = set()
    readable, writable = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)

    def note(number: signal.Signals, _number: int, _frame: FrameType | None) -> None:
        came.add(number)

    def look() -> None:
        with suppress(BlockingIOError):
            os.read(readable, 65_536)  # a byte for each signal, as far as they had room
        for number in [number for number in handlers if number in came]:
            came.discard(number)
            handlers[number]()

    loop.add_reader(readable, look)
    before = signal.set_wakeup_fd(writable, warn_on_full_buffer=False)  # or one that comes before select(2) would wait
    previous = {number: signal.signal(number, partial(note, number)) for number in handlers}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(before)
        loop.remove_reader(readable)
        os.close(readable)
        os.close(writable)
