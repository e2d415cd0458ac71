"""Which relay of a list is the best one (rules D2, D3, D6)."""

from __future__ import annotations

from collections.abc import Sequence

from salsa_agent.core.model import Best, ListedRelay, Relay, RelayKey, Verdict


def as_best(relay: Relay) -> Best:
    """The relay as the one to use now."""
    return Best(relay.key.host, relay.key.port, relay.source)


def last_resort(relays: Sequence[Relay], key: RelayKey | None) -> Best:
    """D3: the entry of the list with this key, whatever its verdict; else none."""
    return next((as_best(relay) for relay in relays if relay.key == key), Best())


def first_not_failed(listed: Sequence[ListedRelay], key: RelayKey | None) -> Best:
    """D6: the first relay that has not failed; if all have, the last resort `key` (D3)."""
    found = next((one.relay for one in listed if one.verdict is not Verdict.FAILED), None)
    return last_resort([one.relay for one in listed], key) if found is None else as_best(found)
