"""The state machine: events and `now` in, deeds out. Rules D8, E and H1-H2; the rest it delegates.

Times are seconds on one clock that never steps back and counts suspend (CLOCK_BOOTTIME); the engine reads none itself.
The same events at the same times give the same deeds.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from itertools import chain

from salsa_agent.core import addresses as rules_a
from salsa_agent.core.bucket import Bucket
from salsa_agent.core.checks import Checks, first_not_failed, last_resort
from salsa_agent.core.choose import Choice, World, choose, joined, normalize, static_questions
from salsa_agent.core.events import (
    Answered,
    Ask,
    Checked,
    Deed,
    Drop,
    Event,
    FactsRead,
    FailureReported,
    LinkRelaysSet,
    NetworkLeft,
    OutsideLearned,
    Publish,
    RefreshAsked,
    RefreshDone,
    Resumed,
    RoundEnded,
    ServersRead,
    SettingsRead,
)
from salsa_agent.core.memory import Memory
from salsa_agent.core.model import (
    Address,
    Answer,
    Asked,
    Best,
    DefaultRoute,
    IPAddress,
    LinkRelays,
    NetworkFacts,
    Outcome,
    Publication,
    Question,
    RelayKey,
    ServerView,
    State,
    Verdict,
)
from salsa_agent.core.names import shown
from salsa_agent.core.outside import Outside
from salsa_agent.core.settings import Settings

IN_FLIGHT = 64  # B2
ROUNDS, ROUND_EVERY = 6, 0.25  # E2
LONGEST_ROUND = 30.0  # E4
OFFLINE_GRACE = 2.0  # E6
REFRESH_EVERY = 1.0  # section 4

_Network = tuple[tuple[Address, ...], frozenset[DefaultRoute], frozenset[str], ServerView]


@dataclass(slots=True)
class _Round:
    """One recomputation on its way: asked for while `started` is None, then running, gone at its decision."""

    cause: str
    network: bool = False  # after a network change: D8, E5, and `resolving`
    forget: bool = False  # `Refresh`
    learn: bool = True  # the outside address is asked for (G1)
    tokens: list[int] = field(default_factory=list)
    started: float | None = None
    dns_done: bool = False
    questions: int = 0

    def absorb(self, other: _Round) -> None:
        """This round is run instead of the other one: what that one owed, this one owes."""
        if other.network:
            self.network, self.cause = True, other.cause
        self.forget |= other.forget
        self.learn |= other.learn
        self.tokens = other.tokens + self.tokens


class Engine:
    """From the host's facts to the best relay."""

    def __init__(self, settings: Settings, identity: bytes, seed: int = 0) -> None:
        self._settings = settings
        self._identity = identity
        self._facts: NetworkFacts | None = None
        self._view: ServerView | None = None
        self._links: tuple[LinkRelays, ...] = ()
        self._network: _Network | None = None
        self._world: World | None = None
        self._world_moved = False  # something that `_world` is made from changed
        self._outside = Outside()
        self._memory = Memory()
        self._checks = Checks(seed)
        self._choice = Choice()
        self._running: _Round | None = None
        self._next: _Round | None = None
        self._budget = Bucket(ROUNDS, ROUND_EVERY)
        self._last_refresh: float | None = None
        self._in_flight: dict[Question, None] = {}
        self._dns_deadline = 0.0
        self._offline_since: float | None = None
        self._decided = False
        self._asked: tuple[Asked, ...] = ()
        self._standing = State.READY
        self._said = Publication()
        self._pending: Publication | None = None
        self._deeds: list[Deed] = []
        self._wake: float | None = None

    @property
    def publication(self) -> Publication:
        """What was published last."""
        return self._said

    @property
    def asked(self) -> tuple[Asked, ...]:
        """The questions that the last decision rests on, with the answers it had."""
        return self._asked

    @property
    def wake_at(self) -> float | None:
        """When `handle` has to be called again if no event comes before."""
        return self._wake

    def handle(self, events: Iterable[Event], now: float) -> list[Deed]:
        """Take the events in, in their order, and say what is to be done."""
        self._deeds = []
        for event in events:
            self._take(event, now)
        self._notice_network(now)
        self._advance(now)
        self._wake = self._next_wake(now)
        return self._deeds

    # --- events

    def _take(self, event: Event, now: float) -> None:
        match event:
            case FactsRead(facts):
                self._facts, self._world_moved = facts, True
            case ServersRead(view):
                self._view, self._world_moved = view, True
            case Answered(question, answer):
                if question in self._in_flight:
                    del self._in_flight[question]
                    self._memory.record(question, normalize(question, answer), now)
            case Checked(check, result):
                self._checks.conclude(check, result, now)
            case RefreshAsked(token):
                self._request(_Round("refresh", forget=True, tokens=[token]))
            case SettingsRead(settings):
                self._take_settings(settings)
            case Resumed():
                self._network, self._world_moved = None, True
            case OutsideLearned(wish, ip):
                if self._outside.learn(wish, ip):
                    self._world_moved = True
                    if self._running is None or self._running.dns_done:
                        self._request(_Round("outside address", learn=False))
            case FailureReported(key, reason):
                self._report(key, shown(reason), now)
            case LinkRelaysSet(links):
                self._links, self._world_moved = links, True
                self._request(_Round("link relays"))

    def _take_settings(self, settings: Settings) -> None:
        if settings.verify != self._settings.verify:
            self._deeds += self._checks.clear()
        if settings.network != self._settings.network:
            self._deeds += self._outside.leave()
        self._settings, self._world_moved = settings, True
        self._request(_Round("reload"), supersede=True)

    def _report(self, key: RelayKey, reason: str, now: float) -> None:
        """D6: this relay failed; the first of the published list that did not is published without waiting."""
        settings = self._settings
        self._deeds += self._checks.report(key, reason, now, enabled=settings.verify.enabled)
        said = self._pending or self._said
        relays = tuple(
            replace(listed, verdict=Verdict.FAILED, reason=reason) if listed.relay.key == key else listed
            for listed in said.relays
        )
        best = first_not_failed(relays, settings.static_relays)
        self._checks.owe(RelayKey(best.host, best.port))
        self._pending = replace(said, relays=relays, best=best, changed=self._changed(best, now))

    def _notice_network(self, now: float) -> None:
        """E1: compare what matters, so that a repeated message costs nothing."""
        if self._facts is None or self._view is None or not self._world_moved:
            return
        self._world_moved = False
        settings = self._settings
        counting = rules_a.counting(self._facts, settings.network.ignore)
        view = ServerView(settings.dns.servers) if settings.dns.servers else self._view
        network = (counting, self._facts.defaults, self._facts.rules, view)
        moved = network != self._network
        if moved:
            self._network = network
            self._leave_network()
        own = rules_a.own(self._facts)
        before, addresses = self._world, self._outside.add_to(counting)
        self._world = World(settings, addresses, own, view, self._identity, self._links)
        if not moved:
            if before is not None and before.own != own:  # C4 may read differently now
                self._request(_Round("own addresses"))
            return
        if not counting:
            self._go_offline(now)
            return
        self._offline_since = None
        self._request(_Round("network change" if self._decided else "start", network=True), supersede=True)

    def _go_offline(self, now: float) -> None:
        if self._offline_since is None:
            self._offline_since = now if self._decided else now - OFFLINE_GRACE
        for stopped in (self._running, self._next):
            if stopped is not None:
                self._deeds += [RefreshDone(token) for token in stopped.tokens]
        self._running = self._next = None

    def _leave_network(self) -> None:
        """Nothing known from the old network is of use on the new one (E1), and nothing asked there is wanted."""
        self._cancel_questions()
        self._memory.clear()
        self._deeds += self._outside.leave()
        self._deeds += self._checks.owe_all(restart=True)
        self._deeds.append(NetworkLeft())

    def _cancel_questions(self) -> None:
        self._deeds += [Drop(question) for question in self._in_flight]
        self._in_flight.clear()

    # --- rounds

    def _request(self, wanted: _Round, *, supersede: bool = False) -> None:
        """Have a round run as soon as the budget allows; `supersede`: instead of the one that runs (E2)."""
        if self._next is not None:
            wanted.absorb(self._next)
        if supersede and self._running is not None:
            wanted.absorb(self._running)
            self._running = None
        self._next = wanted

    def _advance(self, now: float) -> None:
        """Go as far as the answers allow."""
        world = self._world
        if world is None:
            return
        if not world.addresses:
            self._stay_offline(world, now)
            return
        while True:  # a round that decided makes room for the one that waits
            self._request_what_is_due(now)
            self._start(world, now)
            if self._running is None:
                break
            self._run(world, self._running, now)
            if self._running is not None:
                break
        if self._running is None and self._following():
            self._follow_up(world, now)
        self._publish(self._state(world))

    def _request_what_is_due(self, now: float) -> None:
        """E1, B5: a TTL ran out, or a failed question is due for another try."""
        due = self._memory.due(self._bearing())
        if due is not None and due <= now and self._running is None and self._next is None:
            self._request(_Round("expiry or retry"))

    def _start(self, world: World, now: float) -> None:
        if self._next is None or self._running is not None or now < self._start_at(self._next, now):
            return
        self._budget.take(now)
        self._running, self._next = self._next, None
        self._running.started = now
        dns = world.settings.dns
        self._dns_deadline = now + min(2 * dns.timeout * dns.attempts, LONGEST_ROUND)
        if self._facts is not None and self._running.learn:
            self._deeds += self._outside.ask(world.settings.network, self._facts, world.addresses, world.view)
        if self._running.forget:
            self._last_refresh = now
            self._cancel_questions()
            self._memory.forget()
            self._deeds += self._checks.owe_all(restart=False)
        else:
            self._memory.expire(now)

    def _start_at(self, wanted: _Round, now: float) -> float:
        """When the budget lets this round start (E2); `Refresh` at most once a second, unless the network changed."""
        ready = self._budget.ready_at(now)
        if wanted.forget and not wanted.network and self._last_refresh is not None:
            ready = max(ready, self._last_refresh + REFRESH_EVERY)
        return ready

    def _run(self, world: World, running: _Round, now: float) -> None:
        started = now if running.started is None else running.started
        # the second half of the DNS part is for address lookups (E4): they do not wait for the slowest level then
        self._choice = choose(world, self._memory, ahead=now >= (started + self._dns_deadline) / 2)
        if now >= self._dns_deadline:
            self._give_up_questions(world, now)
        learned = self._outside.settled or now >= self._dns_deadline  # G1
        running.dns_done = running.dns_done or (self._choice.settled and learned)
        self._ask(running)
        if not running.dns_done:
            return
        best = self._verify(world, now)
        if best is None and now >= started + LONGEST_ROUND:
            self._checks.force(self._choice.relays)
            best = self._verify(world, now)
        if best is not None:
            self._decide(world, running, best, now, now - started)

    def _ask(self, running: _Round) -> None:
        """B2: everything at once, the weightiest first where 64 are in flight."""
        for question in chain(() if running.dns_done else self._choice.wanted, self._static_questions()):
            if len(self._in_flight) >= IN_FLIGHT:
                break
            if question not in self._in_flight and self._memory.look(question) is None:
                self._in_flight[question] = None
                self._deeds.append(Ask(question))
                running.questions += 1

    def _give_up_questions(self, world: World, now: float) -> None:
        """E4: what is unanswered at the end of the DNS part has failed."""
        self._cancel_questions()
        late = Answer(Outcome.FAILED, reason="no answer in time")
        while unanswered := [
            question
            for question in chain(self._choice.wanted, self._static_questions())
            if self._memory.look(question) is None
        ]:
            for question in unanswered:
                self._memory.record(question, late, now)
            self._choice = choose(world, self._memory)

    def _static_questions(self) -> list[Question]:
        """The lookups of the static relays' names, which only their verification needs."""
        if self._world is None or not self._world.settings.verify.enabled:
            return []
        return [question for questions in static_questions(self._world).values() for question in questions]

    def _bearing(self) -> Iterable[Question]:
        """The questions whose expiry or failure calls for a round."""
        return chain(self._choice.bearing, self._static_questions())

    def _verify(self, world: World, now: float) -> Best | None:
        """Start the checks that are due; the best relay, once it is known (D2-D4)."""
        choice, verify = self._choice, world.settings.verify
        self._deeds += self._checks.follow(choice.relays, now)
        if verify.enabled:
            self._deeds += self._checks.step(choice.relays, self._addresses(world), now)
        else:
            self._checks.revive(now)
        return self._checks.best(choice.relays, world.settings.static_relays, enabled=verify.enabled)

    def _addresses(self, world: World) -> dict[RelayKey, tuple[IPAddress, ...] | None]:
        """Where each relay of the list is spoken to; None while that is being looked up."""
        where: dict[RelayKey, tuple[IPAddress, ...] | None] = {r.key: r.addresses for r in self._choice.relays}
        for key, questions in static_questions(world).items():
            if where.get(key) == ():
                looks = [self._memory.look(question) for question in questions]
                known = [look.answer for look in looks if look is not None]
                where[key] = joined(known) if len(known) == len(looks) else None
        return where

    def _decide(self, world: World, running: _Round, best: Best, now: float, seconds: float) -> None:
        """The one moment at which a round changes what the outside sees (H1)."""
        self._running = None
        self._decided = True
        self._memory.keep(chain(self._choice.wanted, self._static_questions()))
        self._compose(world, best, now)
        self._standing = self._judge(world)
        self._publish(self._state(world))
        self._asked = tuple(self._answers())
        self._deeds.append(RoundEnded(running.cause, len(world.addresses), running.questions, seconds))
        self._deeds += [RefreshDone(token) for token in running.tokens]

    def _answers(self) -> Iterable[Asked]:
        """What the present choice was made from (`Explain`)."""
        for question in chain(self._choice.wanted, self._static_questions()):
            answer = self._memory.last(question)
            if answer is not None:
                yield Asked(question, answer, self._choice.wanted.get(question))

    def _follow_up(self, world: World, now: float) -> None:
        """Between rounds: verdicts come in and are followed (D2, D5)."""
        if now >= self._dns_deadline and self._in_flight:
            self._give_up_questions(world, now)
        best = self._verify(world, now)
        if best is not None:
            self._compose(world, best, now)

    def _stay_offline(self, world: World, now: float) -> None:
        """E6: `offline` at once, the static relay after two seconds (at the start: at once)."""
        if self._next is not None:  # nothing is asked or verified without an address
            self._deeds += [RefreshDone(token) for token in self._next.tokens]
            self._next = None
        since = now if self._offline_since is None else self._offline_since
        if now >= since + OFFLINE_GRACE:
            self._decided = True
            self._choice = choose(world, self._memory)
            self._deeds += self._checks.follow(self._choice.relays, now)
            self._compose(world, last_resort(self._choice.relays, world.settings.static_relays), now)
        self._publish(self._state(world))

    # --- publishing

    def _compose(self, world: World, best: Best, now: float) -> None:
        """The list, the evidence and the best relay as they stand now; `_publish` sends them."""
        choice = self._choice
        if world.addresses and world.settings.verify.enabled:
            self._checks.plan(choice.relays, best, world.settings.verify, now)
        self._pending = Publication(
            state=self._said.state,
            best=best,
            relays=tuple(self._checks.listed(relay) for relay in choice.relays),
            evidence=tuple(choice.evidence),
            changed=self._changed(best, now),
            dropped=tuple(choice.dropped),
        )

    def _changed(self, best: Best, now: float) -> float | None:
        """When the best relay last changed, if it is this one now."""
        same = (best.host, best.port) == (self._said.best.host, self._said.best.port)
        return self._said.changed if same else now

    def _publish(self, state: State) -> None:
        """H1: one publication for all that changed, none when nothing did."""
        ready, self._pending = replace(self._pending or self._said, state=state), None
        if ready != self._said or ready.dropped != self._said.dropped:
            self._deeds.append(Publish(ready))
        self._said = ready

    def _state(self, world: World) -> State:
        """H2: the first that holds."""
        if not self._decided:
            return State.STARTING
        if not world.addresses:
            return State.OFFLINE
        current = self._running or self._next
        if current is not None and current.network:
            return State.RESOLVING
        if current is None:
            self._standing = self._judge(world)
        return self._standing

    def _judge(self, world: World) -> State:
        """`degraded` or `ready`, of what is published or about to be."""
        said = self._pending or self._said
        none_ok = not any(listed.verdict is Verdict.OK for listed in said.relays)
        if self._failing() or (world.settings.verify.enabled and said.relays and none_ok):
            return State.DEGRADED
        return State.READY

    def _failing(self) -> bool:
        """Whether a level or an address lookup failed, and is being retried."""
        statics = (self._memory.look(question) for question in self._static_questions())
        return self._choice.failing or any(look is not None and look.failing for look in statics)

    # --- time

    def _next_wake(self, now: float) -> float | None:
        times: list[float | None] = []
        world = self._world
        if world is not None and not world.addresses:
            if self._offline_since is not None and now < self._offline_since + OFFLINE_GRACE:
                times.append(self._offline_since + OFFLINE_GRACE)
        elif world is not None:
            if self._in_flight:
                times.append(self._dns_deadline)
            if self._running is not None and self._running.started is not None:
                times.append(self._running.started + LONGEST_ROUND)
                if not self._running.dns_done:
                    half = (self._running.started + self._dns_deadline) / 2
                    times.append(half if now < half else self._dns_deadline)
            elif self._next is not None:
                times.append(self._start_at(self._next, now))
            else:
                times.append(self._memory.due(self._bearing()))
            if self._following():
                times.append(self._checks.due(self._choice.relays, now))
        return min((time for time in times if time is not None), default=None)

    def _following(self) -> bool:
        """Whether verdicts are being followed: the list that is verified stands."""
        if self._running is not None:
            return self._running.dns_done
        return self._decided and not (self._next and self._next.network)
