"""The words of docs/rules.md as values. Nothing here changes: a value that changed is another value.

Most are named tuples. A frozen dataclass takes seven times as long to define, which shows at the start, and longer to
make and to compare. But two named tuples of different kinds may be equal, one without fields is false, and none has
a field `index`, which is a method of tuples.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from ipaddress import IPv4Address, IPv6Address
from typing import NamedTuple

IPAddress = IPv4Address | IPv6Address

SUBMISSIONS_PORT = 465  # RFC 8314 section 3.3
MAX_IFINDEX = (1 << 31) - 1  # the kernel's interface indexes are of type int
REVERSE_TREE = (".in-addr.arpa", ".ip6.arpa")
FIRST_IPV6 = 1 << 128  # the least number of an IPv6 address; see `number_of`


class Outcome(StrEnum):
    """Outcome of one DNS question, and of an address as a whole. `FAILED` is never read as `NONE`."""

    FOUND = "found"
    NONE = "none"  # NXDOMAIN, NODATA
    REFUSED = "refused"  # a null MX (RFC 7505)
    FAILED = "failed"
    PENDING = "pending"
    SITE = "site"  # of an address only: a site with `use = "only"` holds, so the reverse tree is not asked (rule C10)


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


class State(StrEnum):
    """The agent's `State` (rule H2)."""

    STARTING = "starting"
    OFFLINE = "offline"
    RESOLVING = "resolving"
    DEGRADED = "degraded"
    READY = "ready"


class RRType(StrEnum):
    """The record types that are asked for."""

    MX = "MX"
    A = "A"
    AAAA = "AAAA"
    SRV = "SRV"
    TXT = "TXT"


# --- what the kernel says -------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Link:
    """A network interface. `usable`: administratively up, with carrier (IFF_UP, IFF_LOWER_UP).

    `carrier_changes`: how often it lost or got its carrier (IFLA_CARRIER_CHANGES).
    """

    index: int
    name: str
    usable: bool
    loopback: bool = False
    carrier_changes: int = 0


def number_of(ip: IPAddress) -> int:
    """The address as a number, so that those of both families can be sorted together; IPv6 is above all of IPv4."""
    return int(ip) | FIRST_IPV6 if isinstance(ip, IPv6Address) else int(ip)


@dataclass(frozen=True, slots=True)
class HostAddress:
    """One address of the host as the kernel lists it.

    `ip` is IFA_LOCAL where present, else IFA_ADDRESS; `flags` are the 32-bit IFA_FLAGS where present, else the header's
    (linux/if_addr.h). `preferred`: preferred lifetime in seconds was not 0. `prefixlen`: ifa_prefixlen of the header;
    None: not known.
    """

    ip: IPAddress
    index: int
    scope: int
    flags: int
    preferred: bool = True
    prefixlen: int | None = None

    @property
    def number(self) -> int:
        """Its place among all addresses, see `number_of`."""
        return number_of(self.ip)

    def __hash__(self) -> int:
        return int(self.ip) ^ self.index  # an address hashes itself as text, twice as slow; there may be 10,000


@dataclass(frozen=True, slots=True)
class DefaultRoute:
    """A default route. The rules ask for those of the main table (254) alone, and the driver gives no others."""

    family: int
    index: int
    metric: int
    gateway: str = ""
    table: int = 254


@dataclass(frozen=True, slots=True)
class RouteChoice:
    """What the kernel's own route lookup (RTM_GETROUTE) gives for an outside address of this family.

    `gateway`: the next hop, where a table other than the main one gave it; those of the main table are `DefaultRoute`s.
    """

    family: int
    index: int
    source: IPAddress | None = None
    gateway: str = ""


class NetworkFacts(NamedTuple):
    """Everything the rules need of the kernel, read at one moment. Routing rules show in the `choices` they make."""

    links: frozenset[Link] = frozenset()
    addresses: frozenset[HostAddress] = frozenset()
    defaults: frozenset[DefaultRoute] = frozenset()
    choices: frozenset[RouteChoice] = frozenset()


