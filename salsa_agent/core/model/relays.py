"""Relays: how they are named, where they came from, and what came of speaking to them (rules C and D)."""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple

from salsa_agent.core.model.host import IPAddress

SUBMISSIONS_PORT = 465  # RFC 8314 section 3.3


class Verdict(StrEnum):
    """What is known of one relay."""

    UNVERIFIED = "unverified"
    OK = "ok"
    FAILED = "failed"


class Source(StrEnum):
    """Where a relay came from. `NONE` is the source of the best relay when there is none."""

    SITE = "site"  # the administrator's table of networks (rule C10)
    LINK = "link"  # the link's own configuration, such as DHCP option 69 (rule C9)
    DNS = "dns"  # MX records of the reverse tree
    SENDER = "sender"  # the administrator's table of senders (rule C11)
    STATIC = "static"  # `static.relays`
    NONE = "none"


ADMINISTRATOR = frozenset({Source.SITE, Source.SENDER, Source.STATIC})  # sources that rule C8 trusts as configured


class RelayKey(NamedTuple):
    """What makes two relays the same (rule C6). `host`: lower case, no trailing dot, no brackets."""

    host: str
    port: int


class SrvEntry(NamedTuple):
    """`srv:DOMAIN` in the configuration: the relays that the SRV records of `domain` name (rule C12)."""

    domain: str  # lower case, no trailing dot


RelayEntry = RelayKey | SrvEntry  # a relay as the administrator configures it


class LinkRelays(NamedTuple):
    """What the configuration of one link gives (C9), known by its index and its name. Ports are filled in later."""

    ifindex: int
    interface: str
    relays: tuple[RelayKey, ...]


def demanded_tls(configured: str, srv: str) -> str:
    """What is asked of a relay for `verify.tls`: of one that `_submission` names STARTTLS in any case (B8, D7)."""
    return "offered" if srv == "submission" and configured == "off" else configured


class Relay(NamedTuple):
    """One entry of the list before its verdict: what it is and where it came from.

    `administrator`: its source, or that of an entry further down with the same host and port, is `site`, `sender` or
    `static`: the rules for the administrator's relays (C8, D10, D11) hold for it. `srv`: the service of the SRV record
    that it came from, `submissions` or `submission` (rules B8, C12); empty: it came from none.
    """

    key: RelayKey
    source: Source
    addresses: tuple[IPAddress, ...] = ()  # where it is spoken to; of a static name they are looked up later
    preference: int | None = None  # of the MX record, or the priority of the SRV record
    name: str = ""  # the reverse name or SRV name that answered
    level: int | None = None
    address: str = ""  # the own address
    interface: str = ""
    authenticated: bool | None = None
    expires: float | None = None  # engine time; see Publication
    site: str = ""  # the name of the site that gave it (rule C10)
    srv: str = ""
    administrator: bool = False

    @property
    def proves_name(self) -> bool:
        """Whether its certificate must be valid for its name, whatever `verify.tls` says (rule C12)."""
        return bool(self.srv) and self.administrator

    @property
    def implicit_tls(self) -> bool:
        """Whether TLS begins with the first octet (RFC 8314 section 3.3): port 465, or from `_submissions`."""
        return self.key.port == SUBMISSIONS_PORT or self.srv == "submissions"


class CheckResult(NamedTuple):
    """What came of speaking to a relay (rules D1, D9, D10).

    `reason`: printable ASCII, at most 200 characters. `tls`: `implicit`, `starttls`, `none`; empty: not known. `auth`:
    AUTH is offered, None: not known. `wants_auth`: mail is taken only after AUTH. `permanent`: only an administrator
    can mend it. `transient_reply`: the relay answered with a 4xx. `servers`: what came of each of its addresses;
    empty: that of all of them.
    """

    verdict: Verdict
    reason: str = ""
    starttls: bool | None = None
    tls: str = ""
    auth: bool | None = None
    wants_auth: bool = False
    permanent: bool = False
    transient_reply: bool = False
    servers: tuple[ServerResult, ...] = ()


class ServerResult(NamedTuple):
    """What came of one address of a relay, whose `result` is `unverified` where its conversation led to nothing.

    `contacted`: a packet was sent there; False where there was no route.
    """

    ip: IPAddress
    result: CheckResult
    contacted: bool = True
