"""The properties of org.salsa.Agent1: their values for a publication, and which of them two publications tell apart."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from salsa_agent.bus import convert, interface
from salsa_agent.bus.codec import Value, encode
from salsa_agent.core.model import ListedRelay, Publication, SenderChoice
from salsa_agent.core.publication import without_expires

_FAR = 1e9  # a moment of the engine that lies after 1970 whatever the realtime clock shows


class Properties:
    """What `Get` and `GetAll` answer. What a publication says is converted once, when it is first asked for."""

    def __init__(
        self, version: str, realtime_us: Callable[[float], int], statistics: Callable[[], Mapping[str, int]]
    ) -> None:
        """`realtime_us`: engine time as microseconds of the realtime clock."""
        self.publication = Publication()
        self._version = version
        self._realtime_us = realtime_us
        self._statistics = statistics
        self._far = realtime_us(_FAR)
        self._values: dict[str, Value] = {}
        self._bodies: dict[str, bytes] = {}  # replies to Get
        self._all: tuple[Value, bytes] | None = None  # the reply to GetAll, and the Statistics in it

    def publish(self, publication: Publication) -> None:
        """Make this what the properties say."""
        self.publication = publication
        self._forget()

    def get(self, name: str) -> bytes:
        """The body of a reply to `Get`. Raises KeyError."""
        if name == "Statistics":  # counts on between publications
            return encode("v", [self.value(name)])
        self._look_at_the_clock()
        if name not in self._bodies:
            self._bodies[name] = encode("v", [self.value(name)])
        return self._bodies[name]

    def get_all(self) -> bytes:
        """The body of a reply to `GetAll`."""
        statistics = self.value("Statistics")
        self._look_at_the_clock()
        if self._all is None or self._all[0] != statistics:
            values = {name: self.value(name) for name in interface.PROPERTY_TYPES}
            self._all = statistics, encode("a{sv}", [values | {"Statistics": statistics}])
        return self._all[1]

    def value(self, name: str) -> Value:
        """The value of one property. Raises KeyError."""
        if name == "Statistics":
            return convert.statistics(self._statistics())
        if name not in self._values:
            self._values[name] = self._convert(name)
        return self._values[name]

    def _forget(self) -> None:
        self._values.clear()
        self._bodies.clear()
        self._all = None

    def _look_at_the_clock(self) -> None:
        """Once the realtime clock was set, what was converted by it is void; that is told to nobody (H1)."""
        far = self._realtime_us(_FAR)
        if far != self._far:
            self._far = far
            self._forget()

    def _convert(self, name: str) -> Value:
        published = self.publication
        kind = interface.PROPERTY_TYPES[name]
        match name:
            case "BestRelay":
                return convert.text(published.best.host)
            case "BestRelayPort":
                return convert.number(kind, published.best.port)
            case "BestRelaySource":
                return convert.text(published.best.source)
            case "BestRelayTls":
                return convert.text(convert.tls_of(published.best, published.relays))
            case "Relays":
                return Value(kind, [convert.relay(listed, self._realtime_us) for listed in published.relays])
            case "Senders":
                return Value(kind, [convert.sender(choice) for choice in published.senders])
            case "Addresses":
                return Value(kind, [convert.evidence(of) for of in published.evidence])
            case "State":
                return convert.text(published.state)
            case "LastChanged":
                return convert.number(kind, 0 if published.changed is None else self._realtime_us(published.changed))
            case _:
                return convert.text(self._version)


def changed(before: Publication, now: Publication) -> list[str]:
    """The properties of which followers have to be told (rule H1), who know `before`."""
    return [name for name, differs in _DIFFERS.items() if differs(before, now)]


def best_relay_changed(before: Publication, now: Publication) -> bool:
    """Whether `BestRelayChanged` follows: its host or port changed (rule H1)."""
    return (before.best.host, before.best.port) != (now.best.host, now.best.port)


def _same_list(before: tuple[ListedRelay, ...], now: tuple[ListedRelay, ...]) -> bool:
    """Whether these lists are the same to a follower (rule H1)."""
    return len(before) == len(now) and all(map(_same, before, now))


def _same(before: ListedRelay, now: ListedRelay) -> bool:
    return before == now or (before.relay.key == now.relay.key and _told(before) == _told(now))


def _told(listed: ListedRelay) -> ListedRelay:
    # what an entry is spoken to at is not published either
    lasting = without_expires(listed)
    return lasting._replace(relay=lasting.relay._replace(addresses=()))


def _chosen(choices: tuple[SenderChoice, ...]) -> list[tuple[object, ...]]:
    """What `Senders` says: not their lists."""
    return [(one.address, one.network, one.best, convert.tls_of(one.best, one.relays)) for one in choices]


_DIFFERS: dict[str, Callable[[Publication, Publication], bool]] = {
    "BestRelay": lambda a, b: a.best.host != b.best.host,
    "BestRelayPort": lambda a, b: a.best.port != b.best.port,
    "BestRelaySource": lambda a, b: a.best.source != b.best.source,
    "BestRelayTls": lambda a, b: convert.tls_of(a.best, a.relays) != convert.tls_of(b.best, b.relays),
    "Relays": lambda a, b: not _same_list(a.relays, b.relays),
    "Senders": lambda a, b: a.senders != b.senders and _chosen(a.senders) != _chosen(b.senders),
    "Addresses": lambda a, b: a.evidence != b.evidence,
    "State": lambda a, b: a.state != b.state,
    "LastChanged": lambda a, b: a.changed != b.changed,
}
