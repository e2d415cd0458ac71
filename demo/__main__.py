"""`python -m demo [--fast]`, in a network namespace of its own; `./run demo` sees to that."""

from __future__ import annotations

import argparse
import asyncio
import signal
import sys

from demo.laptop import Laptop, WentWrong
from demo.narrator import Narrator
from demo.stage import laptop
from demo.world import AT_HOME, HOME, IN_PRAGUE, IN_TORONTO, NOC, PRAGUE, VERTEX
from salsa_agent.cli.format.text import page


async def story(voice: Narrator, host: Laptop) -> None:
    """From home to Toronto, to Prague, and home again."""
    await voice.say(
        f"A laptop from New Zealand, far from home. Its mail goes by way of {HOME}: so it is configured, and away from "
        "home that relay may not even take it. salsa-agent runs; there is no network yet."
    )
    await host.settled(HOME)
    await voice.pause(2)

    await voice.say(
        "Toronto. The laptop dials in and gets an address. The agent asks for MX records in the reverse tree: of the "
        "address, of its /24, of its /16. Whoever answers is spoken to, before anybody is told."
    )
    await host.join(IN_TORONTO)
    await host.settled(NOC)
    await voice.pause(6)
    await voice.say("That is what salsactl status says of it, and a letter goes out:")
    voice.show(await host.status())
    await voice.pause(6)
    await host.send_letter()
    await voice.pause(2)

    await voice.say(
        f"{NOC} dies. The next letter finds out, the mail program says so, and the network has another relay."
    )
    await host.kill(NOC)
    await host.send_letter()
    await host.settled(VERTEX)
    await voice.pause(5)

    await voice.say("Another country: Prague. This network publishes its relay at the /24. Nobody configured anything.")
    await host.leave()
    await voice.pause(1)
    await host.join(IN_PRAGUE)
    await host.settled(PRAGUE)
    await host.send_letter()
    await voice.pause(5)

    await voice.say("Home. This network publishes nothing: three questions, no answer; the configured relay stands.")
    await host.leave()
    await voice.pause(1)
    await host.join(AT_HOME)
    await host.settled(HOME)
    await host.send_letter()
    await voice.pause(4)


async def run(voice: Narrator) -> None:
    """The whole of it, with all that belongs to it started before and ended after."""
    async with laptop(voice.event) as host:
        await story(voice, host)
    await voice.say("The agent has ended, and the networks with it. For your own network: ./run")


def main() -> int:
    """Run the demo until its end, or until SIGINT, SIGTERM, SIGHUP or the end of its reader."""
    parser = argparse.ArgumentParser(
        prog="./run demo", description="The agent's story, told by the agent, in a minute."
    )
    parser.add_argument("--fast", action="store_true", help="without pauses to read")
    options = parser.parse_args()

    try:
        return asyncio.run(_until_told(0.0 if options.fast else 1.0))
    except WentWrong as error:
        print(f"demo: {error}", file=sys.stderr)
        return 1


async def _until_told(pace: float) -> int:
    loop = asyncio.get_running_loop()
    ended_by: list[int] = []

    def end(number: int) -> None:
        ended_by.append(number)
        telling.cancel()

    telling = asyncio.create_task(run(Narrator(page(), pace, lambda: end(signal.SIGPIPE))))
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, end, number)
    try:
        await telling
    except asyncio.CancelledError:
        return 128 + ended_by[0]  # as a shell says it
    return 0


if __name__ == "__main__":
    sys.exit(main())
