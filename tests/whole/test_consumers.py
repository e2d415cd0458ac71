"""Mail programs follow the network by the files and by `salsactl watch --exec`: the recipes of docs/consumers.md, run.

Each program is the real one of Debian, laid over this machine's files (tests/lab/unpacked.py); the relays are Postfix.
"""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.lab.bus import PROJECT
from tests.lab.ca import Ca
from tests.lab.mail import DOCUMENT, PARIS, TORONTO, Mail, document
from tests.lab.postfix import SMTPS, Postfix
from tests.lab.unpacked import Unpacked
from tests.lab.whole import HOME, NOC, RELAYS, VERTEX, until

SALSACTL = f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m salsa_agent.cli.salsactl.main "$@"\n'
EX_IOERR = 74  # sysexits.h


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


@contextmanager
def program(mail: Mail, package: str, *users: str) -> Iterator[Unpacked]:
    """A mail program on the host, which sees the relay files where the document says."""
    with Unpacked(mail.world.host, package, users=users, shared={"/run/salsa-agent": mail.output}) as inside:
        inside.write("/etc/mailname", "client.example\n")
        inside.write("/usr/bin/salsactl", SALSACTL, 0o755)
        yield inside


def message(subject: str) -> str:
    return f"From: <me@client.example>\nTo: <you@dest.example>\nSubject: {subject}\n\nhello\n"


def watch(mail: Mail, inside: Unpacked, script: str, known: Callable[[], bool]) -> None:
    """Run the service with this script, until the program knows the relay of Toronto."""
    inside.write("/usr/local/sbin/salsa-relay", document(script), 0o755)
    execute = document("salsa-relay.service").partition("ExecStart=")[2].partition("\n")[0]
    mail.start(inside.argv(*shlex.split(execute)))
    until(known, bool)


def follows(
    mail: Mail,
    package: str,
    send: Callable[[str], object],
    *,
    held: Callable[[], object] = lambda: True,
    flush: Callable[[], object] = lambda: None,
) -> None:
    """Send in Toronto, on the way, and in Paris, by a program that queues.

    `held`: whether the second message has been tried in vain; `flush`: have it tried again, where the recipe does not.
    """
    send(package)
    mail.arrives(package, NOC)
    mail.world.leave()
    send(f"{package}, queued")
    until(held, bool)
    mail.world.join(PARIS)
    mail.world.wait_for_best(VERTEX)
    flush()
    mail.arrives(f"{package}, queued", VERTEX)
    send(f"{package}, later")
    mail.arrives(f"{package}, later", VERTEX)


# --- by the files


def test_msmtp(mail: Mail) -> None:
    with program(mail, "msmtp") as inside:
        inside.write("/etc/msmtprc", document("msmtprc"))
        user = ("setpriv", "--reuid", "nobody", "--clear-groups")
        inside.run(*user, "msmtp", "you@dest.example", input=message("msmtp"))
        mail.arrives("msmtp", NOC)
        mail.roam(PARIS, VERTEX)
        inside.run(*user, "msmtp", "you@dest.example", input=message("msmtp, later"))
        mail.arrives("msmtp, later", VERTEX)

        def chosen(sender: str) -> dict[str, str]:
            """The settings that msmtp would use for this envelope sender; nothing is sent."""
            done = inside.run("msmtp", "--pretend", "-f", sender, "you@dest.example", input=message("x"))
            return dict(line.strip().split(" = ", 1) for line in done.stdout.splitlines() if " = " in line)

        inside.write("/etc/msmtprc", document("msmtprc-own") + document("msmtprc"))
        inside.run("sh", "-c", "umask 077; echo secret >~/.password")
        own, other = chosen("me@home.example"), chosen("me@client.example")
        assert (own["host"], own["port"], own["tls"]) == ("smtp.home.example", "587", "on")
        assert (other["host"], other["tls"], other["auth"]) == (VERTEX, "off", "none")
        (mail.output / "relay.env").write_text(
            "SALSA_HOST=a.example\nSALSA_PORT=465\nSALSA_SOURCE=dns\nSALSA_TLS=implicit\n"
        )
        inside_tls = chosen("me@client.example")
        assert (inside_tls["tls"], inside_tls["tls_starttls"], inside_tls["port"]) == ("on", "off", "465")

        mail.reset()
        done = inside.run("msmtp", "you@dest.example", input=message("msmtp, no agent"), check=False)
        assert (done.returncode, "/run/salsa-agent/relay.env" in done.stderr) == (EX_IOERR, True)
        mail.agent(static=None)
        until(lambda: (mail.output / "relay.env").exists(), bool)
        done = inside.run("msmtp", "you@dest.example", input=message("msmtp, no relay"), check=False)
        assert (done.returncode, "there is no relay" in done.stderr) == (EX_IOERR, True)


