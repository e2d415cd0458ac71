"""resolv.conf(5), as text: the name servers, the search list, and the options that the rules F2 and F3 name."""

from __future__ import annotations

import socket
from ipaddress import IPv6Address, ip_address
from typing import NamedTuple

from salsa_agent.core.model import IPAddress


class Nameserver(NamedTuple):
    """A `nameserver` line. `scope`: the zone of a link-local IPv6 address, an interface's name or index (RFC 4007)."""

    ip: IPAddress
    scope: str = ""


class ResolvConf(NamedTuple):
    """`trust_ad`: `options trust-ad`, the AD bit of these name servers counts. `use_vc`: `options use-vc`, TCP only.

    `search`: the domains of the last `search` or `domain` line, as written.
    """

    nameservers: tuple[Nameserver, ...] = ()
    trust_ad: bool = False
    use_vc: bool = False
    search: tuple[str, ...] = ()


def parse(text: str) -> ResolvConf:
    """What a file with this text says. A line that makes no sense is left out, as glibc does; the others count.

    As in glibc (resolv/res_init.c) a keyword begins in the first column and ends with a blank, what follows an address
    on its line is ignored, and options add up. Unlike there, all name servers are kept, not only the first three, and a
    carriage return is a blank.
    """
    nameservers: dict[Nameserver, None] = {}
    options: set[str] = set()
    search: tuple[str, ...] = ()
    for line in text.split("\n"):
        words = line.replace("\t", " ").replace("\r", " ").split(" ")
        values = [word for word in words[1:] if word]
        if words[0] == "nameserver" and values:
            nameserver = _nameserver(values[0])
            if nameserver is not None:
                nameservers[nameserver] = None
        elif words[0] == "options":
            options.update(values)
        elif words[0] == "search" and values:
            search = tuple(values)
        elif words[0] == "domain" and values:
            search = (values[0],)
    return ResolvConf(tuple(nameservers), "trust-ad" in options, "use-vc" in options, search)


def _nameserver(word: str) -> Nameserver | None:
    address, zone, scope = word.partition("%")
    try:
        ip = ip_address(address)
    except ValueError:
        return _short_form(word)
    if isinstance(ip, IPv6Address) and ip.is_link_local:
        return Nameserver(ip, scope)
    if ip.version == 4 and zone:
        return None
    if ip.is_unspecified:  # where a socket reaches the host itself
        return Nameserver(ip_address("::1" if ip.version == 6 else "127.0.0.1"))
    return Nameserver(ip)


def _short_form(word: str) -> Nameserver | None:
    """IPv4 addresses as inet_aton(3) takes them: `127.1`."""
    try:
        ip = ip_address(socket.inet_aton(word))
    except (OSError, ValueError):  # ValueError: what is not ASCII, or holds NUL
        return None
    return None if ip.is_unspecified else Nameserver(ip)
