"""Every block of configuration in docs/operators.md does in the real program what the text says of it."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.lab.netns import Netns, veth
from tests.lab.run import PROJECT
from tests.lab.whole import until

PAGE = (PROJECT / "docs" / "operators.md").read_text()
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
SERVER, RESOLVER, INSIDE, OUTSIDE = "10.1.0.53", "10.1.0.54", "10.1.0.5", "203.0.113.5"
RELAY = "relay.example.net"
AS_ROOT = "user=root", "group=", "pid-file="  # a user namespace lets nobody set a group


def block(kind: str, words: str = "") -> str:
    """The one block of this kind with these words in it."""
    (text,) = (str(text) for found, text in BLOCKS if found == kind and words in text)
    return text


def test_every_block_is_run_here_or_in_the_test_of_the_readme() -> None:
    assert [kind for kind, _ in BLOCKS] == ["text", "named", "unbound", "dnsmasq", "dnsmasq", "json"]


class Site:
    """A namespace with a name server as of the text, and what asks it, each from an address of its own."""

    def __init__(self, space: Netns, where: Path) -> None:
        self.space, self.where = space, where
        self._processes: list[subprocess.Popen[bytes]] = []
        space.batch([f"addr add {address}/32 dev lo" for address in (SERVER, RESOLVER, INSIDE, OUTSIDE)])
        argv = [sys.executable, "-m", "salsa_agent.cli.salsactl.main", "zone", "10.1.0.0/16", "--mx", f"10:{RELAY}"]
        (command,) = re.findall(r"`salsactl (zone 10\.1\.0\.0/16 [^`]*--soa[^`]*)`", PAGE)
        zone = subprocess.run([*argv[:3], *command.split()], capture_output=True, text=True, check=True, cwd=PROJECT)
        (where / "1.10.in-addr.arpa.zone").write_text(zone.stdout)
        options = (
            f'options {{ directory "{where}"; pid-file none; session-keyfile "{where}/session"; notify no;'
            f'managed-keys-directory "{where}"; listen-on {{ {SERVER}; }}; listen-on-v6 {{ none; }};'
            "dnssec-validation no; }; controls { };\n"
        )
        (where / "named.conf").write_text(options + block("named"))
        self.start(SERVER, "named", "-g", "-n", "1", "-c", str(where / "named.conf"))

    def start(self, address: str, *argv: str) -> None:
        """Start a server, and wait until it answers at this address."""
        log = self.where / argv[0]
        with log.open("wb") as to:
            self._processes.append(self.space.exec(argv, stdin=subprocess.DEVNULL, stdout=to, stderr=to))
        try:
            until(lambda: "status:" in self.ask(address, INSIDE, "localhost"), bool)
        except AssertionError:
            raise AssertionError(log.read_text(errors="replace")) from None

    def ask(self, server: str, source: str, name: str) -> str:
        argv = ["dig", f"@{server}", "-b", source, "+time=1", "+tries=1", name, "MX"]
        with self.space.inside():
            return subprocess.run(argv, check=False, capture_output=True, text=True, timeout=30).stdout

    def end(self) -> None:
        for process in self._processes:
            process.terminate()
            process.wait(timeout=20)


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    tmp_path.chmod(0o755)
    with Netns() as space:
        made = Site(space, tmp_path)
        try:
            yield made
        finally:
            made.end()


def test_bind_answers_the_inside_only_and_keeps_its_empty_zones(site: Site) -> None:
    assert f"MX\t10 {RELAY}." in site.ask(SERVER, INSIDE, "1.10.in-addr.arpa")
    assert "status: NXDOMAIN" in site.ask(SERVER, INSIDE, "2.10.in-addr.arpa")
    assert "SOA\t168.192.IN-ADDR.ARPA. . 0 " in site.ask(SERVER, INSIDE, "168.192.in-addr.arpa")
    assert "status: REFUSED" in site.ask(SERVER, OUTSIDE, "1.10.in-addr.arpa")


@pytest.mark.parametrize("nodefault", [True, False])
def test_unbound_asks_the_server_of_the_site_with_nodefault_only(site: Site, nodefault: bool) -> None:
    text = block("unbound")
    if not nodefault:
        text = text.replace('    local-zone: "10.in-addr.arpa." nodefault\n', "")
    (site.where / "unbound.conf").write_text(
        f"{text}server:\n    interface: {RESOLVER}\n    access-control: 0.0.0.0/0 allow\n"
        f"    outgoing-interface: {RESOLVER}\n"
        f'    directory: "{site.where}"\n    chroot: ""\n    username: ""\n    pidfile: ""\n    use-syslog: no\n'
        "    num-threads: 1\nremote-control:\n    control-enable: no\n"
    )
    site.start(RESOLVER, "unbound", "-d", "-p", "-c", str(site.where / "unbound.conf"))
    assert (f"MX\t10 {RELAY}." in site.ask(RESOLVER, INSIDE, "1.10.in-addr.arpa")) == nodefault
    assert "status: NXDOMAIN" in site.ask(RESOLVER, INSIDE, "2.10.in-addr.arpa")


def test_dnsmasq_asks_the_server_of_the_site(site: Site) -> None:
    lines = ["no-resolv", "no-hosts", "bind-interfaces", *AS_ROOT, f"listen-address={RESOLVER}"]
    (site.where / "dnsmasq.conf").write_text("\n".join([*lines, block("dnsmasq", "rev-server")]))
    site.start(RESOLVER, "dnsmasq", "-k", f"--conf-file={site.where / 'dnsmasq.conf'}")
    assert f"MX\t10 {RELAY}." in site.ask(RESOLVER, INSIDE, "1.10.in-addr.arpa")
    assert "status: NXDOMAIN" in site.ask(RESOLVER, INSIDE, "2.10.in-addr.arpa")


# --- DHCP, asked by a real client


@contextmanager
def link() -> Iterator[tuple[Netns, Netns]]:
    """The network's server, and a host that has no address yet, on one link."""
    with Netns() as network, Netns() as host:
        veth(network, "eth0", host, "eth0")
        for space in (network, host):
            space.ip("link", "set", "lo", "up")
            space.ip("link", "set", "eth0", "up")
        network.ip("addr", "add", "10.1.0.1/16", "dev", "eth0")
        yield network, host


