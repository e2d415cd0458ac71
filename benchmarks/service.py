"""What programs that ask get: D-Bus reads a second, socketmap lookups a second."""

from __future__ import annotations

import time
from pathlib import Path
from statistics import median

from benchmarks.figures import Counts, Progress, Table
from benchmarks.lab import AGENT, FLOOR, LINK, NAIVE, Lab, agent, running


def reads(tools: Path, counts: Counts, progress: Progress) -> list[Table]:
    """Properties.Get of the relay."""
    got: dict[tuple[str, int], list[tuple[float, ...]]] = {}
    for n in range(counts.rounds):
        with Lab(tools) as lab:
            for peer in (FLOOR, AGENT, NAIVE):
                assert peer.owns
                progress(f"D-Bus reads, {peer.label}, {n + 1} of {counts.rounds}")
                with running(lab, peer):
                    for window in (1, 32):
                        said = lab.run([lab.tool("reads"), lab.bus, *peer.owns, str(counts.reads), str(window)])
                        got.setdefault((peer.label, window), []).append(tuple(map(float, said.split())))
    table = Table("D-Bus reads", ("", "calls a second", "one call, median / p99, us"))
    for (label, window), seen in got.items():
        calls, middle, late = (median(values) for values in zip(*seen, strict=True))
        how = "one at a time" if window == 1 else f"{window} under way"
        table.rows.append((f"{label}, {how}", f"{calls:.0f}", f"{middle:.0f} / {late:.0f}"))
    return [table]


def lookups(tools: Path, counts: Counts, progress: Progress) -> list[Table]:
    """Postfix's own client, against the agent's socketmap and a static map."""
    rates: dict[str, list[float]] = {}
    for n in range(counts.rounds):
        progress(f"socketmap lookups, {n + 1} of {counts.rounds}")
        with Lab(tools) as lab:
            socket, static = lab.directory / "socketmap", lab.directory / "static"
            static.write_text("".join(f"user{n}@example.org [mx-0-0.relay.test]:25\n" for n in range(counts.lookups)))
            keys = "".join(f"user{n}@example.org\n" for n in range(counts.lookups))
            lab.host.ip("addr", "add", "10.0.0.7/32", "dev", LINK)
            peer = agent("verify.enabled = false", f'postfix.listen = ["unix:{socket}"]')
            maps = {"the agent's socketmap": f"socketmap:unix:{socket}:relay", "a static map": f"texthash:{static}"}
            with running(lab, peer):
                assert peer.owns
                relay = peer.owns
                lab.wait_for(relay)
                for label, kind in maps.items():
                    lab.run(["postmap", "-q", "-", kind], input="x\n" + keys[:20].partition("\n")[0] + "\n")
                    begin = time.monotonic()
                    found = lab.run(["postmap", "-q", "-", kind], input=keys)
                    rates.setdefault(label, []).append(counts.lookups / (time.monotonic() - begin))
                    if found.count("mx-0-0") != counts.lookups:
                        raise RuntimeError(f"{label}: {found.count('mx-0-0')} of {counts.lookups} answered")
    table = Table("Postfix map lookups", ("", "a second"))
    table.rows = [(label, f"{median(seen):.0f}") for label, seen in rates.items()]
    table.note = "`postmap -q -`, one at a time, its start included."
    return [table]
