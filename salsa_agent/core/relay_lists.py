"""The lists of relays of a round, that of C6 and those of the senders (C11), as far as they may be verified."""

from __future__ import annotations

from collections.abc import Callable
from itertools import takewhile
from typing import NamedTuple

from salsa_agent.core.model import Relay, RelayKey, Source
from salsa_agent.core.selection import Choice, RelayList


class ActiveList(NamedTuple):
    """One list.

    `firm`: the relays at its front that nothing that is awaited can change. `settled`: that is all of them, and no more
    come. `last_resort`: the one to use where none is `ok` (D3).
    """

    relays: tuple[Relay, ...] = ()
    firm: tuple[Relay, ...] = ()
    settled: bool = False
    last_resort: RelayKey | None = None


def active_lists(choice: Choice, before_external: frozenset[str] | None, *, late: bool) -> tuple[ActiveList, ...]:
    """The list of C6, then those of the senders, in their order.

    `before_external`: while the external address is awaited, the links whose relays go before those that it may bring
    (G1); None: it is not awaited. `late`: nothing is awaited any more (E4).
    """
    of_network = _active(choice, before_external, late, lambda relay: relay.interface in (before_external or ()))
    lists = [of_network]
    for sender, found in choice.senders:
        awaited = None if sender.network == "never" else before_external
        own_first = sender.network == "last"

        def in_front(relay: Relay, own_first: bool = own_first) -> bool:
            return relay.interface in (before_external or ()) or (own_first and relay.source is Source.SENDER)

        lists.append(_active(found, awaited, late, in_front))
    return tuple(lists)


def _active(
    found: Choice | RelayList, awaited: frozenset[str] | None, late: bool, in_front: Callable[[Relay], bool]
) -> ActiveList:
    if late or (found.settled and awaited is None):
        return ActiveList(found.relays, found.relays, True, found.last_resort)
    firm = found.relays[: found.firm]
    return ActiveList(
        found.relays, firm if awaited is None else tuple(takewhile(in_front, firm)), False, found.last_resort
    )
