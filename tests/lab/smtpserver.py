"""A relay that behaves as it is told, well or badly: in this process, or as one of its own in a namespace:

    python -m tests.lab.smtpserver --listen 192.0.2.1 --port 25 --behaviour 554 --log conversations.jsonl

Addresses may be several (`--listen A --listen B`). The log has one line of JSON for each conversation, at its end.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import signal
import socket
import struct
import sys
import time
from asyncio.trsock import TransportSocket
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Self

from tests.lab.ca import Certificate


class Hangup(Exception):
    """The server ends the conversation."""


@dataclass
class Conversation:
    """What was said to the server. `end`: `quit`, `server` (it hung up), `client` (the other side did) or `stopped`."""

    started: float
    peer: tuple[str, int]
    local: tuple[str, int]
    lines: list[str] = field(default_factory=list)
    tls_from: int | None = None  # so many lines were said before TLS
    end: str = ""

    @property
    def verbs(self) -> list[str]:
        return [line.split(" ")[0] for line in self.lines]


@dataclass
class Talk:
    """A conversation going on."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    said: Conversation

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()


Answer = bytes | Callable[[Talk], Awaitable[None]]  # bytes, or something worse


async def silence(talk: Talk) -> None:
    """Say nothing until the other side gives up."""
    while await talk.reader.read(4096):
        pass
    raise Hangup("client")


async def close(talk: Talk) -> None:
    raise Hangup("server")


async def reset(talk: Talk) -> None:
    """RST."""
    linger = struct.pack("ii", 1, 0)
    talk.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
    talk.writer.transport.abort()
    raise Hangup("server")


async def flood(talk: Talk) -> None:
    """Lines without end."""
    while True:
        await talk.send(b"220-all work and no play makes jack a dull boy\r\n" * 100)


async def flood_one_line(talk: Talk) -> None:
    """One line without end."""
    while True:
        await talk.send(b"220-" + b"x" * 4092)


async def drip(talk: Talk) -> None:
    """A byte a second."""
    for byte in b"220 relay.example is quite slow today, please have some patience\r\n":
        await talk.send(bytes([byte]))
        await asyncio.sleep(1)


def many(lines: int, octets: int = 10) -> bytes:
    """A 250 reply of so many lines, each of so many octets."""
    texts = [b"x" * (octets - 6) for _ in range(lines)]
    return b"".join(b"250-%b\r\n" % text for text in texts[:-1]) + b"250 %b\r\n" % texts[-1]


def slowly(answer: bytes, seconds: float) -> Answer:
    async def late(talk: Talk) -> None:
        await asyncio.sleep(seconds)
        await talk.send(answer)

    return late


GOOD: Mapping[str, Answer] = {
    "greeting": b"220 relay.example ESMTP\r\n",
    "EHLO": b"250-relay.example\r\n250-PIPELINING\r\n250-SIZE 10240000\r\n250 8BITMIME\r\n",
    "HELO": b"250 relay.example\r\n",
    "STARTTLS": b"220 go ahead\r\n",
    "MAIL": b"250 2.1.0 Ok\r\n",
    "RCPT": b"250 2.1.5 Ok\r\n",
    "RSET": b"250 2.0.0 Ok\r\n",
    "QUIT": b"221 2.0.0 Bye\r\n",
}
STARTTLS = b"250-relay.example\r\n250-PIPELINING\r\n250 STARTTLS\r\n"


async def take(talk: Talk) -> None:
    """DATA as Postfix takes it; the lines of the letter are among what was said."""
    await talk.send(b"354 End data with <CR><LF>.<CR><LF>\r\n")
    while line := await talk.reader.readline():
        talk.said.lines.append(line.decode(errors="replace").rstrip("\r\n"))
        if line == b".\r\n":
            return await talk.send(b"250 2.0.0 Ok: queued as 4XyZ1abc\r\n")
    raise Hangup("client")


BEHAVIOURS: Mapping[str, Mapping[str, Answer]] = {
    "ok": {},
    "takes": {"DATA": take},
    "starttls": {"EHLO": STARTTLS},
    "silent": {"greeting": silence},
    "silent-ehlo": {"EHLO": silence},
    "silent-quit": {"QUIT": silence},
    "554": {"greeting": b"554 5.3.2 no service for you\r\n"},
    "421": {"greeting": b"421 4.3.2 too busy\r\n"},
    "421-ehlo": {"EHLO": b"421 4.3.2 shutting down\r\n"},
    "354": {"greeting": b"354 go on\r\n"},
    "garbage": {"greeting": b"HTTP/1.1 400 Bad Request\r\n\r\n"},
    "two-codes": {"EHLO": b"250-relay.example\r\n251 SIZE\r\n"},
    "out-of-turn": {"greeting": b"220 relay.example\r\n250 and so on\r\n"},
    "flood": {"greeting": flood},
    "flood-one-line": {"greeting": flood_one_line},
    "flood-ehlo": {"EHLO": flood},
    "drip": {"greeting": drip},
    "close": {"greeting": close},
    "close-ehlo": {"EHLO": close},
    "close-quit": {"QUIT": close},
    "rst": {"greeting": reset},
    "rst-ehlo": {"EHLO": reset},
    "helo": {"EHLO": b"502 5.5.1 never heard of it\r\n"},
    "no-hello": {"EHLO": b"502 5.5.1 never heard of it\r\n", "HELO": b"550 5.7.1 not that, either\r\n"},
    "reject": {"RCPT": b"554 5.7.1 Relay access denied\r\n"},
    "wants-tls": {"EHLO": STARTTLS, "MAIL": b"530 5.7.0 Must issue a STARTTLS command first\r\n"},
    "wants-password": {"MAIL": b"530 5.7.0 Authentication required\r\n"},
    "blocks": {"MAIL": b"550 5.7.1 your address is on a block list\r\n"},
    "slow": {"EHLO": slowly(STARTTLS, 5.0)},
    "inject": {"EHLO": STARTTLS, "STARTTLS": b"220 go ahead\r\n250-evil.example\r\n250 STARTTLS\r\n"},
    "hostile": {"greeting": b"554 \x1b[31mred\x07 gr\xc3\xbc\xc3\x9fe \xff" + b"x" * 300 + b"\r\n"},
}


