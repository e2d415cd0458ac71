"""Resume from suspend: logind's signal (python-dbusmock's logind) and the clocks.

No real suspend: the machine that runs the tests cannot be put to sleep, and only then a real logind says something.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from salsa_agent.bus.logind import LOGIND, Resume, SleepClock
from salsa_agent.bus.system_bus import SystemBus
from tests.lab.bus import NOBODY, Bus, RawClient, system_bus

PATIENCE = 30.0
OPEN = '<policy context="default"><allow own="*"/><allow send_type="method_call"/></policy>'
MANAGER, PATH = f"{LOGIND}.Manager", "/org/freedesktop/login1"


@asynccontextmanager
async def logind(bus: Bus) -> AsyncIterator[None]:
    """A mocked logind on the bus."""
    process = await asyncio.create_subprocess_exec(
        "/usr/bin/python3", "-m", "dbusmock", "--system", "--template", "logind",
        env=bus.environment, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    try:
        async with asyncio.timeout(PATIENCE):
            while (
                await bus.busctl("call", "--auto-start=no", LOGIND, PATH, "org.freedesktop.DBus.Peer", "Ping")
            ).status:
                assert process.returncode is None, "dbusmock ended"
                await asyncio.sleep(0.05)
        yield
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def sleep_signal(bus: Bus, before: bool) -> None:
    value = str(before).lower()
    done = await bus.busctl("call", LOGIND, PATH, "org.freedesktop.DBus.Mock", "EmitSignal", "sssav",
                            MANAGER, "PrepareForSleep", "b", "1", "b", value)  # fmt: skip
    assert done.status == 0, done.err


class Watch:
    """Resumes, as they are told."""

    def __init__(self) -> None:
        self.count = 0
        self.news = asyncio.Event()

    def on_resume(self) -> None:
        self.count += 1
        self.news.set()

    async def until(self, count: int) -> None:
        async with asyncio.timeout(PATIENCE):
            while self.count < count:
                self.news.clear()
                await self.news.wait()
        assert self.count == count


@asynccontextmanager
async def watching(bus: Bus) -> AsyncIterator[tuple[Watch, SystemBus]]:
    watch = Watch()
    following = SystemBus(bus.address)
    resume = Resume(watch.on_resume, following)
    task = asyncio.create_task(following.run())
    try:
        await following.settled(PATIENCE)
        yield watch, following
    finally:
        task.cancel()
        await asyncio.wait([task])
        del resume


async def test_e1_logind_says_that_the_machine_woke() -> None:
    with system_bus(policy=False, extra=OPEN) as bus:
        async with logind(bus), watching(bus) as (watch, _):
            await sleep_signal(bus, True)
            await sleep_signal(bus, False)
            await watch.until(1)
            await sleep_signal(bus, True)
            await sleep_signal(bus, False)
            await watch.until(2)


async def test_e1_a_logind_that_comes_later_is_heard() -> None:
    with system_bus(policy=False, extra=OPEN) as bus:
        async with watching(bus) as (watch, following), logind(bus):
            async with asyncio.timeout(PATIENCE):
                while not following.owner(LOGIND):
                    await asyncio.sleep(0.01)
            await sleep_signal(bus, False)
            await watch.until(1)


@pytest.mark.needs("users")
async def test_e1_nobody_else_can_say_so_and_odd_signals_are_nothing() -> None:
    with system_bus(policy=False, extra=OPEN) as bus:
        async with watching(bus) as (watch, following):
            assert following._bus
            me = following._bus.unique_name
            real, nobody = await RawClient.open(bus.address), await RawClient.open(bus.address, uid=NOBODY)
            with real, nobody:
                await real.ask("/org/freedesktop/DBus", "org.freedesktop.DBus", "RequestName", "su", LOGIND, 4)
                await nobody.call(PATH, MANAGER, "PrepareForSleep", "b", False, kind=4, destination=me)
                await nobody.ask("/org/freedesktop/DBus", "org.freedesktop.DBus", "GetId")
                await real.call(PATH, MANAGER, "PrepareForSleep", "s", "no", kind=4)
                await real.call(PATH, MANAGER, "PrepareForSleep", kind=4)
                await real.call(PATH, MANAGER, "PrepareForSleep", "bb", False, False, kind=4)
                await real.call(PATH, MANAGER, "PrepareForShutdown", "b", False, kind=4)
                await real.call(PATH, MANAGER, "PrepareForSleep", "b", False, kind=4)
                await watch.until(1)


async def test_e1_without_a_system_bus_nothing_happens(tmp_path: Path) -> None:
    following = SystemBus(f"unix:path={tmp_path}/none")
    Resume(lambda: pytest.fail("nobody said so"), following)
    task = asyncio.create_task(following.run())
    await following.settled(PATIENCE)
    assert not following.owner(LOGIND)
    task.cancel()
    await asyncio.wait([task])


class Clocks:
    """Both clocks, in seconds since boot; `asleep` is counted by one alone."""

    def __init__(self) -> None:
        self.awake, self.asleep, self.delay = 1000.0, 50.0, 0.0

    def monotonic(self) -> float:
        now = self.awake
        self.awake += self.delay  # somebody else runs between the two readings
        self.delay = 0.0
        return now

    def boottime(self) -> float:
        return self.awake + self.asleep


def test_e1_the_boot_time_clock_ran_ahead() -> None:
    clocks = Clocks()
    clock = SleepClock(clocks.boottime, clocks.monotonic)
    assert not clock.slept()
    clocks.awake += 3600
    assert not clock.slept()
    clocks.asleep += 8 * 3600
    assert clock.slept()
    assert not clock.slept()
    clocks.asleep += 5
    assert clock.slept()


def test_e1_a_delay_between_the_readings_is_no_sleep() -> None:
    clocks = Clocks()
    clock = SleepClock(clocks.boottime, clocks.monotonic)
    clocks.delay = 60.0
    assert not clock.slept()
    assert not clock.slept()
    clocks.delay = 60.0
    clock = SleepClock(clocks.boottime, clocks.monotonic)
    assert not clock.slept()
    clocks.asleep += 5
    assert clock.slept()


def test_e1_the_real_clocks_say_nothing_while_awake() -> None:
    clock = SleepClock()
    assert not any(clock.slept() for _ in range(1000))
