"""From an address to the signal that names its relay."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

from benchmarks.dispatchers import LINK as ITS_LINK
from benchmarks.dispatchers import NETWORKD, NETWORKMANAGER, Dispatcher
from benchmarks.figures import AGAIN, TEN, Counts, Progress, Table, at_most, both, p99, times
from benchmarks.lab import AGENT, FLOOR, LEAN, LINK, NAIVE, RELAY, RULED, SHELL, VERIFYING, Lab, Peer, awake, running

BOUNDED = (0.0, 0.02)  # delays of the DNS, seconds, for which there is a bound
ONE = "one address"
ASLEEP = "one address, processors that sleep"
ALONE = "the relay alone: connect, greeting, EHLO"
FIRST, SECOND = "first address of its link", "second address of its link"
# Milliseconds between two addresses, so that they are no storm (rule E2: a round each 250 ms). Where others
# stay, losing the address is a round, too; where it is the same one, the relay of a host that is offline stays for 2 s
# (E6). A dispatcher has the link as new within the last.
PAUSES = {ONE: 300, ASLEEP: 300, TEN: 700, AGAIN: 2300, FIRST: 700, SECOND: 100}
PATIENCE, PATIENCE_SECOND = 20000, 1000  # milliseconds: a dispatcher that does take notice needs a tenth of the last
# more addresses on the host, each of a network with relays of its own; those that are measured go before them
OTHERS = [f"10.245.{n}.9/32" for n in range(9)]


@dataclass
class Values:
    """What was measured in one case. Milliseconds; `asked`: for so many addresses."""

    seen: list[float] = field(default_factory=list)
    asked: int = 0


class Latency:
    """What was measured so far, by peer, delay of the DNS and case."""

    def __init__(self, tools: Path, counts: Counts, progress: Progress) -> None:
        self._tools, self._counts, self._progress = tools, counts, progress
        self.values: dict[tuple[str, float, str], Values] = {}
        self.alone: dict[float, list[float]] = {}  # by delay: milliseconds of one conversation with the relay
        self.absent: dict[str, str] = {}  # dispatchers that do not run here, and why

    def round(self, delay: float) -> None:
        """Everyone once, in turn."""
        all_cases = delay == self._counts.delays[0]
        with Lab(self._tools, delay) as lab:
            with awake():
                for peer in (FLOOR, LEAN, RULED, AGENT, VERIFYING, NAIVE, SHELL):
                    for case in (ONE, *self._counts.cases) if all_cases and peer in (FLOOR, AGENT) else (ONE,):
                        self._case(lab, peer, delay, case)
                self._converse(lab, delay)
            for peer in (FLOOR, AGENT, NAIVE):
                self._case(lab, peer, delay, ASLEEP)
        for dispatcher in (NETWORKMANAGER, NETWORKD) if delay < 0.1 else ():
            self._dispatch(dispatcher, delay, all_cases)

    def _case(self, lab: Lab, peer: Peer, delay: float, case: str) -> None:
        """One that is started for it."""
        self._say(peer.label, delay, case)
        with running(lab, peer), lab.addresses(*OTHERS if case == TEN else ()):
            few = peer is SHELL or case == AGAIN
            self._events(lab, peer, delay, case, self._counts.slow_events if few else self._counts.events)

    def _dispatch(self, dispatcher: Dispatcher, delay: float, all_cases: bool) -> None:
        """One that runs its script when a link gets its first address."""
        if dispatcher.label in self.absent:
            return
        with Lab(self._tools, delay) as lab:
            self._say(dispatcher.label, delay, FIRST)
            try:
                dispatcher.start(lab)
            except RuntimeError as error:
                self.absent[dispatcher.label] = str(error)
                self._progress(f"{dispatcher.label} does not run here: {error}\n{lab.log()}")
                return
            with awake():
                self._events(lab, dispatcher, delay, FIRST, self._counts.slow_events, dispatcher.undo)
                if all_cases:
                    self._say(dispatcher.label, delay, SECOND)
                    dispatcher.take_address(lab)
                    self._events(lab, dispatcher, delay, SECOND, self._counts.slow_events)

    def _say(self, label: str, delay: float, case: str) -> None:
        self._progress(f"latency, {label}, {delay * 1000:g} ms of DNS, {case}")

    def _events(
        self, lab: Lab, of: Peer | Dispatcher, delay: float, case: str, count: int, undo: Sequence[str] = ()
    ) -> None:
        """So many addresses, and a first one, which warms up whatever is warmed up and is left out. No second does."""
        link = LINK if isinstance(of, Peer) else ITS_LINK
        patience = PATIENCE_SECOND if case == SECOND else PATIENCE
        warming = 0 if case == SECOND else 1
        numbers = (count + warming, PAUSES[case], int(case == AGAIN), patience)
        said = lab.run(
            ["env", f"DBUS_SYSTEM_BUS_ADDRESS={lab.bus}", lab.tool("latency"), lab.bus, link, *map(str, numbers), *undo]
        )
        values = self.values.setdefault((of.label, delay, case), Values())
        values.asked += count
        values.seen += [float(line) / 1000 for line in said.split()[warming:] if not line.startswith("-")]

    def _converse(self, lab: Lab, delay: float) -> None:
        """So many conversations with the relay, as cold as those of a verification; a first one is left out, too."""
        self._progress(f"latency, {ALONE}, {delay * 1000:g} ms of DNS")
        said = lab.run([lab.tool("relay"), RELAY, "25", str(self._counts.events + 1), str(PAUSES[ONE])])
        self.alone.setdefault(delay, []).extend(float(line) / 1000 for line in said.split()[1:])

    def table(self, delay: float) -> Table:
        """All that was measured with this delay."""
        table = Table(
            f"Event to signal, {delay * 1000:g} ms of DNS",
            ("", "median / p99, ms", "times the C floor", "p99 / median", "over the DNS, ms"),
        )
        floor = self.values[FLOOR.label, delay, ONE]
        for (label, of, case), values in self.values.items():
            if of != delay:
                continue
            seen, row = values.seen, [f"{label}, {case}"]
            if len(seen) < values.asked:
                row[0] += f" ({len(seen)} of {values.asked} came)"
            if seen:
                over = median(seen) - _trips(label) * delay * 1000
                own = self.values.get((FLOOR.label, delay, case), floor)
                row += [both(seen), times(seen, own.seen), f"{p99(seen) / median(seen):.1f}", f"{over:.2f}"]
            else:
                row += ["none came", "", "", ""]
            table.rows.append(row)
        for case, words in ((ONE, ""), (ASLEEP, ", processors that sleep")) if delay in BOUNDED else ():
            if seen := self.values.get((AGENT.label, delay, case), Values()).seen:
                trips = _trips(AGENT.label)
                what = f"address to signal, ms over {trips} round trips of {delay * 1000:g} ms to the DNS{words}"
                table.bounds.append(at_most(what, 5, median(seen) - trips * delay * 1000))
        alone = self.alone[delay]
        table.rows.append([ALONE, both(alone), "", f"{p99(alone) / median(alone):.1f}", ""])
        notes = [self._verification(delay), *(f"{label} does not run here." for label in self.absent)]
        table.note = " ".join(filter(None, notes))
        return table

    def _verification(self, delay: float) -> str:
        """What verifying the relay adds, beside what the relay takes."""
        without, verifying = (self.values[peer.label, delay, ONE].seen for peer in (AGENT, VERIFYING))
        if not (without and verifying):
            return ""
        added, alone = median(verifying) - median(without), median(self.alone[delay])
        return f"Verification adds {added:.2f} ms to the median; the relay alone takes {alone:.2f} ms."


def _trips(label: str) -> int:
    """How many DNS answers lie between an address and its signal."""
    if label.startswith(AGENT.label) or label == RULED.label:
        return 2  # MX; A and AAAA of what that found (rule C3)
    return 1 if label in (FLOOR.label, LEAN.label) else 2  # the script: the first name has no relay


def measure(tools: Path, counts: Counts, progress: Progress) -> tuple[list[Table], dict[str, list[float]]]:
    """The tables, and the values by peer and delay for the plot."""
    latency = Latency(tools, counts, progress)
    for delay in counts.delays:
        for _ in range(counts.rounds if delay in BOUNDED else 1):
            latency.round(delay)
    tables = [latency.table(delay) for delay in counts.delays]
    tables[0].note += (
        " The dispatchers run a script with the body of the shell loop, for NetworkManager's `up` and for networkd's "
        "`routable`. The time is the same as for the others: from the address, which is the first of a link that they "
        "see to, until the signal; the kernel is given it, they find it there. A second address is one more on the "
        f"same link; it is waited for {PATIENCE_SECOND / 1000:g} s. A process of the lowest scheduling class keeps "
        "each processor from sleeping, for everyone but in the rows that say otherwise: what a processor takes to "
        "wake is the machine's, and comes once for each wait."
    )
    tables[-1].note += (
        " The agent asks twice in a row where the floor and lean Python ask once: MX, then A and AAAA of what that "
        "found (rule C3); so does the naive stack. Lean Python by the rules does on the wire what they ask for, and "
        "nothing else. "
        "The shell loop and the dispatchers ask one level after the other, and the second has the relay. The relay "
        "that is verified answers at once. `Again and again`: the address is the same each time; nothing of it "
        "outlives the change of the network (rule E1), so for the agent it is as new."
    )
    plotted = {f"{label}, {delay * 1000:g} ms": values.seen for (label, delay, case), values in latency.values.items()
               if case in (ONE, FIRST) and values.seen}  # fmt: skip
    return tables, plotted