class SmtpServer:
    """`async with` it listens, and all of its conversations end with the block.

    `answers` (one for the greeting, one for each verb) stand over those of GOOD; verbs without one get a 502.
    With a `certificate` STARTTLS leads into TLS; with `implicit` all of a conversation is inside it.
    """

    def __init__(
        self,
        address: str = "127.0.0.1",
        port: int = 0,
        answers: Mapping[str, Answer] | str = "ok",
        *,
        certificate: Certificate | None = None,
        implicit: bool = False,
        log: Path | None = None,
    ) -> None:
        self.address = address
        self.port = port
        self.answers = dict(GOOD) | dict(BEHAVIOURS[answers] if isinstance(answers, str) else answers)
        self.conversations: list[Conversation] = []
        self.connections = 0
        self.context = certificate.server_context() if certificate else None
        self._implicit = implicit
        self._log = log
        self._running: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        context = self.context if self._implicit else None
        self._server = await asyncio.start_server(self._connected, self.address, self.port, ssl=context)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *error: object) -> None:
        self._server.close()
        for task in self._running:
            task.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)

    async def ended(self, count: int) -> None:
        """Wait until so many conversations have ended."""
        async with asyncio.timeout(20):
            while len(self.conversations) < count:
                await asyncio.sleep(0.005)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task
        self._running.add(task)
        self.connections += 1
        sock = writer.get_extra_info("socket")
        said = Conversation(time.time(), writer.get_extra_info("peername")[:2], writer.get_extra_info("sockname")[:2])
        if self._implicit:
            said.tls_from = 0
        try:
            await self._talk(Talk(reader, writer, said))
            said.end = "quit"
        except Hangup as hangup:
            said.end = str(hangup)
        except (OSError, EOFError):
            said.end = "client"
        except asyncio.CancelledError:
            said.end = "stopped"
        finally:
            self.conversations.append(said)
            if self._log:
                with self._log.open("a") as log:
                    log.write(json.dumps(asdict(said)) + "\n")
            await self._hang_up(writer, sock, at_once=said.end == "stopped")
            self._running.discard(task)

    async def _hang_up(self, writer: asyncio.StreamWriter, sock: TransportSocket, *, at_once: bool) -> None:
        """Return when the socket is closed; in Python 3.11 `wait_closed` never does where STARTTLS was cut short."""
        writer.close()
        with suppress(TimeoutError, asyncio.CancelledError):
            async with asyncio.timeout(0 if at_once else 2):
                while sock.fileno() >= 0:
                    await asyncio.sleep(0.001)
        writer.transport.abort()
        while sock.fileno() >= 0:
            with suppress(asyncio.CancelledError):
                await asyncio.sleep(0)

    async def _talk(self, talk: Talk) -> None:
        await self._answer(talk, "greeting")
        while line := await talk.reader.readline():
            text = line.decode(errors="replace").rstrip("\r\n")
            talk.said.lines.append(text)
            verb = text.split(" ")[0]
            await self._answer(talk, verb)
            if verb == "QUIT":
                return
            if verb == "STARTTLS" and self.context:
                talk.said.tls_from = len(talk.said.lines)
                await talk.writer.start_tls(self.context)
        raise Hangup("client")

    async def _answer(self, talk: Talk, verb: str) -> None:
        answer = self.answers.get(verb, b"502 5.5.1 what?\r\n")
        if isinstance(answer, bytes):
            await talk.send(answer)
        else:
            await answer(talk)


def _named(name: str) -> dict[str, Answer]:
    return {"greeting": f"220 {name} ESMTP\r\n".encode()} if name else {}


async def _serve(options: argparse.Namespace) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    certificate = Certificate(options.certificate, options.key) if options.certificate else None
    servers = [
        SmtpServer(
            address,
            options.port,
            {**BEHAVIOURS[options.behaviour], **_named(options.name)},
            certificate=certificate,
            implicit=options.implicit_tls,
            log=options.log,
        )
        for address in options.listen
    ]
    for server in servers:
        await server.__aenter__()
    print("listening", flush=True)
    await stop.wait()
    for server in servers:
        await server.__aexit__()


def main(argv: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.lab.smtpserver")
    parser.add_argument("--listen", action="append", required=True, metavar="ADDR")
    parser.add_argument("--port", type=int, default=25)
    parser.add_argument("--behaviour", choices=sorted(BEHAVIOURS), default="ok")
    parser.add_argument("--name", default="", help="greet with this name, if the behaviour is to greet well")
    parser.add_argument("--certificate", type=Path)
    parser.add_argument("--key", type=Path)
    parser.add_argument("--implicit-tls", action="store_true")
    parser.add_argument("--log", type=Path)
    asyncio.run(_serve(parser.parse_args(argv)))


if __name__ == "__main__":
    main(sys.argv[1:])
