"""What the doctor finds in the files of the host: DHCP clients, sites, mail programs; and of its clock."""

from __future__ import annotations

import os
import threading
from dataclasses import replace
from ipaddress import ip_address, ip_network

import pytest

from salsa_agent.core.model import HostAddress
from salsa_agent.core.settings import InetEndpoint, Settings, Site, UnixEndpoint
from salsa_agent.oneshot.doctor.examine import findings
from salsa_agent.oneshot.doctor.scene import Agents, Scene
from tests.core.sim import facts as facts_of
from tests.lab.bus import PATIENCE
from tests.parts.oneshot.doctor.scenes import NOW, codes

# --- DHCP


LEASED = [HostAddress(ip_address("192.0.2.1"), 2, 0, 0)]


@pytest.mark.parametrize(
    ("manager", "files", "asks"),
    [
        (True, {}, False),
        (True, {"etc/NetworkManager/NetworkManager.conf": "[main]\ndhcp=internal\n"}, False),
        (True, {"etc/NetworkManager/conf.d/dhcp.conf": "[main]\ndhcp=dhclient\n", "etc/dhcp/dhclient.conf": ""}, False),
        (
            True,
            {
                "etc/NetworkManager/conf.d/dhcp.conf": "[main]\ndhcp=dhclient\n",
                "etc/dhcp/dhclient.conf": "also request smtp-server;\n",
            },
            True,
        ),
        (False, {"etc/dhcp/dhclient.conf": "request subnet-mask,\n  routers;\n# request smtp-server;\n"}, False),
        (False, {"etc/dhcp/dhclient.conf": "request subnet-mask,\n  smtp-server;\n"}, True),
        (False, {"etc/dhcpcd.conf": "option domain_name\n"}, False),
        (False, {"etc/dhcpcd.conf": "option domain_name, smtp_server\n"}, True),
        (False, {}, True),  # no client that is known
    ],
)
def test_c9_a_dhcp_client_that_does_not_ask(sound: Scene, manager: bool, files: dict[str, str], asks: bool) -> None:
    for name, text in files.items():
        (sound.root / name).parent.mkdir(parents=True, exist_ok=True)
        (sound.root / name).write_text(text)
    leased = replace(sound, facts=facts_of(*LEASED), networkmanager=manager)
    assert codes(leased) == ([] if asks else [("note", "dhcp-option-not-asked")])
    assert codes(replace(leased, facts=facts_of("192.0.2.1"))) == []  # an address that is none of DHCP's
    assert codes(replace(leased, agents=leased.agents._replace(of_links=True))) == []


# --- sites


@pytest.mark.parametrize(
    ("sites", "never"),
    [
        ((Site("a", prefix=(ip_network("127.0.0.0/8"),)),), True),
        ((Site("a", prefix=(ip_network("fe80::/10"),)),), True),
        ((Site("a", prefix=(ip_network("10.0.0.0/8"),)),), False),
        ((Site("a", interface=("docker0",)),), True),
        ((Site("a", interface=("docker0", "eth0")),), False),
        ((Site("a", interface=("wl*",)),), False),
        ((Site("a", interface=("eth*",)), Site("b", interface=("eth*",), domain=("x.example",))), True),
        ((Site("a", interface=("eth*",), domain=("x.example",)), Site("b", interface=("eth*",))), False),
        ((Site("a", prefix=(ip_network("10.0.0.0/8"),)), Site("b", prefix=(ip_network("10.1.0.0/16"),))), True),
        ((Site("a", prefix=(ip_network("10.1.0.0/16"),)), Site("b", prefix=(ip_network("10.0.0.0/8"),))), False),
    ],
)
def test_c10_a_site_that_can_never_hold(sound: Scene, sites: tuple[Site, ...], never: bool) -> None:
    wanted = [("warning", "site-never-holds")] if never else []
    assert codes(replace(sound, settings=Settings(sites=sites))) == wanted


