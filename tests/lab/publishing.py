"""Real name servers into which what `salsactl zone --format …` prints is put, by the tool or file that it is for.

Each serves, beside the zones that it is given, example.net with the relay, and the tops of the reverse tree, empty.
"""

from __future__ import annotations

import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.lab.netns import Netns
from tests.lab.run import PROJECT
from tests.lab.whole import until

ADDRESS, PORT = "192.0.2.53", 53
RELAY, RELAY_ADDRESS = "relay.example.net", "198.51.100.25"
TOPS = ("in-addr.arpa", "ip6.arpa")
SOA = "ns1.example.net. hostmaster.example.net. 1 3600 600 86400 300"
APEX = f"$TTL 300\n@ IN SOA {SOA}\n@ IN NS ns1.example.net.\n"
FORWARD = f"{APEX}ns1 IN A {ADDRESS}\nrelay IN A {RELAY_ADDRESS}\n"
SCHEMA = Path("/usr/share/doc/pdns-backend-sqlite3/schema.sqlite3.sql")


class Publisher:
    """One server: its files below `where`, its processes in `space`. `zones`: the names of the zones it stands for."""

    def __init__(self, space: Netns, where: Path, zones: Sequence[str]) -> None:
        self.space, self.where, self.zones = space, where, zones
        self._processes: list[subprocess.Popen[bytes]] = []
        for name, text in {"example.net": FORWARD, **dict.fromkeys([*TOPS, *zones], APEX)}.items():
            self.file(name).write_text(text)

    def file(self, zone: str) -> Path:
        return self.where / f"{zone.replace('/', '-')}.zone"

    @property
    def served(self) -> list[str]:
        return ["example.net", *TOPS, *self.zones]

    def write(self, name: str, lines: Sequence[str]) -> Path:
        path = self.where / name
        path.write_text("\n".join([*lines, ""]))
        return path

    def tool(self, name: str, *arguments: object) -> None:
        """A command of this name that a script finds first, for this instance."""
        (self.where / "bin").mkdir(exist_ok=True)
        path = self.where / "bin" / name
        real = shutil.which(name, path="/usr/sbin:/usr/bin")
        path.write_text(f'#!/bin/sh\nexec {real} {shlex.join(map(str, arguments))} "$@"\n')
        path.chmod(0o755)

    def start(self, *argv: object) -> None:
        """Start the server, and wait until it answers."""
        with (self.where / "log").open("wb") as log:
            process = self.space.exec(list(map(str, argv)), stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        self._processes.append(process)

        def answers() -> bool:
            assert process.poll() is None, self.log
            return "status: NOERROR" in self.dig("relay.example.net", "A")

        until(answers, bool)

    def dig(self, name: str, rtype: str) -> str:
        argv = ["dig", f"@{ADDRESS}", "-p", str(PORT), "+time=1", "+tries=1", name, rtype]
        with self.space.inside():
            return subprocess.run(argv, check=False, capture_output=True, text=True, timeout=30).stdout

    def run(self, argv: Sequence[str], text: str) -> None:
        """Run a tool with this on its standard input; those of `tool` come first. Raises AssertionError if it fails."""
        path = f"{self.where / 'bin'}:/usr/sbin:/usr/bin:/sbin:/bin"
        with self.space.inside():
            done = subprocess.run(
                ["env", f"PATH={path}", *argv], input=text, check=False, capture_output=True, text=True, timeout=60
            )
        assert done.returncode == 0, f"{argv}: {done.stdout}{done.stderr}{self.log}"

    @property
    def log(self) -> str:
        return (self.where / "log").read_text(errors="replace")[-3000:]

    def end(self) -> None:
        for process in self._processes:
            process.terminate()
            try:
                process.wait(timeout=10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _named(at: Publisher, more: str = "", tail: str = "") -> None:
    lines = [
        f'options {{ directory "{at.where}"; pid-file none; session-keyfile "{at.where}/session"; recursion no;'
        f'managed-keys-directory "{at.where}"; listen-on port {PORT} {{ {ADDRESS}; }}; listen-on-v6 {{ none; }};'
        "allow-query { any; }; dnssec-validation no; empty-zones-enable no; notify no; }; controls { };",
        *(
            f'zone "{zone}" {{ type primary; file "{at.file(zone)}"; check-names ignore; {more} }};'
            for zone in at.served
        ),
        tail,
    ]
    at.start("named", "-g", "-n", "1", "-c", at.write("named.conf", lines))


def bind(at: Publisher, text: str) -> None:
    """Each piece at the end of the file of its zone, or of the one further up that there is."""
    for piece in text.split("\n\n"):
        zone = next(line.split()[1].rstrip(".") for line in piece.splitlines() if line.startswith("$ORIGIN"))
        with at.file(zone).open("a") as file:
            file.write(f"{piece}\n")
    _named(at)


def nsupdate(at: Publisher, text: str) -> None:
    key = subprocess.run(["tsig-keygen", "update"], check=True, capture_output=True, text=True, timeout=30).stdout
    at.write("key", [key])
    _named(at, "allow-update { key update; };", key)
    for _ in range(2):  # it may be run again
        at.run(["nsupdate", "-k", str(at.where / "key")], f"server {ADDRESS} {PORT}\n{text}\n")


def dnsmasq(at: Publisher, text: str) -> None:
    (at.where / "d").mkdir()
    at.write("d/relay.conf", [text])
    lines = [
        "no-resolv", "no-hosts", "bind-interfaces", "user=root", "group=", "pid-file=", f"listen-address={ADDRESS}",
        f"port={PORT}", "local-ttl=3600", f"host-record={RELAY},{RELAY_ADDRESS}", "local=/example.net/",
        *(f"local=/{top}/" for top in TOPS), f"conf-dir={at.where}/d",
    ]  # fmt: skip
    at.start("dnsmasq", "-k", f"--conf-file={at.write('dnsmasq.conf', lines)}")


def unbound(at: Publisher, text: str) -> None:
    """Names that it does not answer itself, it asks another server for, as at a site."""
    zone = at.where / "upstream.json"
    zone.write_text("{}")
    argv = [sys.executable, "-m", "tests.lab.dnsserver", "--listen", "127.0.0.1", str(zone)]
    with (at.where / "upstream").open("wb") as log:
        at._processes.append(at.space.exec(argv, cwd=PROJECT, stdin=subprocess.DEVNULL, stdout=log, stderr=log))
    until((at.where / "upstream").read_text, lambda said: "ready" in said)
    lines = [
        "server:", f"interface: {ADDRESS}", f"port: {PORT}", f'directory: "{at.where}"', 'chroot: ""', 'username: ""',
        'pidfile: ""', "use-syslog: no", "do-daemonize: no", "num-threads: 1", "access-control: 0.0.0.0/0 allow",
        "do-not-query-localhost: no", 'module-config: "iterator"',
        'local-zone: "example.net." static', f'local-data: "{RELAY}. 300 IN A {RELAY_ADDRESS}"',
        "remote-control:", "control-enable: no", "forward-zone:", 'name: "."', "forward-addr: 127.0.0.1@53",
        f'include: "{at.write("relay.conf", [text])}"',
    ]  # fmt: skip
    at.start("unbound", "-d", "-p", "-c", at.write("unbound.conf", lines))


def powerdns(at: Publisher, text: str) -> None:
    database = at.where / "pdns.sqlite3"
    subprocess.run(["sqlite3", database], input=SCHEMA.read_text(), text=True, check=True, timeout=30)
    at.write(
        "pdns.conf",
        ["launch=gsqlite3", f"gsqlite3-database={database}", f"local-address={ADDRESS}", f"local-port={PORT}",
         f"socket-dir={at.where}", "setuid=", "setgid=", "guardian=no", "daemon=no", "zone-cache-refresh-interval=0",
         "query-cache-ttl=0", "cache-ttl=0", "negquery-cache-ttl=0", "security-poll-suffix="],
    )  # fmt: skip
    at.tool("pdnsutil", f"--config-dir={at.where}")
    made = at.served if "create-zone" not in text else ["example.net", *TOPS]
    at.run(["sh", "-e"], "".join(f"pdnsutil load-zone {zone} {at.file(zone)}\n" for zone in made))
    at.run(["sh"], text)
    if "create-zone" not in text:
        at.run(["sh"], text)  # it may be run again
    at.start("pdns_server", f"--config-dir={at.where}")


def knot(at: Publisher, text: str) -> None:
    lines = [
        "server:", f"  listen: {ADDRESS}@{PORT}", f"  rundir: {at.where}", "  udp-workers: 1", "  tcp-workers: 1",
        "  background-workers: 1", "database:", f"  storage: {at.where}", "zone:",
    ]  # fmt: skip
    for zone in at.served:
        if " SOA " in text and zone in at.zones:
            at.file(zone).unlink()
        lines += [f'  - domain: "{zone}"', f'    file: "{at.file(zone)}"']
    at.start("knotd", "-c", at.write("knot.conf", lines))
    at.tool("knotc", "-s", at.where / "knot.sock")
    for _ in range(1 if " SOA " in text else 2):  # it may be run again
        at.run(["sh"], text)


KINDS: dict[str, Callable[[Publisher, str], None]] = {
    "bind": bind, "nsupdate": nsupdate, "dnsmasq": dnsmasq, "unbound": unbound, "powerdns": powerdns, "knot": knot,
}  # fmt: skip


@contextmanager
def published(kind: str, space: Netns, where: Path, text: str, zones: Sequence[str]) -> Iterator[Publisher]:
    """The server of this format (see KINDS) with this text put into it, for the length of the block."""
    at = Publisher(space, where, zones)
    try:
        KINDS[kind](at, text)
        yield at
    finally:
        at.end()
