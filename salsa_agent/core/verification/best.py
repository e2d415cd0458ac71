"""Which relay of a list is the best one (rules D2, D3, D4, D6)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from salsa_agent.core.model import Best, ListedRelay, Relay, RelayKey, Verdict
from salsa_agent.core.verification.records import Record, Subject, subject_of


def best_of(
    relays: Sequence[Relay], records: Mapping[Subject, Record], resort: RelayKey | None, *, enabled: bool
) -> Best | None:
    """The best relay of a list (D2, D3, D4); None while the decision has to wait for a verdict.

    `resort`: the last resort; `enabled`: relays are verified.
    """
    for relay in relays:
        record = records.get(subject_of(relay)) or Record(relay)
        if not enabled:
            if record.verdict is not Verdict.FAILED:
                return as_best(relay)
            continue
        verdict = record.settled()
        if verdict is Verdict.OK:
            return as_best(relay)
        if verdict is Verdict.UNVERIFIED:
            return None
    return last_resort(relays, resort)


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
