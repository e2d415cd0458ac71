"""A real Postfix on the host asks the agent, and real ones are the relays (docs/consumers.md)."""

from __future__ import annotations

import json
import shlex
import shutil
import smtplib
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from salsa_agent.config import file as config
from salsa_agent.core.model import RelayKey
from tests.lab.bus import NOBODY
from tests.lab.ca import Ca
from tests.lab.mail import PARIS, SALSACTL, TORONTO, V6, V6_GATEWAY, V6_HOST, Mail, document
from tests.lab.postfix import SMTPS, Postfix
from tests.lab.sasl import PasswordService
from tests.lab.whole import HOME, NOC, RELAYS, VERTEX, Process, until

MAIN, LISTEN = document("postfix/main.cf"), document("postfix.toml")
SLOW = 5.0  # seconds; an agent that waited for Postfix to end its idle connections would take 10


@pytest.fixture(scope="module")
def networks() -> Iterator[Mail]:
    with Mail() as mail:
        yield mail


@pytest.fixture
def mail(networks: Mail) -> Iterator[Mail]:
    yield networks
    networks.reset()


@pytest.fixture
def client(mail: Mail) -> Iterator[Postfix]:
    with mail.client(MAIN) as client:
        yield client


def send(client: Postfix, subject: str) -> None:
    """To a recipient of its own, for Postfix remembers the last answer for 30 s, also that there was none."""
    client.send(f"{subject}@dest.example", text=subject)


def delays(client: Postfix) -> list[str]:
    """Why the mail in the queue is held."""
    queued = [recipient for line in client.queue() for recipient in json.loads(line)["recipients"]]
    return [recipient["delay_reason"] for recipient in queued if "delay_reason" in recipient]


def held(client: Postfix, reason: str) -> None:
    """Wait until mail is held for this reason."""
    client.until(lambda: any(reason in delay for delay in delays(client)), f"mail held: {reason}")


def connections(mail: Mail) -> str:
    """What Postfix has open to the socketmap."""
    return mail.world.host.run(["ss", "-Htn", "state", "established", "dport", "=", ":8462"])


def commands(client: Postfix, block: str) -> None:
    """Run the commands of a block of the document, for this instance of Postfix."""
    for line in document(block).splitlines():
        name, *arguments = shlex.split(line)
        client.command(name, *arguments)


def test_mail_follows_the_network_without_a_reload(mail: Mail, client: Postfix) -> None:
    mail.agent(more=LISTEN)
    mail.roam(TORONTO, NOC)
    send(client, "toronto")
    mail.arrives("toronto", NOC)
    mail.roam(PARIS, VERTEX)
    send(client, "paris")
    mail.arrives("paris", VERTEX)
    mail.roam(TORONTO, NOC)
    send(client, "back")
    mail.arrives("back", NOC)
    assert "reload" not in client.log
    assert "warning" not in client.log


def test_postfix_goes_on_to_the_next_relay_without_a_new_answer(mail: Mail, client: Postfix) -> None:
    mail.agent(more=LISTEN)
    mail.roam(TORONTO, NOC)
    wanted = f"[{NOC}]:25, [{VERTEX}]:25"
    until(lambda: answer(client), lambda shown: shown.startswith(wanted))
    send(client, "first")
    mail.arrives("first", NOC)
    mail.relays[NOC].stop()
    try:
        send(client, "next")
        mail.arrives("next", VERTEX)
        assert answer(client).startswith(wanted), "no new answer was needed"
        assert not client.queue()
    finally:
        mail.relays[NOC].start()


def answer(client: Postfix) -> str:
    """What the map `relay` says for some sender."""
    return client.command("postmap", "-q", "x", MAIN.split()[-1]).strip()


