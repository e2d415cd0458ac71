"""`salsactl zone --relay`: in the real mail servers, hosts inside may relay, within limits, and no others."""

from __future__ import annotations

import json
import re
import smtplib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

import pytest

from salsa_agent.oneshot.relay_config import PROGRAMS, relay_config
from salsa_agent.oneshot.zone import prefix
from tests.lab.bus import PATIENCE
from tests.lab.netns import Netns, veth
from tests.lab.postfix import Postfix
from tests.lab.unpacked import Unpacked
from tests.lab.whole import until
from tests.parts.cli.test_salsactl import refused
from tests.parts.cli.test_zone import salsactl

PREFIXES = ("192.0.2.0/24", "2001:db8:1::/48")
INSIDE = ("192.0.2.5", "2001:db8:1::5")
OUTSIDE = ("198.51.100.5", "2001:db8:2::5")
RELAY = {"192.0.2.5": "192.0.2.1", "198.51.100.5": "198.51.100.1", "2001:db8:1::5": "2001:db8:1::1",
         "2001:db8:2::5": "2001:db8:2::1"}  # fmt: skip


@contextmanager
def network() -> Iterator[tuple[Netns, Netns]]:
    """The relay's host, and one with addresses inside and outside of what may relay, on one link."""
    with Netns() as relay, Netns() as hosts:
        veth(relay, "eth0", hosts, "eth0")
        for space, addresses in ((relay, RELAY.values()), (hosts, RELAY)):
            space.batch([f"addr add {ip}/{64 if ':' in ip else 24} dev eth0 nodad" for ip in addresses])
            space.ip("link", "set", "eth0", "up")
        yield relay, hosts


@contextmanager
def postfix(space: Netns, text: str) -> Iterator[None]:
    joined = re.sub(r"\n[ \t]+", " ", text)
    main = dict(line.split(" = ", 1) for line in joined.splitlines() if line and not line.startswith("#"))
    with Postfix(space, "relay.example.net", main={"default_transport": "hold:", **main}):
        yield


@contextmanager
def exim(space: Netns, text: str) -> Iterator[None]:
    with Unpacked(space, "exim4-daemon-light", users=["Debian-exim"]) as inside:
        config = f"primary_hostname = relay.example.net\nqueue_only\n{text}\nbegin routers\nbegin transports\n"
        inside.write("/etc/exim4/exim4.conf", config)
        for directory in ("/var/spool/exim4", "/var/log/exim4", "/run/exim4"):
            inside.run("install", "-d", "-o", "Debian-exim", "-g", "Debian-exim", directory)
        inside.run("exim4", "-bV")
        inside.run("exim4", "-bd")
        yield


@contextmanager
def opensmtpd(space: Netns, text: str) -> Iterator[None]:
    with Unpacked(space, "opensmtpd", users=["opensmtpd", "opensmtpq"]) as inside:
        inside.write("/etc/smtpd.conf", f"{text}\n")
        inside.run("install", "-d", "-m", "711", "/var/spool/smtpd")
        assert "configuration OK" in inside.run("smtpd", "-n").stderr
        inside.run("smtpd")
        yield


RUNNING: dict[str, Callable[[Netns, str], AbstractContextManager[None]]] = {
    "postfix": postfix, "exim": exim, "opensmtpd": opensmtpd,
}  # fmt: skip
ALLOWED = {"postfix": 30, "exim": 100, "opensmtpd": 100}
"""What one host may do before it is told to wait: messages a minute, recipients a minute, recipients of a message."""


def session(source: str) -> smtplib.SMTP:
    client = smtplib.SMTP(timeout=PATIENCE, source_address=(source, 0))
    client.connect(RELAY[source], 25)
    client.ehlo("host.example")
    return client


def answers(source: str) -> bool:
    try:
        session(source).quit()
    except OSError:
        return False
    return True


def recipient(source: str) -> int:
    """The reply to the first recipient elsewhere."""
    with session(source) as client:
        client.mail("me@client.example")
        return client.rcpt("you@dest.example")[0]


def counted(source: str, program: str) -> int:
    """How many recipients, of a message each for Postfix, are taken until the relay says that it is enough."""
    with session(source) as client:
        for number in range(200):
            if program == "postfix" or number == 0:
                client.rset()
                if client.mail("me@client.example")[0] != 250:
                    return number
            code, _ = client.rcpt(f"you{number}@dest.example")
            if code != 250:
                assert 400 <= code < 500 or program == "opensmtpd", code
                return number
    return 200


@pytest.mark.parametrize("program", PROGRAMS)
def test_a_host_inside_may_relay_and_one_outside_may_not(program: str) -> None:
    text = relay_config(program, [prefix(one) for one in PREFIXES])
    with network() as (relay, hosts), RUNNING[program](relay, text), hosts.inside():
        until(lambda: answers(INSIDE[0]), bool)
        for source in OUTSIDE:
            assert 500 <= recipient(source) < 600, source
        for source in INSIDE:
            with session(source) as client:
                client.sendmail("me@client.example", ["you@dest.example"], "Subject: relayed\n\nhello\n")
        assert counted(INSIDE[0], program) in range(ALLOWED[program] - 2, ALLOWED[program] + 1)
        with session(INSIDE[1]) as client:  # the limit is each host's own
            assert client.mail("me@client.example")[0] == 250
            assert client.rcpt("you@dest.example")[0] == 250
        assert answers(INSIDE[0]), "a host over its limit still sees that the relay is there"


@pytest.mark.parametrize("program", PROGRAMS)
async def test_the_command_prints_it_in_80_columns(program: str) -> None:
    done = await salsactl("--relay", program, *PREFIXES, "192.0.2.7")
    assert (done.status, done.err) == (0, "")
    assert done.out == relay_config(program, [prefix(one) for one in PREFIXES]) + "\n", "192.0.2.7 is contained"
    assert max(map(len, done.out.splitlines())) <= 80
    told = json.loads((await salsactl("--relay", program, "10.0.0.0/8", "--json")).out)
    assert (told.keys(), told["prefixes"]) == ({"relay", "prefixes", "text"}, ["10.0.0.0/8"])


async def test_no_open_relay_and_nothing_about_zones() -> None:
    for wide in ("0.0.0.0/0", "8.0.0.0/7", "::/0", "2000::/3"):
        refused(await salsactl("--relay", "postfix", "192.0.2.0/24", wide), 2, "an open relay")
    refused(await salsactl("--relay", "exim", "192.0.2.0/24", "--ns", "ns1.example.net"), 2, "prefixes only")
    for argv, words in ((["sendmail"], "invalid choice"), (["exim", "--refuse"], "not allowed with")):
        done = await salsactl("--relay", *argv, "192.0.2.0/24")
        assert (done.status, done.out) == (2, "")
        assert words in done.err
