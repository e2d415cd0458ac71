"""The engine: events and the time in, commands out. Its phases are explained and tabled in `phases`.

Times are seconds on one clock that never steps back and counts suspend (CLOCK_BOOTTIME); the engine reads none itself.
The same events at the same times give the same commands.
"""

from __future__ import annotations

from collections.abc import Iterable

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
    RefreshAsked,
    RereadKernel,
    RereadNameservers,
    Resumed,
    ServersRead,
    SettingsRead,
)
from salsa_agent.core.model import Answer, Asked, Outcome, Publication, RelayKey, Server
from salsa_agent.core.network import Change
from salsa_agent.core.parts import Parts
from salsa_agent.core.phases import Phase
from salsa_agent.core.progress import Progress
from salsa_agent.core.rounds import OVERDUE, Request
from salsa_agent.core.settings import Settings
from salsa_agent.text import sanitize


class Engine:
    """From the host's facts to the best relay."""

    def __init__(self, settings: Settings, identity: bytes, seed: int = 0) -> None:
        """`identity`: of the machine (C1). `seed`: spreads checks and expiries over time."""
        parts = Parts(settings, identity, seed)
        self._network = parts.network
        self._rounds = parts.rounds
        self._questions = parts.questions
        self._checks = parts.checks
        self._published = parts.published
        self._progress = Progress(parts)

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
        return self._progress.phase

    @property
    def idle(self) -> bool:
        """Whether nothing is under way: no round, no question."""
        return self._rounds.running is None and self._rounds.waiting is None and not self._questions.pending

    @property
    def asked(self) -> tuple[Asked, ...]:
        """The questions of the round that decided last, with their answers; some may still be pending (E4)."""
        return self._progress.asked

    def overdue(self, now: float) -> bool:
        """Whether a change should long have been decided: somebody has stopped calling."""
        since = self._rounds.undecided_since
        return since is not None and now > since + OVERDUE

    def report_refused(self, key: RelayKey, now: float) -> bool:
        """Whether a report on this relay by anyone but root is refused: one was just found to be wrong (D6)."""
        return self._checks.report_refused(key, now)

    @property
    def wake_at(self) -> float | None:
        """When `handle` has to be called again if no event comes before."""
        return self._progress.wake_at

    # --- the one way in

    def handle(self, events: Iterable[Event], now: float) -> list[Command]:
        """Take the events in, in their order, and say what is to be done. Also to be called at `wake_at`."""
        commands = [command for event in events for command in self._take(event, now)]
        commands += self._notice_change(self._network.update(), now)
        return commands + self._progress.advance(now)

    def _take(self, event: Event, now: float) -> list[Command]:
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
                self._rounds.request(Request("refresh", forget=True, tokens=[token], by_root=root))
                return [RereadKernel(), RereadNameservers()]  # E3
            case SettingsRead(settings):
                return self._take_settings(settings)
            case Resumed():
                network.resumed()
                return [RereadKernel(), RereadNameservers()]  # E3
            case ExternalAddressFound(request, ip):
                if network.found_external(request, ip) and not self._rounds.takes_inputs:
                    self._rounds.request(Request("external address", discover=False))
            case FailureReported(key, reason):
                return self._report(key, sanitize(reason), now)
            case LinkRelaysSet(links):
                network.set_link_relays(links)
                self._rounds.request(Request("link relays"))
        return []

    def _take_settings(self, settings: Settings) -> list[Command]:
        """D8: a change of `[verify]` voids all verdicts."""
        commands: list[Command] = self._checks.clear() if settings.verify != self.settings.verify else []
        commands += self._network.read_settings(settings)
        self._progress.supersede(Request("reload"))
        return [*commands, RereadKernel(), RereadNameservers()]  # E3

    def _report(self, key: RelayKey, reason: str, now: float) -> list[Command]:
        """D6: this relay failed; the first of the published list that did not is published without waiting."""
        commands = self._checks.report(key, reason, now, enabled=self.settings.verify.enabled)
        current = self._rounds.current
        resorts = [one.last_resort for one in current.lists] if current is not None else []
        for best in self._published.report(key, reason, resorts, now):
            self._checks.check_soon(RelayKey(best.host, best.port))
        return commands

    def _from_outside(self, answer: Answer) -> bool:
        """E6: whether not this host alone made this answer, as it does an error of a server of its own."""
        if answer.outcome is Outcome.FAILED:
            return bool(answer.rcode) and not self._network.is_own(answer.server)
        return not answer.server.startswith("/")  # the hosts file

    def _notice_change(self, change: Change, now: float) -> list[Command]:
        """What was read may be another network (E1)."""
        inputs = self._network.inputs
        if inputs is None:
            return []
        if change in (Change.NETWORK, Change.RESUMED):
            if not inputs.addresses:
                return self._progress.go_offline(now)
            self._progress.network_changed(now, resumed=change is Change.RESUMED)
            return []
        if self._rounds.takes_inputs and self._rounds.current is not None:
            self._rounds.current.inputs = inputs
        if change is Change.OWN_ADDRESSES:  # C4 may read differently now
            self._rounds.request(Request("own addresses"))
        return []
