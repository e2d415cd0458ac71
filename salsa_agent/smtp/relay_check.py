"""The conversations of one check: one address of the relay after the other, until one settles it (rule D1)."""

from __future__ import annotations

import asyncio
import socket
from contextlib import suppress
from typing import NamedTuple

from salsa_agent.core.events import Check
from salsa_agent.core.model import CheckResult, IPAddress, ServerResult, Verdict
from salsa_agent.core.verification.verdicts import combine, settles
from salsa_agent.smtp.connect import Connector, NoRouteError, address_literal, error_text
from salsa_agent.smtp.conversation import Conversation, Demands
from salsa_agent.smtp.happy_eyeballs import Outcome, Race, StartNext

MAX_ADDRESSES = 4  # D1
ROUTE_PAUSE = 0.1  # seconds between two attempts while there is no route
GREETING_SHARE = 0.5  # of verify.timeout: how long a greeting is waited for before the next address is tried as well


class _Talk(NamedTuple):
    """A conversation under way. `patient_until`: how long the next address waits for its greeting (loop time)."""

    ip: IPAddress
    conversation: Conversation
    patient_until: float


class RelayCheck:
    """`run`, then `finish`; `abort` at the end in any case. `result` is there after `run`."""

    def __init__(self, check: Check, demands: Demands, seconds: float) -> None:
        self.result = CheckResult(Verdict.UNVERIFIED)
        self._check = check
        self._demands = demands
        self._patience = seconds * GREETING_SHARE
        self._deadline = asyncio.get_running_loop().time() + seconds
        self._connectors = [Connector(ip, check.key.port, check.link_for(ip)) for ip in check.addresses[:MAX_ADDRESSES]]
        self._untried = list(self._connectors)
        self._answered = False  # one of the addresses has answered
        self._results: dict[IPAddress, CheckResult] = {}
        self._no_connection: dict[IPAddress, CheckResult] = {}  # how the last attempt ended
        self._race: Race | None = None
        self._racing: asyncio.Task[Outcome] | None = None
        self._talks: dict[asyncio.Task[CheckResult], _Talk] = {}
        self._ending: dict[asyncio.Task[None], _Talk] = {}

    @property
    def lingering(self) -> tuple[IPAddress, ...]:
        """The addresses with which a conversation is still being ended."""
        still = [talk.ip for talk in (*self._talks.values(), *self._ending.values())]
        if self._racing is not None:
            still += [one.ip for one in self._connectors if one.established]
        return tuple(dict.fromkeys(still))

    async def run(self) -> None:
        """Speak to one address after the other until one settles the verdict, or the time is over."""
        try:
            async with asyncio.timeout_at(self._deadline):
                await self._speak()
        except TimeoutError:
            self._give_up()
        self.result = combine(self._server_results(), administrator=self._check.administrator)

    async def finish(self) -> None:
        """Wait until all conversations have been ended politely, or the time is over."""
        with suppress(TimeoutError):
            async with asyncio.timeout_at(self._deadline):
                if self._race is not None and self._racing is not None:
                    self._race.stop()
                    await asyncio.wait([self._racing])
                    self._take_race(self._racing)
                for talk in self._talks.values():
                    talk.conversation.dismiss()
                while self._talks or self._ending:
                    await asyncio.wait({*self._talks, *self._ending}, return_when=asyncio.FIRST_COMPLETED)
                    self._collect()

    async def abort(self) -> None:
        """End everything at once; QUIT is sent first where there was a greeting. Idempotent."""
        tasks: list[asyncio.Task[None] | asyncio.Task[CheckResult] | asyncio.Task[Outcome]]
        tasks = [*self._ending, *self._talks, *([self._racing] if self._racing else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for talk in (*self._talks.values(), *self._ending.values()):
            talk.conversation.abort()
        if self._racing and not self._racing.cancelled() and self._racing.exception() is None:
            for _, sock in self._racing.result().connected:
                sock.close()

    async def _speak(self) -> None:
        while not any(settles(result, administrator=self._check.administrator) for result in self._results.values()):
            if self._racing is None and self._untried and not self._waits_for_a_talk():
                self._race = Race(self._untried, self._connect)
                self._racing = asyncio.create_task(self._race.run(), name="connect")
                self._untried = []
            tasks = [*self._talks, *([self._racing] if self._racing else [])]
            if not tasks:
                return
            await asyncio.wait(tasks, timeout=self._patience_left(), return_when=asyncio.FIRST_COMPLETED)
            if self._racing is not None and self._racing.done():
                self._take_race(self._racing)
            self._collect()

    async def _connect(self, connector: Connector, start_next: StartNext) -> socket.socket:
        """Connect. No route yet is waited for, unless another address has answered or none will come (rule D1)."""
        while True:
            self._no_connection.pop(connector.ip, None)
            try:
                sock = await connector.connect()
            except OSError as error:
                self._no_connection[connector.ip] = _not_connected(error)
                self._answered = self._answered or isinstance(error, ConnectionError)
                may_come = isinstance(error, NoRouteError) and connector.ip.version in self._check.route_versions
                if self._answered or not may_come:
                    raise
            else:
                self._answered = True
                return sock
            start_next()
            await asyncio.sleep(ROUTE_PAUSE)

    def _take_race(self, racing: asyncio.Task[Outcome]) -> None:
        self._racing = None
        outcome = racing.result()
        for connector, error in outcome.failed:
            self._results[connector.ip] = _not_connected(error)
        order = self._connectors.index
        self._untried = sorted([*outcome.unfinished, *self._untried], key=order)
        for connector, sock in outcome.connected:
            conversation = Conversation(self._demands, sock, address_literal(sock))
            patient_until = asyncio.get_running_loop().time() + self._patience
            task = asyncio.create_task(conversation.run(), name=f"conversation with {connector.ip}")
            self._talks[task] = _Talk(connector.ip, conversation, patient_until)

    def _collect(self) -> None:
        """Take the results of what has ended; a conversation whose result is in is ended politely."""
        for talking in [task for task in self._talks if task.done()]:
            talk = self._talks.pop(talking)
            result = talking.result()
            if result.verdict is not Verdict.UNVERIFIED:
                self._results.setdefault(talk.ip, result)
            self._ending[asyncio.create_task(talk.conversation.end(), name=f"QUIT to {talk.ip}")] = talk
        for ending in [task for task in self._ending if task.done()]:
            del self._ending[ending]
            ending.result()

    def _give_up(self) -> None:
        """The time is over: what each address was at then is its result."""
        for talk in self._talks.values():
            self._results.setdefault(talk.ip, talk.conversation.timed_out())
        for connector in self._connectors:
            if connector.ip in self._no_connection:
                self._results.setdefault(connector.ip, self._no_connection[connector.ip])
            elif connector.started:
                self._results.setdefault(connector.ip, CheckResult(Verdict.FAILED, "connect: timed out"))

    def _server_results(self) -> tuple[ServerResult, ...]:
        nothing = CheckResult(Verdict.UNVERIFIED)
        return tuple(
            ServerResult(one.ip, self._results.get(one.ip, nothing), one.started)
            for one in self._connectors
            if one.started or one.ip in self._results
        )

    def _waits_for_a_talk(self) -> bool:
        """Whether the next address has to wait for a conversation: its greeting has begun, or still has time to."""
        now = asyncio.get_running_loop().time()
        return any(talk.conversation.speaking or now < talk.patient_until for talk in self._talks.values())

    def _patience_left(self) -> float | None:
        """Until a silent conversation no longer keeps the next address waiting; None: nothing waits."""
        if not self._untried or self._racing is not None:
            return None
        now = asyncio.get_running_loop().time()
        left = [talk.patient_until - now for talk in self._talks.values() if not talk.conversation.speaking]
        return min((seconds for seconds in left if seconds > 0), default=None)


def _not_connected(error: OSError) -> CheckResult:
    return CheckResult(Verdict.FAILED, f"connect: {error_text(error)}")
