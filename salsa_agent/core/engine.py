"""The engine: events and the time in, commands out. Its phases are explained and tabled in `phases`.

Times are seconds on one clock that never steps back and counts suspend (CLOCK_BOOTTIME); the engine reads none itself.
The same events at the same times give the same commands.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import chain

from salsa_agent.core.cache import Cache
from salsa_agent.core.events import (
    Answered,
    Checked,
    Command,
    ConversationsEnded,
    Event,
    ExternalAddressFound,
    FactsRead,
    FailureReported,
    LinkInfoRead,
    LinkRelaysSet,
    NetworkChanged,
    RefreshAsked,
    RefreshDone,
    RereadKernel,
    RereadNameservers,
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
    Outcome,
    Publication,
    Question,
    RelayKey,
    SenderChoice,
    Server,
    State,
)
from salsa_agent.core.network import Change, Network
from salsa_agent.core.phases import LEADS_TO, Phase
from salsa_agent.core.publication import Published, all_lists_serve, none_is_ok
from salsa_agent.core.questions import Questions
from salsa_agent.core.relay_lists import ActiveList, active_lists
from salsa_agent.core.rounds import OVERDUE, Request, Round, Rounds
from salsa_agent.core.selection import SelectionInput, choose, joined
from salsa_agent.core.settings import Settings
from salsa_agent.core.upkeep import Upkeep
from salsa_agent.core.verification import Checks, Reach, Subject, last_resort, subject_of
from salsa_agent.text import sanitize

OFFLINE_GRACE = 2.0  # seconds; E6


class Engine:
    """From the host's facts to the best relay."""

    def __init__(self, settings: Settings, identity: bytes, seed: int = 0) -> None:
        """`identity`: of the machine (C1). `seed`: spreads checks and expiries over time."""
        self._phase = Phase.STARTING
        self._network = Network(settings, identity)
        self._rounds = Rounds()
        self._round: Round | None = None  # the one that runs, else the last one
        self._cache = Cache(seed)
        self._questions = Questions(self._cache)
        self._checks = Checks(seed)
        self._published = Published()
        self._upkeep = Upkeep(seed)
        self._asked: tuple[Asked, ...] = ()  # of the last round that decided; a copy kept when the next one begins
        self._changed_at = 0.0  # when the network changed last
        self._offline_since: float | None = None
        self._idle_state = State.READY  # of the last round that decided
        self._commands: list[Command] = []
        self._now = 0.0  # of the last event

    # --- what others may look at

    @property
    def publication(self) -> Publication:
        """What was published last."""
        return self._published.last_published

    @property
    def settings(self) -> Settings:
        """The settings in force."""
        return self._network.settings

    @property
    def servers(self) -> tuple[Server, ...]:
        """The DNS servers for what belongs to no address (F1)."""
        return self._network.servers

    @property
    def phase(self) -> Phase:
        """What the engine is doing."""
        return self._phase

    @property
    def idle(self) -> bool:
        """Whether nothing is under way: no round, no question."""
        return self._rounds.running is None and self._rounds.waiting is None and not self._questions.pending

    @property
    def asked(self) -> tuple[Asked, ...]:
        """The questions of the round that decided last, with their answers; some may still be pending (E4)."""
        return self._explanation() if self._phase is Phase.DECIDED else self._asked

    def overdue(self, now: float) -> bool:
        """Whether a change should long have been decided: somebody has stopped calling."""
        since = self._rounds.undecided_since
        return since is not None and now > since + OVERDUE

    # --- the one way in

    def handle(self, events: Iterable[Event], now: float) -> list[Command]:
        """Take the events in, in their order, and say what is to be done. Also to be called at `wake_at`."""
        self._commands, self._now = [], now
        for event in events:
            self._take(event, now)
        self._notice_change(self._network.update(), now)
        self._advance(now)
        return self._commands

    def _take(self, event: Event, now: float) -> None:
        network = self._network
        match event:
            case FactsRead(facts):
                network.read_facts(facts)
            case ServersRead(view):
                network.read_servers(view)
            case LinkInfoRead(infos):
                network.read_link_infos(infos)
            case Answered(question, answer):
                self._questions.record(question, answer, now, from_outside=self._from_outside(answer))
            case Checked(check, result, lingering):
                self._checks.record_result(check, result, lingering, now)
            case ConversationsEnded(check):
                self._checks.conversations_ended(check)
            case RefreshAsked(token, root):
                self._reread()
                self._rounds.request(Request("refresh", forget=True, tokens=[token], by_root=root))
            case SettingsRead(settings):
                self._take_settings(settings)
            case Resumed():
                network.resumed()
                self._reread()
            case ExternalAddressFound(request, ip):
                if network.found_external(request, ip) and not self._takes_inputs:
                    self._rounds.request(Request("external address", discover=False))
            case FailureReported(key, reason):
                self._report(key, sanitize(reason), now)
            case LinkRelaysSet(links):
                network.set_link_relays(links)
                self._rounds.request(Request("link relays"))

    def _take_settings(self, settings: Settings) -> None:
        if settings.verify != self.settings.verify:
            self._commands += self._checks.clear()
        self._commands += self._network.read_settings(settings)
        self._reread()
        self._supersede(Request("reload"))

    def _report(self, key: RelayKey, reason: str, now: float) -> None:
        """D6: this relay failed; the first of the published list that did not is published without waiting."""
        settings = self.settings
        self._commands += self._checks.report(key, reason, now, enabled=settings.verify.enabled)
        resorts = [one.last_resort for one in self._round.lists] if self._round is not None else []
        for best in self._published.report(key, reason, resorts, now):
            self._checks.check_soon(RelayKey(best.host, best.port))

    def _from_outside(self, answer: Answer) -> bool:
        """E6: whether not this host alone made this answer, as it does an error of a server of its own."""
        if answer.outcome is Outcome.FAILED:
            return bool(answer.rcode) and not self._network.is_own(answer.server)
        return not answer.server.startswith("/")  # the hosts file

    # --- changes of the network

    @property
    def _takes_inputs(self) -> bool:
        """Whether the running round takes in what changes; its list is still being made."""
        running = self._rounds.running
        return running is not None and not running.complete and not (self._rounds.waiting or Request("")).network

    def _notice_change(self, change: Change, now: float) -> None:
        inputs = self._network.inputs
        if inputs is None:
            return
        if change in (Change.NETWORK, Change.RESUMED):
            self._changed_at = now
            if inputs.addresses:
                self._network_changed(now, resumed=change is Change.RESUMED)
            else:
                self._go_offline(now)
            return
        if self._takes_inputs and self._round is not None:
            self._round.inputs = inputs
        if change is Change.OWN_ADDRESSES:  # C4 may read differently now
            self._rounds.request(Request("own addresses"))

    def _network_changed(self, now: float, *, resumed: bool) -> None:
        self._offline_since = None
        wanted = Request("network change" if self._published.decided else "start", changed_at=now, leaves=True)
        if self._rounds.goes_on(now) and not resumed:
            self._rounds.request(wanted)
        else:
            self._supersede(wanted)

    def _supersede(self, wanted: Request) -> None:
        if self._rounds.running is not None:
            self._enter(Phase.STARTING)
        self._rounds.supersede(wanted)

    def _leave_network(self) -> None:
        """Drop what is known from the old network, SRV sets aside (E1, E5), and end what is under way there."""
        self._commands += self._questions.cancel()
        self._questions.hold_failures(self._changed_at)
        self._cache.clear()
        self._commands += self._network.leave()
        self._commands += self._checks.network_changed(enabled=self.settings.verify.enabled)
        self._upkeep.start_over()
        self._commands.append(NetworkChanged())

    def _go_offline(self, now: float) -> None:
        self._enter(Phase.OFFLINE)
        if self._offline_since is None:
            self._offline_since = now if self._published.decided else now - OFFLINE_GRACE
        self._commands += [RefreshDone(token) for token in self._rounds.stop()]
        self._leave_network()

    # --- phases

    def _enter(self, phase: Phase) -> None:
        if phase is self._phase:
            return
        assert phase in LEADS_TO[self._phase], f"{self._phase} does not lead to {phase}"
        if self._phase is Phase.DECIDED:
            self._asked = self._explanation()
        self._phase = phase

    def _advance(self, now: float) -> None:
        """Go as far as what is known allows."""
        if self._network.inputs is None:
            return
        if self._phase is Phase.OFFLINE and not self._network.inputs.addresses:
            self._stay_offline(self._network.inputs, now)
        else:
            self._commands += self._questions.look_at_held(now)
            self._request_what_is_due(now)
            while self._begin(now) and self._proceed(now):  # one that decided makes room for the one that waits
                self._request_what_is_due(now)
            if self._phase is Phase.DECIDED:
                self._follow(now)
        self._publish()
        self._keep_up(now)

    def _keep_up(self, now: float) -> None:
        """E3, E5: what is done again after a while."""
        if self._upkeep.reread_due(now):
            self._reread()
        if self._phase in (Phase.DECIDED, Phase.OFFLINE):
            serves = all_lists_serve(self.publication, verified=self.settings.verify.enabled)
            self._upkeep.follow(now, none_ok=self._phase is Phase.DECIDED and not serves)

    def _request_what_is_due(self, now: float) -> None:
        """E1, B5: a TTL ran out, or a failed question is due for another try. E5: no relay is `ok`."""
        if self._phase is not Phase.DECIDED or self._round is None:
            return
        if self._rounds.waiting is None:
            due = self._cache.due(self._round.depends_on)
            if due is not None and due <= now:
                if self._cache.retry_due(self._round.depends_on, now):
                    self._reread()
                self._rounds.request(Request("expiry or retry", routine=True))
        if self._upkeep.relearn_due(now):
            self._rounds.request(Request("no relay is ok", relearn=True, routine=True))

    def _reread(self) -> None:
        """E3: read everything again that may have been missed; what is the same leads to nothing."""
        self._commands += [RereadKernel(), RereadNameservers()]

    def _begin(self, now: float) -> bool:
        """Start the round that waits if the budget allows; whether one runs."""
        waiting = self._rounds.waiting
        if self._rounds.running is not None or waiting is None:
            return self._rounds.running is not None
        if waiting.network:
            self._enter(Phase.STARTING)
        if waiting.leaves:
            waiting.leaves = False
            self._leave_network()
        inputs = self._network.inputs
        begun = self._rounds.start(inputs, now) if inputs is not None else None
        if begun is None:
            return False
        self._enter(Phase.ASKING)
        self._round = begun
        self._checks.begin_round(now)
        if begun.request.discover:
            self._commands += self._network.discover()
        if begun.request.forget:
            self._commands += self._questions.cancel()
            self._cache.forget()
            enabled = begun.inputs.settings.verify.enabled
            self._checks.recheck_all(now, enabled=enabled, by_root=begun.request.by_root)
        elif begun.request.relearn:
            self._cache.ask_again(now)
        else:
            self._cache.expire(now)
        return True

    def _proceed(self, now: float) -> bool:
        """Go on with the running round; whether it decided."""
        running = self._rounds.running
        if running is None:
            return False
        self._select(running, now)
        if running.complete:
            self._enter(Phase.VERIFYING)
        bests = self._verify(running, now)
        if bests[0] is None and now >= running.ends_at:
            self._checks.assume_failed(running.choice.relays)
            bests = self._verify(running, now)
        if bests[0] is not None:
            self._decide(running, bests, now)
            return True
        self._published.compose_senders(self._sender_choices(running, bests))
        return False

    def _select(self, current: Round, now: float) -> None:
        """Make the lists from the answers so far, and ask what they lack (B2)."""
        if not current.finished:
            # the second half of the DNS part is for address lookups (E4): they do not wait for the slowest level then
            self._choose(current, prefetching=now >= current.half_of_dns)
        late = now >= current.dns_deadline
        if late:
            self._give_up(current, now)
        if not current.finished:
            current.lists = active_lists(current.choice, self._network.before_external, late=late)
        asks = self._questions.ask(current.wanted, now)
        current.questions += len(asks)
        self._commands += asks

    def _choose(self, current: Round, *, prefetching: bool = False) -> None:
        begun = current.choice.exchanges
        current.choice = choose(current.inputs, self._cache, prefetching=prefetching, begun=begun)

    def _give_up(self, current: Round, now: float) -> None:
        """E4: the DNS part is over."""

        def wanted() -> Iterable[Question]:
            if not current.complete:
                self._choose(current)
            return current.all_questions

        self._commands += self._questions.give_up(wanted, now)

    def _verify(self, current: Round, now: float) -> tuple[Best | None, ...]:
        """Start the checks that are due; the best relay of each list, once it is known (D2-D4)."""
        lists, verify = current.lists, current.inputs.settings.verify
        self._commands += self._checks.set_relays([one.relays for one in lists], complete=current.finished)
        if verify.enabled:
            reach = Reach(self._addresses(current), self._network.links, self._network.ip_versions)
            self._commands += self._checks.start_checks([one.firm for one in lists], reach, verify, now)
        else:
            self._checks.expire_reports(now)
        return tuple(self._best(one, enabled=verify.enabled) for one in lists)

    def _best(self, one: ActiveList, *, enabled: bool) -> Best | None:
        """Of a list that is not settled its front is looked at: nothing that comes later goes before that (E4)."""
        best = self._checks.best(one.firm, one.last_resort if one.settled else None, enabled=enabled)
        return best if one.settled or (best and best.host) else None

    def _addresses(self, current: Round) -> dict[Subject, tuple[IPAddress, ...] | None]:
        """Where each relay of the list is spoken to; None while that is being looked up."""
        where: dict[Subject, tuple[IPAddress, ...] | None] = {}
        for relay in chain.from_iterable(one.relays for one in current.lists):
            where.setdefault(subject_of(relay), relay.addresses)
        for key, questions in current.lookups.items():
            if where.get(Subject(key)) == ():
                cached = [self._cache.get(question) for question in questions]
                known = [one.answer for one in cached if one is not None]
                where[Subject(key)] = joined(known) if len(known) == len(cached) else None
        return where

    def _decide(self, decided: Round, bests: tuple[Best | None, ...], now: float) -> None:
        """The one moment at which a round changes what the outside sees (H1)."""
        self._enter(Phase.DECIDED)
        self._rounds.running = None
        if decided.request.network:  # nothing of the old network survives the decision (E5)
            self._published.forget_senders()
        self._compose(decided, bests, now)
        changed = self._publish()
        self._cache.keep(decided.all_questions)
        cause, count = decided.request.cause, len(decided.inputs.addresses)
        routine = decided.request.routine and not changed
        self._commands.append(RoundEnded(cause, count, decided.questions, now - decided.started, routine))
        self._commands += [RefreshDone(token) for token in decided.request.tokens]

    def _follow(self, now: float) -> None:
        """Between rounds: verdicts and late answers are followed (D2, D5, E4)."""
        current = self._round
        if current is None:
            return
        before = current.choice
        self._select(current, now)
        bests = self._verify(current, now)
        if bests[0] is not None or current.choice is not before:  # a late answer changed a list behind the best relay
            self._compose(current, bests, now)
        else:
            self._published.compose_senders(self._sender_choices(current, bests))

    def _stay_offline(self, inputs: SelectionInput, now: float) -> None:
        """E6: `offline` at once, the static relay after two seconds (at the start: at once)."""
        # nothing is asked or verified without an address
        self._commands += [RefreshDone(token) for token in self._rounds.stop()]
        since = now if self._offline_since is None else self._offline_since
        if now < since + OFFLINE_GRACE:
            return
        current = self._round = Round(Request("offline"), inputs, now, now)
        self._choose(current)
        current.lists = active_lists(current.choice, None, late=True)
        self._commands += self._checks.set_relays([one.relays for one in current.lists])
        self._compose(current, tuple(last_resort(one.relays, one.last_resort) for one in current.lists), now)

    # --- publishing

    def _compose(self, current: Round, bests: tuple[Best | None, ...], now: float) -> None:
        """The lists, the evidence and the best relays as they stand now; `_publish` sends them."""
        choice, verify = current.choice, current.inputs.settings.verify
        best = bests[0] or self._published.pending.best
        senders = self._sender_choices(current, bests)
        if current.inputs.addresses and verify.enabled:
            stand = (best, *(one.best for one in senders))
            self._checks.plan([(one.relays, b) for one, b in zip(current.lists, stand, strict=True)], verify, now)
        listed = tuple(self._checks.listed(relay) for relay in choice.relays)
        self._published.compose(best, listed, choice.evidence, choice.dropped, now)
        self._published.compose_senders(senders)

    def _sender_choices(self, current: Round, bests: tuple[Best | None, ...]) -> tuple[SenderChoice, ...]:
        """What is published for each sender: its best relay if it is known, else what was published (C11)."""
        before = {(one.address, one.network): one for one in self._published.pending.senders}
        choices: list[SenderChoice] = []
        for (sender, _), one, best in zip(current.choice.senders, current.lists[1:], bests[1:], strict=True):
            listed = tuple(self._checks.listed(relay) for relay in one.relays)
            known = before.get((sender.address, sender.network))
            if best is not None:
                choices.append(SenderChoice(sender.address, sender.network, best, listed, decided=True))
            elif known is not None and known.decided:
                choices.append(known)
            else:
                choices.append(SenderChoice(sender.address, sender.network, relays=listed))
        return tuple(choices)

    def _publish(self) -> bool:
        """Whether anything changed."""
        commands = self._published.publish(self._state())
        self._commands += commands
        return bool(commands)

    def _state(self) -> State:
        """H2: the first that holds."""
        if not self._published.decided:
            return State.STARTING
        if self._phase is Phase.OFFLINE:
            return State.OFFLINE
        if self._rounds.network:
            return State.RESOLVING
        if self._phase is Phase.DECIDED and self._round is not None:
            self._idle_state = self._judge(self._round)
        return self._idle_state

    def _judge(self, current: Round) -> State:
        """`degraded` or `ready`, of what is published or about to be."""
        verified = current.inputs.settings.verify.enabled
        if self._failing(current) or (verified and none_is_ok(self._published.pending)):
            return State.DEGRADED
        return State.READY

    def _failing(self, current: Round) -> bool:
        """Whether a level or an address lookup failed, and is being retried."""
        listed = {relay.key for relay in current.choice.relays}
        names = (questions for key, questions in current.lookups.items() if key in listed)
        lookups = (self._cache.get(question) for question in chain.from_iterable(names))
        return current.choice.failing or any(cached is not None and cached.failing for cached in lookups)

    def _explanation(self) -> tuple[Asked, ...]:
        """What the present list is made from (`Explain`)."""
        questions = self._round.all_questions.items() if self._round else ()
        return tuple(Asked(asked, self._cache.last(asked) or _PENDING, level) for asked, level in questions)

    # --- time

    def report_refused(self, key: RelayKey, now: float) -> bool:
        """Whether a report on this relay by anyone but root is refused: one was just found to be wrong (D6)."""
        return self._checks.report_refused(key, now)

    @property
    def wake_at(self) -> float | None:
        """When `handle` has to be called again if no event comes before."""
        return min((time for time in self._times() if time is not None), default=None)

    def _times(self) -> Iterator[float | None]:
        now, current, waiting = self._now, self._round, self._rounds.waiting
        yield self._upkeep.reread_at
        if self._phase is Phase.OFFLINE:
            due = None if self._offline_since is None else self._offline_since + OFFLINE_GRACE
            yield due if due is not None and due > now else None
        elif self._phase is Phase.STARTING or current is None:
            yield self._rounds.start_at(waiting, now) if waiting else None
        else:
            if self._phase is Phase.DECIDED:
                yield self._rounds.start_at(waiting, now) if waiting else self._cache.due(current.depends_on)
                yield self._upkeep.relearn_at
            else:
                yield current.ends_at
            if not current.complete:
                yield current.half_of_dns if now < current.half_of_dns else current.dns_deadline
            if self._questions.pending:
                yield current.dns_deadline
            yield self._questions.wake_at
            yield self._checks.due(now)


_PENDING = Answer(Outcome.PENDING)