def test_msmtp_runs_nothing_that_is_in_the_file(networks: Mail) -> None:
    """The files are the service user's; msmtp reads them as whoever sends, root too."""
    with program(networks, "msmtp") as inside:
        inside.write("/etc/msmtprc", document("msmtprc"))
        env = networks.output / "relay.env"
        try:
            evil = "touch /run/salsa-agent/evil"
            for text in (f"$({evil})", f"x; {evil}", f"`{evil}`"):
                env.write_text(f"{evil}\nSALSA_HOST={text}\nSALSA_PORT={text}\nSALSA_TLS={text}\n")
                inside.run("msmtp", "--pretend", "you@dest.example", input=message("x"), check=False)
                assert [path.name for path in networks.output.iterdir()] == ["relay.env"]
        finally:
            for path in networks.output.iterdir():
                path.unlink()


@contextmanager
def exim(mail: Mail) -> Iterator[Unpacked]:
    """Exim with the document's recipe, as Debian's installation asks for a site that sends and receives by itself."""
    with program(mail, "exim4-daemon-light", "Debian-exim") as inside:
        inside.write("/etc/exim4/conf.d/router/175_salsa", document("exim/router"))
        inside.write("/etc/exim4/conf.d/transport/35_salsa", document("exim/transport"))
        inside.write(
            "/etc/exim4/update-exim4.conf.conf",
            "dc_eximconfig_configtype='internet'\ndc_other_hostnames='client.example'\n"
            "dc_local_interfaces='127.0.0.1'\ndc_use_split_config='true'\ndc_localdelivery='mail_spool'\n",
        )
        for directory in ("/var/spool/exim4", "/var/log/exim4", "/run/exim4"):
            inside.run("install", "-d", "-o", "Debian-exim", "-g", "Debian-exim", directory)
        inside.run("update-exim4.conf")
        yield inside


def exim_route(inside: Unpacked) -> str:
    """What Exim would do with a message; nothing is sent."""
    done = inside.run("exim4", "-bt", "you@dest.example", check=False)
    return done.stdout + done.stderr


def test_exim(mail: Mail) -> None:
    with exim(mail) as inside:

        def send(subject: str) -> None:
            inside.run("exim4", "-odi", "you@dest.example", input=message(subject))

        follows(mail, "exim", send, flush=lambda: inside.run("exim4", "-qff"))

        mail.roam(TORONTO, NOC)
        mail.relays[NOC].stop()  # after the agent has said that it is the best
        send("exim, next relay")
        mail.arrives("exim, next relay", VERTEX)
        assert (mail.output / "relay").read_text() == f"{NOC}:25\n", "no new answer was needed"
        mail.relays[NOC].start()

        (mail.output / "relays").write_text("[2001:db8::1]:587\n192.0.2.9:25\n")
        assert re.search(
            r"host 2001:db8::1 +\[2001:db8::1\] port=587\n.*host 192.0.2.9 .*port=25", exim_route(inside), re.DOTALL
        )
        (mail.output / "relays").write_text("")  # no relay: by MX
        assert "dnslookup" in exim_route(inside)
        mail.reset()
        assert "cannot be resolved at this time" in exim_route(inside)  # no agent: held
        send("exim, no agent")
        assert "you@dest.example" in inside.run("exim4", "-bp").stdout
        mail.agent()
        mail.roam(TORONTO, NOC)
        inside.run("exim4", "-qff")
        mail.arrives("exim, no agent", NOC)