def test_queued_mail_follows_the_network(mail: Mail, client: Postfix) -> None:
    zone = mail.world.zone
    mail.world.publish({name: entry for name, entry in zone.items() if "MX" not in entry})
    mail.agent(more=LISTEN)
    mail.roam(TORONTO, HOME)  # where nothing listens
    send(client, "early-1")
    send(client, "early-2")
    client.until(lambda: len(delays(client)) == 2, "two held messages")
    assert all("Connection refused" in delay for delay in delays(client))
    execute = document("postfix/salsa-relay.service").partition("ExecStart=")[2].partition("\n")[0]
    _, *words = shlex.split(execute)
    assert "sleep 31" in words[-1]
    words[-1] = words[-1].replace("postqueue", f"postqueue -c {client.config}")
    mail.start([*SALSACTL, *words]).wait_for(HOME, where="out")
    mail.world.publish(zone)
    mail.roam(PARIS, VERTEX)
    # by the command; Postfix may remember the answer for one of the two, and take it up with the second run only
    client.until(lambda: set(mail.subjects(VERTEX)) & {"early-1", "early-2"}, "queued mail")
    send(client, "late")
    mail.arrives("late", VERTEX)
    client.flush()
    mail.arrives("early-1", VERTEX)
    mail.arrives("early-2", VERTEX)


def test_mail_is_held_while_the_first_answer_is_pending(mail: Mail, client: Postfix) -> None:
    zone = mail.world.zone
    mail.world.publish({"": {"*": {"silent": True}}})
    mail.world.join(TORONTO)
    agent = mail.agent(more=LISTEN + "[dns]\ntimeout = 30.0\n")
    agent.wait_for("answering Postfix")
    send(client, "pending")
    held(client, "address resolver failure")
    assert "the network has not answered yet" in client.log
    mail.world.publish(zone)
    mail.roam(PARIS, VERTEX)
    send(client, "decided")  # and Postfix no longer remembers that there was no answer
    mail.arrives("decided", VERTEX)
    client.flush()
    mail.arrives("pending", VERTEX)


@pytest.mark.parametrize("relayhost", [f"[{RELAYS[VERTEX]}]", ""])
def test_no_relay_means_relayhost_or_else_the_recipients_mx(mail: Mail, relayhost: str) -> None:
    mx = {"dest.example": {"MX": [f"10 {NOC}."]}}
    addresses = {name: entry for name, entry in mail.world.zone.items() if "A" in entry}
    mail.world.publish(addresses | mx)
    with mail.client(MAIN, relayhost=relayhost) as client:
        mail.agent(static=None, more=LISTEN)
        mail.roam(TORONTO, "")
        subject = "relayhost" if relayhost else "direct"
        send(client, subject)
        mail.arrives(subject, VERTEX if relayhost else NOC)


def test_the_agent_stops_at_once_while_postfix_is_connected_and_mail_is_held(mail: Mail, client: Postfix) -> None:
    agent = mail.agent(more=LISTEN)
    mail.roam(TORONTO, NOC)
    send(client, "running")
    mail.arrives("running", NOC)
    until(lambda: connections(mail), bool)
    before = time.monotonic()
    assert agent.end() == 0
    assert time.monotonic() - before < SLOW

    send(client, "dead")  # by sendmail: queued
    held(client, "address resolver failure")
    with mail.world.host.inside(), smtplib.SMTP("127.0.0.1") as session:  # by SMTP: later, please
        session.ehlo()
        session.mail("me@client.example")
        code, text = session.rcpt("dead-too@dest.example")
        assert (code, text.startswith(b"4.3.0")) == (451, True)
    client.send("me@client.example", text="own")  # for the machine itself: as ever
    client.until(client.received, "mail for the machine itself")

    mail.agent(more=LISTEN)
    mail.world.wait_for_best(NOC)
    client.flush()
    mail.arrives("dead", NOC)
    assert not client.queue()


def test_the_line_taken_out_lets_held_mail_go(mail: Mail) -> None:
    mail.world.join(TORONTO)
    with mail.client(MAIN, relayhost=f"[{RELAYS[VERTEX]}]") as client:
        send(client, "without")
        held(client, "address resolver failure")
        commands(client, "postfix/without")
        mail.arrives("without", VERTEX)


