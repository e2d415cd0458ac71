"""From phase to phase: rounds begin, are worked on and decide; what is decided is followed. See `phases`.

Rules E2, E4 and E6; E1, E3, B5 and E5 for what is done again after a while.
"""

from __future__ import annotations

from itertools import chain

from salsa_agent.core.composition import Composition
from salsa_agent.core.events import Command, NetworkChanged, RefreshDone, RereadKernel, RereadNameservers, RoundEnded
from salsa_agent.core.model import Asked
from salsa_agent.core.parts import Parts
from salsa_agent.core.phases import LEADS_TO, Phase
from salsa_agent.core.publication import all_lists_serve, same_but_for_expires
from salsa_agent.core.relay_lists import active_lists
from salsa_agent.core.round_work import Bests, RoundWork
from salsa_agent.core.rounds import Request, Round
from salsa_agent.core.selection import SelectionInput
from salsa_agent.core.verification import last_resort
from salsa_agent.core.waking import times

OFFLINE_GRACE = 2.0  # seconds; E6


class Progress:
    """Goes on as far as what is known allows."""

    def __init__(self, parts: Parts) -> None:
        self.phase = Phase.STARTING
        self._parts = parts
        self._rounds = parts.rounds
        self._published = parts.published
        self._upkeep = parts.upkeep
        self._work = RoundWork(parts)
        self._composition = Composition(parts)
        self._asked: tuple[Asked, ...] = ()  # of the last round that decided; a copy kept when the next one begins
        self._changed_at = 0.0  # when the network changed last
        self._offline_since: float | None = None
        self._commands: list[Command] = []  # of one call of `advance`
        self._now = 0.0  # of the last one

    @property
    def asked(self) -> tuple[Asked, ...]:
        """The questions of the round that decided last, with their answers; some may still be pending (E4)."""
        return self._work.explanation(self._rounds.current) if self.phase is Phase.DECIDED else self._asked

    # --- what the engine heard of

    def network_changed(self, now: float, *, resumed: bool) -> None:
        """The network is another one, and an address counts. After a suspend whatever runs is superseded (E2)."""
        self._changed_at, self._offline_since = now, None
        wanted = Request("network change" if self._published.decided else "start", changed_at=now, leaves=True)
        if self._rounds.goes_on(now) and not resumed:
            self._rounds.request(wanted)
        else:
            self.supersede(wanted)

    def go_offline(self, now: float) -> list[Command]:
        """E6: no address counts any more."""
        self._changed_at = now
        self._enter(Phase.OFFLINE)
        if self._offline_since is None:
            self._offline_since = now if self._published.decided else now - OFFLINE_GRACE
        return [*(RefreshDone(token) for token in self._rounds.stop()), *self._leave_network()]

    def supersede(self, wanted: Request) -> None:
        """Have a round run instead of the one that runs."""
        if self._rounds.running is not None:
            self._enter(Phase.STARTING)
        self._rounds.supersede(wanted)

    # --- phases

    def advance(self, now: float) -> list[Command]:
        """Go as far as what is known allows."""
        self._commands, self._now = [], now
        inputs = self._parts.network.inputs
        if inputs is None:
            return []
        if self.phase is Phase.OFFLINE and not inputs.addresses:
            self._stay_offline(inputs, now)
        else:
            self._commands += self._parts.questions.look_at_held(now)
            self._request_what_is_due(now)
            while self._begin(now) and self._proceed(now):  # one that decided makes room for the one that waits
                self._request_what_is_due(now)
            if self.phase is Phase.DECIDED:
                self._follow(now)
        self._publish()
        self._keep_up(now)
        return self._commands

    def _enter(self, phase: Phase) -> None:
        if phase is self.phase:
            return
        assert phase in LEADS_TO[self.phase], f"{self.phase} does not lead to {phase}"
        if self.phase is Phase.DECIDED:
            self._asked = self.asked
        self.phase = phase

    def _begin(self, now: float) -> bool:
        """Start the round that waits if the budget allows; whether one runs."""
        parts, waiting = self._parts, self._rounds.waiting
        if self._rounds.running is not None or waiting is None:
            return self._rounds.running is not None
        if waiting.network:
            self._enter(Phase.STARTING)
        if waiting.leaves:
            waiting.leaves = False
            self._commands += self._leave_network()
        inputs = parts.network.inputs
        begun = self._rounds.start(inputs, now) if inputs is not None else None
        if begun is None:
            return False
        self._enter(Phase.ASKING)
        self._rounds.current = begun
        parts.checks.begin_round(now)
        if begun.request.discover:
            self._commands += parts.network.discover()
        if begun.request.forget:
            self._commands += parts.questions.cancel()
            parts.cache.forget()
            enabled = begun.inputs.settings.verify.enabled
            parts.checks.recheck_all(now, enabled=enabled, by_root=begun.request.by_root)
        elif begun.request.relearn:
            parts.cache.ask_again(now)
        else:
            parts.cache.expire(now)
        return True

    def _proceed(self, now: float) -> bool:
        """Go on with the running round; whether it decided."""
        running = self._rounds.running
        if running is None:
            return False
        self._commands += self._work.select(running, now)
        if running.complete:
            self._enter(Phase.VERIFYING)
        bests = self._verify(running, now)
        if bests[0] is None and now >= running.ends_at:
            self._parts.checks.assume_failed(running.choice.relays)
            bests = self._verify(running, now)
        if bests[0] is not None:
            self._decide(running, bests, now)
            return True
        if running.choice.senders:
            self._work.show(running)
            self._composition.compose_senders(running, bests)
        return False

    def _decide(self, decided: Round, bests: Bests, now: float) -> None:
        """The one moment at which a round changes what the outside sees (H1)."""
        self._enter(Phase.DECIDED)
        self._rounds.running = None
        if decided.request.network:  # nothing of the old network survives the decision (E5)
            self._published.forget_senders()
        self._work.show(decided)
        before = self._published.last_published
        self._composition.compose(decided, bests, now)
        self._publish()
        self._parts.cache.keep(chain(decided.all_questions, decided.shown.wanted))
        cause, count = decided.request.cause, len(decided.inputs.addresses)
        routine = decided.request.routine and same_but_for_expires(before, self._published.last_published)
        self._commands.append(RoundEnded(cause, count, decided.questions, now - decided.started, routine))
        self._commands += [RefreshDone(token) for token in decided.request.tokens]

    def _follow(self, now: float) -> None:
        """Between rounds: verdicts and late answers are followed (D2, D5, E4)."""
        current = self._rounds.current
        if current is None:
            return
        before = current.choice
        self._commands += self._work.select(current, now)
        bests = self._verify(current, now)
        if bests[0] is not None or current.choice is not before:  # a late answer changed a list behind the best relay
            self._work.show(current)
            self._composition.compose(current, bests, now)
        else:
            self._composition.compose_senders(current, bests)

    def _stay_offline(self, inputs: SelectionInput, now: float) -> None:
        """E6: `offline` at once, the static relay after two seconds (at the start: at once)."""
        # nothing is asked or verified without an address
        self._commands += [RefreshDone(token) for token in self._rounds.stop()]
        since = now if self._offline_since is None else self._offline_since
        if now < since + OFFLINE_GRACE:
            return
        current = self._rounds.current = Round(Request("offline"), inputs, now, now)
        self._work.choose(current)
        self._work.show(current)
        current.lists = active_lists(current.choice, None, late=True)
        self._commands += self._parts.checks.set_relays([one.relays for one in current.lists])
        bests = tuple(last_resort(one.relays, one.last_resort) for one in current.lists)
        self._composition.compose(current, bests, now)

    def _leave_network(self) -> list[Command]:
        """Drop what is known from the old network, SRV sets aside (E1, E5), and end what is under way there."""
        parts = self._parts
        commands = parts.questions.cancel()
        parts.questions.hold_failures(self._changed_at)
        parts.cache.clear()
        commands += parts.network.leave()
        commands += parts.checks.network_changed(enabled=parts.settings.verify.enabled)
        self._upkeep.start_over()
        return [*commands, NetworkChanged()]

    def _verify(self, current: Round, now: float) -> Bests:
        commands, bests = self._work.verify(current, now)
        self._commands += commands
        return bests

    def _publish(self) -> None:
        self._commands += self._composition.publish(self.phase)

    # --- what is done again after a while

    def _keep_up(self, now: float) -> None:
        """E3, E5: the host is read again, and what was learned is asked again."""
        if self._upkeep.reread_due(now):
            self._reread()
        if self.phase in (Phase.DECIDED, Phase.OFFLINE):
            publication, verified = self._published.last_published, self._parts.settings.verify.enabled
            serves = all_lists_serve(publication, verified=verified)
            self._upkeep.follow(now, none_ok=self.phase is Phase.DECIDED and not serves)

    def _request_what_is_due(self, now: float) -> None:
        """E1, B5: a TTL ran out, or a failed question is due for another try. E5: no relay is `ok`."""
        current = self._rounds.current
        if self.phase is not Phase.DECIDED or current is None:
            return
        if self._rounds.waiting is None:
            due = self._parts.cache.due(current.depends_on)
            if due is not None and due <= now:
                if self._parts.cache.retry_due(current.depends_on, now):
                    self._reread()
                self._rounds.request(Request("expiry or retry", routine=True))
        if self._upkeep.relearn_due(now):
            self._rounds.request(Request("no relay is ok", relearn=True, routine=True))

    def _reread(self) -> None:
        """E3: read everything again that may have been missed; what is the same leads to nothing."""
        self._commands += [RereadKernel(), RereadNameservers()]

    @property
    def wake_at(self) -> float | None:
        """When `advance` has to be called again if nothing comes before."""
        offline_until = None if self._offline_since is None else self._offline_since + OFFLINE_GRACE
        return min(times(self._parts, self.phase, offline_until, self._now), default=None)
