"""What can go wrong in a conversation with a relay, besides OSError."""

from __future__ import annotations

import re
from collections.abc import Sequence

_WANTS_AUTH = frozenset({530, 550, 554})
_SECURITY_STATUS = re.compile(
    r"[245]\.7\.\d{1,3}(?!\d)", re.ASCII
)  # "Security or Policy Status" (RFC 3463 section 3.8)


class ConversationError(Exception):
    """The relay cannot be used as things are. The text says why; it may hold whatever the relay sent.

    `permanent`: only an administrator can mend it; `transient_reply`: the relay answered with a 4xx (both rule D9).
    """

    permanent = False
    transient_reply = False


class ProtocolError(ConversationError):
    """The relay did what no SMTP or TLS server may do, or sent more than rule D1 allows."""


class CertificateError(ProtocolError):
    """The relay's certificate is not valid for its name (rule D7).

    `permanent`: unless it is not valid yet: then it is this host's clock that is most often wrong, and will be set.
    """

    def __init__(self, reason: str, *, permanent: bool) -> None:
        super().__init__(reason)
        self.permanent = permanent


class NotOfferedError(ConversationError):
    """The relay lacks what the settings ask for: STARTTLS (rule D7)."""

    permanent = True


class NegativeReply(ConversationError):
    """The relay's reply is not the one that means success (rule D1). The session stands, and is owed a QUIT.

    `wants_auth`: this reply to MAIL or RCPT may mean that mail is taken only after AUTH (rule D10).
    """

    def __init__(self, code: int, lines: Sequence[str] = ()) -> None:
        super().__init__(" ".join([str(code), *filter(None, lines)]))
        self.permanent = code // 100 == 5
        self.transient_reply = code // 100 == 4
        self.wants_auth = code in _WANTS_AUTH or any(_SECURITY_STATUS.match(line) for line in lines)
