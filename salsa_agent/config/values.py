"""The forms and ranges of configuration values (salsa-agent.toml(5)).

Every form takes what TOML gave and returns the value in its canonical form, or raises ValueError with a plain phrase
that says what it must be.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import TypeVar

from salsa_agent.config.bounds import MOST_ENTRIES, MOST_TEXT
from salsa_agent.core import admission as names
from salsa_agent.core.model import RelayEntry, RelayKey, Server, SrvEntry
from salsa_agent.core.settings import Endpoint, InetEndpoint, TrustedServer, UnixEndpoint
from salsa_agent.text import sanitize, split_host_port

T = TypeVar("T")
UnportedRelay = tuple[str, int | None] | SrvEntry  # a relay as it is written; port None: none is given

DNS_PORT = 53
STUN_PORT = 3478  # RFC 8489 section 18.6

# An underscore is no part of a host name (RFC 1123 2.1), but of names that administrators use (rule C8)
_LABEL = re.compile(r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?", re.ASCII)
_MAX_NAME = 253
_MAX_SRV_DOMAIN = _MAX_NAME - len("_submissions._tcp.")
_PREFIX = re.compile(r"[0-9a-fA-F.:]+(/[0-9]{1,3})?", re.ASCII)
MAX_TEXT = 255  # characters of a site's name, of an id of NetworkManager: more is a mistake
_SCOPE = re.compile(r"[!-~]{1,15}", re.ASCII)  # IFNAMSIZ - 1
_LOCAL_PART = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+(\.[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+)*", re.ASCII)
_MAX_UNIX_PATH = 107  # sun_path of linux/un.h, less its NUL


class WrongEntries(ValueError):
    """Entries of a list are wrong. `reasons`: a phrase for each; the error's own is the first."""

    def __init__(self, reasons: Iterable[str]) -> None:
        self.reasons = tuple(reasons)
        super().__init__(self.reasons[0])


# --- plain values


def flag(value: object) -> bool:
    """`true` or `false`."""
    if not isinstance(value, bool):
        raise ValueError("must be true or false")
    return value


def whole(low: int, high: int, *, or_zero: bool = False) -> Callable[[object], int]:
    """A whole number in a range, or 0 where that has a meaning of its own."""

    def form(value: object) -> int:
        if type(value) is int and (low <= value <= high or (or_zero and value == 0)):  # a bool is no number
            return value
        raise ValueError(f"must be {'0 or ' if or_zero else ''}a whole number from {low} to {high}")

    return form


def seconds(low: float, high: float) -> Callable[[object], float]:
    """A number in a range; NaN is in none."""

    def form(value: object) -> float:
        if type(value) in (int, float) and low <= value <= high:  # type: ignore[operator]  # narrowed by the first half
            return float(value)  # type: ignore[arg-type]
        raise ValueError(f"must be a number of seconds from {low:g} to {high:g}")

    return form


def word(*known: str) -> Callable[[object], str]:
    """One of some words."""

    def form(value: object) -> str:
        if isinstance(value, str) and value in known:
            return value
        raise ValueError(f"must be one of {', '.join(known)}")

    return form


def text(item: Callable[[str], T], *, empty: T) -> Callable[[object], T]:
    """A string of the form `item`; the empty one is `empty`."""

    def form(value: object) -> T:
        if not isinstance(value, str):
            raise ValueError("must be a string")
        return item(value) if value else empty

    return form


def required_text(item: Callable[[str], T]) -> Callable[[object], T]:
    """A string of the form `item`, which is also asked about the empty one."""

    def form(value: object) -> T:
        if not isinstance(value, str):
            raise ValueError("must be a string")
        return item(value)

    return form


