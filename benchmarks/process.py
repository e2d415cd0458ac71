"""Start, size and idleness."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from statistics import median

from benchmarks.figures import Counts, Progress, Table, at_most, both
from benchmarks.lab import AGENT, FLOOR, LEAN, LINK, NAIVE, PROJECT, VERIFYING, Lab, Peer, agent, running

IMPORTS = {
    "import asyncio": "import asyncio",
    "import of the three libraries": "import dbus_next.aio, dns.asyncresolver, pyroute2",
}
FIND = ["-m", "salsa_agent.cli.salsactl.main", "find", "--config", os.devnull]
FIND_DELAY, FIND_TRIPS = 0.02, 2  # seconds until the DNS answers, and how many answers there are to wait for in turn
MIB = 1024
ADDRESS = "10.0.0.7/32"
EXCHANGES, STATIC = "exchanges in the MX set", "static relays"


def cpu(pid: int) -> float:
    """Seconds that a process has run, all of its threads."""
    tasks = Path(f"/proc/{pid}/task")
    return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks.iterdir()) / 1e9


def memory(pid: int) -> tuple[float, float]:
    """Resident and unique set size, MiB."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    size = {words[0]: int(words[1]) for words in map(str.split, lines) if words[-1] == "kB"}
    return size["Rss:"] / MIB, (size["Private_Clean:"] + size["Private_Dirty:"]) / MIB


