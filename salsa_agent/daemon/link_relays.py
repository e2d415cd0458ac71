"""The relays set for links with `SetLinkRelays` (rule C9), kept in the runtime directory over a restart."""

from __future__ import annotations

import json
import logging
import os
import socket
from collections.abc import Iterable, Sequence
from pathlib import Path

from salsa_agent.bus.api import MAX_LINK_RELAYS, InvalidArgs
from salsa_agent.config.values import relay
from salsa_agent.core.model import Link, LinkRelays, RelayKey
from salsa_agent.system.files import read_file
from salsa_agent.text import host_port, printable

_FILE = "link-relays.json"
_MAX_BYTES = 1 << 20

log = logging.getLogger("salsa-agent")


class LinkRelayStore:
    """The relays given for links, by interface index. `directory`: where they are kept; None: nowhere."""

    def __init__(self, directory: Path | None) -> None:
        self._path = directory / _FILE if directory else None
        self._links: dict[int, LinkRelays] = {}
        if self._path is not None:
            self._load(self._path)

    @property
    def links(self) -> tuple[LinkRelays, ...]:
        """What is known, in the order of the interface indexes."""
        return tuple(self._links[index] for index in sorted(self._links))

    def set(self, ifindex: int, relays: Sequence[str]) -> None:
        """Take what the configuration of a link says; of several relays a bad one is dropped. Raises InvalidArgs."""
        if len(relays) > MAX_LINK_RELAYS:
            raise InvalidArgs(f"More than {MAX_LINK_RELAYS} relays for one link.")
        keys = _keys(relays)
        try:
            name = socket.if_indextoname(ifindex)
        except (OSError, OverflowError, ValueError):  # the last: a negative one, from Python 3.14 on
            raise InvalidArgs(f"There is no link with the index {ifindex}.") from None
        self._links[ifindex] = LinkRelays(ifindex, name, keys)
        self._save()

    def revert(self, ifindex: int) -> None:
        """Forget what was set for a link; that nothing was set is no error."""
        if self._links.pop(ifindex, None) is not None:
            self._save()

    def keep(self, links: Iterable[Link]) -> bool:
        """Forget what belongs to links that are gone or renamed; whether there was any."""
        there = {(link.index, link.name) for link in links}
        gone = [given.ifindex for given in self._links.values() if (given.ifindex, given.interface) not in there]
        for ifindex in gone:
            del self._links[ifindex]
        if gone:
            self._save()
        return bool(gone)

    def _load(self, path: Path) -> None:
        """Take up what an earlier run kept; a file that is damaged is as good as none."""
        try:
            kept = json.loads(read_file(path, _MAX_BYTES))
            for entry in kept:
                index, name, relays = int(entry["ifindex"]), str(entry["interface"]), entry["relays"][:MAX_LINK_RELAYS]
                if not all(isinstance(one, str) for one in relays):
                    raise TypeError("a relay that is no text")
                self._links[index] = LinkRelays(index, name, _keys(relays))
        except FileNotFoundError:
            return
        except (OSError, ValueError, OverflowError, TypeError, KeyError, RecursionError, InvalidArgs) as error:
            log.warning("link relays of an earlier run not taken up: %s: %s", path, type(error).__name__)

    def _save(self) -> None:
        if self._path is None:
            return
        kept = [
            {"ifindex": one.ifindex, "interface": one.interface, "relays": [_text(key) for key in one.relays]}
            for one in self.links
        ]
        beside = self._path.with_name(f".{_FILE}.new")
        try:
            beside.unlink(missing_ok=True)
            descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            with os.fdopen(descriptor, "w") as file:
                json.dump(kept, file)
            beside.replace(self._path)
        except OSError as error:
            log.warning("link relays not kept for a restart: %s: %s", self._path, error.strerror)


def _keys(relays: Sequence[str]) -> tuple[RelayKey, ...]:
    """Relays in a form of `static.relays` but `srv:`; port 0 stands for `smtp.port`.

    Of several, a bad one is dropped and logged: DHCP gave it. Raises InvalidArgs where none is left.
    """
    if any(text.lower().startswith("srv:") for text in relays):
        raise InvalidArgs("srv: is for the configuration file; a link names relays.")
    keys: dict[RelayKey, None] = {}
    bad: dict[str, str] = {}
    for text in relays:
        try:
            host, port = relay(text)
        except ValueError as error:
            bad[text] = str(error)
        else:
            keys[RelayKey(host, port or 0)] = None
    if bad and not keys:
        raise InvalidArgs(next(iter(bad.values())))
    for text, why in bad.items():
        log.warning("a relay of a link was dropped: %s: %s", printable(text), why)
    return tuple(keys)


def _text(key: RelayKey) -> str:
    return host_port(key.host, key.port) if key.port else key.host
