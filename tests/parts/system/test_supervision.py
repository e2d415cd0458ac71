"""Parts that run beside a block: all end with it, and it ends with the first of them."""

from __future__ import annotations

import asyncio

import pytest

from salsa_agent.system.supervision import PartEnded, running


class Parts:
    """`lasting` runs until it is cancelled; the others do not."""

    def __init__(self) -> None:
        self.started = asyncio.Event()
        self.ended = False

    async def lasting(self) -> None:
        self.started.set()
        try:
            await asyncio.Event().wait()
        finally:
            self.ended = True

    async def failing(self) -> None:
        await self.started.wait()
        raise ValueError("no\nsuch thing")

    async def returning(self) -> None:
        await self.started.wait()

    async def nesting(self) -> None:
        async with running({"failing": self.failing}):
            await asyncio.Event().wait()


async def test_they_end_with_the_block() -> None:
    parts = Parts()
    async with running({"lasting": parts.lasting}):
        await parts.started.wait()
        assert not parts.ended
    assert parts.ended


async def test_what_the_block_raises_comes_out_as_it_is() -> None:
    parts = Parts()
    with pytest.raises(OSError, match="no bus"):
        async with running({"lasting": parts.lasting}):
            await parts.started.wait()
            raise OSError("no bus")
    assert parts.ended


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("failing", r"^internal error: failing: ValueError: no\?such thing \(test_supervision\.py:\d+\)$"),
        ("returning", r"^internal error: returning has ended$"),
        ("nesting", r"^internal error: failing: ValueError: no\?such thing \(test_supervision\.py:\d+\)$"),
    ],
)
async def test_the_first_that_ends_ends_the_block_and_the_others(name: str, words: str) -> None:
    parts = Parts()
    with pytest.raises(PartEnded, match=words):
        async with running({"lasting": parts.lasting, name: getattr(parts, name)}):
            await asyncio.Event().wait()
    assert parts.ended


async def test_a_cancellation_from_outside_stays_one() -> None:
    parts = Parts()

    async def outer() -> None:
        async with running({"lasting": parts.lasting}):
            await asyncio.Event().wait()

    task = asyncio.create_task(outer())
    await parts.started.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert parts.ended
