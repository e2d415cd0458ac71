"""The agent's connection to the system bus ends when it is told to."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from salsa_agent.bus._dbus_next import Message, MessageType
from salsa_agent.bus.system_bus import SystemBus


class Answering:
    """A bus whose reply comes when the test says; a real one cannot be timed to the turn of the loop."""

    def __init__(self) -> None:
        self.reply: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

    async def call(self, message: Message) -> Any:
        return await self.reply


@pytest.mark.parametrize("turns", range(5))
async def test_a_reply_that_comes_at_the_end_does_not_undo_the_end(turns: int) -> None:
    system = SystemBus()
    bus = Answering()
    system._bus = bus  # type: ignore[assignment]
    call = asyncio.create_task(system._call(":1.1", "/", "a.b", "C"))
    await asyncio.sleep(0.01)
    bus.reply.set_result(Message(message_type=MessageType.METHOD_RETURN, reply_serial=1))
    for _ in range(turns):
        await asyncio.sleep(0)
    if call.cancel():
        with pytest.raises(asyncio.CancelledError):
            await call
    else:
        assert call.result() == []
