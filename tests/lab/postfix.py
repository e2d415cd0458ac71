"""A real Postfix instance of its own: configuration, queue and log in a directory that goes with it; in a namespace.

Needs root and Debian's postfix, which may be installed but need not run. Receives into `mailbox`, sends by `send`.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.lab.ca import Certificate
from tests.lab.needs import Need, require
from tests.lab.netns import Netns

PATIENCE = 30.0
# a line of `master`: a port 465 (RFC 8314 section 3.3) next to `port`; it needs a `certificate`
SMTPS = "465 inet n - n - - smtpd -o smtpd_tls_wrappermode=yes -o smtpd_tls_security_level=encrypt"
MASTER = Path("/usr/share/postfix/master.cf.dist")
_CHROOT = re.compile(r"^([a-z0-9-]+ +(?:unix|inet|pass|fifo) +[^ ]+ +[^ ]+ +)y", re.MULTILINE)
_UNWANTED = re.compile(r"^(smtp +inet|#?postlog) .*\n", re.MULTILINE)


class Postfix:
    """`with` it runs. `main`: more of main.cf, which stands over what is here; `master`: more lines of master.cf.

    `port` 0: it only sends. It takes mail for the domains `receives` into `mailbox` (a Maildir), and from the networks
    `relays_for` for everyone.
    """

    def __init__(
        self,
        space: Netns,
        hostname: str,
        *,
        port: int = 25,
        certificate: Certificate | None = None,
        receives: Sequence[str] = (),
        relays_for: Sequence[str] = ("127.0.0.0/8", "[::1]/128"),
        main: Mapping[str, str] | None = None,
        master: Sequence[str] = (),
    ) -> None:
        self._space = space
        self.directory = Path(tempfile.mkdtemp(prefix="salsa-postfix-"))
        self.config = self.directory / "etc"
        self.log_file = self.directory / "mail.log"
        self.mailbox = self.directory / "mail" / "all"
        settings = {
            "compatibility_level": "3.6",
            "multi_instance_enable": "yes",
            "multi_instance_name": f"postfix-{self.directory.name}",
            "queue_directory": str(self.directory / "queue"),
            "data_directory": str(self.directory / "lib"),
            "maillog_file": str(self.log_file),
            "maillog_file_prefixes": str(self.directory),
            "myhostname": hostname,
            "mydestination": "",
            "mynetworks": " ".join(relays_for),
            "inet_interfaces": "all",
            "inet_protocols": "all",
            "alias_maps": "",
            "alias_database": "",
            "local_recipient_maps": "",
            "biff": "no",
            "smtputf8_enable": "no",
            "smtp_dns_support_level": "disabled",  # there is no resolver in a namespace
            "smtp_host_lookup": "native",
            "smtpd_peername_lookup": "no",
            "smtpd_relay_restrictions": "permit_mynetworks, reject_unauth_destination",
            "virtual_mailbox_base": str(self.directory / "mail"),
            "virtual_mailbox_domains": " ".join(receives),
            "virtual_mailbox_maps": "static:all/",
            "virtual_uid_maps": "static:65534",
            "virtual_gid_maps": "static:65534",
        }
        if certificate:
            settings |= {
                "smtpd_tls_chain_files": f"{certificate.key}, {certificate.file}",
                "smtpd_tls_security_level": "may",
                "smtpd_tls_loglevel": "1",
            }
        self._main = settings | dict(main or {})
        self._master = [*master]
        if port:
            self._master.append(f"{port} inet n - n - - smtpd")

    def __enter__(self) -> Self:
        require(Need.USERS)
        try:
            self._write()
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Stop it and remove all of it. Twice does no harm."""
        with suppress(RuntimeError):  # it may not run
            self.stop()
        shutil.rmtree(self.directory, ignore_errors=True)

    def _write(self) -> None:
        self.directory.chmod(0o755)
        for name in ("etc", "queue", "lib", "mail"):
            (self.directory / name).mkdir()
        shutil.chown(self.directory / "lib", "postfix")
        shutil.chown(self.directory / "mail", "nobody")
        (self.config / "main.cf").write_text("".join(f"{key} = {value}\n" for key, value in self._main.items()))
        master = _UNWANTED.sub("", _CHROOT.sub(r"\1n", MASTER.read_text()))
        lines = ["postlog unix-dgram n - n - 1 postlogd", *self._master]
        (self.config / "master.cf").write_text(master + "".join(f"{line}\n" for line in lines))

    def configure(self, **settings: str) -> None:
        """Change main.cf; `reload` makes it known."""
        self._run("postconf", "-c", str(self.config), "-e", *(f"{key}={value}" for key, value in settings.items()))

    def start(self) -> None:
        """Start it, and return when it listens."""
        self._settled("start")

    def reload(self) -> None:
        """Have it read its configuration again."""
        self._settled("reload")

    def stop(self) -> None:
        self._run("postfix", "-c", str(self.config), "stop")

    def _settled(self, command: str) -> None:
        """Postfix waits until its files are two seconds old; so they are made older."""
        old = time.time() - 30
        for path in self.config.iterdir():
            subprocess.run(["touch", "-d", f"@{old:.0f}", path], check=True, timeout=10)
        self._run("postfix", "-c", str(self.config), command)

    def command(self, name: str, *arguments: str) -> str:
        """Run one of Postfix's commands for this instance; what it printed."""
        if (name, *arguments) == ("postfix", "reload"):
            self.reload()
            return ""
        return self._run(name, "-c", str(self.config), *arguments)

    def flush(self) -> None:
        """Try to deliver all that is queued, now."""
        self._run("postqueue", "-c", str(self.config), "-f")

    def send(self, recipient: str, *, sender: str = "me@client.example", text: str = "hello") -> None:
        """Hand over a message as a local program does."""
        message = f"From: <{sender}>\nTo: <{recipient}>\nSubject: {text}\n\n{text}\n"
        self._space.run(["sendmail", "-C", str(self.config), "-f", sender, recipient], input=message)

    def queue(self) -> list[str]:
        """What is queued, one line of JSON each, as postqueue(1) -j gives it."""
        return self._run("postqueue", "-c", str(self.config), "-j").splitlines()

    def received(self) -> list[str]:
        """The messages that arrived."""
        return [path.read_text() for path in sorted((self.mailbox / "new").glob("*"))]

    @property
    def log(self) -> str:
        return self.log_file.read_text() if self.log_file.exists() else ""

    def until(self, condition: Callable[[], object], what: str = "it") -> None:
        """Wait for it (blocking); the log is in the error if it never comes."""
        end = time.monotonic() + PATIENCE
        while not condition():
            if time.monotonic() > end:
                raise AssertionError(f"{what} never came; the log:\n{self.log}")
            time.sleep(0.02)

    def _run(self, *argv: str) -> str:
        return self._space.run(argv)
