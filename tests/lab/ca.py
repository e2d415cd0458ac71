"""A throw-away certification authority, by openssl(1). Nothing trusts it but what has SSL_CERT_FILE=`ca.file`."""

from __future__ import annotations

import ssl
import subprocess
from dataclasses import dataclass
from pathlib import Path

_KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
_EXPIRED = ("-not_before", "20250101000000Z", "-not_after", "20250102000000Z")


@dataclass(frozen=True)
class Certificate:
    """PEM files: the certificate and its key (readable by all, as other users' programs use it)."""

    file: Path
    key: Path

    def server_context(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.file, self.key)
        return context


class Ca:
    """An authority whose files are in `directory`. `key_usage`: its certificate says what its key is for (RFC 5280)."""

    def __init__(self, directory: Path, name: str = "Salsa test CA", *, key_usage: bool = True) -> None:
        self._directory = directory
        self.file = directory / "ca.pem"
        self._key = directory / "ca.key"
        self._issued = 0
        _openssl(
            *("req", "-x509", *_KEY, "-days", "7", "-subj", f"/CN={name}", "-keyout", self._key, "-out", self.file),
            *("-addext", "basicConstraints=critical,CA:TRUE"),
            *(("-addext", "keyUsage=critical,keyCertSign,cRLSign") if key_usage else ()),
        )

    def issue(self, *names: str, days: int = 7, common_name: str = "relay", not_yet: bool = False) -> Certificate:
        """A certificate for these names (`relay.example`) and addresses (`192.0.2.1`). `days` -1: it has expired.

        Without names it has no subjectAltName at all. `not_yet`: it is valid from 2050 on.
        """
        self._issued += 1
        stem = self._directory / f"issued-{self._issued}"
        made = Certificate(stem.with_suffix(".pem"), stem.with_suffix(".key"))
        request, extensions = stem.with_suffix(".csr"), stem.with_suffix(".ext")
        alternatives = ",".join(f"IP:{name}" if _is_address(name) else f"DNS:{name}" for name in names)
        extensions.write_text(
            (f"subjectAltName={alternatives}\n" if names else "") + "basicConstraints=critical,CA:FALSE\n"
            "keyUsage=critical,digitalSignature\nextendedKeyUsage=serverAuth\nauthorityKeyIdentifier=keyid\n"
        )
        _openssl("req", *_KEY, "-subj", f"/CN={common_name}", "-keyout", made.key, "-out", request)
        if not_yet:
            self._issue_for_2050(request, extensions, made.file)
            return made
        # OpenSSL refuses a negative -days from 3.5 on, and has no -not_before up to 3.3
        life = ("-days", str(days)) if days > 0 or _openssl_version() < (3, 4) else _EXPIRED
        _openssl(
            *("x509", "-req", "-in", request, "-CA", self.file, "-CAkey", self._key, "-CAcreateserial"),
            *(*life, "-extfile", extensions, "-out", made.file),
        )
        made.key.chmod(0o644)
        return made

    def _issue_for_2050(self, request: Path, extensions: Path, out: Path) -> None:
        """By openssl-ca(1), the only one of its commands that knows a first day before 3.4."""
        config = self._directory / "ca.cnf"
        config.write_text(_FUTURE.format(self._directory))
        (self._directory / "index").write_text("")
        (self._directory / "serial").write_text("2050\n")
        days = ("-startdate", "20500101000000Z", "-enddate", "20500201000000Z")
        _openssl(
            *("ca", "-batch", "-notext", "-config", config, "-cert", self.file, "-keyfile", self._key, *days),
            *("-in", request, "-extfile", extensions, "-out", out),
        )


_FUTURE = """\
[ca]
default_ca = here
[here]
new_certs_dir = {0}
database = {0}/index
serial = {0}/serial
default_md = sha256
policy = any
[any]
commonName = supplied
"""


def _is_address(name: str) -> bool:
    return ":" in name or name.replace(".", "").isdigit()


def _openssl_version() -> tuple[int, ...]:
    said = subprocess.run(["openssl", "version"], check=True, capture_output=True, text=True, timeout=60).stdout
    return tuple(int(number) for number in said.split()[1].split(".")[:2])


def _openssl(*argv: str | Path) -> None:
    subprocess.run(["openssl", *map(str, argv)], check=True, capture_output=True, timeout=60)
