"""What a mail program gets of a list: the relays that it may use, in which order, and how to speak to them (D10)."""

from __future__ import annotations

from collections.abc import Sequence

from salsa_agent.core.model import ADMINISTRATOR, Best, ListedRelay, Relay, RelayKey, Verdict


def tls_of(listed: ListedRelay) -> str:
    """How a listed relay is to be spoken to (rule D10): `implicit`, `starttls`, `none`; empty: not known."""
    return "implicit" if listed.relay.implicit_tls else listed.tls


def tls_of_best(best: Best, relays: Sequence[ListedRelay]) -> str:
    """The same of the best relay of this list; empty where there is none."""
    return tls_of(entry_of(best, relays)) if best.host else ""


def entry_of(best: Best, relays: Sequence[ListedRelay]) -> ListedRelay:
    """The entry of the best relay. One that is no longer listed, as after a reload, has no verdict."""
    key = RelayKey(best.host, best.port)
    for listed in relays:
        if listed.relay.key == key:
            return listed
    return ListedRelay(Relay(key, best.source))


def usable(best: Best, relays: Sequence[ListedRelay], *, verified: bool) -> tuple[ListedRelay, ...]:
    """The best relay, then the others that mail may be handed to, in the order of the list; none without a best one.

    Others are those that are `ok`, and of the administrator's those that are not `failed`; where relays are not
    `verified`, all that are not `failed`.
    """
    if not best.host:
        return ()
    first = entry_of(best, relays)
    return (first, *(one for one in relays if one.relay.key != first.relay.key and _may_follow(one, verified=verified)))


def _may_follow(listed: ListedRelay, *, verified: bool) -> bool:
    administrator = listed.relay.administrator or listed.relay.source in ADMINISTRATOR
    if administrator or not verified:
        return listed.verdict is not Verdict.FAILED
    return listed.verdict is Verdict.OK


def spoken_to_alike(relays: Sequence[ListedRelay], most: int) -> tuple[ListedRelay, ...]:
    """Those that are spoken to as the first one is, with TLS from the first octet or without, at most so many."""
    return tuple(one for one in relays if one.relay.implicit_tls is relays[0].relay.implicit_tls)[:most]
