"""Faults done to the whole agent: the quick ones of `./run torture`, and what its verdicts are worth."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import ip_address

import pytest

from salsa_agent.core.model import RelayKey, Verdict
from salsa_agent.core.settings import Verify
from salsa_agent.smtp.verifier import Verifier
from tests.lab.smtpserver import BEHAVIOURS, SmtpServer
from tests.lab.whole import HOME
from tests.torture import aiming, attacks, bus, dns, kernel, machine, relays  # noqa: F401  # fill the table
from tests.torture.soak import Grown, Sample, judge, soak
from tests.torture.trial import FAULTS, ROUND, A, Fault, Site, Trial, run, torture_world

SLACK, SCALE = 20.0, 0.1  # seconds; the share of the full waiting times

QUICK = (
    "a lie with the wrong id: all levels",
    "an answer of 64 KiB",
    "an exchange of 255 bytes",
    "a second link is deleted in mid-round",
    "an overrun: 30,000 events while the agent stands still",
    "its policy shuts everybody out, and lets them in again",
    "another one wants the name, and says that it was lost",
    "calls with bodies and signatures that lie, and of a megabyte",
    "no descriptors left, and the host roams",
    "SIGTERM, SIGINT and SIGHUP over and over until it ends",
    "SIGKILL at a random moment and a new start, twenty times",
    "one router advertisement a second toggles a preferred lifetime",
    "sixty pipelining connections to the socketmap beside Postfix's",
    "three users connect to the socketmap in loops, and ask, or hold on, or send half a query",
    "a hostile network names hosts of the VPN",
    "one machine named by eight others of its addresses each time, while an address flaps",
    "exchanges at this host's loopback address and a neighbour's, as NAT64 and 6to4 write them",
    "a FIFO as configuration at SIGHUP, and as hosts file",
)

pytestmark = pytest.mark.timeout(180)


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    with torture_world() as made:
        yield made


@pytest.mark.parametrize("name", QUICK)
def test_a_fault_is_stood(site: Site, name: str) -> None:
    (one,) = [one for one in FAULTS if one.name == name]
    if one.alone:
        with torture_world() as own:
            row = run(one, own, slack=SLACK, scale=SCALE)
    else:
        row = run(one, site, slack=SLACK, scale=SCALE)
    assert row.failure == ""


@pytest.mark.parametrize("name", BEHAVIOURS)
async def test_the_best_relay_s_faults_are_those_that_fail_a_check(name: str) -> None:
    """Or else a fault that is none is waited for in vain, and seen by the whole of `./run torture` alone."""
    async with SmtpServer(answers=name) as server:
        verifier = Verifier(Verify(timeout=2.0))
        result = await verifier.check(RelayKey("relay.example", server.port), (ip_address("127.0.0.1"),))
    assert (result.verdict is Verdict.FAILED) == (name in relays.FAULTY)


def test_names_of_faults_are_unique() -> None:
    names = [(one.group, one.name) for one in FAULTS]
    assert len(set(names)) == len(names)


def test_what_was_never_right_is_seen(site: Site) -> None:
    """Nothing but the static relay is right, says this case; the agent publishes the network's."""

    def case(trial: Trial) -> None:
        trial.start()
        trial.allowed = {HOME}
        trial.roam(A)
        trial.expect("noc.tor.hookup.net", ROUND)

    assert "never right" in run(Fault("test", "lies", case), site, slack=SLACK, scale=SCALE).failure


def test_an_agent_that_ended_is_seen(site: Site) -> None:
    def case(trial: Trial) -> None:
        trial.start()
        trial.agent.end()

    assert "it ended" in run(Fault("test", "ends", case), site, slack=SLACK, scale=SCALE).failure


def test_a_late_relay_is_seen(site: Site) -> None:
    def case(trial: Trial) -> None:
        trial.start()
        with trial.frozen():
            pass
        trial.expect("relay.elsewhere.example", -1.0)

    assert "came after" in run(Fault("test", "late", case), site, slack=0.0, scale=SCALE).failure


def test_thousands_of_address_changes_leave_nothing(site: Site) -> None:
    site.heal()
    samples = soak(site, 2000, lambda _: None)
    assert samples[-1].changes == 2000


@pytest.mark.parametrize("field", ["memory", "descriptors", "tasks", "threads"])
def test_growth_is_seen(field: str) -> None:
    flat = {"memory": 1000, "descriptors": 9, "tasks": 9, "threads": 1}
    samples = [Sample(n, **flat, cpu=n / 100) for n in range(10)]
    judge(samples)
    more = flat | {field: flat[field] + 2049}
    with pytest.raises(Grown):
        judge([*samples, Sample(10, **more, cpu=1.0)])
