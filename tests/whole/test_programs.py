"""Mail programs of persons, and libraries, follow the network: the recipes of docs/programs.md, run."""

from __future__ import annotations

import re
import shlex
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.lab.bus import PROJECT
from tests.lab.mail import PARIS, TORONTO, Mail
from tests.lab.unpacked import Unpacked
from tests.lab.whole import NOC, VERTEX, until

DOCUMENT = PROJECT / "docs" / "programs.md"
_FENCE = re.compile(r"^```\w+ (\S+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
BLOCKS: dict[str, str] = dict(_FENCE.findall(DOCUMENT.read_text()))
SALSACTL = f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m salsa_agent.cli.salsactl.main "$@"\n'
ACCOUNT = """
[Data Source]
DisplayName=me@home.example
Enabled=true
Parent=

[Authentication]
Host=old.home.example
Method=PLAIN
Port=25
User=me

[Security]
Method=none

[Mail Transport]
BackendName=smtp
"""


@pytest.fixture(scope="module")
def networks() -> Iterator[Mail]:
    with Mail() as mail:
        yield mail


@pytest.fixture
def mail(networks: Mail) -> Iterator[Mail]:
    """The agent runs, in Toronto."""
    networks.agent()
    networks.roam(TORONTO, NOC)
    yield networks
    networks.reset()


class Person(Unpacked):
    """A user's programs, with `salsactl` and the relay files where the document says."""

    def __init__(self, mail: Mail, package: str) -> None:
        super().__init__(mail.world.host, package, shared={"/run/salsa-agent": mail.output})
        self.environment = {
            "HOME": "/var/tmp/home",
            "PYTHONPATH": str(PROJECT),
            "DBUS_SYSTEM_BUS_ADDRESS": mail.world.bus.address,
        }

    def argv(self, *argv: str) -> list[str]:
        return super().argv("env", *(f"{name}={value}" for name, value in self.environment.items()), *argv)


@contextmanager
def person(mail: Mail, package: str) -> Iterator[Person]:
    with Person(mail, package) as inside:
        inside.write("/usr/bin/salsactl", SALSACTL, 0o755)
        inside.write("/usr/bin/relay-url", BLOCKS["relay-url"], 0o755)
        inside.write("/etc/mailname", "client.example\n")
        inside.path("/var/tmp/home").mkdir(parents=True)
        yield inside


def test_mutt_asks_for_each_message(mail: Mail) -> None:
    with person(mail, "mutt") as inside:
        inside.write("/etc/muttrc-of-me", BLOCKS["mutt/muttrc"])
        argv = ("mutt", "-F", "/etc/muttrc-of-me", "-s", "mutt, TLS", "you@dest.example")
        assert inside.run(*argv, input="hello\n", check=False).returncode, "this relay has no TLS"
        inside.write("/etc/muttrc-of-me", BLOCKS["mutt/muttrc"] + BLOCKS["mutt/without-tls"])

        def send(subject: str, *, check: bool = True) -> int:
            argv = ("mutt", "-F", "/etc/muttrc-of-me", "-s", subject, "you@dest.example")
            return inside.run(*argv, input="hello\n", check=check).returncode

        send("mutt")
        mail.arrives("mutt", NOC)
        mail.roam(PARIS, VERTEX)
        send("mutt, later")
        mail.arrives("mutt, later", VERTEX)
        mail.reset()
        assert send("mutt, no agent", check=False) != 0


def test_s_nail_asks_at_its_start(mail: Mail) -> None:
    with person(mail, "s-nail") as inside:
        inside.write("/etc/mailrc-of-me", BLOCKS["s-nail/mailrc"])
        inside.environment["MAILRC"] = "/etc/mailrc-of-me"

        def send(subject: str, *, check: bool = True) -> int:
            argv = ("s-nail", "-Sexpandaddr", "-SDEAD=/var/tmp/home/dead", "-s", subject, "you@dest.example")
            return inside.run(*argv, input="hello\n", check=check).returncode

        send("s-nail")
        mail.arrives("s-nail", NOC)
        mail.roam(PARIS, VERTEX)
        send("s-nail, later")
        mail.arrives("s-nail, later", VERTEX)
        mail.reset()
        assert send("s-nail, no agent", check=False) != 0


def test_git_send_email_by_an_alias(mail: Mail) -> None:
    if not Path("/usr/lib/git-core/git-send-email").exists():
        pytest.skip("needs programs: git-email and libmailtools-perl")
    with person(mail, "mutt") as inside:  # git itself is installed
        user = "[user]\n\tname = Me\n\temail = me@home.example\n[sendemail]\n\tconfirm = never\n"
        inside.write("/etc/gitconfig-of-me", user + BLOCKS["git/config"])
        inside.environment["GIT_CONFIG_GLOBAL"] = "/etc/gitconfig-of-me"
        repository = "/var/tmp/home/project"
        inside.run("git", "init", "-q", repository)
        for subject, relay in (("git", NOC), ("git, later", VERTEX)):
            inside.run("git", "-C", repository, "commit", "-q", "--allow-empty", "-m", subject)
            if relay == VERTEX:
                mail.roam(PARIS, VERTEX)
            patch = f"From: <me@home.example>\nSubject: {subject}\nDate: Mon, 1 Jan 2024 00:00:00 +0000\n\nhello\n"
            inside.write(f"{repository}/0001.patch", patch)
            inside.run("git", "-C", repository, "mail", "--to=you@dest.example", "--quiet", f"{repository}/0001.patch")
            mail.arrives(subject, relay)


def test_django_reads_the_file_for_each_connection(mail: Mail) -> None:
    with person(mail, "python3-django") as inside:
        inside.write("/var/tmp/home/salsa_mail.py", BLOCKS["django/salsa_mail.py"])
        inside.write("/var/tmp/home/send.py", _DJANGO)
        inside.environment["PYTHONPATH"] = "/var/tmp/home"
        sending = mail.start(inside.argv("/usr/bin/python3", "/var/tmp/home/send.py", "/var/tmp/home/go"))
        mail.arrives("django", NOC)
        mail.roam(PARIS, VERTEX)
        inside.write("/var/tmp/home/go", "")
        mail.arrives("django, later", VERTEX)
        assert sending.popen.wait(30) == 0, sending.log


_DJANGO = """
import os, sys, time
from django.conf import settings
from django.core.mail import send_mail

settings.configure(EMAIL_BACKEND="salsa_mail.EmailBackend", USE_I18N=False)
send_mail("django", "hello", "me@home.example", ["you@dest.example"])
while not os.path.exists(sys.argv[1]):
    time.sleep(0.1)
send_mail("django, later", "hello", "me@home.example", ["you@dest.example"])
"""


def test_evolution_takes_the_relay_of_the_sender_and_no_other(mail: Mail) -> None:
    mail.reset()
    entry = '[[sender]]\naddress = ["*@home.example"]\nrelays = ["{}:25"]\n'
    agent = mail.agent(more=entry.format(NOC))
    mail.roam(TORONTO, NOC)
    with person(mail, "evolution-data-server") as inside:
        inside.write("/usr/bin/evolution-relay", BLOCKS["evolution/evolution-relay"], 0o755)
        account = inside.path("/var/tmp/home/.config/evolution/sources/home-smtp.source")
        inside.write("/var/tmp/home/.config/evolution/sources/home-smtp.source", ACCOUNT)
        inside.run("sh", "-c", "/usr/lib/*/glib-2.0/glib-compile-schemas /usr/share/glib-2.0/schemas")
        inside.environment |= {
            "DBUS_SESSION_BUS_ADDRESS": "unix:path=/run/session-bus",
            "XDG_RUNTIME_DIR": "/run",
            "GSETTINGS_BACKEND": "memory",
        }
        bus = "--address=unix:path=/run/session-bus"
        mail.start(inside.argv("dbus-daemon", "--session", "--nofork", "--nopidfile", bus))
        until(inside.path("/run/session-bus").exists, bool)
        (execute,) = re.findall(r"^ExecStart=(.*)$", BLOCKS["evolution/evolution-relay.service"], re.MULTILINE)

        def evolution(host: str) -> None:
            text = until(account.read_text, lambda seen: f"Host={host}" in seen)
            assert "Method=starttls-on-standard-port" in text
            assert "User=me" in text

        following = mail.start(inside.argv(*shlex.split(execute)))
        evolution(NOC)
        world = mail.world
        world.configure(world.config.read_text().replace(f"{NOC}:25", f"{VERTEX}:25"))
        agent.popen.send_signal(signal.SIGHUP)
        evolution(VERTEX)

        world.configure(world.config.read_text().partition("[[sender]]")[0])
        agent.popen.send_signal(signal.SIGHUP)
        following.wait_for(f"{NOC}:25\n{VERTEX}:25\n{NOC}:25", where="out")
        mail.reset()
        evolution(VERTEX)  # NOC was the network's this time, not the sender's own
        assert "Traceback" not in following.log


def test_every_named_block_is_run() -> None:
    text = Path(__file__).read_text()
    assert BLOCKS
    assert [name for name in BLOCKS if f'BLOCKS["{name}"]' not in text] == []
