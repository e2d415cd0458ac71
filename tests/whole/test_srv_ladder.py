"""Rule B8 by the whole program: a network names port and TLS of its relays by SRV records in the reverse tree."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator

import pytest

from tests.lab.ca import Ca
from tests.lab.whole import HOME, NOC, RELAYS, VERTEX, World, until
from tests.whole.test_sites import explained

ON = "[dns]\nsrv = true\n"
ADDRESS = "165.154.15.1"
LEVEL = "15.154.165.in-addr.arpa"
TLS, STARTTLS = f"_submissions._tcp.{LEVEL}", f"_submission._tcp.{LEVEL}"
SRV = {
    TLS: {"SRV": [f"10 1 465 {VERTEX}."]},
    STARTTLS: {"SRV": [f"20 1 587 {HOME}.", "0 1 587 localhost."]},
}


@pytest.fixture
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    where = tmp_path_factory.mktemp("ca")
    where.chmod(0o755)
    ca = Ca(where)
    with World() as made:
        made.relay(NOC)
        for name, more in (
            (VERTEX, ("--port", "465", "--implicit-tls")),
            (HOME, ("--port", "587", "--behaviour", "starttls")),
        ):
            cert = ca.issue(name)
            argv = [sys.executable, "-m", "tests.lab.smtpserver", "--listen", RELAYS[name]]
            argv += ["--certificate", str(cert.file), "--key", str(cert.key), *more]
            made.start(made.far, argv).wait_for("listening", where="out")
        made.publish(made.zone | SRV | {LEVEL: {"MX": [f"10 {NOC}."]}})
        yield made


def test_b8_a_network_names_port_and_tls_of_its_relays(world: World) -> None:
    world.join(ADDRESS)
    agent = world.agent(ON)
    until(lambda: (world.best, world.get("State")), lambda seen: seen == (f"{VERTEX}:465", "ready"))
    relays = until(lambda: world.get("Relays"), lambda seen: [one["verdict"] for one in seen] == ["ok", "ok"])
    keys = ("host", "port", "source", "name", "level", "preference", "tls")
    assert [tuple(one[key] for key in keys) for one in relays] == [
        (VERTEX, 465, "dns", TLS, 24, 10, "implicit"),
        (HOME, 587, "dns", STARTTLS, 24, 20, "starttls"),
    ]
    assert world.get("BestRelayTls") == "implicit"
    [evidence] = world.get("Addresses")
    assert (evidence["outcome"], evidence["level"], evidence["name"]) == ("found", 24, TLS)
    told = explained(world)
    assert [(one["host"], one["rule"], one["name"]) for one in told["dropped"]] == [("localhost", "C2", STARTTLS)]
    assert {(one["name"], one["type"], one["outcome"]) for one in told["questions"]} >= {
        (TLS, "SRV", "found"),
        (STARTTLS, "SRV", "found"),
        (LEVEL, "MX", "found"),
        (f"_submissions._tcp.1.{LEVEL}", "SRV", "none"),
    }
    assert agent.end() == 0
    assert "Traceback" not in agent.log


def test_b8_off_by_default_nothing_of_it_is_asked(world: World) -> None:
    world.join(ADDRESS)
    world.agent("")
    world.wait_for_best(NOC, "ready")
    assert world.queries("SRV") == []
    assert "SRV" not in {one["type"] for one in explained(world)["questions"]}


def test_b8_a_reload_turns_it_on(world: World) -> None:
    world.join(ADDRESS)
    agent = world.agent("")
    world.wait_for_best(NOC, "ready")
    world.configure(ON)
    agent.popen.send_signal(signal.SIGHUP)
    until(lambda: world.best, lambda best: best == f"{VERTEX}:465")