class Address(NamedTuple):
    """An own address that counts (rules A1-A3), on its link."""

    ip: IPAddress
    ifindex: int
    interface: str
    temporary: bool = False
    origin: str = "link"  # or "nat" (rule G1)


# --- asking -----------------------------------------------------------------------------------------------------------


class Server(NamedTuple):
    """A DNS server. `ifindex`: the link it is asked through; 0 leaves that to the routing table.

    `trust_ad`: its AD bit counts, as resolv.conf(5) says of it (rule F3). `tcp`: it is asked over TCP at once (`options
    use-vc`, F2). `fallback`: it is asked only where those before it in the list gave no answer at all (F1).
    """

    address: str
    port: int = 53
    ifindex: int = 0
    trust_ad: bool = False
    tcp: bool = False
    fallback: bool = False


class DomainRoute(NamedTuple):
    """Where systemd-resolved sends the names of a domain: to a link's servers, or the global ones (`ifindex` 0).

    `domain`: one of its search or routing domains, lower case without final dot; empty: every name (`~.`).
    """

    domain: str
    ifindex: int
    servers: tuple[Server, ...]

    def holds(self, name: str) -> bool:
        """Whether `name` (lower case, no final dot) is the domain or lies below it."""
        return not self.domain or name == self.domain or name.endswith(f".{self.domain}")


class ServerView(NamedTuple):
    """Which servers are to be asked (rule F1): those of a link, else the `default` ones.

    `common`: the global ones, asked too where a link's own gave no answer. `routes`: of names outside the reverse tree.
    """

    default: tuple[Server, ...] = ()
    links: tuple[tuple[int, tuple[Server, ...]], ...] = ()
    common: tuple[Server, ...] = ()
    routes: tuple[DomainRoute, ...] = ()

    def of_link(self, ifindex: int) -> tuple[Server, ...]:
        """The servers for what belongs to the link `ifindex`, the global ones behind them marked `fallback`."""
        for index, servers in self.links:
            if index == ifindex and servers:
                behind = (server._replace(fallback=True) for server in self.common if server not in servers)
                return (*servers, *behind)
        return self.default

    def servers_for(self, name: str, ifindex: int) -> tuple[Server, ...]:
        """The servers for a name that is not the reverse tree's, of what belongs to the link `ifindex` (0: to none).

        As systemd-resolved chooses them: by the longest domain that holds the name; of several links that have it all
        are asked, here the link's own first. Else those of the link.
        """
        folded = name.rstrip(".").lower()
        routes = [route for route in self.routes if route.holds(folded)]
        if not routes:
            return self.of_link(ifindex)
        longest = max(len(route.domain) for route in routes)
        chosen = sorted(
            (route for route in routes if len(route.domain) == longest), key=lambda route: route.ifindex != ifindex
        )
        return tuple(dict.fromkeys(server for route in chosen for server in route.servers))


class SearchDomains(NamedTuple):
    """The search and routing domains of links (rule F4), lower case without final dot; the root domain is `.`.

    `everywhere`: those of resolv.conf, which are every link's; only where systemd-resolved does not run.
    """

    everywhere: tuple[str, ...] = ()
    links: tuple[tuple[int, tuple[str, ...]], ...] = ()

    def of_link(self, ifindex: int) -> tuple[str, ...]:
        """The domains of the link `ifindex`."""
        return next((domains for index, domains in self.links if index == ifindex), self.everywhere)


class Question(NamedTuple):
    """One DNS question, and whom to ask. `hosts`: the hosts file is looked at first (rule C8)."""

    name: str  # absolute, no trailing dot
    rtype: RRType
    servers: tuple[Server, ...]
    hosts: bool = False

    @property
    def of_network(self) -> bool:
        """Whether the answer belongs to the network that it was learned on; an SRV set is its domain's (rule C12).

        One in the reverse tree is the network's (rule B8).
        """
        return self.rtype is not RRType.SRV or self.name.endswith(REVERSE_TREE)

    def __hash__(self) -> int:
        return hash(self.name)  # enough, and a fifth of the time: questions are the keys of everything


class Mx(NamedTuple):
    """One MX record, the exchange as the resolver printed it (a trailing dot or not, any case)."""

    preference: int
    exchange: str