def texts(item: Callable[[str], T], *, empty: bool = True) -> Callable[[object], tuple[T, ...]]:
    """A list of strings of the form `item`; of equal ones the first stays. `empty`: it may be.

    What is returned raises WrongEntries, or ValueError for what is no such list.
    """

    def form(value: object) -> tuple[T, ...]:
        if not isinstance(value, list) or not all(isinstance(entry, str) for entry in value):
            raise ValueError("must be a list of strings")
        if len(value) > MOST_ENTRIES:
            raise ValueError(f"must have at most {MOST_ENTRIES} entries")
        if not value and not empty:
            raise ValueError("must not be empty")
        right: dict[T, None] = {}
        wrong: dict[str, None] = {}
        for entry in value:
            try:
                right[item(entry)] = None
            except ValueError as error:
                wrong[str(error)] = None
        if wrong:
            raise WrongEntries(wrong)
        return tuple(right)

    return form


def levels(step: int, low: int, high: int) -> Callable[[object], tuple[int, ...]]:
    """Prefix lengths at which the reverse tree is asked, the most specific first (rule B3)."""

    def form(value: object) -> tuple[int, ...]:
        if (
            isinstance(value, list)
            and len(value) <= MOST_ENTRIES
            and all(type(level) is int and low <= level <= high and level % step == 0 for level in value)
        ):
            return tuple(sorted(set(value), reverse=True))
        raise ValueError(f"must be a list of multiples of {step} from {low} to {high}")

    return form


# --- hosts, addresses, ports


def relay(given: str) -> tuple[str, int | None]:
    """`host`, `host:port`, `192.0.2.1`, `192.0.2.1:25`, `2001:db8::1`, `[2001:db8::1]:587`."""
    host, port = _split(given)
    return _host(host, given), port


def relay_entry(given: str) -> UnportedRelay:
    """A form of `relay`, or `srv:DOMAIN` (rule C12)."""
    kind, colon, domain = given.partition(":")
    if not colon or kind.lower() != "srv":
        return relay(given)
    name = names.canonical(domain)
    if not _is_name(name) or len(name) > _MAX_SRV_DOMAIN:
        raise ValueError(f"{_quoted(given)}: what follows srv: is not a domain")
    return SrvEntry(name)


def with_port(entries: Iterable[UnportedRelay], port: int) -> tuple[RelayEntry, ...]:
    """The entries of a list of relays, `port` filled in where none is given; of equal ones the first stays."""
    return tuple(
        dict.fromkeys(
            entry if isinstance(entry, SrvEntry) else RelayKey(entry[0], entry[1] or port) for entry in entries
        )
    )


def stun_server(given: str) -> RelayKey:
    """`host` or `host:port`, with the port filled in."""
    host, port = relay(given)
    return RelayKey(host, port or STUN_PORT)


def dns_server(given: str) -> Server:
    """`addr`, `addr:port` or `[addr]:port`; a link-local one with its scope, as in `fe80::1%eth0`."""
    host, port = _split(given)
    return Server(_address(host, given), port or DNS_PORT)


def trusted_server(given: str) -> TrustedServer:
    """The forms of `dns_server`; without a port, the server on any port."""
    host, port = _split(given)
    return TrustedServer(_address(host, given), port)


def endpoint(given: str) -> Endpoint:
    """Where the socketmap listens: `inet:127.0.0.1:8462`, `inet:[::1]:8462` or `unix:/path`."""
    kind, _, rest = given.partition(":")
    if kind == "unix":
        path = absolute_path(rest)
        if len(path.encode()) > _MAX_UNIX_PATH:
            raise ValueError(f"{_quoted(given)}: the path of a socket has at most {_MAX_UNIX_PATH} bytes")
        return UnixEndpoint(path)
    if kind != "inet":
        raise ValueError(f"{_quoted(given)} is neither inet:ADDRESS:PORT nor unix:/PATH")
    host, port = _split(rest)
    address = _address(host, given)
    if port is None:
        raise ValueError(f"{_quoted(given)} has no port; an IPv6 address must be in brackets")
    return InetEndpoint(address, port)


def _split(given: str) -> tuple[str, int | None]:
    """Host and port, where there is one. Raises ValueError that names what was given."""
    try:
        return split_host_port(given)
    except ValueError as error:
        raise ValueError(f"{_quoted(given)}: {error}") from None


