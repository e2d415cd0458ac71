"""The mail servers that relays lead to: how often, and how many of them, are spoken to (rules D1, D11).

All bounds are on servers, since a hostile network makes up as many names as it likes. What is remembered of them
stays small because conversations are rare, and outlives rounds and changes of the network.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Hashable, Iterable, Sequence
from typing import NamedTuple

from salsa_agent.core.admission import leads_to
from salsa_agent.core.model import IPAddress, Relay
from salsa_agent.core.token_bucket import Bucket

BUDGET, REFILL = 10, 5.0  # D1: conversations with one server, and seconds for one more
FOR_ADMINISTRATOR = 5  # D1: the last ones of a budget, for relays that the administrator configured
MACHINE_BUDGET, MACHINE_REFILL = 10, 2.5  # D11: the same with one machine, whichever of its addresses are named
LINK_BUDGET, LINK_REFILL = 60, 1.0  # D11: the same on the word of one link
SERVERS_OF_LINK = 8  # D11: different servers of one link's relays, in one round
SERVERS_IN_WINDOW, WINDOW = 30, 600.0  # D11: different servers of all links, and seconds


class MailServer(NamedTuple):
    """Where a conversation leads, whatever the name."""

    ip: IPAddress
    port: int


class Caller(NamedTuple):
    """For whom a server is spoken to. `bounded_by`: whose share of D11's numbers counts; empty: nobody's."""

    administrator: bool
    bounded_by: str = ""


def caller_for(relay: Relay) -> Caller:
    """D11 bounds what the network names, by its link, and what a domain's SRV records name (C12)."""
    if relay.proves_name:
        return Caller(relay.administrator, "srv:")
    return Caller(relay.administrator, "" if relay.administrator else f"link:{relay.interface}")


def machine(ip: IPAddress) -> Hashable:
    """What is hit at this address. All of an IPv6 /64 is taken for one machine: many have one to themselves."""
    reached = leads_to(ip)
    return reached if reached.version == 4 else int(reached) >> 64


class _Reservation(NamedTuple):
    """What a running check may speak to. `before`: when servers of D11's window had been spoken to."""

    servers: tuple[MailServer, ...]
    caller: Caller
    new_in_round: frozenset[MailServer]
    before: dict[MailServer, float | None]
    may_give_back: bool


