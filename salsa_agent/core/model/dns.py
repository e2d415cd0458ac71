"""Whom to ask (rule F1), questions, and what came of them."""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple

from salsa_agent.core.model.host import IPAddress

REVERSE_TREE = (".in-addr.arpa", ".ip6.arpa")


class Outcome(StrEnum):
    """Outcome of one DNS question, and of an address as a whole. `FAILED` is never read as `NONE`."""

    FOUND = "found"
    NONE = "none"  # NXDOMAIN, NODATA
    REFUSED = "refused"  # a null MX (RFC 7505)
    FAILED = "failed"
    PENDING = "pending"
    SITE = "site"  # of an address only: a site with `use = "only"` holds, so the reverse tree is not asked (rule C10)


class RRType(StrEnum):
    """The record types that are asked for."""

    MX = "MX"
    A = "A"
    AAAA = "AAAA"
    SRV = "SRV"
    TXT = "TXT"


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
