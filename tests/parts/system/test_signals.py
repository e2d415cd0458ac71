"""Signals as the agent takes them, sent faster than they are dealt with."""

from __future__ import annotations

import asyncio
import os
import signal
import socket

import pytest

from salsa_agent.system.signals import handled

PATIENCE = 30.0
HUP, TERM = signal.SIGHUP, signal.SIGTERM


async def turns(count: int = 3) -> None:
    """Let the loop look at its files so often."""
    for _ in range(count):
        await asyncio.sleep(0)


async def test_a_flood_of_one_signal_is_one_call_and_another_one_is_not_lost() -> None:
    """Half a million of SIGHUP had SIGTERM wait for half a million reloads, where it was not lost."""
    calls: list[str] = []
    with handled({TERM: lambda: calls.append("term"), HUP: lambda: calls.append("hup")}):
        for _ in range(100_000):  # more than the pipe has room for
            os.kill(os.getpid(), HUP)
        os.kill(os.getpid(), TERM)
        await turns()
        assert sorted(calls) == ["hup", "term"]
        os.kill(os.getpid(), HUP)
        await turns()
        assert sorted(calls) == ["hup", "hup", "term"]


async def test_a_signal_wakes_a_loop_that_waits() -> None:
    came = asyncio.Event()
    with handled({HUP: came.set}):
        sender = await asyncio.create_subprocess_exec("sh", "-c", f"sleep 0.1; kill -HUP {os.getpid()}")
        async with asyncio.timeout(PATIENCE):
            await came.wait()
            await sender.wait()


@pytest.mark.parametrize("fails", [False, True])
async def test_everything_is_as_before_at_the_end(fails: bool) -> None:
    mine, theirs = socket.socketpair()
    with mine, theirs:
        for one in (mine, theirs):
            one.setblocking(False)
        ours = signal.set_wakeup_fd(mine.fileno())
        try:
            before, files = [signal.getsignal(number) for number in (HUP, TERM)], os.listdir("/proc/self/fd")
            try:
                with handled({HUP: lambda: None, TERM: lambda: None}):
                    if fails:
                        raise ZeroDivisionError
            except ZeroDivisionError:
                assert fails
            assert [signal.getsignal(number) for number in (HUP, TERM)] == before
            assert os.listdir("/proc/self/fd") == files
            assert signal.set_wakeup_fd(mine.fileno()) == mine.fileno()
        finally:
            signal.set_wakeup_fd(ours)
