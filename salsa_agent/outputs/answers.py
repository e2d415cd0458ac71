"""What the socketmap answers: a query of Postfix in, a reply out (socketmap_table(5)); rules C11 and D10."""

from __future__ import annotations

from collections.abc import Sequence

from salsa_agent.core.delivery import spoken_to_alike, usable
from salsa_agent.core.model import Best, ListedRelay, Publication
from salsa_agent.core.senders import entry_for
from salsa_agent.text import host_port

MAPS = ("relay", "transport")
MOST_RELAYS = 8  # of one answer

PENDING = b"TEMP the network has not answered yet"
NO_RELAY_OF_SENDER = b"TEMP no relay for this sender is known"
NOTFOUND = b"NOTFOUND "
UNKNOWN_MAP = b"PERM there is no such map"


class Answers:
    """The answers of one publication, of both maps and for every key. None: nothing is published yet."""

    def __init__(self, publication: Publication | None = None, *, verified: bool = True) -> None:
        self._senders = publication.senders if publication else ()
        self._common = dict.fromkeys(MAPS, PENDING)
        self._own: list[dict[str, bytes]] = []
        if publication is None:
            return
        self._common = _replies(publication.best, publication.relays, verified=verified, none=NOTFOUND)
        for sender in self._senders:
            none = NO_RELAY_OF_SENDER if sender.decided else PENDING
            best = sender.best if sender.decided else Best()
            self._own.append(_replies(best, sender.relays, verified=verified, none=none))

    def reply(self, query: bytes) -> bytes:
        """The reply to `MAP KEY`; the key is an envelope sender, the null sender as `<>` or `"<>"`."""
        name, _, key = query.partition(b" ")
        try:
            common = self._common[name.decode("ascii")]
        except (KeyError, UnicodeDecodeError):
            return UNKNOWN_MAP
        if not self._own:
            return common
        found = entry_for(key.decode("utf-8", "replace"), self._senders)
        return common if found is None else self._own[self._senders.index(found)][name.decode("ascii")]


def _replies(best: Best, relays: Sequence[ListedRelay], *, verified: bool, none: bytes) -> dict[str, bytes]:
    """The reply of each map for one list."""
    chosen = usable(best, relays, verified=verified)
    if not chosen:
        return dict.fromkeys(MAPS, none)
    hops = ", ".join(next_hop(one) for one in spoken_to_alike(chosen, MOST_RELAYS))
    transport = "smtps" if chosen[0].relay.implicit_tls else "relay"
    return {"relay": f"OK {hops}".encode(), "transport": f"OK {transport}:{hops}".encode()}


def next_hop(listed: ListedRelay) -> str:
    """A relay as Postfix takes it, with no MX lookup: `[host]:port`, an address literal of either family likewise."""
    host, port = listed.relay.key
    return host_port(host, port) if ":" in host else f"[{host}]:{port}"