def option_69(host: Netns, where: Path) -> str:
    """What a DHCP client that asks for the option is told."""
    script, told, conf = where / "script", where / "told", where / "dhclient.conf"
    script.write_text(f'#!/bin/sh\n[ -z "$new_smtp_server" ] || echo "$new_smtp_server" >{told}\nexit 0\n')
    script.chmod(0o755)
    conf.write_text("also request smtp-server;\ninitial-interval 1;\n")
    argv = ["dhclient", "-d", "-4", "-cf", str(conf), "-lf", str(where / "leases"), "-pf", str(where / "pid"),
            "-sf", str(script), "eth0"]  # fmt: skip
    with (where / "dhclient").open("wb") as log:
        process = host.exec(argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    try:
        until(told.exists, bool)
        until(told.read_text, bool)
    finally:
        process.terminate()
        process.wait(timeout=20)
    return told.read_text().strip()


def test_dnsmasq_gives_option_69(tmp_path: Path) -> None:
    lines = ["port=0", *AS_ROOT, "interface=eth0", "bind-interfaces", "dhcp-authoritative", "no-ping"]
    (tmp_path / "dnsmasq.conf").write_text("\n".join([*lines, block("dnsmasq", "dhcp-option")]))
    argv = ["dnsmasq", "-k", f"--conf-file={tmp_path}/dnsmasq.conf", f"--dhcp-leasefile={tmp_path}/given"]
    with link() as (network, host), (tmp_path / "log").open("wb") as log:
        process = network.exec(argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        try:
            assert option_69(host, tmp_path) == "10.1.0.25"
        finally:
            process.terminate()
            process.wait(timeout=20)


def test_kea_gives_option_69(tmp_path: Path) -> None:
    config = json.loads(block("json"))
    config["Dhcp4"]["lease-database"] = {"type": "memfile", "persist": False}
    (tmp_path / "kea.json").write_text(json.dumps(config))
    environment = os.environ | {"KEA_PIDFILE_DIR": str(tmp_path), "KEA_LOCKFILE_DIR": str(tmp_path)}
    with link() as (network, host), (tmp_path / "log").open("wb") as log:
        argv = ["kea-dhcp4", "-c", str(tmp_path / "kea.json")]
        process = network.exec(argv, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        try:
            assert option_69(host, tmp_path) == "10.1.0.25"
        finally:
            process.terminate()
            process.wait(timeout=20)
