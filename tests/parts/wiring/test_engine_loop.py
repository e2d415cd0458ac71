"""What is carried out and what is told of the engine's commands, and when."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

import pytest

from salsa_agent.core.engine import Engine
from salsa_agent.core.events import Command, Event, RefreshAsked, RefreshDone
from salsa_agent.core.settings import Settings
from salsa_agent.system.supervision import PartEnded, running
from salsa_agent.wiring.engine_loop import EngineLoop

PATIENCE = 30.0
DEFECT = 13


class Echo(Engine):
    """Has one command for each event, of the same number; cannot do DEFECT."""

    def handle(self, events: Iterable[Event], now: float) -> list[Command]:
        if RefreshAsked(DEFECT) in events:
            raise ZeroDivisionError("no such number")
        return [RefreshDone(event.token) for event in events if isinstance(event, RefreshAsked)]


class Loop(EngineLoop):
    """With a task for each command, and a history of what came when."""

    def __init__(self) -> None:
        super().__init__(Echo(Settings(), b""), self._begin, lambda command: self._note("told", command), lambda: False)
        self.history: list[str] = []
        self._tasks: list[asyncio.Task[None]] = []

    def _begin(self, command: Command) -> None:
        self._tasks.append(asyncio.create_task(self._ask(command)))

    async def _ask(self, command: Command) -> None:
        self._note("asked", command)

    def _note(self, what: str, command: Command) -> None:
        assert isinstance(command, RefreshDone)
        if command.token == -DEFECT:
            raise ZeroDivisionError("nor this")
        self.history.append(f"{what} {command.token}")


async def turns(of: Loop, number: int) -> list[str]:
    """What came in these turns of the event loop, and before."""
    for _ in range(number):
        await asyncio.sleep(0)
    return of.history


async def test_questions_go_out_before_followers_are_told() -> None:
    loop = Loop()
    loop.post(RefreshAsked(1))
    loop.post(RefreshAsked(2))
    assert await turns(loop, 2) == ["asked 1", "asked 2", "told 1", "told 2"]


async def test_what_is_posted_now_is_told_now_after_what_came_before() -> None:
    loop = Loop()
    loop.post(RefreshAsked(1))
    await turns(loop, 1)
    assert loop.history == []
    loop.post_now(RefreshAsked(2))
    assert loop.history == ["told 1", "told 2"]
    assert await turns(loop, 3) == ["told 1", "told 2", "asked 1", "asked 2"]


async def test_nothing_is_told_after_the_end() -> None:
    loop = Loop()
    loop.post(RefreshAsked(1))
    await turns(loop, 1)
    loop.stop()
    assert await turns(loop, 3) == ["asked 1"]


@pytest.mark.parametrize("token", [DEFECT, -DEFECT])
async def test_an_engine_that_fails_or_a_follower_that_does_ends_what_runs_it(token: int) -> None:
    """It was logged, and the agent stood on the bus with a round that nothing would ever end."""
    loop = Loop()
    with pytest.raises(
        PartEnded, match=r"^internal error: engine: ZeroDivisionError: no.* \(test_engine_loop\.py:\d+\)$"
    ):
        async with asyncio.timeout(PATIENCE), running({"engine": loop.run}):
            loop.post(RefreshAsked(token))
            await asyncio.Event().wait()
    loop.post(RefreshAsked(2))
    assert "told 2" not in await turns(loop, 3)


async def test_who_posts_what_the_engine_fails_at_hears_of_it_too() -> None:
    loop = Loop()
    with pytest.raises(PartEnded):
        async with asyncio.timeout(PATIENCE), running({"engine": loop.run}):
            with pytest.raises(ZeroDivisionError):
                loop.post_now(RefreshAsked(DEFECT))
            await asyncio.Event().wait()
