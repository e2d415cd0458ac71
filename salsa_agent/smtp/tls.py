"""TLS for the lines of an SMTP conversation, without IO. Imported only where TLS is used."""

from __future__ import annotations

import ssl

from salsa_agent.smtp.errors import CertificateError, ProtocolError

_NOT_YET_VALID = 9  # X509_V_ERR_CERT_NOT_YET_VALID (x509_vfy.h)


def unchecked() -> ssl.SSLContext:
    """Any certificate will do: it is checked under `verify.tls = "valid"` only (rule D7)."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def checked() -> ssl.SSLContext:
    """The certificate must be valid, by the system's CA store, for the name or address asked for (RFC 9525).

    The same certificates are valid on every Python: 3.13 began to refuse authorities without a key usage and to trust
    intermediate ones, and some versions let the subject's common name stand in for a subjectAltName.
    Reading the store takes some 25 ms, so the context is for more than one use.
    """
    context = ssl.create_default_context()
    context.hostname_checks_common_name = False
    context.verify_flags = ssl.VERIFY_X509_TRUSTED_FIRST
    context.minimum_version = ssl.TLSVersion.TLSv1_2  # RFC 8996; some builds leave it to openssl.cnf
    return context


class Tls:
    """The client's side of one TLS connection: records in and out, plain bytes out and in.

    What needs more records returns None. All raise ProtocolError where TLS fails.
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
            raise _failure(error) from error
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
            raise _failure(error) from error

    def sealed(self, data: bytes) -> bytes:
        """`data` as records to send."""
        try:
            self._object.write(data)
        except ssl.SSLError as error:
            raise _failure(error) from error
        return self.outgoing()


def _failure(error: ssl.SSLError) -> ProtocolError:
    if isinstance(error, ssl.SSLCertVerificationError):
        return CertificateError(
            f"certificate not valid: {error.verify_message}", permanent=error.verify_code != _NOT_YET_VALID
        )
    if isinstance(error, ssl.SSLEOFError):
        return ProtocolError("connection closed")
    return ProtocolError((error.reason or "TLS failed").replace("_", " ").lower())