def test_c10_a_connection_without_networkmanager(sound: Scene) -> None:
    site = replace(sound, settings=Settings(sites=(Site("a", connection=("Office",)),)))
    assert codes(site) == []
    assert codes(replace(site, networkmanager=False)) == [("warning", "site-never-holds")]


# --- programs


@pytest.mark.parametrize(
    ("file", "asks"),
    [
        ("etc/postfix/main.cf", "sender_dependent_relayhost_maps = socketmap:inet:127.0.0.1:8462:relay"),
        ("etc/msmtprc", "eval . /run/salsa-agent/relay.env"),
        ("etc/exim4/exim4.conf.template", "route_data = ${readfile{/run/salsa-agent/relay}}"),
        ("etc/nullmailer/remotes", "# kept by salsa-agent"),
    ],
)
def test_programs_that_do_not_ask(sound: Scene, file: str, asks: str) -> None:
    sound = replace(sound, settings=Settings(postfix_listen=(InetEndpoint("127.0.0.1", 8462),)))
    path = sound.root / file
    path.parent.mkdir(parents=True)
    path.write_text("relayhost = [mail.example]\n")
    assert codes(sound) == [("note", "program-not-asking")]
    path.write_text(f"{asks}\n")
    for name in ("relay", "relay.env"):
        (sound.root / "run/salsa-agent").mkdir(parents=True, exist_ok=True)
        (sound.root / "run/salsa-agent" / name).touch()
    assert codes(sound) == []


def test_a_fifo_in_the_place_of_a_configuration_hangs_nothing(sound: Scene) -> None:
    for name in ("etc/msmtprc", "etc/postfix/main.cf"):
        (sound.root / name).parent.mkdir(parents=True, exist_ok=True)
        os.mkfifo(sound.root / name)
    looking = threading.Thread(target=codes, args=(sound,), daemon=True)
    looking.start()
    looking.join(PATIENCE)
    assert not looking.is_alive()


@pytest.mark.parametrize(
    ("file", "reads"),
    [
        ("etc/msmtprc", "eval . /run/salsa/relay.env"),
        ("etc/exim4/exim4.conf.template", "route_data = ${readfile{/run/salsa-agent/relays}}"),
    ],
)
def test_programs_that_read_what_nobody_writes(sound: Scene, file: str, reads: str) -> None:
    path = sound.root / file
    path.parent.mkdir(parents=True)
    path.write_text(f"{reads}\n")
    (found,) = findings(sound)
    assert (found.severity, found.code) == ("fault", "program-asks-elsewhere")
    assert "/run/salsa" in found.problem
    assert codes(replace(sound, agents=Agents("session", ("session",), ("session",)))) == []


@pytest.mark.parametrize(
    ("asked", "listens"),
    [
        ("inet:127.0.0.1:8463", False),
        ("inet:localhost:8462", True),
        ("unix:/salsa/relay", True),
        ("unix:/run/other", False),
    ],
)
def test_postfix_asks_where_nobody_listens(sound: Scene, asked: str, listens: bool) -> None:
    listening = (InetEndpoint("127.0.0.1", 8462), UnixEndpoint("/var/spool/postfix/salsa/relay"))
    (sound.root / "etc/postfix").mkdir(parents=True)
    (sound.root / "etc/postfix/main.cf").write_text(f"transport_maps = socketmap:{asked}:transport\n")
    wanted = [] if listens else [("fault", "postfix-asks-elsewhere")]
    assert codes(replace(sound, settings=Settings(postfix_listen=listening))) == wanted


# --- the clock


@pytest.mark.parametrize(("now", "wrong"), [(0.0, True), (NOW - 3e6, True), (NOW + 1e9, True), (NOW + 1e8, False)])
def test_the_clock(sound: Scene, now: float, wrong: bool) -> None:
    assert codes(replace(sound, now=now)) == ([("fault", "clock-wrong")] if wrong else [])
