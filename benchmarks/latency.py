"""From an address to the signal that names its relay."""

from __future__ import annotations

from pathlib import Path
from statistics import median

from benchmarks.figures import Counts, Progress, Table, both, p99, times
from benchmarks.lab import AGENT, FLOOR, LINK, NAIVE, SHELL, VERIFYING, Lab, running

# Milliseconds between two addresses, so that they are no storm (rule E2: a round each 250 ms). Where others stay,
# stay, losing the address is a round, too; where it is the same one, the relay of a host that is offline stays for 2 s
# (E6).
PAUSE, PAUSE_OTHERS, PAUSE_SAME = 300, 700, 2300
DELAYS = (0.0, 0.02, 0.1)


def events(lab: Lab, count: int, pause: int, *, same: bool = False) -> list[float]:
    """Milliseconds of each address; the first one, which warms up whatever is warmed up, is left out."""
    said = lab.run([lab.tool("latency"), lab.bus, LINK, str(count + 1), str(pause), str(int(same))])
    return [float(line) / 1000 for line in said.split()[1:] if not line.startswith("-")]


def addresses(lab: Lab, count: int) -> None:
    """More addresses on the host, each of a network with relays of its own; those that are measured go before them."""
    lab.host.batch([f"addr add 10.{245 + n // 250 % 10}.{n % 250}.{9 + n // 2500}/32 dev {LINK}" for n in range(count)])


def measure(tools: Path, counts: Counts, progress: Progress) -> tuple[list[Table], dict[str, list[float]]]:
    """The tables, and the values by peer and delay for the plot."""
    values: dict[tuple[str, float, str], list[float]] = {}
    cases = [(0, False, "one address"), (9, False, "ten addresses"), (0, True, "one, again and again")]
    for delay in DELAYS:
        for _ in range(counts.rounds):
            for peer in (FLOOR, AGENT, VERIFYING, NAIVE, SHELL):
                for others, same, case in cases if delay == 0 and peer in (FLOOR, AGENT) else cases[:1]:
                    progress(f"latency, {peer.label}, {delay * 1000:g} ms of DNS, {case}")
                    with Lab(tools, delay) as lab, running(lab, peer):
                        addresses(lab, others)
                        pause = PAUSE_SAME if same else PAUSE_OTHERS if others else PAUSE
                        count = counts.slow_events if same or peer is SHELL else counts.events
                        values.setdefault((peer.label, delay, case), []).extend(events(lab, count, pause, same=same))
    tables = []
    for delay in DELAYS:
        floor = values[FLOOR.label, delay, "one address"]
        table = Table(
            f"Event to signal, {delay * 1000:g} ms of DNS",
            ("", "median / p99, ms", "times the C floor", "p99 / median", "over the DNS, ms"),
        )
        for (label, of, case), got in values.items():
            if of == delay and got:
                trips = 2 if label.startswith(AGENT.label) else 1
                over = median(got) - trips * delay * 1000
                own = values.get((FLOOR.label, delay, case), floor)
                row = (f"{label}, {case}", both(got), times(got, own), f"{p99(got) / median(got):.1f}", f"{over:.2f}")
                table.rows.append(row)
        tables.append(table)
    tables[-1].note = (
        "The agent asks twice in a row where the others ask once: MX, then A and AAAA of what that found (rule C3). "
        "The relay that is verified answers at once. `Again and again`: the address is the same each time; nothing of "
        "it outlives the change of the network (rule E1), so for the agent it is as new."
    )
    plotted = {f"{label}, {delay * 1000:g} ms": got for (label, delay, case), got in values.items()
               if case == "one address"}  # fmt: skip
    return tables, plotted
