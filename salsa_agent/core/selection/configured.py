"""Rules C8 and C12: the relays of the administrator's tables, used as they are configured."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from salsa_agent.core import admission
from salsa_agent.core.model import Relay, RelayEntry, RelayKey, Source, SrvEntry
from salsa_agent.core.selection.answers import Answers, address_questions
from salsa_agent.core.selection.inputs import SelectionInput
from salsa_agent.core.selection.results import Part
from salsa_agent.core.selection.srv import relays_of_domain


class Table(NamedTuple):
    """The table of the configuration that relays stand in.

    `ifindex`: the link by whose servers their names are looked up (F1). The others as in `Relay`.
    """

    source: Source
    ifindex: int
    address: str = ""
    interface: str = ""
    site: str = ""


def configured_relays(
    entries: Iterable[RelayEntry], table: Table, inputs: SelectionInput, answers: Answers
) -> tuple[Part, ...]:
    """The relays of a table, a part for each of its entries."""
    relay = Relay(
        key=RelayKey("", 0),
        source=table.source,
        address=table.address,
        interface=table.interface,
        site=table.site,
        administrator=True,
    )
    return tuple(_of_entry(entry, relay, table.ifindex, inputs, answers) for entry in entries)


def last_resort(parts: Iterable[Part]) -> RelayKey | None:
    """D3: the first relay that stems from the first entry that has one."""
    return next((part.relays[0].key for part in parts if part.relays), None)


def _of_entry(entry: RelayEntry, blank: Relay, ifindex: int, inputs: SelectionInput, answers: Answers) -> Part:
    if isinstance(entry, SrvEntry):
        return relays_of_domain(entry.domain, blank, inputs.view.servers_for(entry.domain, ifindex), inputs, answers)
    addresses = admission.literal_addresses(entry.host)
    if not addresses:
        servers = inputs.view.servers_for(entry.host, ifindex)
        answers.lookups.setdefault(entry, address_questions(entry.host, servers, hosts=True))
    return Part((blank._replace(key=entry, addresses=addresses),))