def wakeups(pid: int) -> int:
    """How often it has gone to sleep."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("voluntary_ctxt_switches"))


def _start(lab: Lab, peer: Peer) -> tuple[float, float]:
    """Milliseconds from the start until the name is owned, and until the relay is known; 0: it is not looked for."""
    assert peer.owns
    watch = lab.start(["timeout", "30", lab.tool("owned"), lab.bus, *peer.owns], ready="ready")
    assert watch.stdout
    begin = time.monotonic()
    process = lab.start(peer.argv(lab))
    try:
        named = float(watch.stdout.readline()) - begin
        answered = float(watch.stdout.readline()) - begin if peer in (FLOOR, AGENT) else 0.0
        return named * 1000, answered * 1000
    finally:
        for one in (process, watch):
            one.terminate()
            one.wait()


def start(tools: Path, counts: Counts, progress: Progress) -> list[Table]:
    """From the start to the name and the first answer, beside what the imports alone take."""
    took: dict[str, list[float]] = {}
    answered: dict[str, list[float]] = {}
    for n in range(counts.starts):
        progress(f"start, {n + 1} of {counts.starts}")
        for label, program in IMPORTS.items():
            begin = time.monotonic()
            subprocess.run([sys.executable, "-c", program], check=True, cwd=PROJECT)
            took.setdefault(label, []).append((time.monotonic() - begin) * 1000)
        with Lab(tools) as lab, lab.addresses(ADDRESS):
            for peer in (FLOOR, AGENT, LEAN, NAIVE):
                name, answer = _start(lab, peer)
                took.setdefault(peer.label, []).append(name)
                if answer:
                    answered.setdefault(peer.label, []).append(answer)
    libraries = median(took["import of the three libraries"])
    table = Table("Start", ("", "to the name, median / p99, ms", "times the libraries' import", "to the answer, ms"))
    for label, got in took.items():
        table.rows.append((label, both(got, 0), f"{median(got) / libraries:.2f}", both(answered.get(label, []), 0)
                           if label in answered else ""))  # fmt: skip
    times = median(took[AGENT.label]) / libraries
    table.bounds.append(at_most("start to the name, times the import of the three libraries", 1.2, times))
    table.note = (
        "Imports: the whole process, start to end. The agent owns its name after its first answer (rule H3), the "
        "others as soon as they can. Lean Python and the naive stack look at what changes only. Of the agent's own "
        "modules, as of the libraries', there is bytecode, as there is where a package was installed."
    )
    return [table]


def find(tools: Path, counts: Counts, progress: Progress) -> list[Table]:
    """`salsactl find` from its start to its end, beside the import of the libraries and the round trips."""
    libraries = "import of the three libraries"
    runs = {
        libraries: ["-c", IMPORTS[libraries]],
        "salsactl find": FIND,
        "salsactl find --no-verify": [*FIND, "--no-verify"],
    }
    took: dict[str, list[float]] = {}
    for n in range(counts.starts):
        progress(f"find, {n + 1} of {counts.starts}")
        with Lab(tools, delay=FIND_DELAY) as lab, lab.addresses(ADDRESS):
            environment = {**os.environ, "DBUS_SYSTEM_BUS_ADDRESS": lab.bus}
            for label, argv in runs.items():
                begin = time.monotonic()
                said = lab.run([sys.executable, *argv], cwd=PROJECT, env=environment)
                took.setdefault(label, []).append((time.monotonic() - begin) * 1000)
                if label != libraries and not said.endswith(":25\n"):
                    raise RuntimeError(f"find has no relay: {said}")
    trips = FIND_TRIPS * FIND_DELAY * 1000
    least = median(took[libraries]) + trips
    table = Table("salsactl find", ("", "median / p99, ms", "times the import and the round trips"))
    for label, got in took.items():
        table.rows.append((label, both(got, 0), "" if label == libraries else f"{median(got) / least:.2f}"))
    what = "start to answer of salsactl find, times the import of the three libraries and the round trips"
    table.bounds.append(at_most(what, 2, median(took["salsactl find"]) / least))
    table.note = (
        f"The whole process, start to end. Round trips: {FIND_TRIPS} answers of the DNS, one after the other (MX, then "
        f"the exchange's addresses), of {FIND_DELAY * 1000:.0f} ms each; the relay's come at once, and are not counted."
    )
    return [table]


def size(tools: Path, counts: Counts, progress: Progress) -> list[Table]:
    """Memory, threads, descriptors and wakeups, a while after the first answer."""
    table = Table("Size and idleness", ("", "RSS, MiB", "USS, MiB", "threads", "descriptors", "wakeups a minute"))
    for peer in (FLOOR, AGENT, VERIFYING, LEAN, NAIVE):
        progress(f"size and idleness, {peer.label}")
        with Lab(tools) as lab, running(lab, peer) as process, lab.addresses(ADDRESS):
            # the last try for a resolver on the system bus is 7 s after the start
            time.sleep(min(counts.idle, 12.0))
            before, begin = wakeups(process.pid), time.monotonic()
            time.sleep(counts.idle)
            woken = (wakeups(process.pid) - before) * 60 / (time.monotonic() - begin)
            rss, uss = memory(process.pid)
            threads = len(list(Path(f"/proc/{process.pid}/task").iterdir()))
            descriptors = len(list(Path(f"/proc/{process.pid}/fd").iterdir()))
            table.rows.append((peer.label, f"{rss:.1f}", f"{uss:.1f}", str(threads), str(descriptors), f"{woken:.1f}"))
            if peer is AGENT:
                table.bounds.append(at_most("RSS, MiB", 42, rss, digits=1))
    return [table]


def growth(tools: Path, counts: Counts, progress: Progress) -> tuple[list[Table], list[tuple[float, float]]]:
    """What more addresses, links and relays cost: the first answer, and one more address on top."""
    table = Table("Growth", ("", "first answer, CPU ms", "RSS, MiB", "one more address, CPU ms"))
    points = []
    kinds = {"addresses": counts.sizes, "links": counts.links, EXCHANGES: counts.relays, STATIC: counts.relays}
    for kind, sizes in kinds.items():
        for number in sizes:
            progress(f"growth, {number} {kind}")
            first, rss, more = _grown(tools, kind, number, counts.rest)
            table.rows.append((f"{number} {kind}", f"{first:.0f}", f"{rss:.1f}", f"{more:.1f}"))
            if kind == "addresses":
                points.append((float(number), more))
    table.note = (
        "The start of the process is in the first answer's CPU time. At most 64 addresses count (rule A3), and the 32 "
        "best exchanges of an MX set (rule C5), each with two lookups. An answer longer than 512 octets, such as one "
        "with 32 exchanges, comes by TCP."
    )
    return [table], points


def _grown(tools: Path, kind: str, number: int, rest: float) -> tuple[float, float, float]:
    """Milliseconds of the CPU for the first answer, RSS in MiB, and milliseconds for one more address."""
    with Lab(tools, exchanges=number if kind == EXCHANGES else 1) as lab:
        lab.host.ip("addr", "add", ADDRESS, "dev", LINK)
        peer = AGENT
        if kind == "addresses":
            lab.host.batch([f"addr add 10.{1 + n // 250}.{n % 250}.7/32 dev {LINK}" for n in range(number - 1)])
        elif kind == "links":
            for n in range(number - 1):
                lab.host.batch([f"link add x{n} type veth peer name y{n}", f"link set x{n} up",
                                f"link set y{n} up", f"addr add 10.{1 + n}.0.7/32 dev x{n}"])  # fmt: skip
        elif kind == STATIC:
            names = ", ".join(f'"mx-{n}.relay.test"' for n in range(number))
            peer = agent("verify.enabled = false", f"static.relays = [{names}]")
        with running(lab, peer) as process:
            assert peer.owns
            relay = peer.owns
            lab.wait_for(relay)
            time.sleep(rest)
            first = cpu(process.pid)
            lab.host.ip("addr", "add", "9.9.9.7/32", "dev", LINK)
            lab.wait_for(relay, "mx-9-9.relay.test")
            time.sleep(0.5)
            more = cpu(process.pid) - first
            return first * 1000, memory(process.pid)[0], more * 1000