def test_d10_exim_and_a_relay_on_port_465(mail: Mail, tmp_path: Path) -> None:
    mail.reset()  # another agent and another zone
    certificate = Ca(tmp_path).issue(HOME)
    with (
        Postfix(
            mail.world.far, HOME, certificate=certificate, receives=["dest.example"], relays_for=["0.0.0.0/0"],
            master=[SMTPS], main={"inet_interfaces": RELAYS[HOME]},
        ) as home,
        exim(mail) as inside,
    ):  # fmt: skip
        zone = mail.world.zone
        mail.world.publish({name: entry for name, entry in zone.items() if "MX" not in entry})
        mail.agent(static=f"{HOME}:465")
        mail.world.join(TORONTO)
        until(lambda: mail.world.best, lambda best: best == f"{HOME}:465")
        inside.run("exim4", "-odi", "you@dest.example", input=message("exim, inside TLS"))
        home.until(home.received, "mail inside TLS")
        assert "Subject: exim, inside TLS" in home.received()[0]
        assert "TLS connection established from" in home.log
        mail.world.publish(zone)
        mail.roam(PARIS, VERTEX)
        until((mail.output / "relays").read_text, lambda seen: seen == f"{VERTEX}:25\n{HOME}:465\n")
        assert HOME not in exim_route(inside), "one transport cannot speak to both"
        inside.run("exim4", "-odi", "you@dest.example", input=message("exim, outside TLS"))
        mail.arrives("exim, outside TLS", VERTEX)
        assert len(home.received()) == 1
        # a relay that does not speak TLS though it was said to: the next one, and nothing in plain text
        env = mail.output / "relay.env"
        env.write_text(env.read_text().partition("SALSA_TLS=")[0] + "SALSA_TLS=implicit\n")
        inside.run("exim4", "-odi", "you@dest.example", input=message("exim, next relay in TLS"))
        home.until(lambda: len(home.received()) == 2, "mail by the next relay")
        assert "exim, next relay in TLS" not in mail.subjects(VERTEX)


@pytest.fixture
def idle_exim(networks: Mail) -> Iterator[Unpacked]:
    """An Exim that is only asked; no agent runs, the test writes the files."""
    with exim(networks) as inside:
        yield inside
    for path in networks.output.iterdir():
        path.unlink()


@pytest.mark.parametrize(
    ("tls", "relays", "transport", "hosts"),
    [
        ("implicit", "192.0.2.1:465 192.0.2.2:25 [2001:db8::3]:465 192.0.2.4:2465", "smtps_relay", "1:465 3:465"),
        ("implicit", "192.0.2.1:2465 192.0.2.2:465", "smtps_relay", "1:2465 2:465"),  # by the SRV record `submissions`
        ("starttls", "192.0.2.1:587 192.0.2.2:465 [2001:db8::3]:25", "remote_smtp", "1:587 3:25"),
        ("none", "192.0.2.1:25", "remote_smtp", "1:25"),
        ("", "[2001:db8::1]:25 192.0.2.2:4465", "remote_smtp", "1:25 2:4465"),
    ],
)  # fmt: skip
def test_d10_exim_speaks_to_all_relays_as_to_the_first(
    networks: Mail, idle_exim: Unpacked, tls: str, relays: str, transport: str, hosts: str
) -> None:
    (networks.output / "relays").write_text("".join(f"{relay}\n" for relay in relays.split()))
    (networks.output / "relay.env").write_text(f"SALSA_HOST=x\nSALSA_PORT=1\nSALSA_SOURCE=dns\nSALSA_TLS={tls}\n")
    shown = exim_route(idle_exim)
    assert f"transport = {transport}\n" in shown
    assert " ".join(f"{last}:{port}" for last, port in re.findall(r"(\d)\] .*port=(\d+)", shown)) == hosts