class MailServers:
    """Budgets and bounds. A check reserves all of its servers; those it did not need are given back."""

    def __init__(self) -> None:
        self._budgets: dict[MailServer, Bucket] = {}
        self._shared: dict[Hashable, Bucket] = {}  # of machines and links, for what D11 bounds
        self._spoken: dict[MailServer, float] = {}  # of D11's window: when last
        self._of_round: dict[str, set[MailServer]] = {}
        self._reserved: dict[int, _Reservation] = {}
        self._busy: dict[int, frozenset[MailServer]] = {}

    def __len__(self) -> int:
        return len(self._budgets.keys() | self._spoken.keys())

    def begin_round(self, now: float) -> None:
        """A new round: each link has D11's number of servers again. What is forgotten is as good as new."""
        self._of_round = {}
        self._budgets = {server: bucket for server, bucket in self._budgets.items() if not bucket.full(now)}
        self._shared = {key: bucket for key, bucket in self._shared.items() if not bucket.full(now)}
        self._spoken = {server: when for server, when in self._spoken.items() if when > now - WINDOW}

    def busy(self, servers: Iterable[MailServer]) -> bool:
        """Whether a conversation with one of them is under way (D1: at most one is)."""
        return any(server in busy for server in servers for busy in self._busy.values())

    def allowed(self, servers: Sequence[MailServer], caller: Caller, now: float) -> tuple[MailServer, ...]:
        """Those of `servers` that D11 lets this caller speak to."""
        if not caller.bounded_by:
            return tuple(servers)
        of_round = set(self._of_round.get(caller.bounded_by, ()))
        window = {server for server, when in self._spoken.items() if when > now - WINDOW}
        found = []
        for server in servers:
            in_window = server in window or len(window) < SERVERS_IN_WINDOW
            if in_window and (server in of_round or len(of_round) < SERVERS_OF_LINK):
                of_round.add(server)
                window.add(server)
                found.append(server)
        return tuple(found)

    def may_be_allowed(self, caller: Caller) -> bool:
        """Whether a check under way may yet give a server back that D11 counts for this caller."""
        if self._full(caller):
            return any(
                one.may_give_back and one.caller.bounded_by == caller.bounded_by for one in self._reserved.values()
            )
        return any(one.may_give_back and one.caller.bounded_by for one in self._reserved.values())

    def allowed_at(self, now: float, caller: Caller) -> float | None:
        """When D11's window has room again; None: it has, or only a new round makes room for this caller."""
        times = sorted(when for when in self._spoken.values() if when > now - WINDOW)
        if self._full(caller) or len(times) < SERVERS_IN_WINDOW:
            return None
        return times[len(times) - SERVERS_IN_WINDOW] + WINDOW

    def ready_at(self, servers: Collection[MailServer], caller: Caller, now: float) -> float:
        """When the budgets of all of them allow a conversation: `now` if they do."""
        keep = 0 if caller.administrator else FOR_ADMINISTRATOR
        times = [self._budgets[server].ready_at(now, keep) for server in servers if server in self._budgets]
        for key, count in _costs(servers, caller).items():
            if key in self._shared:
                times.append(self._shared[key].ready_at(now, count - 1))
        return max(times, default=now)

    def reserve(self, serial: int, servers: tuple[MailServer, ...], caller: Caller, now: float) -> None:
        """A check begins that may speak to these."""
        for server in servers:
            self._budget(server).take(now)
        for key in _costs(servers, caller).elements():
            self._shared_budget(key, caller).take(now)
        of_round = self._of_round.setdefault(caller.bounded_by, set()) if caller.bounded_by else set()
        new = frozenset(servers) - of_round if caller.bounded_by else frozenset()
        before = {server: self._spoken.get(server) for server in servers} if caller.bounded_by else {}
        of_round |= new
        self._spoken |= dict.fromkeys(before, now)
        self._reserved[serial] = _Reservation(servers, caller, new, before, len(servers) > 1)
        self._busy[serial] = frozenset(servers)

    def settle(self, serial: int, contacted: Collection[MailServer], lingering: Collection[MailServer]) -> None:
        """The verdict of a check is in: what it did not speak to is given back; `lingering` stay busy."""
        reservation = self._reserved.pop(serial, None)
        if reservation is None:
            return
        unneeded = set(reservation.servers) - set(contacted)
        for key in _costs(unneeded, reservation.caller).elements():
            self._shared_budget(key, reservation.caller).put_back()
        for server in unneeded:
            self._budget(server).put_back()
            if server in reservation.new_in_round:
                self._of_round.get(reservation.caller.bounded_by, set()).discard(server)
            self._restore(server, reservation)
        self._busy[serial] = frozenset(lingering)
        if not lingering:
            del self._busy[serial]

    def release(self, serial: int) -> None:
        """All conversations of this check are over, or were ended at once."""
        self._reserved.pop(serial, None)
        self._busy.pop(serial, None)

    def _restore(self, server: MailServer, reservation: _Reservation) -> None:
        if server in reservation.before:
            when = reservation.before[server]
            if when is None:
                self._spoken.pop(server, None)
            else:
                self._spoken[server] = when

    def _full(self, caller: Caller) -> bool:
        return len(self._of_round.get(caller.bounded_by, ())) >= SERVERS_OF_LINK

    def _budget(self, server: MailServer) -> Bucket:
        return self._budgets.setdefault(server, Bucket(BUDGET, REFILL))

    def _shared_budget(self, key: Hashable, caller: Caller) -> Bucket:
        of_link = key == caller.bounded_by
        new = Bucket(LINK_BUDGET, LINK_REFILL) if of_link else Bucket(MACHINE_BUDGET, MACHINE_REFILL)
        return self._shared.setdefault(key, new)


def _costs(servers: Iterable[MailServer], caller: Caller) -> Counter[Hashable]:
    """What conversations with all of these cost the machines that they are at and the link that named them."""
    if not caller.bounded_by:
        return Counter()
    costs: Counter[Hashable] = Counter(machine(server.ip) for server in servers)
    costs[caller.bounded_by] = costs.total()
    return costs
