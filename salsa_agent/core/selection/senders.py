"""Rule C11: the lists for the mail of some envelope senders. Which entry holds for one: `core.senders`."""

from __future__ import annotations

from collections.abc import Iterable

from salsa_agent.core.model import Source
from salsa_agent.core.selection.answers import Answers
from salsa_agent.core.selection.configured import Table, configured_relays, last_resort
from salsa_agent.core.selection.inputs import SelectionInput
from salsa_agent.core.selection.results import Part, SenderList, merged


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
