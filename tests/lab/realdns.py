"""Real DNS servers, each serving the same zones: what the agent will meet at a site.

The reverse zone 154.165.in-addr.arpa and the zone hookup.net, in the forms that matter: see REVERSE and FORWARD.
"""

from __future__ import annotations

import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import dns.message

from salsa_agent.core.model import Server

PATIENCE = 30.0
SOA = "ns.hookup.net. root.hookup.net. 1 3600 600 86400 120"
TTL = 300

REVERSE = (
    ("154.165.in-addr.arpa.", "MX", "30 apex.hookup.net."),
    ("15.154.165.in-addr.arpa.", "MX", "10 noc.tor.hookup.net."),
    ("15.154.165.in-addr.arpa.", "MX", "20 vertex.tor.hookup.net."),
    ("1.15.154.165.in-addr.arpa.", "PTR", "host.hookup.net."),  # no MX here: NODATA
    ("2.15.154.165.in-addr.arpa.", "CNAME", "2.0/25.15.154.165.in-addr.arpa."),  # RFC 2317
    ("2.0/25.15.154.165.in-addr.arpa.", "MX", "10 classless.hookup.net."),
    ("3.15.154.165.in-addr.arpa.", "MX", "0 ."),  # RFC 7505
    ("4.15.154.165.in-addr.arpa.", "CNAME", "customer.hookup.net."),  # into another zone
)
FORWARD = (
    ("customer.hookup.net.", "MX", "10 own.hookup.net."),
    ("ns.hookup.net.", "A", "192.0.2.53"),
    ("noc.tor.hookup.net.", "A", "192.0.2.25"),
    ("noc.tor.hookup.net.", "AAAA", "2001:db8::25"),
    ("vertex.tor.hookup.net.", "A", "192.0.2.26"),
)
ZONES = {"154.165.in-addr.arpa": REVERSE, "hookup.net": FORWARD}


def dnsmasq(where: Path, address: str, port: int) -> list[str]:
    argv = [  # without a group: a user namespace lets nobody set one
        "dnsmasq", "-k", "--conf-file=/dev/null", "--no-resolv", "--no-hosts", "--bind-interfaces", "--user=root",
        "--group=", "--pid-file=", f"--listen-address={address}", f"--port={port}", f"--local-ttl={TTL}",
    ]  # fmt: skip
    argv += [f"--local=/{zone}/" for zone in ZONES]
    hosts: dict[str, list[str]] = {}
    for name, rtype, data in REVERSE + FORWARD:
        match rtype:
            case "MX":
                preference, exchange = data.split()
                argv.append(f"--mx-host={name[:-1]},{exchange.removesuffix('.') or '.'},{preference}")
            case "CNAME":
                argv.append(f"--cname={name[:-1]},{data[:-1]},{TTL}")
            case "PTR":
                argv.append(f"--ptr-record={name[:-1]},{data[:-1]}")
            case _:
                hosts.setdefault(name[:-1], []).append(data)
    return argv + [f"--host-record={name},{','.join(addresses)}" for name, addresses in hosts.items()]


def unbound(where: Path, address: str, port: int) -> list[str]:
    lines = [
        "server:", f"interface: {address}", f"port: {port}", f'directory: "{where}"', 'chroot: ""', 'username: ""',
        'pidfile: ""', "use-syslog: no", "do-daemonize: no", "num-threads: 1", "access-control: 0.0.0.0/0 allow",
        "access-control: ::/0 allow", 'local-zone: "example." refuse',
    ]  # fmt: skip
    for zone, records in ZONES.items():
        lines += [f'local-zone: "{zone}." static', f'local-data: "{zone}. {TTL} IN SOA {SOA}"']
        lines += [f'local-data: "{name} {TTL} IN {rtype} {data}"' for name, rtype, data in records]
    (where / "unbound.conf").write_text("\n".join([*lines, "remote-control:", "control-enable: no", ""]))
    return ["unbound", "-d", "-p", "-c", str(where / "unbound.conf")]


