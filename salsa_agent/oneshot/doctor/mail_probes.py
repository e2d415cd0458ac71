"""Speaks to the relays of the list: which ports of mail are open, what is said there, whether certificates are good."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Sequence
from contextlib import suppress

from salsa_agent.core.admission import is_internal
from salsa_agent.core.events import Check as ToCheck
from salsa_agent.core.model import SUBMISSIONS_PORT, IPAddress, RelayKey, Verdict
from salsa_agent.link_socket import Endpoint, open_socket
from salsa_agent.oneshot.doctor.scene import Check, Port, Scene
from salsa_agent.smtp import tls
from salsa_agent.smtp.connect import address_literal
from salsa_agent.smtp.verifier import Verifier
from salsa_agent.text import sanitize

MAIL_PORTS = (25, 465, 587)
MOST_RELAYS = 6  # whose ports are tried
MOST_LINES = 100  # of one reply, as in rule D1
SECONDS = 4.0  # to reach a port, and for all that is said there


async def ports(scene: Scene) -> tuple[Port, ...]:
    """Try the ports of mail at the relays that have an address."""
    tries = [_reach(RelayKey(host, to.port), to) for host, to in mail_ports(scene)]
    return tuple(await asyncio.gather(*tries))


async def certificates(scene: Scene) -> tuple[Check, ...]:
    """Look at the certificates of the administrator's relays, where the agent does not: mail programs do."""
    if scene.settings.verify.tls == "valid":
        return ()
    verifier = Verifier(scene.settings.verify._replace(tls="valid", recipient=""))
    found = []
    for listed in scene.relays[:MOST_RELAYS]:
        relay = listed.relay
        if relay.administrator and listed.verdict is Verdict.OK and listed.tls in ("implicit", "starttls"):
            addresses = addresses_of(scene, relay.key.host) or tuple(relay.addresses)
            check = ToCheck(0, relay.key, addresses, implicit_tls=relay.implicit_tls, tls="valid")
            async with verifier.conversations(check) as speaking:
                found.append(Check(relay.key, speaking.result, 0.0))
    return tuple(found)


def mail_ports(scene: Scene) -> Sequence[tuple[str, Endpoint]]:
    """The ports that are tried, and at whose relay. An address is tried once, whatever names lead to it.

    As in rule D11 a private address that the network named is reached through the link that named it only.
    """
    links = {link.name: link.index for link in scene.facts.links}
    hosts: dict[IPAddress, tuple[str, int]] = {}
    for listed in scene.relays[:MOST_RELAYS]:
        relay = listed.relay
        known = relay.addresses or addresses_of(scene, relay.key.host)
        if not known:
            continue
        of_link = not relay.administrator and is_internal(known[0])
        hosts.setdefault(known[0], (relay.key.host, links.get(relay.interface, 0) if of_link else 0))
    return [(host, Endpoint(ip, number, link)) for ip, (host, link) in hosts.items() for number in MAIL_PORTS]


def addresses_of(scene: Scene, host: str) -> tuple[IPAddress, ...]:
    """The addresses that were looked up for a relay."""
    return tuple(ip for one in scene.asked if one.question.name == host for ip in one.answer.addresses)


async def _reach(key: RelayKey, to: Endpoint) -> Port:
    try:
        async with asyncio.timeout(SECONDS):
            sock = await _connected(to)
    except TimeoutError:
        return Port(key, "timed out")
    except OSError as error:
        return Port(key, sanitize(error.strerror or "not reached").lower())
    talk = _Talk(key)
    inside = tls.unchecked() if key.port == SUBMISSIONS_PORT else None
    try:
        async with asyncio.timeout(SECONDS):
            literal = address_literal(sock)
            name = key.host if inside else None
            reader, writer = await asyncio.open_connection(sock=sock, limit=4096, ssl=inside, server_hostname=name)
            try:
                await talk.hold(reader, writer, literal)
            finally:
                writer.close()
                with suppress(OSError):
                    await writer.wait_closed()
    except (TimeoutError, OSError, ValueError, EOFError, asyncio.LimitOverrunError):
        pass  # what was seen until then counts
    finally:
        sock.close()
    return talk.seen


async def _connected(to: Endpoint) -> socket.socket:
    sock = open_socket(to, socket.SOCK_STREAM)
    try:
        await asyncio.get_running_loop().sock_connect(sock, to.sockaddr)
    except BaseException:
        sock.close()
        raise
    return sock


class _Talk:
    """Greeting, EHLO and MAIL; the server is left by QUIT. `seen`: so far."""

    def __init__(self, key: RelayKey) -> None:
        self.seen = Port(key)

    async def hold(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, literal: str) -> None:
        """Raises EOFError, OSError, and ValueError or LimitOverrunError for what is too long."""

        async def say(command: str) -> list[str]:
            writer.write(f"{command}\r\n".encode("ascii"))
            await writer.drain()
            return await _reply(reader)

        greeting = await _reply(reader)
        if not greeting[0].startswith("220"):
            return
        self.seen = self.seen._replace(greeting=greeting[0])
        offers = await say(f"EHLO {literal}")
        if offers[0].startswith("250"):
            if self.seen.key.port != SUBMISSIONS_PORT:
                self.seen = self.seen._replace(starttls=any(line[4:].upper() == "STARTTLS" for line in offers))
            said = await say("MAIL FROM:<>")
            if said[0].startswith("5"):
                self.seen = self.seen._replace(refusal=" ".join([said[0][:3], *(line[4:] for line in said)]))
        await say("QUIT")


async def _reply(reader: asyncio.StreamReader) -> list[str]:
    """The lines of a reply, with their codes."""
    lines: list[str] = []
    while not lines or lines[-1][3:4] == "-":
        line = await reader.readuntil(b"\n")
        lines.append(sanitize(line.decode("utf-8", "replace").strip()))
        if len(lines) > MOST_LINES:
            raise ValueError("too many lines")
    return lines
