"""One test letter to a relay, as a mail program would hand it over, without a password; each reply is kept."""

from __future__ import annotations

import contextlib
import re
import smtplib
import socket
import ssl
import threading
from dataclasses import dataclass, field, replace
from email.message import EmailMessage
from email.utils import formatdate, make_msgid
from typing import IO, Any, NamedTuple

from salsa_agent.core.admission import hostname_error
from salsa_agent.smtp import tls as contexts
from salsa_agent.text import sanitize

SECONDS = 60.0  # for each reply: some relays look at a letter while one waits
LONGEST = 150.0  # for everything, the look-up of the relay's name included
MAX_LINES = 100  # of one reply, as in rule D1
_MAX_LOCAL, _MAX_ADDRESS = 64, 320  # characters (RFC 5321 section 4.5.3.1)

_LOCAL = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+(\.[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+)*")  # dot-atom, RFC 5322
_QUEUE_IDS = (  # Postfix; Exim; Sendmail; qmail
    re.compile(r"\bqueued as ([!-~]+)", re.IGNORECASE),
    re.compile(r"\bid=([!-~]+)"),
    re.compile(r"([!-~]+) message accepted", re.IGNORECASE),
    re.compile(r"\bok (\d+ qp \d+)", re.IGNORECASE),
)


class Reply(NamedTuple):
    """What a relay said. `command`: what it was said to, such as `EHLO`; texts are printable ASCII."""

    command: str
    code: int
    text: str


@dataclass(slots=True)
class Outcome:
    """What came of it. `error`: why it was not accepted, one sentence; empty: it was. `notes`: on TLS."""

    accepted: bool = False
    queue_id: str = ""
    error: str = ""
    replies: list[Reply] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


class Transaction(NamedTuple):
    """One mail transaction (RFC 5321 section 3.3) that is to be: the relay, and the envelope.

    `tls` as in rule D10; STARTTLS is used where it is offered, whatever was seen. `sender`, `to`: addresses that
    `address_error` has nothing against.
    """

    host: str
    port: int
    tls: str
    sender: str
    to: str


def address_error(address: str) -> str:
    """Why this cannot be an address of a test letter; empty: it can. No quoting, no address literals, ASCII alone."""
    local, at, domain = address.rpartition("@")
    if not at or not _LOCAL.fullmatch(local) or len(local) > _MAX_LOCAL or len(address) > _MAX_ADDRESS:
        return "it is not of the form user@domain in ASCII"
    return "" if "." not in domain and _LOCAL.fullmatch(domain) else hostname_error(domain.lower())


def send(transaction: Transaction, *, longest: float = LONGEST) -> Outcome:
    """Hand a letter to the relay.

    A certificate that is not valid is told, and not in the way: nothing secret is sent. `longest`: seconds for all of
    it, however slowly the relay sends; what was said until then is in the outcome.
    """
    outcome = Outcome()
    # a thread that may be left behind: neither the look-up of a name nor a reply that drips in has an end of its own
    talk = threading.Thread(target=_talk, args=(transaction, outcome), daemon=True)
    talk.start()
    talk.join(longest)
    if not talk.is_alive():
        return outcome
    ended = replace(outcome, replies=list(outcome.replies), notes=list(outcome.notes))
    if not ended.accepted:
        after = ended.replies[-1].command if ended.replies else ""
        unknown = "; whether it has the letter is not known" if after == "DATA" else ""
        ended.error = f"it was not done in {longest:g} s{unknown}"
    return ended


def _talk(transaction: Transaction, outcome: Outcome) -> None:
    try:
        try:
            _converse(transaction, contexts.checked(), outcome)
        except ssl.SSLCertVerificationError as error:
            outcome.notes.append(f"its certificate is not valid: {sanitize(error.verify_message)}")
            outcome.replies.clear()
            _converse(transaction, contexts.unchecked(), outcome)
    except (smtplib.SMTPException, OSError, ValueError) as error:
        outcome.error = _text(error)


def _text(error: Exception) -> str:
    if isinstance(error, smtplib.SMTPResponseException):
        return f"it said {error.smtp_code}"
    if isinstance(error, TimeoutError):
        return f"no answer in {SECONDS:g} s"
    return sanitize((error.strerror if isinstance(error, OSError) else "") or str(error)) or type(error).__name__


class _Refused(smtplib.SMTPException):
    """The relay gave a reply that ends it."""


def _converse(transaction: Transaction, context: ssl.SSLContext, outcome: Outcome) -> None:
    host, port, tls, sender, to = transaction
    smtp = _Smtp(outcome.replies)
    try:
        if tls == "implicit":
            smtp.implicit_tls = context
        _want(smtp.connect(host, port), 220)
        smtp.ehlo_or_helo_if_needed()
        if tls != "implicit" and smtp.has_extn("starttls"):
            smtp.starttls(context=context)
            smtp.ehlo_or_helo_if_needed()
        elif tls == "starttls":
            raise _Refused("it does not offer STARTTLS any more: nothing was sent")
        elif tls != "implicit":
            outcome.notes.append("it does not offer STARTTLS: the letter goes in the clear")
        _want(smtp.mail(sender), 250)
        _want(smtp.rcpt(to), 250, 251)
        code, text = smtp.data(_letter(sender, to))
        _want((code, text), 250)
        outcome.accepted = True
        outcome.queue_id = queue_id(outcome.replies[-1].text)
        with contextlib.suppress(smtplib.SMTPException, OSError):  # it has taken the letter, whatever it says to QUIT
            smtp.quit()
    finally:
        smtp.close()


def _want(reply: tuple[int, bytes], *codes: int) -> None:
    code, text = reply
    if code not in codes:
        raise _Refused(f"it said {code} {sanitize(text.decode('utf-8', 'replace'))}")


def _letter(sender: str, to: str) -> bytes:
    letter = EmailMessage()
    letter["From"], letter["To"] = sender, to
    letter["Subject"] = "Test of the mail relay by salsactl"
    letter["Date"], letter["Message-ID"] = formatdate(), make_msgid(domain=sender.rpartition("@")[2])
    letter["Auto-Submitted"] = "auto-generated"  # RFC 3834: no vacation notice comes back
    letter.set_content(f"This letter was sent with salsactl send-test from {socket.gethostname()}.\n")
    return letter.as_bytes()


def queue_id(text: str) -> str:
    """The id under which a relay queued a letter, from its last reply; empty: it names none that is known."""
    found = next((match for pattern in _QUEUE_IDS if (match := pattern.search(text))), None)
    return found.group(1).rstrip(".)") if found else ""


class _Lines:
    """The lines of a relay, bounded for each reply: smtplib takes as many as come."""

    def __init__(self, file: IO[bytes]) -> None:
        self.left = MAX_LINES
        self._file = file

    def readline(self, size: int) -> bytes:
        self.left -= 1
        if self.left < 0:
            raise OSError("it answers with more than 100 lines")
        return self._file.readline(size)

    def close(self) -> None:
        self._file.close()


class _Smtp(smtplib.SMTP):
    """Keeps every reply. `implicit_tls`: the context with which TLS begins with the first octet."""

    implicit_tls: ssl.SSLContext | None = None

    def __init__(self, replies: list[Reply]) -> None:
        super().__init__(timeout=SECONDS)
        self._replies = replies
        self._command = "greeting"

    def _get_socket(self, host: str, port: int, timeout: float) -> socket.socket:
        plain: socket.socket = super()._get_socket(host, port, timeout)  # type: ignore[misc] # as smtplib.SMTP_SSL does
        self._host = host  # for STARTTLS, too: the name that the certificate is for
        return plain if self.implicit_tls is None else self.implicit_tls.wrap_socket(plain, server_hostname=host)

    def putcmd(self, cmd: str, args: str = "") -> None:
        self._command = cmd.upper()
        super().putcmd(self._command, args)  # in upper case, as most programs write it

    def getreply(self) -> tuple[int, bytes]:
        if self.file is None:
            lines: Any = _Lines(self.sock.makefile("rb"))  # type: ignore[union-attr]
            self.file = lines
        self.file.left = MAX_LINES
        code, text = super().getreply()
        self._replies.append(Reply(self._command, code, sanitize(text.decode("utf-8", "replace"))))
        if self._command == "DATA":
            self._command = "letter"
        return code, text
