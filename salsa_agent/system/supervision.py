"""Parts of a program that run for as long as it does."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

from salsa_agent.text import clean

Part = Callable[[], Coroutine[Any, Any, None]]


class PartEnded(Exception):
    """A part that runs until it is cancelled has ended: a defect. The message is one line, the cause its exception."""


@asynccontextmanager
async def running(parts: Mapping[str, Part]) -> AsyncIterator[None]:
    """Run these parts, by name, beside the block; at its end they are cancelled, and waited for.

    Raises PartEnded where one ends before the block does, which is cancelled then; and what the block raises.
    """
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(_run(name, part), name=name) for name, part in parts.items()]
            try:
                yield
            finally:
                for task in tasks:
                    task.cancel()
    except ExceptionGroup as several:
        first = several.exceptions[0]
        raise first from first.__cause__


async def _run(name: str, part: Part) -> None:
    try:
        await part()
    except PartEnded:  # it had parts itself
        raise
    except Exception as error:
        raise PartEnded(defect(name, error)) from error
    raise PartEnded(f"internal error: {name} has ended")


def defect(name: str, error: Exception) -> str:
    """One line on an error that nothing had foreseen: what failed, by what, and where."""
    return f"internal error: {name}: {clean(f'{type(error).__name__}: {error}')} ({_place(error.__traceback__)})"


def _place(traceback: TracebackType | None) -> str:
    """Where it was raised: file and line."""
    place = ""
    while traceback is not None:
        place = f"{Path(traceback.tb_frame.f_code.co_filename).name}:{traceback.tb_lineno}"
        traceback = traceback.tb_next
    return place
