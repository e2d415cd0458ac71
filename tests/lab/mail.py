"""Two networks with a real Postfix each as the relay of the day, and a host that runs the agent and sends mail.

Toronto's relay is NOC, Paris's VERTEX; each takes mail for `dest.example` from both networks. HOME is the host's static
relay; nothing listens there unless a test starts it. `document` reads what the recipes say.
"""

from __future__ import annotations

import re
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Self

from tests.lab.bus import PROJECT
from tests.lab.postfix import Postfix
from tests.lab.whole import GATEWAYS, HOME, NOC, RELAYS, VERTEX, ZONE, Process, World

DOCUMENT = PROJECT / "docs" / "consumers.md"
V6, V6_GATEWAY, V6_HOST = "2001:db8:53::25", "2001:db8:9::1", "2001:db8:9::2"  # VERTEX has the first, too
TORONTO, PARIS = "165.154.15.1", "198.51.100.7"
_ZONE = ZONE | {"100.51.198.in-addr.arpa": {"MX": [f"10 {VERTEX}."]}}
_FENCE = re.compile(r"^```\w+ (\S+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def document(name: str) -> str:
    """The block of docs/consumers.md with this name, which is the second word of its fence."""
    return str(dict(_FENCE.findall(DOCUMENT.read_text()))[name])


SALSACTL = [sys.executable, "-m", "salsa_agent.cli.salsactl.main"]


class Mail:
    """`with` it the networks are there; the host is in none, and nothing runs on it."""

    def __init__(self) -> None:
        self.world = World(_ZONE)
        self.relays: dict[str, Postfix] = {}
        self._running: list[Process] = []

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            far = stack.enter_context(self.world).far
            far.batch([f"addr add {V6}/128 dev lo nodad", f"addr add {V6_GATEWAY}/64 dev down0 nodad"])
            self.output = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="salsa-output-")))
            self.output.chmod(0o755)
            networks = [*(f"{network}.0/24" for network in GATEWAYS), "[2001:db8:9::]/64"]
            for name, address in ((NOC, RELAYS[NOC]), (VERTEX, f"{RELAYS[VERTEX]}, {V6}")):
                relay = Postfix(
                    far, name, receives=["dest.example"], relays_for=networks, main={"inet_interfaces": address}
                )
                self.relays[name] = stack.enter_context(relay)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def client(self, main: str, **more: str) -> Postfix:
        """A Postfix on the host, with these lines in its main.cf, which resolves names as it does by default."""
        settings = dict(line.split(" = ", 1) for line in main.splitlines())
        own = {"inet_interfaces": "loopback-only", "smtp_dns_support_level": "enabled", "smtp_host_lookup": "dns"}
        return Postfix(self.world.host, "client.example", receives=["client.example"], main=own | settings | more)

    def agent(self, *, static: str | None = HOME, more: str = "") -> Process:
        """Start the agent, with one static relay or none; `more`: more of its configuration."""
        relays = f'"{static}"' if static else ""
        agent = self.world.agent(f'[static]\nrelays = [{relays}]\n[output]\ndirectory = "{self.output}"\n{more}')
        self._running.append(agent)
        return agent

    def start(self, argv: list[str]) -> Process:
        """Start a program on the host."""
        program = self.world.start(self.world.host, argv)
        self._running.append(program)
        return program

    def reset(self) -> None:
        """As at the beginning: no agent, no other program, no network, the first zone. What was delivered stays."""
        for process in self._running:
            if process.popen.poll() is None:
                process.end()
        self._running.clear()
        self.world.leave()
        self.world.publish(_ZONE)

    def roam(self, address: str, relay: str) -> None:
        """Leave, join the network of this address, and wait until the agent has found its relay."""
        self.world.leave()
        self.world.join(address)
        self.world.wait_for_best(relay)

    def subjects(self, name: str) -> list[str]:
        """The subjects of the messages that this relay has taken."""
        return re.findall(r"^Subject: (.*)$", "\n".join(self.relays[name].received()), re.MULTILINE)

    def arrives(self, subject: str, name: str) -> None:
        """Wait until this relay, and no other, has taken the message."""
        self.relays[name].until(lambda: subject in self.subjects(name), subject)
        takers = [other for other in self.relays if subject in self.subjects(other)]
        assert takers == [name], f"{subject!r} was taken by {takers}, not by {name} alone"
