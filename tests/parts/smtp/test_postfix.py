"""The verifier against a real Postfix, in a namespace."""

from __future__ import annotations

import socket
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path

import pytest

from salsa_agent.core.model import CheckResult, RelayKey, Verdict
from salsa_agent.core.settings import Verify
from salsa_agent.smtp.verifier import Verifier
from tests.lab.ca import Ca
from tests.lab.netns import Netns, veth
from tests.lab.postfix import Postfix

TIMEOUT = 25.0
SMTPS = "465 inet n - n - - smtpd -o smtpd_tls_wrappermode=yes"
OFFERED = CheckResult(Verdict.OK, starttls=True, tls="starttls")
IMPLICIT = CheckResult(Verdict.OK, tls="implicit", auth=False)
V4, V6 = "192.0.2.25", "2001:db8::25"


@dataclass
class Site:
    """A namespace with a relay in it, and the authority of its certificate."""

    space: Netns
    relay: Postfix
    ca: Path

    async def check(
        self, port: int = 25, address: str = V4, *, host: str = "relay.example", **settings: str
    ) -> CheckResult:
        verifier = Verifier(Verify(timeout=TIMEOUT, **settings))  # type: ignore[arg-type]
        with self.space.inside():
            return (await verifier.check(RelayKey(host, port), (ip_address(address),)))._replace(servers=())


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    with tempfile.TemporaryDirectory(prefix="salsa-ca-") as name, Netns() as space:
        directory = Path(name)
        directory.chmod(0o755)
        ca = Ca(directory)
        space.batch([f"addr add {V4}/32 dev lo", f"addr add {V6}/128 dev lo nodad"])
        with Postfix(
            space,
            "relay.example",
            certificate=ca.issue("relay.example", V4, V6),
            receives=["dest.example"],
            master=[SMTPS],
        ) as relay:
            yield Site(space, relay, ca.file)


@pytest.fixture
def trusted(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(site.ca))


@pytest.mark.parametrize("address", [V4, V6])
async def test_d1_postfix_is_ok(site: Site, address: str) -> None:
    assert await site.check(address=address) == OFFERED
    assert "warning" not in site.relay.log
    assert "improper command" not in site.relay.log


async def test_d1_postfix_sees_a_whole_conversation(site: Site) -> None:
    before = len(site.relay.log)
    await site.check()
    site.relay.until(lambda: "ehlo=1 quit=1 commands=2" in site.relay.log[before:], "the end of the conversation")


async def test_d7_postfix_offers_starttls(site: Site) -> None:
    assert await site.check(tls="offered") == OFFERED


@pytest.mark.usefixtures("trusted")
@pytest.mark.parametrize(("host", "address"), [("relay.example", V4), ("relay.example", V6), (V4, V4), (V6, V6)])
async def test_d7_the_certificate_is_valid(site: Site, host: str, address: str) -> None:
    before = len(site.relay.log)
    assert await site.check(address=address, host=host, tls="valid") == OFFERED._replace(auth=False)
    site.relay.until(lambda: "ehlo=2 starttls=1 quit=1" in site.relay.log[before:], "the end of the conversation")


@pytest.mark.usefixtures("trusted")
async def test_d7_the_certificate_is_another_hosts(site: Site) -> None:
    result = await site.check(host="other.example", tls="valid")
    assert result.verdict is Verdict.FAILED
    assert "Hostname mismatch" in result.reason


async def test_d7_the_certificate_is_of_nobody_known(site: Site) -> None:
    result = await site.check(tls="valid")
    assert result.verdict is Verdict.FAILED
    assert "TLS: certificate not valid" in result.reason


@pytest.mark.parametrize("tls", ["off", "offered"])
async def test_d7_on_port_465_any_certificate_will_do(site: Site, tls: str) -> None:
    assert await site.check(465, host="other.example", tls=tls) == IMPLICIT


@pytest.mark.usefixtures("trusted")
async def test_d7_on_port_465_the_certificate_is_checked_under_valid(site: Site) -> None:
    assert await site.check(465, tls="valid") == IMPLICIT
    assert (await site.check(465, host="other.example", tls="valid")).verdict is Verdict.FAILED


@pytest.mark.usefixtures("trusted")
@pytest.mark.parametrize("tls", ["off", "valid"])
async def test_d7_a_recipient_that_postfix_takes(site: Site, tls: str) -> None:
    assert (await site.check(tls=tls, recipient="me@dest.example")).verdict is Verdict.OK
    assert not site.relay.received()


