"""Rule C11: relays for the mail of some envelope senders."""

from __future__ import annotations

from collections.abc import Iterable
from fnmatch import fnmatchcase

from salsa_agent.core.model import Source
from salsa_agent.core.selection.answers import Answers
from salsa_agent.core.selection.configured import Table, configured_relays, last_resort
from salsa_agent.core.selection.inputs import SelectionInput
from salsa_agent.core.selection.results import Part, SenderList, merged
from salsa_agent.core.settings import Sender

NULL_SENDERS = frozenset({"", "<>", '"<>"'})  # of bounces; the last as Postfix quotes it in a table look-up


def sender_for(address: str, senders: Iterable[Sender]) -> int | None:
    """The place of the entry that holds for an envelope sender, the first of whose patterns match the whole address.

    Case does not matter. None: no entry holds, so the sender has the list of C6, as the null sender always has.
    """
    if address in NULL_SENDERS:
        return None
    folded = address.lower()
    for place, sender in enumerate(senders):
        if any(fnmatchcase(folded, pattern.lower()) for pattern in sender.address):
            return place
    return None


def sender_lists(
    network: Iterable[Part], static: Iterable[Part], inputs: SelectionInput, answers: Answers
) -> tuple[SenderList, ...]:
    """The list of each entry: its own relays, before or after those of the network where it wants them.

    `network`: the parts of the list of C6 with the network's relays; `static`: those with the static relays.
    """
    table = Table(Source.SENDER, inputs.first_link)
    network, static = tuple(network), tuple(static)
    lists: list[SenderList] = []
    for sender in inputs.settings.senders:
        own = configured_relays(sender.relays, table, inputs, answers)
        orders = {"never": own, "last": (*own, *network, *static), "first": (*network, *own, *static)}
        listed = merged(orders[sender.network])._replace(last_resort=last_resort(own))
        lists.append(SenderList(sender, listed))
    return tuple(lists)
