"""The verifier against a real Exim and a real OpenSMTPD: two checks are `ok`, and no log complains of them."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from ipaddress import ip_address
from pathlib import Path

import pytest

from salsa_agent.core.model import RelayKey, Verdict
from salsa_agent.core.settings import Verify
from salsa_agent.smtp.verifier import Verifier
from tests.lab.netns import Netns
from tests.lab.unpacked import Unpacked
from tests.lab.whole import until

RELAY = "192.0.2.25"
EXIM = f"dc_eximconfig_configtype='internet'\ndc_other_hostnames='relay.example'\ndc_local_interfaces='{RELAY}'\n"
OPENSMTPD = f'listen on {RELAY} hostname relay.example\naction "relay" relay\nmatch from any for any action "relay"\n'


@pytest.fixture
def space() -> Iterator[Netns]:
    with Netns() as made:
        made.batch([f"addr add {RELAY}/32 dev lo"])
        yield made


async def spoken_to_twice(space: Netns) -> None:
    """The second check finds whatever the first one left in the server's memory of its clients."""
    verifier = Verifier(Verify(timeout=25.0))
    with space.inside():
        for _ in range(2):
            result = await verifier.check(RelayKey("relay.example", 25), (ip_address(RELAY),))
            assert (result.verdict, result.reason) == (Verdict.OK, "")


def listens(space: Netns) -> bool:
    return f"{RELAY}:25" in space.run(["ss", "-Hltn"])


async def test_d1_exim_and_fail2ban_have_nothing_to_complain_of(space: Netns, tmp_path: Path) -> None:
    with Unpacked(space, "exim4-daemon-light", users=["Debian-exim"]) as inside:
        inside.write("/etc/exim4/update-exim4.conf.conf", EXIM)
        inside.write("/etc/exim4/exim4.conf.localmacros", "MAIN_LOG_SELECTOR = +smtp_connection\n")
        for directory in ("/var/spool/exim4", "/var/log/exim4", "/run/exim4"):
            inside.run("install", "-d", "-o", "Debian-exim", "-g", "Debian-exim", directory)
        inside.run("update-exim4.conf")
        inside.run("exim4", "-bd", "-q1h")
        until(lambda: listens(space), bool)
        await spoken_to_twice(space)
        main, log = inside.path("/var/log/exim4/mainlog"), tmp_path / "mainlog"
        log.write_text(until(main.read_text, lambda text: text.count("closed by QUIT") == 2))
        assert not inside.path("/var/log/exim4/rejectlog").exists()
        for offence in ("synchronization error", "dropped", "rejected"):
            assert offence not in log.read_text()
        argv = ["fail2ban-regex", "--out", "row", str(log), "exim[mode=aggressive]"]
        assert subprocess.run(argv, check=False, capture_output=True, text=True, timeout=60).stdout == ""


async def test_d1_opensmtpd_sees_a_whole_conversation(space: Netns, tmp_path: Path) -> None:
    said = tmp_path / "log"
    with Unpacked(space, "opensmtpd", users=["opensmtpd", "opensmtpq"]) as inside, said.open("w") as log:
        inside.write("/etc/smtpd.conf", OPENSMTPD)
        inside.run("install", "-d", "-m", "711", "/var/spool/smtpd")
        # it ends with everything inside
        with subprocess.Popen(inside.argv("smtpd", "-d", "-v"), stdout=log, stderr=log) as entering:
            until(lambda: listens(space), bool)
            await spoken_to_twice(space)
            until(said.read_text, lambda text: text.count("smtp disconnected reason=") == 2)
            inside.close()
            entering.wait(30)
        assert said.read_text().count("smtp disconnected reason=quit") == 2
        assert "failed-command" not in said.read_text()