class Srv(NamedTuple):
    """One SRV record (RFC 2782), the target as the resolver printed it (a trailing dot or not, any case)."""

    priority: int
    weight: int
    port: int
    target: str


class Answer(NamedTuple):
    """What came of a question.

    `ttl` in seconds as the server gave it: of the records (the least of the chain), for a negative answer from the SOA
    (RFC 2308); None where there is none. `elapsed` in seconds. `reason`: printable, for `failed`. `alias_of`: the name
    at the end of the CNAME chain, with a trailing dot; empty where the name that was asked is no alias.
    """

    outcome: Outcome
    mx: tuple[Mx, ...] = ()
    addresses: tuple[IPAddress, ...] = ()
    ttl: int | None = None
    authenticated: bool = False
    rcode: str = ""
    server: str = ""
    elapsed: float = 0.0
    reason: str = ""
    alias_of: str = ""
    srv: tuple[Srv, ...] = ()
    txt: tuple[str, ...] = ()  # the strings of a record put together; printable ASCII, anything else as `?`


class Asked(NamedTuple):
    """A question with its answer, as `Explain` and `Lookup` show them. `level`: of an MX question."""

    question: Question
    answer: Answer
    level: int | None = None


# --- relays -----------------------------------------------------------------------------------------------------------


class RelayKey(NamedTuple):
    """What makes two relays the same (rule C6). `host`: lower case, no trailing dot, no brackets."""

    host: str
    port: int


class SrvEntry(NamedTuple):
    """`srv:DOMAIN` in the configuration: the relays that the SRV records of `domain` name (rule C12)."""

    domain: str  # lower case, no trailing dot


RelayEntry = RelayKey | SrvEntry  # a relay as the administrator configures it


class LinkInfo(NamedTuple):
    """What else is known of a link, for the criteria of sites (rules C10, F4).

    `domains`: its search and routing domains, lower case without final dot; the root domain is `.`. `connection_id`
    and `connection_uuid`: of the NetworkManager connection that is active on it; empty: none.
    """

    ifindex: int
    domains: tuple[str, ...] = ()
    connection_id: str = ""
    connection_uuid: str = ""


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


class ListedRelay(NamedTuple):
    """A relay of the published list, with its verdict. `tls`, `auth` and `wants_auth` as in `CheckResult`."""

    relay: Relay
    verdict: Verdict = Verdict.UNVERIFIED
    reason: str = ""
    starttls: bool | None = None
    tls: str = ""
    auth: bool | None = None
    wants_auth: bool = False


class Evidence(NamedTuple):
    """One own address and what the reverse tree said of it. `site`: the name of its link's site (C10)."""

    address: Address
    outcome: Outcome
    level: int | None = None
    name: str = ""
    site: str = ""


class Dropped(NamedTuple):
    """An exchange or relay that was left out, and the rule that did it."""

    host: str
    rule: str
    reason: str
    name: str = ""
    address: str = ""


class Best(NamedTuple):
    """The relay to use now; no host: none."""

    host: str = ""
    port: int = 0
    source: Source = Source.NONE


NO_RELAY = Best()


class SenderChoice(NamedTuple):
    """What is published for one `[[sender]]` of the configuration (rule C11).

    `address`: its patterns. `network`: `never`, `last` or `first`. `decided`: its best relay is known; until then
    `best` is `NO_RELAY`.
    """

    address: tuple[str, ...]
    network: str = "never"
    best: Best = NO_RELAY
    relays: tuple[ListedRelay, ...] = ()
    decided: bool = False


@dataclass(frozen=True, slots=True)
class Publication:
    """What the outside is told. Times are engine time (seconds on the clock passed as `now`)."""

    state: State = State.STARTING
    best: Best = NO_RELAY
    relays: tuple[ListedRelay, ...] = ()
    evidence: tuple[Evidence, ...] = ()
    changed: float | None = None  # when `best` last changed; None: never
    dropped: tuple[Dropped, ...] = field(default=(), compare=False)
    senders: tuple[SenderChoice, ...] = ()  # in the order of the configuration