def test_postfix_takes_the_settings_for_held_mail(mail: Mail) -> None:
    with mail.client(MAIN + document("postfix/held.cf")) as client:
        said = client.command("postconf", "-n", "maximal_backoff_time", "delay_warning_time")
        assert said == document("postfix/held.cf")
        assert "warning" not in client.log


def test_d10_a_relay_on_port_465_by_the_map_transport(mail: Mail, tmp_path: Path) -> None:
    certificate = Ca(tmp_path).issue(HOME)
    with (
        Postfix(
            mail.world.far, HOME, certificate=certificate, receives=["dest.example"], relays_for=["0.0.0.0/0"],
            master=[SMTPS], main={"inet_interfaces": RELAYS[HOME]},
        ) as home,
        Postfix(
            mail.world.host, "client.example", master=document("postfix/master.cf").splitlines(),
            main={"inet_interfaces": "loopback-only", "smtp_dns_support_level": "enabled", "smtp_host_lookup": "dns"}
            | dict([document("postfix/transport.cf").strip().split(" = ", 1)]), port=0,
        ) as client,
    ):  # fmt: skip
        zone = mail.world.zone
        mail.world.publish({name: entry for name, entry in zone.items() if "MX" not in entry})
        mail.agent(static=f"{HOME}:465", more=LISTEN)
        mail.world.join(TORONTO)
        until(lambda: mail.world.best, lambda best: best == f"{HOME}:465")
        shown = client.command("postmap", "-q", "x", document("postfix/transport.cf").split()[-1])
        assert shown == f"smtps:[{HOME}]:465\n"
        send(client, "inside")
        home.until(home.received, "mail inside TLS")
        assert "TLS connection established from" in home.log
        mail.world.publish(zone)
        mail.roam(PARIS, VERTEX)
        send(client, "outside")
        mail.arrives("outside", VERTEX)


OWN = "smtp.home.example"


def test_a_password_goes_to_its_own_relay_and_to_no_relay_of_a_guest_network(mail: Mail, tmp_path: Path) -> None:
    """Both relays are real, and both ask for a password."""
    ca = Ca(tmp_path)
    certificate, directory = ca.issue(OWN), Path(tempfile.mkdtemp(prefix="salsa-sasl-"))
    directory.chmod(0o755)
    main = dict(line.split(" = ", 1) for line in document("postfix/password.cf").splitlines())
    main["smtp_tls_CAfile"] = str(ca.file)
    name, _, password = main["smtp_sasl_password_maps"].partition("587 = ")[2].strip("} ").partition(":")
    sasl = {"smtpd_sasl_auth_enable": "yes", "smtpd_sasl_type": "dovecot", "smtpd_tls_auth_only": "no"}
    zone = mail.world.zone
    guest = mail.relays[NOC]
    with (
        PasswordService(directory / "home", name, password) as of_home,
        PasswordService(directory / "guest", name, password) as of_guest,
        Postfix(
            mail.world.far, OWN, port=587, certificate=certificate, receives=["other.example"], relays_for=[],
            main=sasl | {
                "inet_interfaces": RELAYS[HOME], "relayhost": f"[{RELAYS[VERTEX]}]",
                "smtpd_sasl_path": str(of_home.path), "smtpd_relay_restrictions": "permit_sasl_authenticated, reject",
            },
        ) as home,
        mail.client(MAIN, **main) as client,
    ):  # fmt: skip
        guest.configure(**sasl, smtpd_sasl_path=str(of_guest.path))
        guest.reload()
        addresses = {key: entry for key, entry in zone.items() if "MX" not in entry}
        mail.world.publish(addresses | {OWN: {"A": [RELAYS[HOME]]}})
        mail.agent(static=f"{OWN}:587", more=LISTEN)
        mail.world.join(PARIS)
        until(lambda: mail.world.best, lambda best: best == f"{OWN}:587")
        assert answer(client) == f"[{OWN}]:587"
        send(client, "with password")
        home.until(lambda: f"sasl_username={name}" in home.log, "a letter with a password")
        assert set(of_home.sent) == {(name, password)}
        mail.world.publish(zone | {OWN: {"A": [RELAYS[HOME]]}})
        mail.roam(TORONTO, NOC)
        send(client, "at the guest's")
        mail.arrives("at the guest's", NOC)
        with mail.world.host.inside(), smtplib.SMTP(RELAYS[NOC]) as session:
            session.ehlo()
            assert "PLAIN" in session.esmtp_features["auth"], "it would have taken one"
        assert of_guest.sent == []
        assert "sasl" not in guest.log
        guest.configure(smtpd_sasl_auth_enable="no")
        guest.reload()
    shutil.rmtree(directory)


