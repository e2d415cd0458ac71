"""Arguments of calls, as anybody may give them: checked and brought into form before anything is done or kept.

Each function raises InvalidArgs with one sentence that names the argument.
"""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import ip_address
from typing import Any

from salsa_agent.bus import message as wire
from salsa_agent.bus.api import MAX_LINK_RELAYS, InvalidArgs, UnknownMember
from salsa_agent.bus.interface import Method
from salsa_agent.bus.message import Header, Malformed
from salsa_agent.bus.router import MAX_CALL
from salsa_agent.core.admission import canonical
from salsa_agent.core.model import IPAddress
from salsa_agent.core.senders import MAX_SENDER, may_be_sender
from salsa_agent.text import sanitize

MAX_HOST = 253  # RFC 1035 section 2.3.4; a literal is shorter
_MAX_RELAY = MAX_HOST + len("[]:65535")


def read(method: Method | None, call: Header, body: bytes | None, first: int = 9) -> list[Any]:
    """The arguments of a call, or the `first` of them, if their types are what the method takes.

    Raises InvalidArgs, UnknownMember.
    """
    if method is None:
        raise UnknownMember("UnknownMethod", "This interface has no such method.")
    if call.signature != method.signature:
        expected = f"({', '.join(f'{kind} {name}' for name, kind in method.in_args)})"
        raise InvalidArgs(f"{call.member} takes {expected if method.in_args else 'no arguments'}.")
    if body is None:
        raise InvalidArgs(f"The arguments are larger than {MAX_CALL} octets.")
    try:
        return wire.decode("".join(kind for _, kind in method.in_args[:first]), body, little=call.little)
    except Malformed:
        raise InvalidArgs("The arguments are damaged.") from None


def checked(member: str, given: list[Any]) -> list[Any]:
    """The arguments of a method of org.salsa.Agent1 in the agent's own values. Raises InvalidArgs."""
    return [check(value) for check, value in zip(_CHECKS.get(member, ()), given, strict=True)]


def host(text: str) -> str:
    """The host of a relay as it is published: lower case, no trailing dot."""
    if not 0 < len(text) <= MAX_HOST or not (text.isascii() and text.isprintable()):
        raise InvalidArgs(f"host must be 1 to {MAX_HOST} printable ASCII characters.")
    return canonical(text)


def port(number: int) -> int:
    """A port that a relay can have."""
    if number == 0:
        raise InvalidArgs("port must be 1 to 65535.")
    return number


def address(text: str) -> IPAddress:
    """An address to look up; a scope says nothing of a reverse name."""
    try:
        if "%" not in text and len(text) < 64:
            return ip_address(text)
    except ValueError:
        pass
    raise InvalidArgs("address must be an IPv4 or IPv6 address.")


def sender(text: str) -> str:
    """An envelope sender (rule C11); empty and `<>`: the null sender."""
    if not may_be_sender(text):
        raise InvalidArgs(f"sender must be at most {MAX_SENDER} characters, without control characters.")
    return text


def ifindex(number: int) -> int:
    """The index of a network interface."""
    if number < 1:
        raise InvalidArgs("ifindex must be the index of a network interface.")
    return number


def link_relays(relays: list[str]) -> list[str]:
    """Relays of a link, still to be looked at one by one: a bad one does not cost the others (rule C9)."""
    if len(relays) > MAX_LINK_RELAYS:
        raise InvalidArgs(f"A link has at most {MAX_LINK_RELAYS} relays.")
    if relays and not any(map(_might_be_relay, relays)):
        raise InvalidArgs("relays must be of the form host, host:port, address or [address]:port.")
    return [relay if _might_be_relay(relay) else sanitize(relay) for relay in relays]


def _might_be_relay(text: str) -> bool:
    return 0 < len(text) <= _MAX_RELAY and text.isascii() and text.isprintable()


_CHECKS: dict[str, tuple[Callable[[Any], Any], ...]] = {
    "ReportFailure": (host, port, sanitize),
    "RelayFor": (sender,),
    "Lookup": (address,),
    "SetLinkRelays": (ifindex, link_relays),
    "RevertLink": (ifindex,),
}
