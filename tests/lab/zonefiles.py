"""Real DNS servers that load the zone files they are given."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from salsa_agent.core.model import Outcome, Question, RRType, Server
from salsa_agent.core.settings import Dns
from salsa_agent.resolver.resolver import Resolver
from tests.lab.realdns import _end, _free_port

PATIENCE = 30.0
RESERVED = (  # that unbound answers itself, from no zone file (RFC 6303)
    "10.in-addr.arpa", "2.0.192.in-addr.arpa", "100.51.198.in-addr.arpa", "113.0.203.in-addr.arpa",
    "8.b.d.0.1.0.0.2.ip6.arpa",
)  # fmt: skip

Files = Mapping[str, Path]  # by the name of the zone


def named(where: Path, port: int, files: Files) -> list[str]:
    zones = [
        f'zone "{zone}" {{ type primary; file "{file}"; {"check-names ignore;" if "/" in zone else ""} }};'
        for zone, file in files.items()
    ]
    options = (
        f'options {{ directory "{where}"; pid-file "{where}/pid"; session-keyfile "{where}/key"; recursion no;'
        f'managed-keys-directory "{where}"; listen-on port {port} {{ 127.0.0.1; }}; listen-on-v6 {{ none; }};'
        "allow-query { any; }; dnssec-validation no; empty-zones-enable no; }; controls { };"
    )
    (where / "named.conf").write_text("\n".join([options, *zones, ""]))
    return ["named", "-g", "-n", "1", "-c", str(where / "named.conf")]


def nsd(where: Path, port: int, files: Files) -> list[str]:
    lines = [
        "server:", f"ip-address: 127.0.0.1@{port}", "server-count: 1", 'username: ""', 'database: ""',
        f'zonesdir: "{where}"', f'zonelistfile: "{where}/zone.list"', f'xfrdfile: "{where}/xfrd"',
        f'xfrdir: "{where}"', f'pidfile: "{where}/pid"', "rrl-ratelimit: 0", "remote-control:", "control-enable: no",
    ]  # fmt: skip
    for zone, file in files.items():
        lines += ["zone:", f'name: "{zone}"', f'zonefile: "{file}"']
    (where / "nsd.conf").write_text("\n".join([*lines, ""]))
    return ["nsd", "-d", "-c", str(where / "nsd.conf")]


def knotd(where: Path, port: int, files: Files) -> list[str]:
    lines = [
        "server:", f"  listen: 127.0.0.1@{port}", f"  rundir: {where}", "  udp-workers: 1", "  tcp-workers: 1",
        "  background-workers: 1", "database:", f"  storage: {where}", "zone:",
    ]  # fmt: skip
    for zone, file in files.items():
        lines += [f'  - domain: "{zone}"', f'    file: "{file}"']
    (where / "knot.conf").write_text("\n".join([*lines, ""]))
    return ["knotd", "-c", str(where / "knot.conf")]


def unbound(where: Path, port: int, files: Files) -> list[str]:
    lines = [
        "server:", "interface: 127.0.0.1", f"port: {port}", f'directory: "{where}"', 'chroot: ""', 'username: ""',
        'pidfile: ""', "use-syslog: no", "do-daemonize: no", "num-threads: 1",
        *(f'local-zone: "{zone}." nodefault' for zone in RESERVED), "remote-control:", "control-enable: no",
    ]  # fmt: skip
    lines += ["forward-zone:", 'name: "."', "forward-addr: 127.0.0.1@1"]  # nothing leaves this host
    for zone, file in files.items():
        lines += ["auth-zone:", f'name: "{zone}"', f'zonefile: "{file}"', "fallback-enabled: no"]
    (where / "unbound.conf").write_text("\n".join([*lines, ""]))
    return ["unbound", "-d", "-p", "-c", str(where / "unbound.conf")]


KINDS: dict[str, Callable[[Path, int, Files], list[str]]] = {
    "named": named, "nsd": nsd, "knotd": knotd, "unbound": unbound,
}  # fmt: skip


@contextmanager
def serving(kind: str, where: Path, files: Files) -> Iterator[tuple[Server, Path]]:
    """The server of this kind with these zones, and its log, for the length of the block. `where`: for its files."""
    server = Server("127.0.0.1", _free_port("127.0.0.1"))
    argv = KINDS[kind](where, server.port, files)
    with (where / "log").open("wb") as log:
        process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=where)
    try:
        yield server, where / "log"
    finally:
        _end(process)


async def loaded(server: Server, log: Path, zones: Files) -> None:
    """Wait until the server knows of every zone (any answer but an error to a question for its apex)."""
    resolver = Resolver(Dns(timeout=0.2, attempts=1))
    deadline = time.monotonic() + PATIENCE
    for zone in zones:
        while (await resolver.ask(Question(zone, RRType.MX, (server,)))).outcome is Outcome.FAILED:
            if time.monotonic() > deadline:
                raise AssertionError(f"{zone} is not served:\n{log.read_text(errors='replace')[-3000:]}")
            time.sleep(0.01)