def test_d10_exim_holds_the_mail_when_relay_env_is_missing(networks: Mail, idle_exim: Unpacked) -> None:
    (networks.output / "relays").write_text("192.0.2.1:25\n")
    assert "cannot be resolved at this time" in exim_route(idle_exim)
    idle_exim.run("exim4", "-odi", "you@dest.example", input=message("exim, no relay.env"))
    queued = idle_exim.run("exim4", "-bp").stdout
    assert ("you@dest.example" in queued, "frozen" in queued) == (True, False)


@pytest.mark.parametrize("text", ["${run{/bin/touch /run/salsa-agent/evil}}", "a.example:25 evil", "$item"])
def test_exim_expands_nothing_of_the_files(networks: Mail, idle_exim: Unpacked, text: str) -> None:
    """The agent writes no such text; the recipe holds if something else does."""
    (networks.output / "relays").write_text(f"192.0.2.1:25\n{text}\n")
    (networks.output / "relay.env").write_text(f"SALSA_HOST={text}\nSALSA_TLS={text}\n")
    shown = exim_route(idle_exim)
    assert "smtps_relay" not in shown
    assert not (networks.output / "evil").exists()


# --- by `salsactl watch --exec`


def test_nullmailer(mail: Mail) -> None:
    with program(mail, "nullmailer") as inside:
        spool, remotes = "/var/spool/nullmailer", inside.path("/etc/nullmailer/remotes")
        inside.run("mkfifo", "-m", "622", f"{spool}/trigger")  # by systemd-tmpfiles else
        inside.run("chown", "mail", f"{spool}/trigger")
        inside.write("/etc/nullmailer/remotes", "")
        sender = mail.start(
            inside.argv(
                *("setpriv", "--reuid", "mail", "--regid", "mail", "--clear-groups"),
                *("sh", "-c", f"cd {spool} && exec nullmailer-send"),
            )
        )
        watch(mail, inside, "nullmailer/salsa-relay", lambda: NOC in remotes.read_text())
        follows(
            mail,
            "nullmailer",
            lambda subject: inside.run("nullmailer-inject", "you@dest.example", input=message(subject)),
            # else it might still be at it in Paris, where the relay of Toronto refuses for good
            held=lambda: "1 message(s) remain" in sender.out + sender.log,
        )
        inside.run("env", "SALSA_HOST=a.example", "SALSA_PORT=465", "SALSA_TLS=implicit", "/usr/local/sbin/salsa-relay")
        assert remotes.read_text() == "a.example smtp port=465 ssl\n"
        inside.run("env", "SALSA_HOST=", "SALSA_PORT=0", "/usr/local/sbin/salsa-relay")
        assert remotes.read_text() == ""