async def test_d7_a_recipient_that_postfix_does_not_relay_to(site: Site) -> None:
    result = await site.check(recipient="me@elsewhere.example")
    assert result.verdict is Verdict.FAILED
    assert f"{V4}: RCPT: 454 4.7.1" in result.reason or f"{V4}: RCPT: 554 5.7.1" in result.reason
    assert "Relay access denied" in result.reason


POSTSCREEN = (
    "25 inet n - n - 1 postscreen",
    "smtpd pass - - n - - smtpd",
    "dnsblog unix - - n - 0 dnsblog",
    "tlsproxy unix - - n - 0 tlsproxy",
)
TESTS = {
    "postscreen_access_list": "",  # else a client in mynetworks is not tested
    "postscreen_greet_action": "enforce",
    "postscreen_greet_wait": "6s",  # its default: more than half of ours
}


async def test_d1_postscreen_sees_nobody_hang_up_or_speak_first() -> None:
    """A new client is kept waiting, at two addresses, for longer than RFC 8305's patience."""
    with Netns() as space:
        space.batch([f"addr add {V4}/32 dev lo", "addr add 192.0.2.26/32 dev lo"])
        with Postfix(space, "relay.example", port=0, main=TESTS, master=POSTSCREEN) as relay:
            verifier = Verifier(Verify())
            addresses = (ip_address(V4), ip_address("192.0.2.26"))
            with space.inside():
                result = await verifier.check(RelayKey("relay.example", 25), addresses)
            assert result.verdict is Verdict.OK
            relay.until(lambda: "quit=1" in relay.log, "the end of the conversation")
            assert "PASS NEW" in relay.log
            assert relay.log.count("CONNECT from") == 1  # the other address was not needed
            for offence in ("HANGUP", "PREGREET", "lost connection", "improper command"):
                assert offence not in relay.log


def found_by_fail2ban(relay: Postfix) -> str:
    """What fail2ban's own filter for Postfix, in its strictest mode, takes for an attack in the log."""
    # Postfix 3.10 puts a word before what it says of a lost connection, by which fail2ban 1.1 overlooks it
    log = relay.log_file.with_name("mail.as-before-3.10.log")
    log.write_text(relay.log.replace("NOQUEUE: lost connection", "lost connection"))
    argv = ["fail2ban-regex", "--out", "row", str(log), "postfix[mode=aggressive]"]
    return subprocess.run(argv, check=False, capture_output=True, text=True, timeout=60).stdout


async def test_d1_two_checks_are_no_attack_to_fail2ban() -> None:
    """Postscreen is new to the first check, and knows the host at the second."""
    with Netns() as space:
        space.batch([f"addr add {V4}/32 dev lo", "addr add 192.0.2.26/32 dev lo"])
        main = TESTS | {"syslog_name": "postfix"}  # the filter knows this one
        with Postfix(space, "relay.example", port=0, main=main, master=POSTSCREEN) as relay:
            verifier = Verifier(Verify())
            with space.inside():
                for number in (1, 2):
                    result = await verifier.check(
                        RelayKey("relay.example", 25), (ip_address(V4), ip_address("192.0.2.26"))
                    )
                    assert result.verdict is Verdict.OK
                    relay.until(lambda: relay.log.count("quit=1") == number, "the end of the conversation")  # noqa: B023
                assert found_by_fail2ban(relay) == ""
                socket.create_connection((V4, 25)).close()
            relay.until(lambda: "lost connection" in relay.log, "what an attacker does")
            assert V4 in found_by_fail2ban(relay)


def test_what_the_relay_takes_arrives(site: Site) -> None:
    """The lab's other half: a Postfix that only sends, through this relay; queued while it has nowhere to send to."""
    with Netns() as far:
        veth(site.space, "down0", far, "up0")
        site.space.ip("route", "add", "192.0.2.1", "dev", "down0")
        far.ip("addr", "add", "192.0.2.1/24", "dev", "up0")
        with Postfix(far, "client.example", port=0, main={"relayhost": f"[{V4}]:2626"}) as client:
            client.send("bob@dest.example", text="over the relay")
            client.until(lambda: "status=deferred" in client.log, "the failure")
            assert len(client.queue()) == 1
            client.configure(relayhost=f"[{V4}]")
            client.reload()
            client.flush()
            client.until(site.relay.received, "the message")
            assert "over the relay" in site.relay.received()[0]
            client.until(lambda: not client.queue(), "the empty queue")
        assert not client.directory.exists()
