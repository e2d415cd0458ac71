"""Rules H1 and H2: what is published of a round, and which state that is."""

from __future__ import annotations

from collections import defaultdict, deque
from itertools import chain

from salsa_agent.core.events import Command
from salsa_agent.core.model import SenderChoice, State
from salsa_agent.core.parts import Parts
from salsa_agent.core.phases import Phase
from salsa_agent.core.publication import none_is_ok
from salsa_agent.core.round_work import Bests
from salsa_agent.core.rounds import Round


class Composition:
    """Composes publications; `publish` sends what has been composed."""

    def __init__(self, parts: Parts) -> None:
        self._cache = parts.cache
        self._checks = parts.checks
        self._published = parts.published
        self._rounds = parts.rounds
        self._idle_state = State.READY  # of the last round that decided

    def compose(self, current: Round, bests: Bests, now: float) -> None:
        """The lists, the evidence and the best relays as they stand now, and when relays are verified again (D5)."""
        shown, verify = current.shown, current.inputs.settings.verify
        best = bests[0] or self._published.pending.best
        senders = self._sender_choices(current, bests)
        if current.inputs.addresses and verify.enabled:
            stand = (best, *(one.best for one in senders))
            self._checks.plan([(one.relays, b) for one, b in zip(current.lists, stand, strict=True)], verify, now)
        listed = tuple(self._checks.listed(relay) for relay in shown.relays)
        self._published.compose(best, listed, shown.evidence, shown.dropped, now)
        self._published.compose_senders(senders)

    def compose_senders(self, current: Round, bests: Bests) -> None:
        """The senders' lists and best relays alone (C11)."""
        self._published.compose_senders(self._sender_choices(current, bests))

    def publish(self, phase: Phase) -> list[Command]:
        """One publication for all that changed, none when nothing did."""
        return self._published.publish(self._state(phase))

    def _sender_choices(self, current: Round, bests: Bests) -> tuple[SenderChoice, ...]:
        """What is published for each sender: its best relay if it is known, else what was published (C11)."""
        before: defaultdict[tuple[tuple[str, ...], str], deque[SenderChoice]] = defaultdict(deque)
        for one in self._published.pending.senders:
            before[one.address, one.network].append(one)  # two files may each have an entry for the same addresses
        choices: list[SenderChoice] = []
        for (sender, shown), best in zip(current.shown.senders, bests[1:], strict=True):
            listed = tuple(self._checks.listed(relay) for relay in shown.relays)
            alike = before[sender.address, sender.network]
            known = alike.popleft() if alike else None
            if best is not None:
                choices.append(SenderChoice(sender.address, sender.network, best, listed, decided=True))
            elif known is not None and known.decided:
                choices.append(known)
            else:
                choices.append(SenderChoice(sender.address, sender.network, relays=listed))
        return tuple(choices)

    def _state(self, phase: Phase) -> State:
        """H2: the first that holds."""
        if not self._published.decided:
            return State.STARTING
        if phase is Phase.OFFLINE:
            return State.OFFLINE
        if self._rounds.network:
            return State.RESOLVING
        if phase is Phase.DECIDED and self._rounds.current is not None:
            self._idle_state = self._judge(self._rounds.current)
        return self._idle_state

    def _judge(self, current: Round) -> State:
        """`degraded` or `ready`, of what is published or about to be."""
        verified = current.inputs.settings.verify.enabled
        if self._failing(current) or (verified and none_is_ok(self._published.pending)):
            return State.DEGRADED
        return State.READY

    def _failing(self, current: Round) -> bool:
        """Whether a level or an address lookup failed, and is being retried."""
        listed = {relay.key for relay in current.shown.relays}
        names = (questions for key, questions in current.lookups.items() if key in listed)
        lookups = (self._cache.standing(question) for question in chain.from_iterable(names))
        return current.shown.failing or any(cached is not None and cached.failing for cached in lookups)