def test_dma(mail: Mail) -> None:
    with program(mail, "dma") as inside:
        config = inside.path("/etc/dma/dma.conf")
        inside.run("install", "-m", "640", "-g", "mail", "/usr/share/dma/dma.conf", "/etc/dma/dma.conf")
        before = config.read_text()
        watch(mail, inside, "dma/salsa-relay", lambda: f"SMARTHOST {NOC}\nPORT 25\n" in config.read_text())

        def held() -> bool:
            """No recipe runs, and dma sleeps after its try: else it might be at it, and be ended, when Paris comes."""
            running = [line.split() for line in inside.run("ps", "-eo", "comm=,wchan:32=").stdout.splitlines()]
            waits = {wait for name, wait in running if name == "dma"}
            return waits == {"hrtimer_nanosleep"} and "salsa-relay" not in dict(running)

        follows(
            mail,
            "dma",
            lambda subject: inside.run("dma", "-f", "me@client.example", "you@dest.example", input=message(subject)),
            held=held,
        )
        assert (config.stat().st_mode & 0o777, config.group()) == (0o640, "mail")
        inside.run("env", "SALSA_HOST=a.example", "SALSA_PORT=465", "SALSA_TLS=implicit", "/usr/local/sbin/salsa-relay")
        assert config.read_text().startswith("SECURETRANSFER\nSMARTHOST a.example\nPORT 465\n")
        # A session of its own in there: ours is not seen, and told as 0.
        caller = ("setsid", "--wait", "sh", "-c", "dma you@dest.example; exit $?")
        with subprocess.Popen(inside.argv(*caller), stdin=subprocess.PIPE, text=True) as taking:
            until(lambda: inside.run("pgrep", "-x", "dma", check=False).returncode, lambda status: status == 0)
            inside.run("env", "SALSA_HOST=", "SALSA_PORT=0", "/usr/local/sbin/salsa-relay")
            assert taking.poll() is None, "the recipe has ended a dma that was being handed a message"
            taking.communicate(message("dma, handed over slowly"))
        assert taking.returncode == 0
        assert config.read_text() == before


def test_opensmtpd(mail: Mail) -> None:
    with program(mail, "opensmtpd", "opensmtpd", "opensmtpq") as inside:
        # as Debian's installer writes it, so that localhost is 127.0.0.1 twice for a host without an IPv6 address
        inside.write("/etc/hosts", "127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\n")
        inside.write("/etc/smtpd.conf", document("opensmtpd/smtpd.conf"))
        inside.run("install", "-d", "-m", "711", "/var/spool/smtpd")
        inside.run("chgrp", "opensmtpq", "/usr/sbin/smtpctl")
        inside.run("chmod", "2755", "/usr/sbin/smtpctl")
        # There is no systemd in here: what the real one does for this unit.
        inside.write(
            "/usr/bin/systemctl",
            '#!/bin/sh\n[ "$*" = "restart opensmtpd" ] || exit 1\npkill -x smtpd\n'
            "while pgrep -x smtpd >/dev/null; do sleep 0.05; done\nexec smtpd\n",
            0o755,
        )
        config = inside.path("/etc/smtpd-relay.conf")
        watch(
            mail,
            inside,
            "opensmtpd/salsa-relay",
            lambda: (
                config.exists()
                and NOC in config.read_text()
                and inside.run("smtpctl", "show", "status", check=False).returncode == 0
            ),
        )
        follows(
            mail,
            "opensmtpd",
            lambda subject: inside.run(
                "sendmail", "-f", "me@client.example", "you@dest.example", input=message(subject)
            ),
            held=lambda: re.search(r"\|pending\|\d+\|.", inside.run("mailq", check=False).stdout),
        )
        for host, port, tls in (("2001:db8::1", "587", "none"), ("a.example", "465", "implicit"), ("", "0", "")):
            said = (f"SALSA_HOST={host}", f"SALSA_PORT={port}", f"SALSA_TLS={tls}")
            inside.run("env", *said, "/usr/local/sbin/salsa-relay")
            assert ("smtps://a.example:465" in config.read_text()) == (tls == "implicit")
            assert "configuration OK" in inside.run("smtpd", "-n").stderr


# --- the files themselves, by the whole agent