def _host(host: str, given: str) -> str:
    """A host name or an address literal, canonical."""
    if literal := names.literal(host):
        if isinstance(literal, IPv6Address) and literal.scope_id:
            raise ValueError(f"{_quoted(given)}: a relay's address has no scope")
        return str(literal)
    name = names.canonical(host)
    if not _is_name(name):
        raise ValueError(f"{_quoted(given)} is neither a host name nor an address")
    return name


def _is_name(name: str) -> bool:
    """Whether `name` (canonical) is a name that a host or a domain may have; an underscore and one label will do."""
    labels = name.split(".")
    return len(name) <= _MAX_NAME and all(_LABEL.fullmatch(label) for label in labels) and not labels[-1].isdigit()


def _address(host: str, given: str) -> str:
    try:
        address = ip_address(host)
    except ValueError:
        raise ValueError(f"{_quoted(given)} is not an address, with or without a port") from None
    if isinstance(address, IPv6Address) and address.scope_id and not _SCOPE.fullmatch(address.scope_id):
        raise ValueError(f"{_quoted(given)}: the scope is not the name of an interface")
    return str(address)


# --- other strings


def pattern(given: str) -> str:
    """A shell pattern, as fnmatch takes it."""
    if not given or not given.isprintable() or len(given) > MOST_TEXT:
        raise ValueError(f"{_quoted(given)} is not a shell pattern of 1 to {MOST_TEXT} printable characters")
    if "[" in given and "]" not in given.partition("[")[2]:
        raise ValueError(f"{_quoted(given)} is not a shell pattern: a [ without its ]")
    return given


def host_pattern(given: str) -> str:
    """A shell pattern on a host name, folded as host names are (rule C2)."""
    return names.canonical(pattern(given))


def address_pattern(given: str) -> str:
    """A shell pattern on a whole mail address, `user@domain`, without case (rule C11)."""
    if "@" not in given and not any(wild in given for wild in "*?["):
        raise ValueError(f"{_quoted(given)} matches no address user@domain; for a whole domain write *@DOMAIN")
    return pattern(given).lower()


def prefix(given: str) -> IPv4Network | IPv6Network:
    """`10.1.0.0/16`, `2001:db8::/32`, or one address."""
    try:
        if not _PREFIX.fullmatch(given):
            raise ValueError
        network = ip_network(given, strict=False)
    except ValueError:
        raise ValueError(f"{_quoted(given)} is not a prefix such as 192.0.2.0/24 or 2001:db8::/32") from None
    if str(network.network_address) != str(ip_address(given.partition("/")[0])):
        raise ValueError(f"{_quoted(given)} is an address inside a prefix; the prefix is {network}")
    return network


def domain(given: str) -> str:
    """A search or routing domain, without case and final dot; `.` is the root (rule C10)."""
    name = names.canonical(given)
    if given == ".":
        return given
    if not _is_name(name):
        raise ValueError(f"{_quoted(given)} is not a domain; a routing domain is written without ~")
    return name


def plain_name(given: str) -> str:
    """A name that people and programs give to things: a site, a connection of NetworkManager."""
    if not given or not given.isprintable() or len(given) > MAX_TEXT:
        raise ValueError(f"{_quoted(given)} is not a name of 1 to {MAX_TEXT} printable characters")
    return given


def absolute_path(given: str) -> str:
    """An absolute path without control characters."""
    if not given.startswith("/") or not given.isprintable():
        raise ValueError(f"{_quoted(given)} is not an absolute path")
    return given


def mailbox(given: str) -> str:
    """A mailbox that RCPT TO may name as it is (RFC 5321 section 4.1.2; no quoted local part, no literal)."""
    local, at, domain = given.rpartition("@")
    if not at or len(given) > 254 or len(local) > 64 or not _LOCAL_PART.fullmatch(local):
        raise ValueError(f"{_quoted(given)} is not a mail address")
    if names.literal(domain) is not None:
        raise ValueError(f"{_quoted(given)} is not a mail address")
    return f"{local}@{_host(domain, given)}"


def _quoted(given: str) -> str:
    return f'"{sanitize(given)}"'