def named(where: Path, address: str, port: int) -> list[str]:
    listen, other = ("listen-on-v6", "listen-on") if ":" in address else ("listen-on", "listen-on-v6")
    lines = [
        f'options {{ directory "{where}"; pid-file "{where}/pid"; session-keyfile "{where}/key";',
        f'managed-keys-directory "{where}"; {listen} port {port} {{ {address}; }}; {other} {{ none; }};',
        "check-names primary ignore;",  # `/` in the owner of an MX
        "recursion no; allow-query { any; }; dnssec-validation no; empty-zones-enable no; };",
        "controls { };",
    ]
    lines += [f'zone "{zone}" {{ type primary; file "{file}"; }};' for zone, file in _zone_files(where).items()]
    (where / "named.conf").write_text("\n".join([*lines, ""]))
    return ["named", "-g", "-n", "1", "-c", str(where / "named.conf")]


def knotd(where: Path, address: str, port: int) -> list[str]:
    lines = [
        "server:", f"  listen: {address}@{port}", f"  rundir: {where}", "  udp-workers: 1", "  tcp-workers: 1",
        "  background-workers: 1", "database:", f"  storage: {where}", "zone:",
    ]  # fmt: skip
    for zone, file in _zone_files(where).items():
        lines += [f"  - domain: {zone}", f"    file: {file}"]
    (where / "knot.conf").write_text("\n".join([*lines, ""]))
    return ["knotd", "-c", str(where / "knot.conf")]


def nsd(where: Path, address: str, port: int) -> list[str]:
    lines = [
        "server:", f"ip-address: {address}@{port}", "server-count: 1", 'username: ""', 'database: ""',
        f'zonesdir: "{where}"', f'zonelistfile: "{where}/zone.list"', f'xfrdfile: "{where}/xfrd"',
        f'xfrdir: "{where}"', f'pidfile: "{where}/pid"', "rrl-ratelimit: 0", "remote-control:", "control-enable: no",
    ]  # fmt: skip
    for zone, file in _zone_files(where).items():
        lines += ["zone:", f'name: "{zone}"', f'zonefile: "{file}"']
    (where / "nsd.conf").write_text("\n".join([*lines, ""]))
    return ["nsd", "-d", "-c", str(where / "nsd.conf")]


KINDS: dict[str, Callable[[Path, str, int], list[str]]] = {
    "dnsmasq": dnsmasq, "unbound": unbound, "named": named, "knotd": knotd, "nsd": nsd,
}  # fmt: skip


@contextmanager
def real_dns(kind: str, where: Path, address: str = "127.0.0.1", port: int = 0) -> Iterator[Server]:
    """The server of this kind (see KINDS), for the length of the block, in the namespace this thread is in.

    `where`: an empty directory for its files. `port` 0: a free one.
    """
    server = Server(address, port or _free_port(address))
    argv = KINDS[kind](where, address, server.port)
    with (where / "log").open("wb") as log:
        process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    try:
        _wait_for(server, process, where / "log")
        yield server
    finally:
        _end(process)


def _end(process: subprocess.Popen[bytes]) -> None:
    """Politely first: nsd has children that only it ends."""
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(timeout=10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _wait_for(server: Server, process: subprocess.Popen[bytes], log: Path) -> None:
    """Until the first right answer."""
    query = dns.message.make_query("15.154.165.in-addr.arpa.", "MX").to_wire()
    end = time.monotonic() + PATIENCE
    with socket.socket(_family(server.address), socket.SOCK_DGRAM) as sock:
        sock.settimeout(0.02)
        sock.connect((server.address, server.port))
        while time.monotonic() < end and process.poll() is None:
            try:
                sock.send(query)
                if dns.message.from_wire(sock.recv(4096)).answer:
                    return
            except OSError:
                time.sleep(0.005)
    raise RuntimeError(f"{process.args!r} does not answer:\n{log.read_text(errors='replace')[-3000:]}")


def _zone_files(where: Path) -> dict[str, Path]:
    files: dict[str, Path] = {}
    for zone, records in ZONES.items():
        files[zone] = where / f"{zone}.zone"
        files[zone].write_text(f"$TTL {TTL}\n{zone}. IN SOA {SOA}\n{zone}. IN NS ns.hookup.net.\n" + _lines(records))
    return files


def _lines(records: Sequence[tuple[str, str, str]]) -> str:
    return "".join(f"{name} IN {rtype} {data}\n" for name, rtype, data in records)


def _free_port(address: str) -> int:
    with (
        socket.socket(_family(address), socket.SOCK_STREAM) as tcp,
        socket.socket(_family(address), socket.SOCK_DGRAM) as udp,
    ):
        tcp.bind((address, 0))
        port = int(tcp.getsockname()[1])
        udp.bind((address, port))
        return port


def _family(address: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in address else socket.AF_INET