def test_c11_the_document_gives_a_sender_its_own_relay() -> None:
    found = config.parse(document("postfix/sender.toml").encode(), {})
    assert [f"[{key.host}]:{key.port}" for key in found.senders[0].relays if isinstance(key, RelayKey)] == [
        f"[{OWN}]:587"
    ]
    assert f"[{OWN}]:587 = " in document("postfix/password.cf")


def test_a_unix_socket_in_the_chroot(mail: Mail) -> None:
    with mail.client(document("postfix/socket.cf")) as client:
        client.command("postconf", "-F", "rewrite/unix/chroot=y")
        client.reload()
        queue = client.directory / "queue"
        *install, directory = document("postfix/socket").replace("-o salsa-agent ", "").split()
        inside = queue / Path(directory).relative_to("/var/spool/postfix")
        subprocess.run([*install, inside], check=True)
        assert [enters(NOBODY, there) for there in (queue, inside)] == [True, False]
        mail.agent(more=document("postfix/socket.toml").replace("/var/spool/postfix", str(queue)))
        mail.roam(TORONTO, NOC)
        assert (inside / "relay").stat().st_mode & 0o777 == 0o666
        send(client, "chroot-1")
        mail.arrives("chroot-1", NOC)
        mail.roam(PARIS, VERTEX)
        send(client, "chroot-2")
        mail.arrives("chroot-2", VERTEX)
        assert chrooted(client) == str(queue)
        client.command("postfix", "check")
        assert "warning" not in client.log


def enters(uid: int, directory: Path) -> bool:
    """Whether this user, of no group of interest, may enter this directory."""
    command = ["setpriv", f"--reuid={uid}", f"--regid={uid}", "--clear-groups", "test", "-x", str(directory)]
    return subprocess.run(command, check=False).returncode == 0


def chrooted(client: Postfix) -> str:
    """The root directory of the process that asks."""
    master = (client.directory / "queue" / "pid" / "master.pid").read_text().strip()
    found = subprocess.run(["pgrep", "-P", master, "-x", "trivial-rewrite"], capture_output=True, text=True, check=True)
    return str(Path(f"/proc/{found.stdout.split()[0]}/root").readlink())


@pytest.mark.parametrize("literal", [RELAYS[VERTEX], V6])
def test_a_relay_that_is_an_address(mail: Mail, client: Postfix, literal: str) -> None:
    mail.world.publish({})
    mail.world.join(TORONTO)
    mail.world.host.batch([f"addr add {V6_HOST}/64 dev up0 nodad", f"route replace {V6} via {V6_GATEWAY}"])
    mail.agent(static=literal, more=LISTEN)
    mail.world.wait_for_best(literal)
    bracketed = f"[{literal}]:25"
    assert client.command("postmap", "-q", "x", MAIN.split()[-1]).strip() == bracketed
    subject = "v6" if ":" in literal else "v4"
    send(client, subject)
    mail.arrives(subject, VERTEX)
    assert f"relay={literal}[{literal}]:25" in client.log


def test_the_document_says_what_postmap_shows(mail: Mail, client: Postfix) -> None:
    agent: Process = mail.agent(more=LISTEN)
    mail.roam(TORONTO, NOC)
    shown = client.command("postmap", "-q", "x", "socketmap:inet:127.0.0.1:8462:relay").strip()
    assert shown.split(", ")[0] == f"[{NOC}]:25"  # then the static one, until it is known to have failed
    assert agent.end() == 0
