"""Rules D1, D2 and D11: the places for checks. At most so many run at once, and each ends its conversations."""

from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple

from salsa_agent.core.events import Abandon, Check, Command
from salsa_agent.core.model import IPAddress
from salsa_agent.core.verification.records import Record, Subject
from salsa_agent.core.verification.servers import MailServer, MailServers

AT_ONCE = 4  # D2
SHARE = 2  # D11: places for the relays of one link while those of another wait


class _Place(NamedTuple):
    """A check that holds one of the places. `link`: whose relays share places with others."""

    check: Check
    subject: Subject
    link: str


class Places:
    """A check holds its place, and its servers, until all its conversations are over."""

    def __init__(self, servers: MailServers) -> None:
        self._servers = servers
        self._places: dict[int, _Place] = {}

    @property
    def full(self) -> bool:
        """Whether no other check may start."""
        return len(self._places) >= AT_ONCE

    def has_share_left(self, link: str) -> bool:
        """Whether the relays of this link hold less than their share (D11)."""
        return sum(place.link == link for place in self._places.values()) < SHARE

    def take(self, check: Check, subject: Subject, link: str) -> None:
        """This check has started."""
        self._places[check.serial] = _Place(check, subject, link)

    def subject_of(self, check: Check) -> Subject | None:
        """The relay that this check is for; None: it holds no place any more."""
        place = self._places.get(check.serial)
        return None if place is None else place.subject

    def settle(self, check: Check, contacted: Collection[IPAddress], lingering: Collection[IPAddress]) -> None:
        """Its verdict is in. `lingering`: the addresses with which a conversation is still being ended."""
        port = check.key.port
        spoken_to, still = ([MailServer(ip, port) for ip in ips] for ips in (contacted, lingering))
        self._servers.settle(check.serial, spoken_to, still)
        if not lingering:
            del self._places[check.serial]

    def free(self, check: Check) -> None:
        """Nothing of this check is left."""
        self._places.pop(check.serial, None)
        self._servers.release(check.serial)

    def abandon(self, record: Record) -> list[Command]:
        """End the running check of a relay at once."""
        if record.running is None:
            return []
        check, record.running = record.running, None
        self.free(check)
        return [Abandon(check)]

    def end_lingering(self) -> list[Command]:
        """D1: what is still being ended at a change of the network stands in nobody's way."""
        checks = [place.check for place in self._places.values()]
        for check in checks:
            self.free(check)
        return [Abandon(check) for check in checks]
