"""TLS for the SMTP channel, without IO. Imported only where TLS is used."""

from __future__ import annotations

import ssl

from salsa_agent.smtp.stream import Violation


def unchecked() -> ssl.SSLContext:
    """Any certificate will do: D7 has it checked under `valid` only."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def checked() -> ssl.SSLContext:
    """The certificate must be valid, by the system's CA store, for the name or address asked for (RFC 6125, RFC 9525).

    Reading the store takes some 25 ms, so the context is for more than one use.
    """
    return ssl.create_default_context()


class Tls:
    """The client's side of one TLS connection: records in and out, plain bytes out and in.

    What needs more records returns None. All raise Violation where TLS fails.
    """

    def __init__(self, context: ssl.SSLContext, host: str) -> None:
        """Raises ValueError for a `host` that TLS cannot carry."""
        self._in, self._out = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._object = context.wrap_bio(self._in, self._out, server_hostname=host)

    def incoming(self, records: bytes) -> None:
        """Take what came over the wire; empty: its end."""
        if records:
            self._in.write(records)
        else:
            self._in.write_eof()

    def outgoing(self) -> bytes:
        """What is to be sent over the wire."""
        return self._out.read()

    def handshake(self) -> bool | None:
        """True once it is done."""
        try:
            self._object.do_handshake()
        except ssl.SSLWantReadError:
            return None
        except ssl.SSLError as error:
            raise Violation(_said(error)) from error
        return True

    def opened(self, limit: int) -> bytes | None:
        """The plain bytes that came; empty: the end."""
        try:
            return self._object.read(limit)
        except ssl.SSLWantReadError:
            return None
        except ssl.SSLEOFError:  # no close_notify: many servers do without, and a line cut short is no line
            return b""
        except ssl.SSLError as error:
            raise Violation(_said(error)) from error

    def sealed(self, data: bytes) -> bytes:
        """`data` as records to send."""
        try:
            self._object.write(data)
        except ssl.SSLError as error:
            raise Violation(_said(error)) from error
        return self.outgoing()


def _said(error: ssl.SSLError) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"certificate not valid: {error.verify_message}"
    if isinstance(error, ssl.SSLEOFError):
        return "connection closed"
    return (error.reason or "TLS failed").replace("_", " ").lower()
