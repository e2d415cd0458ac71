"""Rule C11 with real mail: why a sender has relays of its own (docs/senders.md).

A traveller in Toronto, whose network has a relay for its guests, writes three letters. The receiver checks DMARC.
"""

from __future__ import annotations

import re
import signal
from collections.abc import Iterator

import pytest

from tests.lab.dmarc import Receiver
from tests.lab.mail import TORONTO, document
from tests.lab.netns import FILES
from tests.lab.postfix import Postfix
from tests.lab.whole import HOME, NOC, RELAYS, SERVER, ZONE, World, until

RECEIVER = "203.0.113.9"
MAIN, LISTEN = document("postfix/main.cf"), document("postfix.toml")
DOMAINS = {
    "soft.example": {"TXT": ['"v=spf1 ip4:203.0.113.99 ~all"']},
    "_dmarc.soft.example": {"TXT": ['"v=DMARC1; p=none"']},
    "strict.example": {"TXT": [f'"v=spf1 ip4:{RELAYS[HOME]} -all"']},
    "_dmarc.strict.example": {"TXT": ['"v=DMARC1; p=reject"']},
}
ENTRY = f'[[sender]]\naddress = ["*@strict.example"]\nrelays = ["{HOME}:25"]\n'
STATIC = '[static]\nrelays = ["192.0.2.99"]\n'  # nothing is there


class Traveller:
    """The guest network's relay, the strict domain's own, the receiver, and the host with its Postfix."""

    def __init__(self, world: World, relays: dict[str, Postfix], receiver: Receiver, client: Postfix) -> None:
        self.world, self.relays, self.receiver, self.client = world, relays, receiver, client

    def write(self, sender: str, subject: str) -> None:
        """To a recipient of its own, for Postfix may remember the last answer."""
        self.client.send(f"{subject}@dest.example", sender=sender, text=subject)

    @property
    def arrived(self) -> set[str]:
        """The subjects of the letters that the receiver took."""
        return set(re.findall(r"^Subject: (.*)$", "\n".join(self.receiver.postfix.received()), re.MULTILINE))

    def through(self, name: str, subject: str) -> bool:
        """Whether this relay has sent the letter on."""
        return bool(re.search(rf"to=<{subject}@dest\.example>.*status=sent", self.relays[name].log))


@pytest.fixture
def traveller() -> Iterator[Traveller]:
    with World(ZONE | DOMAINS) as world:
        resolver = FILES / world.far.name / "resolv.conf"
        resolver.parent.mkdir(parents=True)
        resolver.write_text(f"nameserver {SERVER}\n")
        try:
            world.far.ip("addr", "add", f"{RECEIVER}/32", "dev", "down0")
            with Receiver(world.far, RECEIVER) as receiver:
                onward = {"relayhost": f"[{RECEIVER}]"}
                relays: dict[str, Postfix] = {}
                for name in (NOC, HOME):
                    bind = {"inet_interfaces": RELAYS[name], "smtp_bind_address": RELAYS[name]}
                    relays[name] = Postfix(world.far, name, relays_for=["165.154.15.0/24"], main=bind | onward)
                own = {
                    "inet_interfaces": "loopback-only",
                    "smtp_dns_support_level": "enabled",
                    "smtp_host_lookup": "dns",
                }
                settings = dict(line.split(" = ", 1) for line in MAIN.splitlines())
                client = Postfix(world.host, "client.example", receives=["client.example"], main=own | settings)
                with relays[NOC], relays[HOME], client:
                    yield Traveller(world, relays, receiver, client)
        finally:
            resolver.unlink()
            resolver.parent.rmdir()


def test_c11_without_an_entry_the_strict_letter_is_refused_and_with_it_all_arrive(traveller: Traveller) -> None:
    world = traveller.world
    agent = world.agent(STATIC + LISTEN)
    agent.wait_for("answering Postfix")
    world.join(TORONTO)
    world.wait_for_best(NOC, "ready")
    for domain in ("loose", "soft", "strict"):
        traveller.write(f"me@{domain}.example", f"without-{domain}")
    until(lambda: traveller.arrived, lambda seen: {"without-loose", "without-soft"} <= seen)
    until(lambda: traveller.receiver.postfix.log, lambda log: "rejected by DMARC policy for strict.example" in log)
    assert "without-strict" not in traveller.arrived
    assert all(traveller.through(NOC, f"without-{domain}") for domain in ("loose", "soft"))
    until(lambda: traveller.relays[NOC].log, lambda log: "to=<without-strict@dest.example>" in log)

    world.configure(STATIC + ENTRY + LISTEN)
    agent.popen.send_signal(signal.SIGHUP)
    until(lambda: world.get("Senders"), lambda senders: bool(senders) and senders[0]["host"] == HOME)
    for domain in ("loose", "soft", "strict"):
        traveller.write(f"me@{domain}.example", f"with-{domain}")
    traveller.write("root@laptop.example", "cron")
    until(lambda: traveller.arrived, lambda seen: {"with-loose", "with-soft", "with-strict", "cron"} <= seen)
    assert traveller.through(HOME, "with-strict")
    assert not traveller.through(NOC, "with-strict")
    assert all(traveller.through(NOC, subject) for subject in ("with-loose", "with-soft", "cron"))
