"""The state machine: events and `now` in, commands out. Rules D8, E and H1-H2; the rest it delegates.

Times are seconds on one clock that never steps back and counts suspend (CLOCK_BOOTTIME); the engine reads none itself.
The same events at the same times give the same commands.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import chain

from salsa_agent.core import addresses as rules_a
from salsa_agent.core.cache import Cache, no_answer_in_time
from salsa_agent.core.events import (
    Answered,
    Ask,
    Checked,
    Command,
    Drop,
    Event,
    ExternalAddressFound,
    FactsRead,
    FailureReported,
    LinkRelaysSet,
    NetworkChanged,
    RefreshAsked,
    RefreshDone,
    Resumed,
    RoundEnded,
    ServersRead,
    SettingsRead,
)
from salsa_agent.core.model import (
    Answer,
    Asked,
    Best,
    IPAddress,
    LinkRelays,
    NetworkFacts,
    Outcome,
    Publication,
    Question,
    RelayKey,
    Server,
    ServerView,
    State,
    Verdict,
)
from salsa_agent.core.nat import ExternalAddress
from salsa_agent.core.publication import Published
from salsa_agent.core.rounds import LONGEST_ROUND, Round, Rounds
from salsa_agent.core.selection import Choice, SelectionInput, choose, joined
from salsa_agent.core.servers import without_own_links
from salsa_agent.core.settings import Settings
from salsa_agent.core.verification import Checks, last_resort
from salsa_agent.text import sanitize

IN_FLIGHT = 64  # B2
OFFLINE_GRACE = 2.0  # E6

_Network = tuple[rules_a.Network, ServerView]


class Engine:
    """From the host's facts to the best relay."""

    def __init__(self, settings: Settings, identity: bytes, seed: int = 0) -> None:
        self._settings = settings
        self._identity = identity
        self._facts: NetworkFacts | None = None
        self._view: ServerView | None = None
        self._links: tuple[LinkRelays, ...] = ()
        self._network: _Network | None = None
        self._world: SelectionInput | None = None
        self._stage: SelectionInput | None = None  # the world that the choice is made from
        self._world_moved = False  # something that `_world` is made from changed
        self._external = ExternalAddress()
        self._cache = Cache()
        self._checks = Checks(seed)
        self._choice = Choice()
        self._rounds = Rounds()
        self._in_flight: dict[Question, float] = {}  # when each was asked
        self._chosen = False  # the choice is whole, not that of a round that was superseded in its DNS part
        self._late_at = 0.0  # when what is in flight has failed
        self._offline_since: float | None = None
        self._decided = False
        self._asked: dict[Question, Asked] = {}
        self._standing = State.READY
        self._published = Published()
        self._commands: list[Command] = []
        self._ended: RoundEnded | None = None  # what `step` left to do
        self._owed: list[int] = []  # the `Refresh` calls that it answers
        self._now = 0.0  # of the last step

    @property
    def publication(self) -> Publication:
        """What was published last."""
        return self._published.last_published

    @property
    def settings(self) -> Settings:
        """The settings in force."""
        return self._settings

    @property
    def servers(self) -> tuple[Server, ...]:
        """The DNS servers for what belongs to no address: those of the first one, else the global ones (F1)."""
        return self._world.view.of_link(self._world.first_link) if self._world else ()

    @property
    def idle(self) -> bool:
        """Whether nothing is under way: no round, no question."""
        return self._rounds.current is None and not self._in_flight

    def overdue(self, now: float) -> bool:
        """Whether a round should long have ended: somebody has stopped calling."""
        running = self._rounds.running
        return running is not None and now > running.started + 2 * LONGEST_ROUND

    @property
    def asked(self) -> tuple[Asked, ...]:
        """The questions of the round that decided last, with their answers; one it did not wait for may come later."""
        return tuple(self._asked.values())

    @property
    def wake_at(self) -> float | None:
        """When `handle` has to be called again if no event comes before."""
        return self._next_wake(self._now)

    @property
    def unfinished(self) -> bool:
        """Whether `step` stopped at a decision."""
        return self._ended is not None

    def handle(self, events: Iterable[Event], now: float) -> list[Command]:
        """Take the events in, in their order, and say what is to be done."""
        commands = self.step(events, now)
        while self.unfinished:
            commands += self.step((), now)
        return commands

    def step(self, events: Iterable[Event], now: float) -> list[Command]:
        """Do as `handle` does, as far as the next decision: followers need not wait for what comes of it.

        While `unfinished`, it is to be called again, without events, before anything else.
        """
        self._commands, self._now = [], now
        if self._ended is not None:
            self._end(self._ended)
        for event in events:
            self._take(event, now)
        self._notice_network(now)
        self._advance(now)
        return self._commands

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
                    self._record(question, answer, now)
            case Checked(check, result):
                self._checks.conclude(check, result, now)
            case RefreshAsked(token=token):
                self._rounds.request(Round("refresh", forget=True, tokens=[token]))
            case SettingsRead(settings):
                self._take_settings(settings)
            case Resumed():
                self._network, self._world_moved = None, True
            case ExternalAddressFound(request, ip):
                if self._external.record(request, ip):
                    self._world_moved = True
                    if self._rounds.running is None or self._rounds.running.dns_done:
                        self._rounds.request(Round("external address", learn=False))
            case FailureReported(key, reason):
                self._report(key, sanitize(reason), now)
            case LinkRelaysSet(links):
                self._links, self._world_moved = links, True
                self._rounds.request(Round("link relays"))

    def _take_settings(self, settings: Settings) -> None:
        if settings.verify != self._settings.verify:
            self._commands += self._checks.clear()
        if settings.network != self._settings.network:
            self._commands += self._external.reset()
        self._settings, self._world_moved = settings, True
        self._rounds.request(Round("reload"), supersede=True)

    def _report(self, key: RelayKey, reason: str, now: float) -> None:
        """D6: this relay failed; the first of the published list that did not is published without waiting."""
        settings = self._settings
        self._commands += self._checks.report(key, reason, now, enabled=settings.verify.enabled)
        best = self._published.report(key, reason, settings.static_relays, now)
        self._checks.owe(RelayKey(best.host, best.port))

    def _notice_network(self, now: float) -> None:
        """E1: compare what matters, so that a repeated message costs nothing."""
        if self._facts is None or self._view is None or not self._world_moved:
            return
        self._world_moved = False
        settings = self._settings
        counting = rules_a.counting(self._facts, settings.network.ignore)
        view = without_own_links(self._view, self._facts.addresses)
        network = (rules_a.network(self._facts, counting), view)
        moved = network != self._network
        if moved:
            self._network = network
            self._leave_network()
        own = rules_a.own(self._facts)
        before, addresses = self._world, self._external.add_to(counting)
        self._world = SelectionInput(
            settings, addresses, own, view, self._identity, self._links, host_addresses=self._facts.addresses
        )
        if self._rounds.running is not None and not self._rounds.running.dns_done:
            self._set_stage(self._world)
        if not moved:
            if before is not None and before.own != own:  # C4 may read differently now
                self._rounds.request(Round("own addresses"))
            return
        if not counting:
            self._go_offline(now)
            return
        self._offline_since = None
        self._rounds.request(Round("network change" if self._decided else "start", network=True), supersede=True)

    def _set_stage(self, world: SelectionInput) -> None:
        """The choice is made from this world until the next round starts, whatever changes meanwhile."""
        self._stage = world

    def _go_offline(self, now: float) -> None:
        if self._offline_since is None:
            self._offline_since = now if self._decided else now - OFFLINE_GRACE
        self._commands += [RefreshDone(token) for token in self._rounds.stop()]

    def _leave_network(self) -> None:
        """Nothing known from the old network is of use on the new one (E1), and nothing asked there is wanted."""
        self._cancel_questions()
        self._cache.clear()
        self._commands += self._external.reset()
        self._commands += self._checks.owe_all(restart=True, enabled=self._settings.verify.enabled)
        self._commands.append(NetworkChanged())

    def _cancel_questions(self) -> dict[Question, float]:
        """Drop what is in flight; when each of them was asked."""
        dropped, self._in_flight = self._in_flight, {}
        self._commands += [Drop(question) for question in dropped]
        return dropped

    # --- rounds

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
            running, stage = self._rounds.running, self._stage
            if running is None or stage is None:
                break
            self._run(stage, running, now)
            if self._ended is not None:
                return
            if self._rounds.running is not None:
                break
        if self._stage is not None and self._rounds.running is None and self._following():
            self._follow_up(self._stage, now)
        self._publish(world)

    def _request_what_is_due(self, now: float) -> None:
        """E1, B5: a TTL ran out, or a failed question is due for another try."""
        if self._rounds.current is None:
            due = self._cache.due(self._bearing())
            if due is not None and due <= now:
                self._rounds.request(Round("expiry or retry"))

    def _start(self, world: SelectionInput, now: float) -> None:
        dns = world.settings.dns
        started = self._rounds.start(now, 2 * dns.timeout * dns.attempts)
        if started is None:
            return
        self._set_stage(world)
        self._late_at = started.dns_deadline
        self._chosen = False
        if started.learn and self._facts is not None:
            self._commands += self._external.discover(world.settings.network, self._facts, world.addresses, world.view)
        if started.forget:
            self._cancel_questions()
            self._cache.forget()
            self._commands += self._checks.owe_all(restart=False, enabled=world.settings.verify.enabled)
        else:
            self._cache.expire(now)

    def _run(self, world: SelectionInput, running: Round, now: float) -> None:
        # the second half of the DNS part is for address lookups (E4): they do not wait for the slowest level then
        self._choice = choose(world, self._cache, prefetching=now >= running.half_of_dns, begun=running.exchanges)
        running.exchanges = self._choice.exchanges
        late = now >= running.dns_deadline
        if late:
            self._give_up_questions(world, now)
        learned = self._external.settled or late  # G1
        running.dns_done = self._chosen = running.dns_done or (self._choice.settled and learned)
        self._ask(running, now)
        if not running.dns_done:
            return
        best = self._verify(world, now)
        if best is None and now >= running.ends_at:
            self._checks.force(self._choice.relays)
            best = self._verify(world, now)
        if best is not None:
            self._decide(world, running, best, now)

    def _ask(self, running: Round, now: float) -> None:
        """B2: everything at once, the weightiest first where 64 are in flight."""
        for question in chain(() if running.dns_done else self._choice.wanted, self._static_questions()):
            if len(self._in_flight) >= IN_FLIGHT:
                break
            if question not in self._in_flight and self._cache.get(question) is None:
                self._in_flight[question] = now
                self._commands.append(Ask(question))
                running.questions += 1

    def _give_up_questions(self, world: SelectionInput, now: float) -> None:
        """E4: what is unanswered at the end of the DNS part has failed; what was not even asked took no time."""
        asked_at = self._cancel_questions()
        while unanswered := self._cache.unanswered(chain(self._choice.wanted, self._static_questions())):
            for question in unanswered:
                self._record(question, no_answer_in_time(asked_at.get(question, now), now), now)
            self._choice = choose(world, self._cache, begun=self._choice.exchanges)

    def _static_questions(self) -> Iterable[Question]:
        """The lookups of the static relays' names."""
        verified = self._stage is not None and self._stage.settings.verify.enabled
        return chain.from_iterable(self._choice.lookups.values()) if verified else ()

    def _bearing(self) -> Iterable[Question]:
        """The questions whose expiry or failure calls for a round."""
        return chain(self._choice.depends_on, self._static_questions())

    def _verify(self, world: SelectionInput, now: float) -> Best | None:
        """Start the checks that are due; the best relay, once it is known (D2-D4)."""
        choice, verify = self._choice, world.settings.verify
        self._commands += self._checks.follow(choice.relays, now)
        if verify.enabled:
            self._commands += self._checks.step(choice.relays, self._addresses(), now)
        else:
            self._checks.revive(now)
        return self._checks.best(choice.relays, world.settings.static_relays, enabled=verify.enabled)

    def _addresses(self) -> dict[RelayKey, tuple[IPAddress, ...] | None]:
        """Where each relay of the list is spoken to; None while that is being looked up."""
        where: dict[RelayKey, tuple[IPAddress, ...] | None] = {r.key: r.addresses for r in self._choice.relays}
        for key, questions in self._choice.lookups.items():
            if where.get(key) == ():
                cached = [self._cache.get(question) for question in questions]
                known = [cached.answer for cached in cached if cached is not None]
                where[key] = joined(known) if len(known) == len(cached) else None
        return where

    def _decide(self, world: SelectionInput, running: Round, best: Best, now: float) -> None:
        """The one moment at which a round changes what the outside sees (H1)."""
        self._rounds.running = None
        self._decided = True
        self._compose(world, best, now)
        self._standing = self._judge(world)
        self._publish(world)
        self._ended = RoundEnded(running.cause, len(world.addresses), running.questions, now - running.started)
        self._owed = running.tokens

    def _end(self, ended: RoundEnded) -> None:
        """Do what the decision did not have to wait for."""
        self._ended = None
        self._cache.keep(chain(self._choice.wanted, self._static_questions()))
        self._asked = {asked.question: asked for asked in self._answers()}
        self._commands.append(ended)
        self._commands += [RefreshDone(token) for token in self._owed]

    def _record(self, question: Question, answer: Answer, now: float) -> None:
        """Take an answer in; one that the last decision did not wait for is still part of its round."""
        self._cache.record(question, answer, now)
        asked = self._asked.get(question)
        if asked is not None and asked.answer.outcome is Outcome.PENDING:
            self._asked[question] = asked._replace(answer=answer)

    def _answers(self) -> Iterable[Asked]:
        """What the present choice was made from (`Explain`)."""
        for question in chain(self._choice.wanted, self._static_questions()):
            answer = self._cache.last(question) or Answer(Outcome.PENDING)
            yield Asked(question, answer, self._choice.wanted.get(question))

    def _follow_up(self, world: SelectionInput, now: float) -> None:
        """Between rounds: verdicts come in and are followed (D2, D5)."""
        if now >= self._late_at and self._in_flight:
            self._give_up_questions(world, now)
        best = self._verify(world, now)
        if best is not None:
            self._compose(world, best, now)

    def _stay_offline(self, world: SelectionInput, now: float) -> None:
        """E6: `offline` at once, the static relay after two seconds (at the start: at once)."""
        # nothing is asked or verified without an address
        self._commands += [RefreshDone(token) for token in self._rounds.stop()]
        since = now if self._offline_since is None else self._offline_since
        if now >= since + OFFLINE_GRACE:
            self._decided = True
            self._set_stage(world)
            self._choice = choose(world, self._cache)
            self._commands += self._checks.follow(self._choice.relays, now)
            self._compose(world, last_resort(self._choice.relays, world.settings.static_relays), now)
        self._publish(world)

    # --- publishing

    def _compose(self, world: SelectionInput, best: Best, now: float) -> None:
        """The list, the evidence and the best relay as they stand now; `_publish` sends them."""
        choice = self._choice
        if world.addresses and world.settings.verify.enabled:
            self._checks.plan(choice.relays, best, world.settings.verify, now)
        listed = tuple(self._checks.listed(relay) for relay in choice.relays)
        self._published.compose(best, listed, choice.evidence, choice.dropped, now)

    def _publish(self, world: SelectionInput) -> None:
        self._commands += self._published.publish(self._state(world))

    def _state(self, world: SelectionInput) -> State:
        """H2: the first that holds."""
        if not self._decided:
            return State.STARTING
        if not world.addresses:
            return State.OFFLINE
        current = self._rounds.current
        if current is not None and current.network:
            return State.RESOLVING
        if current is None:
            self._standing = self._judge(world)
        return self._standing

    def _judge(self, world: SelectionInput) -> State:
        """`degraded` or `ready`, of what is published or about to be."""
        said = self._published.pending
        none_ok = not any(listed.verdict is Verdict.OK for listed in said.relays)
        if self._failing() or (world.settings.verify.enabled and said.relays and none_ok):
            return State.DEGRADED
        return State.READY

    def _failing(self) -> bool:
        """Whether a level or an address lookup failed, and is being retried."""
        statics = (self._cache.get(question) for question in self._static_questions())
        return self._choice.failing or any(cached is not None and cached.failing for cached in statics)

    # --- time

    def _next_wake(self, now: float) -> float | None:
        times: list[float | None] = []
        world = self._world
        if world is not None and not world.addresses:
            if self._offline_since is not None and now < self._offline_since + OFFLINE_GRACE:
                times.append(self._offline_since + OFFLINE_GRACE)
        elif world is not None:
            running, waiting = self._rounds.running, self._rounds.waiting
            if self._in_flight:
                times.append(self._late_at)
            if running is not None:
                times.append(running.ends_at)
                if not running.dns_done:
                    times.append(running.half_of_dns if now < running.half_of_dns else running.dns_deadline)
            elif waiting is not None:
                times.append(self._rounds.start_at(waiting, now))
            else:
                times.append(self._cache.due(self._bearing()))
            if self._following():
                times.append(self._checks.due(self._choice.relays, now))
        return min((time for time in times if time is not None), default=None)

    def _following(self) -> bool:
        """Whether verdicts are being followed: the list that is verified stands."""
        return self._chosen and not (self._rounds.waiting and self._rounds.waiting.network)
