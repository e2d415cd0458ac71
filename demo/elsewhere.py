"""Everything but the laptop: a name server and the relays, in a network namespace of their own.

    unshare --net python -m demo.elsewhere LINK

Says what it sees on standard output, a word and a text with a tab between: `ready`, `dns` for a question with its
answer, `relay` for a conversation, `dead` for the end of a relay. Takes from standard input an empty line once LINK is
there, then names of relays that shall die; ends with it.
"""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import sys
from typing import cast

import dns.flags
import dns.message
import dns.rcode
import dns.rdatatype
import dns.rrset

from demo.world import AT_HOME, IN_PRAGUE, IN_TORONTO, MX, NAME_SERVER, RELAYS

TTL = 3600
NO_BREAK = "\xa0"  # a space that the narrator breaks no line at
SOA = f"ns.example. hostmaster.example. 1 7200 3600 1209600 {TTL}"
Address = tuple[str, int]


def tell(word: str, text: str = "") -> None:
    """A line for the narrator."""
    print(word, text, sep="\t", flush=True)


class NameServer(asyncio.DatagramProtocol):
    """All zones of this world (RFC 1034); over UDP alone, as all answers are small."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Part of asyncio.DatagramProtocol."""
        self._transport = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, peer: Address) -> None:
        """Answer a question."""
        query = dns.message.from_wire(data)
        question = query.question[0]
        name, rdtype = question.name.to_text(omit_final_dot=True).lower(), dns.rdatatype.to_text(question.rdtype)
        records = MX.get(name, []) if rdtype == "MX" else [RELAYS[name]] if rdtype == "A" and name in RELAYS else []
        reply = dns.message.make_response(query)
        reply.flags |= dns.flags.RA
        if records:
            reply.answer.append(dns.rrset.from_text(question.name, TTL, "IN", rdtype, *records))
        else:
            reply.authority.append(dns.rrset.from_text(dns.name.root, TTL, "IN", "SOA", SOA))
            reply.set_rcode(dns.rcode.NOERROR if name in RELAYS else dns.rcode.NXDOMAIN)
        if rdtype == "MX":
            found = ", ".join(record.rstrip(".").replace(" ", NO_BREAK) for record in records)
            tell("dns", f"MX {name}? {found or 'no such name'}")
        self._transport.sendto(reply.to_wire(), peer)


class Relay:
    """A mail relay (RFC 5321) that takes what it is given, until it dies."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._server: asyncio.Server
        self._open: set[asyncio.StreamWriter] = set()

    async def listen(self) -> None:
        """Be at one's address, port 25."""
        self._server = await asyncio.start_server(self._serve, RELAYS[self.name], 25)

    def die(self) -> None:
        """Close the port, and all connections."""
        self._server.close()
        for writer in self._open:
            writer.transport.abort()
        tell("dead", f"{self.name} is dead")

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._open.add(writer)
        with contextlib.suppress(OSError, EOFError):
            await self._talk(reader, writer)
        self._open.discard(writer)
        writer.close()

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        async def say(text: str) -> None:
            writer.write(f"{text}\r\n".encode())
            await writer.drain()

        await say(f"220 {self.name} ESMTP")
        while line := (await reader.readline()).decode(errors="replace").split():
            match verb := line[0].upper():
                case "EHLO":
                    tell("relay", f"{self.name}: {' '.join((verb, *line[1:]))}? 250")
                    await say(f"250 {self.name}")
                case "HELO" | "MAIL" | "RCPT" | "RSET":
                    await say("250 OK")
                case "DATA":
                    await say("354 go ahead")
                    await reader.readuntil(b"\r\n.\r\n")
                    tell("relay", f"{self.name} took the letter")
                    await say("250 taken")
                case "QUIT":
                    await say("221 bye")
                    return
                case _:
                    await say("502 what?")


def configure(link: str) -> None:
    """The addresses of the servers, and the way back to the laptop, wherever it is."""
    lines = [f"link set {link} up"]
    lines += [f"addr add {one}/32 dev {link}" for one in (NAME_SERVER, *RELAYS.values())]
    lines += [f"route add {one.network} dev {link}" for one in (IN_TORONTO, IN_PRAGUE, AT_HOME)]
    subprocess.run(["ip", "-batch", "-"], input="\n".join(lines) + "\n", text=True, check=True)


async def main(link: str) -> None:
    """Be the world until standard input ends."""
    orders = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(orders), sys.stdin)
    tell("here")
    if not await orders.readline():
        return
    configure(link)
    relays = {name: Relay(name) for name in RELAYS}
    for relay in relays.values():
        await relay.listen()
    await loop.create_datagram_endpoint(NameServer, local_addr=(NAME_SERVER, 53))
    tell("ready")
    while order := (await orders.readline()).decode().strip():
        relays[order].die()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
