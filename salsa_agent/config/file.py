"""The configuration file: TOML in, settings out, or one line that says what is wrong with it (design section 6)."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from salsa_agent.config import values as form
from salsa_agent.core.model import RelayKey
from salsa_agent.core.settings import Dns, Network, Policy, Settings, Verify
from salsa_agent.system.files import read_file
from salsa_agent.text import printable

DEFAULT_PATH = Path("/etc/salsa-agent.toml")
_MAX_BYTES = 1 << 20  # a file that is longer is no configuration
_PIPE_TIME = 1.0  # seconds until the end of a pipe, as in `--config <(command)`

KEYS: Mapping[str, Mapping[str, Callable[[object], Any]]] = {
    "static": {"relays": form.texts(form.relay)},
    "network": {
        "ignore": form.texts(form.interface_pattern),
        "ipv4_levels": form.levels(8, 8, 32),
        "ipv6_levels": form.levels(4, 16, 128),
        "nat": form.word("off", "nat-pmp", "stun"),
        "stun_server": form.text(form.stun_server, empty=""),
    },
    "dns": {
        "servers": form.texts(form.dns_server),
        "timeout": form.seconds(0.1, 30),
        "attempts": form.whole(1, 5),
        "trust_ad": form.texts(form.trusted_server),
    },
    "smtp": {"port": form.whole(1, 65535)},
    "verify": {
        "enabled": form.flag,
        "timeout": form.seconds(0.5, 30),
        "interval": form.whole(30, 86400, or_zero=True),
        "tls": form.word("off", "offered", "valid"),
        "recipient": form.text(form.mailbox, empty=""),
    },
    "policy": {
        "allow": form.texts(form.host_pattern),
        "deny": form.texts(form.host_pattern),
        "require": form.word("none", "dnssec"),
    },
    "output": {"directory": form.text(form.absolute_path, empty="")},
    "postfix": {"listen": form.texts(form.endpoint)},
}
"""Every key there is, by table, with its form."""


class ConfigError(Exception):
    """The configuration is bad; the message is one line with the file, the key and the reason."""


def load(path: Path | None) -> Settings:
    """The settings in the file `path`; None: those in the default file, or the defaults where it is absent.

    Raises ConfigError.
    """
    try:
        return parse(_read(path), os.environ)
    except ValueError as error:
        raise ConfigError(printable(f"{path or DEFAULT_PATH}: {error}")) from None


def parse(data: bytes, environ: Mapping[str, str]) -> Settings:
    """The settings that a configuration file with this content stands for.

    Raises ValueError that names the key and the reason, or the line.
    """
    given = _values(_document(data))
    port = given["smtp"].get("port", Settings().smtp_port)
    relays = (RelayKey(host, own or port) for host, own in given["static"].get("relays", ()))
    network = Network(**given["network"])
    if network.nat == "stun" and not network.stun_server:  # rule G1
        raise ValueError('network.stun_server: must be set with network.nat = "stun"')
    directory = given["output"].get("directory")
    return Settings(
        static_relays=tuple(dict.fromkeys(relays)),
        smtp_port=port,
        network=network,
        dns=Dns(**given["dns"]),
        verify=Verify(**given["verify"]),
        policy=Policy(**given["policy"]),
        output_directory=_default_directory(environ) if directory is None else directory,
        postfix_listen=given["postfix"].get("listen", ()),
    )


def _read(path: Path | None) -> bytes:
    try:
        data = read_file(path or DEFAULT_PATH, _MAX_BYTES, pipe=_PIPE_TIME)
    except FileNotFoundError:
        if path is None:
            return b""
        raise ValueError("no such file") from None
    except OSError as error:
        raise ValueError(f"cannot be read: {error.strerror}") from None
    if len(data) > _MAX_BYTES:
        raise ValueError("longer than 1 MiB")
    return data


def _document(data: bytes) -> dict[str, Any]:
    if not data.strip():
        return {}
    import tomllib  # late: without a file there is nothing to parse

    try:
        return tomllib.loads(data.decode())
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ValueError(f"not UTF-8 (at line {line})") from None
    except RecursionError:
        raise ValueError("not TOML: nested too deeply") from None
    except ValueError as error:
        raise ValueError(f"not TOML: {error}") from None


def _values(document: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """What the file sets, by table and key, each in its form."""
    given: dict[str, dict[str, Any]] = {table: {} for table in KEYS}
    for table, entries in document.items():
        if table not in KEYS:
            raise ValueError(f"{table}: unknown key")
        if not isinstance(entries, dict):
            raise ValueError(f"{table}: must be a table")
        for key, value in entries.items():
            if key not in KEYS[table]:
                raise ValueError(f"{table}.{key}: unknown key")
            try:
                given[table][key] = KEYS[table][key](value)
            except ValueError as error:
                raise ValueError(f"{table}.{key}: {error}") from None
    return given


def runtime_directory(environ: Mapping[str, str]) -> Path | None:
    """The runtime directory that systemd gave the service, the first of several (systemd.exec(5)).

    Raises ValueError if that is no absolute path.
    """
    first = environ.get("RUNTIME_DIRECTORY", "").partition(":")[0]
    return Path(form.absolute_path(first)) if first else None


def _default_directory(environ: Mapping[str, str]) -> str:
    try:
        directory = runtime_directory(environ)
    except ValueError as error:
        raise ValueError(f"output.directory: RUNTIME_DIRECTORY {error}") from None
    return str(directory) if directory else ""