def test_the_files_are_for_everyone_and_removed_at_the_stop(mail: Mail) -> None:
    files = {path.name: path.read_text() for path in mail.output.iterdir()}
    assert files["relay"] == f"{NOC}:25\n"
    assert files["relays"].startswith(f"{NOC}:25\n")
    said = json.loads(files["relay.json"])
    assert files["relay.env"] == f"SALSA_HOST={NOC}\nSALSA_PORT=25\nSALSA_SOURCE=dns\nSALSA_TLS={said['tls']}\n"
    assert (said["state"] in ("ready", "degraded"), said["senders"]) == (True, [])
    assert {key: said[key] for key in ("host", "port", "source", "verdict")} == {
        "host": NOC, "port": 25, "source": "dns", "verdict": "ok",
    }  # fmt: skip
    assert {path.stat().st_mode & 0o7777 for path in mail.output.iterdir()} == {0o644}
    script = document("script").replace("/run/salsa-agent", str(mail.output))
    as_nobody = ["setpriv", "--reuid", "nobody", "--clear-groups", "sh", "-c", script]
    shown = subprocess.run(as_nobody, capture_output=True, text=True, check=True, timeout=30).stdout
    assert shown == f"mail goes to {NOC} now\n"
    mail.reset()
    assert list(mail.output.iterdir()) == []


@pytest.fixture
def disk(networks: Mail) -> Iterator[Path]:
    """The directory of the relay files is a disk of four pages."""
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16k,mode=755", "tmpfs", networks.output], check=True)
    try:
        yield networks.output
    finally:
        networks.reset()
        subprocess.run(["umount", networks.output], check=True)


def test_a_full_disk_is_a_warning_and_no_end(networks: Mail, disk: Path) -> None:
    filler = disk / "filler"
    with filler.open("wb", buffering=0) as file, pytest.raises(OSError, match="No space left"):
        while True:
            file.write(bytes(4096))
    agent = networks.agent()
    networks.roam(TORONTO, NOC)  # the bus says so
    agent.wait_for("cannot be written: No space left on device")
    assert [path.name for path in disk.iterdir()] == ["filler"]
    filler.unlink()
    networks.roam(PARIS, VERTEX)
    until(lambda: (disk / "relay").exists() and (disk / "relay").read_text(), lambda seen: seen == f"{VERTEX}:25\n")
    assert agent.end() == 0
    assert list(disk.iterdir()) == []


def test_a_read_only_directory_is_a_warning_and_no_end(networks: Mail, disk: Path) -> None:
    subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
    agent = networks.agent()
    networks.roam(TORONTO, NOC)
    agent.wait_for("cannot be written: Read-only file system")
    networks.roam(PARIS, VERTEX)
    assert agent.log.count("cannot be written") == 1
    assert agent.end() == 0


# --- the document


@pytest.mark.parametrize("directory", ["/usr/bin", "/usr/local/bin"])  # of the package, and of ./run install
def test_systemd_takes_the_units_and_the_drop_in(networks: Mail, directory: str) -> None:
    with program(networks, "nullmailer") as inside:
        inside.run("rm", "/usr/bin/salsactl")
        inside.write(f"{directory}/salsactl", SALSACTL, 0o755)
        inside.write("/usr/local/sbin/salsa-relay", document("nullmailer/salsa-relay"), 0o755)
        inside.write("/usr/bin/salsa-agent", "#!/bin/sh\n", 0o755)
        unit = (PROJECT / "systemd" / "salsa-agent.service").read_text()
        inside.write("/run/systemd/system/salsa-agent.service", unit)
        inside.write("/etc/systemd/system/salsa-agent.service.d/postfix.conf", document("postfix/socket.conf"))
        for name in ("salsa-relay.service", "postfix/salsa-relay.service"):
            inside.write("/run/systemd/system/salsa-relay.service", document(name))
            units = [f"/run/systemd/system/{unit}.service" for unit in ("salsa-agent", "salsa-relay")]
            assert inside.run("systemd-analyze", "verify", "--man=no", *units).stderr == ""


def test_every_named_block_is_run() -> None:
    """A block that no test names is one that nobody has tried."""
    tests = "".join(path.read_text() for path in Path(__file__).parent.glob("test_consumer*.py"))
    names = [line.split()[1] for line in DOCUMENT.read_text().splitlines() if line.startswith("```") and " " in line]
    assert names
    assert [name for name in names if f'"{name}"' not in tests] == []
