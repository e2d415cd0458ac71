"""Rules C2, C3 and C7: which exchange names and relay addresses are let in."""

from __future__ import annotations

import re
from fnmatch import fnmatchcase
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

from salsa_agent.core.model import IPAddress
from salsa_agent.core.settings import Policy

_LABEL = r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
_LABELS = re.compile(rf"{_LABEL}(?:\.{_LABEL})*", re.ASCII)
# what inet_aton(3) takes for an address though its last label is not all digits
_ADDRESS = re.compile(r"((0x[0-9a-f]*|[0-9]+)\.){1,3}0x[0-9a-f]*", re.ASCII)
_MAX_NAME = 253  # RFC 1035 2.3.4, without the root
_BANNED_ZONES = (("localhost",), ("invalid",), ("in-addr", "arpa"), ("ip6", "arpa"))
_THIS_NETWORK = IPv4Network("0.0.0.0/8")
_BROADCAST = IPv4Address("255.255.255.255")
_INTERNAL: tuple[IPv4Network | IPv6Network, ...] = (
    *map(IPv4Network, ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10")),
    IPv6Network("fc00::/7"),
)
_V4_COMPATIBLE = IPv6Network("::/96")  # deprecated (RFC 4291 2.5.5.1)
_TRANSLATED = (IPv6Network("64:ff9b::/96"), IPv6Network("::ffff:0:0:0/96"))  # RFC 6052 2.1, RFC 2765 2.1


def canonical(exchange: str) -> str:
    """The form in which names are compared and published: lower case (ASCII only), no trailing dot."""
    return exchange.translate(_FOLD).removesuffix(".")


_FOLD = {upper: upper + 32 for upper in range(ord("A"), ord("Z") + 1)}


@lru_cache(maxsize=1024)
def hostname_error(name: str) -> str:
    """Why `name` (canonical) is no host name in the sense of C2; empty: it is one."""
    if name == "":
        return "the root is no host name"
    if len(name) > _MAX_NAME:
        return "longer than 253 characters"
    if not _LABELS.fullmatch(name):
        return "not letters, digits and hyphens in labels of 1-63"
    labels = name.split(".")
    if len(labels) < 2:
        return "a single label"
    if labels[-1].isdigit():
        return "all-numeric last label"
    if _ADDRESS.fullmatch(name):  # getaddrinfo(3), and so a mail program, takes 127.0.0.0x1 for 127.0.0.1
        return "an address in the notation of inet_aton"
    for zone in _BANNED_ZONES:
        if tuple(labels[-len(zone) :]) == zone:
            return f"under {'.'.join(zone)}"
    return ""


def address_error(ip: IPAddress) -> str:
    """Why a relay is not spoken to at `ip` (C3); empty: it may be."""
    if ip.is_loopback:
        return "loopback"
    if ip.is_unspecified:
        return "unspecified"
    if ip.is_multicast:
        return "multicast"
    if ip.is_link_local:
        return "link-local"
    if isinstance(ip, IPv4Address):
        if ip == _BROADCAST:
            return "broadcast"
        return "0/8" if ip in _THIS_NETWORK else ""
    if ip.ipv4_mapped is not None:
        return "IPv4-mapped"
    if ip in _V4_COMPATIBLE:
        return "IPv4-compatible"
    reached = leads_to(ip)
    return "" if reached is ip else address_error(reached)


def policy_error(host: str, authenticated: bool, policy: Policy) -> str:
    """Why the administrator's policy leaves this relay out (C7; deny wins); empty: it does not."""
    for pattern in policy.deny:
        if fnmatchcase(host, pattern):
            return f"denied by {pattern}"
    if not any(fnmatchcase(host, pattern) for pattern in policy.allow):
        return "not in policy.allow"
    if policy.require == "dnssec" and not authenticated:
        return "not authenticated by DNSSEC"
    return ""


def is_internal(ip: IPAddress) -> bool:
    """Whether `ip` is private (RFC 1918), shared (RFC 6598) or unique-local (RFC 4193): each network has its own."""
    ip = leads_to(ip)
    return any(ip.version == network.version and ip in network for network in _INTERNAL)


def leads_to(ip: IPAddress) -> IPAddress:
    """The IPv4 address where packets to `ip` end, if NAT64 or a 6to4 tunnel makes it one on the way; else `ip`."""
    if isinstance(ip, IPv4Address):
        return ip
    if any(ip in prefix for prefix in _TRANSLATED):
        return IPv4Address(int(ip) & 0xFFFFFFFF)
    return ip.sixtofour or ip


def literal(host: str) -> IPAddress | None:
    """The address if `host` is an address literal without brackets, else None."""
    try:
        return IPv6Address(host) if ":" in host else IPv4Address(host)
    except ValueError:
        return None


def literal_addresses(host: str) -> tuple[IPAddress, ...]:
    """The address that a literal without brackets is; none for a host name."""
    ip = literal(host)
    return () if ip is None else (ip,)
