"""The agent, run as `salsa-agent` is, which says on SIGUSR1 how many asyncio tasks it has, on standard output."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from types import FrameType

from salsa_agent.cli.agent import main


def _tell(_number: int, _frame: FrameType | None) -> None:
    os.write(1, f"tasks {len(asyncio.all_tasks(asyncio.get_running_loop()))}\n".encode())


if __name__ == "__main__":
    signal.signal(signal.SIGUSR1, _tell)
    sys.exit(main(sys.argv[1:]))
