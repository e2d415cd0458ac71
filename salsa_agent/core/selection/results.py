"""What a selection comes to: the lists of relays, the evidence for them, and the questions that they rest on."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

from salsa_agent.core.model import Dropped, Evidence, Question, Relay, RelayKey
from salsa_agent.core.selection.answers import Lookup
from salsa_agent.core.settings import Sender


class Part(NamedTuple):
    """What one rule gives to a list of relays.

    `settled`: no pending answer can add a relay to it or take one away. Until then `relays` are those at its front
    that no pending answer can move; more may come behind them.
    """

    relays: tuple[Relay, ...] = ()
    dropped: tuple[Dropped, ...] = ()
    settled: bool = True


class RelayList(NamedTuple):
    """One list in order C6, without its verdicts.

    `firm`: so many relays at its front can no longer change by a pending answer. `last_resort`: the entry that is used
    where no relay is `ok` (D3); None: there is none.
    """

    relays: tuple[Relay, ...] = ()
    firm: int = 0
    settled: bool = True
    last_resort: RelayKey | None = None
    dropped: tuple[Dropped, ...] = ()


class SenderList(NamedTuple):
    """The list for the senders that an entry of the configuration holds for (C11)."""

    sender: Sender
    list: RelayList


@dataclass(frozen=True, slots=True)
class Choice:
    """The lists as far as the answers go.

    `relays`, `firm`, `settled`, `last_resort`: of the list of C6, see `RelayList`. `senders`: the lists of C11.
    `wanted`: every question of this selection, the most important first, with the level of those for MX.
    `depends_on`: the answered ones among them whose expiry or failure changes something. `failing`: one of those that
    the list of C6 depends on failed. `lookups`: the questions for the addresses of relays that C8 trusts as configured,
    which only their verification needs. `exchanges`: those whose addresses are looked up (C5).
    """

    relays: tuple[Relay, ...] = ()
    firm: int = 0
    settled: bool = True
    last_resort: RelayKey | None = None
    senders: tuple[SenderList, ...] = ()
    evidence: tuple[Evidence, ...] = ()
    dropped: tuple[Dropped, ...] = ()
    wanted: dict[Question, int | None] = field(default_factory=dict)
    depends_on: dict[Question, None] = field(default_factory=dict)
    failing: bool = False
    lookups: dict[RelayKey, tuple[Question, ...]] = field(default_factory=dict)
    exchanges: frozenset[Lookup] = frozenset()


def merged(parts: Iterable[Part]) -> RelayList:
    """C6: the parts one after the other; of two entries with the same host and port the first stays at its place.

    Where a later one is the administrator's, the first is treated as the administrator's, too, and under the conditions
    of the later one: it is at the addresses of that (C8), and what SRV records name must prove its name (C12).
    """
    relays: dict[RelayKey, Relay] = {}
    firm, settled = 0, True
    dropped: list[Dropped] = []
    for part in parts:
        for relay in part.relays:
            first = relays.get(relay.key)
            if first is None:
                relays[relay.key] = relay
            elif relay.administrator and not first.administrator:
                relays[relay.key] = first._replace(administrator=True, srv=relay.srv, addresses=relay.addresses)
        dropped += part.dropped
        if settled:
            firm, settled = len(relays), part.settled
    return RelayList(tuple(relays.values()), firm, settled, dropped=tuple(dropped))
