"""Rule C10: the administrator's table of networks, by prefix, interface, domain and NetworkManager connection."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase

from salsa_agent.core.admission import canonical
from salsa_agent.core.model import Address, LinkInfo, Source
from salsa_agent.core.selection.answers import Answers
from salsa_agent.core.selection.configured import Table, configured_relays
from salsa_agent.core.selection.inputs import SelectionInput
from salsa_agent.core.selection.results import Part
from salsa_agent.core.settings import Site


def site_of(interface: str, info: LinkInfo, addresses: Sequence[Address], sites: Iterable[Site]) -> Site | None:
    """The site of a link: the first of the table of which every criterion that it gives holds.

    `addresses`: those of the link that count. The one that a NAT told (G1) is no criterion.
    """
    return next((site for site in sites if _holds(site, interface, info, addresses)), None)


def sites_of_links(inputs: SelectionInput) -> dict[int, Site]:
    """The sites of the links with an address that counts, by the index of the link."""
    infos = {info.ifindex: info for info in inputs.infos}
    found: dict[int, Site] = {}
    for ifindex, interface in dict.fromkeys((address.ifindex, address.interface) for address in inputs.addresses):
        addresses = [address for address in inputs.addresses if address.ifindex == ifindex]
        site = site_of(interface, infos.get(ifindex, LinkInfo(ifindex)), addresses, inputs.settings.sites)
        if site is not None:
            found[ifindex] = site
    return found


def site_relays(site: Site, address: Address, inputs: SelectionInput, answers: Answers) -> tuple[Part, ...]:
    """The relays of a site. `address`: the first of its link, at which they are listed."""
    table = Table(Source.SITE, address.ifindex, str(address.ip), address.interface, site.name)
    return configured_relays(site.relays, table, inputs, answers)


def _holds(site: Site, interface: str, info: LinkInfo, addresses: Sequence[Address]) -> bool:
    """Whether all criteria hold; each holds if one of its values does. One that is empty is not given."""
    domains = {canonical(domain) for domain in info.domains}
    criteria = (
        (site.prefix, any(_lies_in(address, site) for address in addresses)),
        (site.interface, any(fnmatchcase(interface, pattern) for pattern in site.interface)),
        (site.domain, any(canonical(domain) in domains for domain in site.domain)),
        (site.connection, any(_is_connection(given, info) for given in site.connection)),
    )
    given = [holds for values, holds in criteria if values]
    return bool(given) and all(given)


def _lies_in(address: Address, site: Site) -> bool:
    return address.origin == "link" and any(
        address.ip.version == network.version and address.ip in network for network in site.prefix
    )


def _is_connection(given: str, info: LinkInfo) -> bool:
    return bool(given) and (given == info.connection_id or given.lower() == info.connection_uuid.lower())
