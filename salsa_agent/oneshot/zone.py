"""What an operator publishes for a prefix: the names in the reverse tree at which agents ask, by zone. No IO.

The records are such that an agent at any address of the prefix finds them by rule B1, and one at no other address does.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network

from salsa_agent.core.admission import canonical, hostname_error
from salsa_agent.core.model import Mx, Srv
from salsa_agent.core.reverse_names import name_at
from salsa_agent.core.settings import Network

IPNetwork = IPv4Network | IPv6Network

MAX_NAMES = 65536
NULL_MX = Mx(0, ".")  # RFC 7505

_LEVELS = {4: Network().ipv4_levels, 6: Network().ipv6_levels}
_CUT = {4: 8, 6: 4}  # bits of one label: where a reverse zone may begin
_DEEPEST_CUT = {4: 24, 6: 64}  # one for a single address is no use
# No address in these counts (A2), or an agent could never have it.
_NEVER = tuple(
    ip_network(text)
    for text in ("0.0.0.0/8", "127.0.0.0/8", "169.254.0.0/16", "192.0.0.0/29", "224.0.0.0/3",
                 "::/96", "::ffff:0:0/96", "fe80::/10", "ff00::/8")
)  # fmt: skip


@dataclass(slots=True)
class Zone:
    """What goes into one zone. Names are absolute, without a trailing dot.

    `owners`: the names that get the MX set. `aliases`: owner and target of each CNAME into `children`, the zones of
    RFC 2317 below this one. `classless`: this zone is such a child.
    """

    name: str
    prefixes: list[IPNetwork] = field(default_factory=list)
    owners: list[str] = field(default_factory=list)
    aliases: list[tuple[str, str]] = field(default_factory=list)
    children: list[str] = field(default_factory=list)
    classless: bool = False


def prefix(text: str) -> IPNetwork:
    """An IPv4 or IPv6 prefix, or an address, which is the longest one. Raises ValueError, one clear sentence."""
    try:
        network = ip_network(text, strict=False)
    except ValueError:
        raise ValueError(f"{text!r} is no IPv4 or IPv6 prefix, such as 192.0.2.0/24 or 2001:db8::/48") from None
    if "%" in text:
        raise ValueError(f"{text!r}: the reverse tree knows no zones of addresses")
    if ip_address(text.partition("/")[0]) != network.network_address:
        raise ValueError(f"{text!r} has bits set behind its length; the prefix is {network}")
    for never in _NEVER:
        if is_within(network, never):
            raise ValueError(f"{text!r}: no agent asks for an address in {never}")
    return network


def exchange(text: str) -> Mx:
    """An MX record from `PREFERENCE:HOST`; `0:.` is the null MX. Raises ValueError, one clear sentence."""
    preference, colon, name = text.partition(":")
    whole = preference.isascii() and preference.isdecimal() and len(preference) <= 5
    if not colon or not whole or int(preference) > 65535:
        raise ValueError(f"{text!r} is not of the form PREFERENCE:HOST with a preference from 0 to 65535")
    mx = Mx(int(preference), name)
    if name == ".":
        if mx != NULL_MX:
            raise ValueError(f"{text!r}: a null MX, which says that there is no relay, is 0:. (RFC 7505)")
        return mx
    host = canonical(name)
    if _is_literal(host):
        raise ValueError(f"{text!r}: an exchange is a host name, not an address (RFC 1035 section 3.3.9)")
    if reason := hostname_error(host):
        raise ValueError(f"{text!r}: agents drop an exchange that is no host name ({reason})")
    return Mx(mx.preference, host)


def service(text: str, port: int) -> Srv:
    """An SRV record from `PRIORITY:HOST[:PORT]` (B8). `port`: where none is given. ValueError, one clear sentence."""
    priority, _, rest = text.partition(":")
    name, colon, given = rest.rpartition(":")
    if not colon:
        name, given = rest, str(port)
    numbers = [int(one) for one in (priority, given) if one.isascii() and one.isdecimal() and len(one) <= 5]
    if len(numbers) != 2 or not name or numbers[0] > 65535 or not 1 <= numbers[1] <= 65535:
        raise ValueError(f"{text!r} is not of the form PRIORITY:HOST or PRIORITY:HOST:PORT, with numbers up to 65535")
    host = canonical(name)
    if reason := hostname_error(host):
        raise ValueError(f"{text!r}: agents drop a target that is no host name ({reason})")
    return Srv(numbers[0], 0, numbers[1], host)


def _is_literal(text: str) -> bool:
    try:
        ip_address(text.strip("[]"))
    except ValueError:
        return False
    return True


def level_of(network: IPNetwork, levels: Sequence[int] = ()) -> int:
    """The level at which a prefix is published: the least specific one that is no wider than the prefix."""
    return min((level for level in levels or _LEVELS[network.version] if level >= network.prefixlen), default=0)


def names_of(network: IPNetwork, level: int) -> Iterator[str]:
    """The reverse names of all subnets of this length, in order."""
    step = 1 << (network.max_prefixlen - level)
    first = int(network.network_address)
    kind = type(network.network_address)
    for index in range(1 << (level - network.prefixlen)):
        yield name_at(kind(first + index * step), level)


def zones_for(prefixes: Iterable[IPNetwork], *, separator: str = "/", direct: bool = False) -> list[Zone]:
    """The zones that hold the records of these prefixes, each before the zones below it.

    A zone begins at the octet or nibble boundary at or below the prefix, though not below /24 and /64: names deeper
    down stand in the zone of that length. IPv4 prefixes from /25 to /31 have a child zone of RFC 2317, such as
    64/26.2.0.192.in-addr.arpa, with the `separator` in its first label, and aliases in the /24; with `direct` they have
    neither, and their names stand in the /24. Raises ValueError when there would be more than MAX_NAMES names.
    """
    found: dict[str, Zone] = {}
    wanted = _widest(prefixes)
    count = sum(1 << (level_of(network) - network.prefixlen) for network in wanted)
    if count > MAX_NAMES:
        raise ValueError(_too_many(wanted, count))
    for network in wanted:
        level, bits, deepest = level_of(network), _CUT[network.version], _DEEPEST_CUT[network.version]
        cut = min(-(-network.prefixlen // bits) * bits, deepest)
        if network.version == 4 and cut < network.prefixlen < 32 and not direct:
            _classless(found, network, name_at(network.network_address, cut), separator)
            continue
        sections = network.subnets(new_prefix=cut) if cut > network.prefixlen else (network,)
        for section in sections:
            zone = _zone(found, name_at(section.network_address, cut), network)
            zone.owners.extend(names_of(section, level))
    return list(found.values())


def _classless(found: dict[str, Zone], network: IPNetwork, parent_name: str, separator: str) -> None:
    """RFC 2317: the names of the addresses in a child zone, and aliases to them in the zone of the /24."""
    last = str(network.network_address).rpartition(".")[2]
    parent = _zone(found, parent_name, network)
    child = _zone(found, f"{last}{separator}{network.prefixlen}.{parent_name}", network)
    child.classless = True
    parent.children.append(child.name)
    for name in names_of(network, 32):
        target = f"{name.partition('.')[0]}.{child.name}"
        parent.aliases.append((name, target))
        child.owners.append(target)


def _zone(found: dict[str, Zone], name: str, network: IPNetwork) -> Zone:
    zone = found.setdefault(name, Zone(name))
    if network not in zone.prefixes:
        zone.prefixes.append(network)
    return zone


def _widest(prefixes: Iterable[IPNetwork]) -> list[IPNetwork]:
    """Without those that another one contains, in the order given."""
    given = list(dict.fromkeys(prefixes))
    return [one for one in given if not any(other != one and is_within(one, other) for other in given)]


def is_within(one: IPNetwork, other: IPNetwork) -> bool:
    """Whether all addresses of `one` are in `other`."""
    if isinstance(one, IPv4Network):
        return isinstance(other, IPv4Network) and one.subnet_of(other)
    return isinstance(other, IPv6Network) and one.subnet_of(other)


def _too_many(wanted: Sequence[IPNetwork], count: int) -> str:
    worst = max(wanted, key=lambda network: level_of(network) - network.prefixlen)
    level = level_of(worst)
    if worst.version == 6 and worst.prefixlen > 64:
        advice = "publish its /64 instead"
    else:
        advice = "give the parts of it that are in use"
    return (
        f"{worst} stands in the tree as names at /{level}, and there would be {count:,} names in all, "
        f"more than {MAX_NAMES:,}: {advice}"
    )
