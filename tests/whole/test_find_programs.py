"""What `salsactl find --format` prints, in the configuration of the real programs, each of which delivers a message."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lab.ca import Ca
from tests.lab.mail import SALSACTL, TORONTO, Mail
from tests.lab.postfix import SMTPS, Postfix
from tests.lab.unpacked import Unpacked
from tests.lab.whole import HOME, NOC, RELAYS, ZONE

TRUSTED = "/etc/ssl/certs/ca-certificates.crt"
LETTER = "From: <me@client.example>\nTo: <you@dest.example>\nSubject: {}\n\nhello\n"

pytestmark = pytest.mark.timeout(180)


@pytest.fixture(scope="module")
def ca(tmp_path_factory: pytest.TempPathFactory) -> Ca:
    return Ca(tmp_path_factory.mktemp("ca"))


@pytest.fixture(scope="module")
def mail(ca: Ca) -> Iterator[Mail]:
    """The host is in Toronto, without an agent. The relay there has no TLS; the one at home has, on two ports."""
    with Mail() as made, Postfix(
        made.world.far, HOME, certificate=ca.issue(HOME), receives=["dest.example"], relays_for=["0.0.0.0/0"],
        main={"inet_interfaces": RELAYS[HOME]}, master=[SMTPS],
    ) as home:  # fmt: skip
        made.relays[HOME] = home
        made.world.join(TORONTO)
        yield made


def found(mail: Mail, form: str, kind: str) -> str:
    """What `find` prints where the relay is of this kind: the network's without TLS, or the administrator's with it."""
    published = dict(ZONE) if kind == "none" else {name: entry for name, entry in ZONE.items() if "MX" not in entry}
    mail.world.publish(published)
    port = 465 if kind == "implicit" else 25
    mail.world.configure(f'[static]\nrelays = ["{HOME}:{port}"]\n')
    search = mail.start([*SALSACTL, "find", "--format", form, "--config", str(mail.world.config)])
    assert search.popen.wait(60) == 0, search.log
    return search.out


def relay_of(kind: str) -> str:
    return NOC if kind == "none" else HOME


@pytest.mark.parametrize("kind", ["none", "starttls"])
def test_postfix_takes_the_line_and_delivers(mail: Mail, kind: str) -> None:
    line = found(mail, "postfix", kind)
    with mail.client("") as client:
        client.command("postconf", "-e", line.rstrip("\n"))
        client.command("postfix", "check")
        assert client.command("postconf", "relayhost") == line
        client.reload()
        client.send("you@dest.example", text=f"postfix, {kind}")
        mail.arrives(f"postfix, {kind}", relay_of(kind))


@pytest.mark.parametrize("kind", ["none", "starttls", "implicit"])
def test_msmtp_takes_the_lines_and_delivers(mail: Mail, ca: Ca, kind: str) -> None:
    lines = found(mail, "msmtp", kind)
    with Unpacked(mail.world.host, "msmtp") as inside:
        inside.write(TRUSTED, ca.file.read_text())
        inside.write("/etc/msmtprc", f"account default\nfrom me@client.example\n{lines}")
        inside.run("msmtp", "you@dest.example", input=LETTER.format(f"msmtp, {kind}"))
        mail.arrives(f"msmtp, {kind}", relay_of(kind))
        if kind != "none":
            info = inside.run("msmtp", "--serverinfo").stdout
            assert "TLS session parameters" in info
            inside.write(TRUSTED, Ca(_other(ca)).file.read_text())  # it does look at the certificate
            refused = inside.run("msmtp", "you@dest.example", input=LETTER.format("never"), check=False)
            assert "certificate" in refused.stderr


@pytest.mark.parametrize("kind", ["none", "starttls", "implicit"])
def test_nullmailer_takes_the_line_and_delivers(mail: Mail, ca: Ca, kind: str) -> None:
    line = found(mail, "nullmailer", kind)
    with Unpacked(mail.world.host, "nullmailer") as inside:
        spool = "/var/spool/nullmailer"
        inside.write(TRUSTED, ca.file.read_text())
        inside.write("/etc/mailname", "client.example\n")
        inside.write("/etc/nullmailer/remotes", line)
        inside.run("mkfifo", "-m", "622", f"{spool}/trigger")
        inside.run("chown", "mail", f"{spool}/trigger")
        inside.run("nullmailer-inject", "you@dest.example", input=LETTER.format(f"nullmailer, {kind}"))
        sender = mail.start(
            inside.argv(
                *("setpriv", "--reuid", "mail", "--regid", "mail", "--clear-groups"),
                *("sh", "-c", f"cd {spool} && exec nullmailer-send"),
            )
        )
        mail.arrives(f"nullmailer, {kind}", relay_of(kind))
        sender.wait_for("smtp: Succeeded: 250")


def _other(ca: Ca) -> Path:
    """A directory for an authority that is another one."""
    directory = ca.file.parent / "other"
    directory.mkdir(exist_ok=True)
    return directory


def test_postfix_has_a_line_for_port_465_and_needs_more_for_it(mail: Mail) -> None:
    """TLS from the first octet is a service of master.cf (docs/consumers.md), which no line of main.cf can bring."""
    assert found(mail, "postfix", "implicit") == f"relayhost = [{HOME}]:465\n"
