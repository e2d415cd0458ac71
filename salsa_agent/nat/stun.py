"""STUN (RFC 8489), of which one Binding transaction over UDP is used."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Sequence
from functools import partial

from salsa_agent.core.admission import canonical, literal
from salsa_agent.core.events import LearnOutside
from salsa_agent.core.model import IPAddress, Question, RRType
from salsa_agent.nat.answer import Statement
from salsa_agent.nat.stun_message import parse, request
from salsa_agent.nat.udp import NoAnswer, connected, exchange
from salsa_agent.resolver.resolver import Resolver

RTO, RC, RM = 0.5, 7, 16  # 6.2.1: seconds, requests, RTOs after the last of them
WAITS = (*(RTO * 2**sent for sent in range(RC - 1)), RTO * RM)
_MOST_ADDRESSES = 4  # of a server and a family


async def ask(
    wish: LearnOutside, host: str, port: int, resolver: Resolver, waits: Sequence[float] = WAITS
) -> Statement:
    """What the server at `host` (a name or an address literal) sees as the address of the wish's link.

    A server's IPv6 addresses are asked only where none of its IPv4 addresses told: a NAT is where IPv4 is.
    """
    address = literal(host)
    if address is not None:
        return await _first([address], port, wish.ifindex, waits)
    said = Statement(None, "its name has no address")
    for rtype in (RRType.A, RRType.AAAA):
        answer = await resolver.ask(Question(canonical(host), rtype, wish.servers, hosts=True))
        if answer.addresses:
            said = await _first(answer.addresses[:_MOST_ADDRESSES], port, wish.ifindex, waits)
        if said.ip is not None:
            break
    return said


async def _first(addresses: Sequence[IPAddress], port: int, ifindex: int, waits: Sequence[float]) -> Statement:
    """Ask all at once (8.1): the first that tells an address has it, else the last one's reason stands."""
    tasks = [asyncio.create_task(_transact(address, port, ifindex, waits)) for address in addresses]
    said = Statement(None)
    try:
        for done in asyncio.as_completed(tasks):
            said = await done
            if said.ip is not None:
                break
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    return said


async def _transact(address: IPAddress, port: int, ifindex: int, waits: Sequence[float]) -> Statement:
    """One transaction (6.2.1): every request of it is the same. An error is final, 5xx too: a round asks again."""
    transaction = secrets.token_bytes(12)
    try:
        with connected(address, port, ifindex) as sock:
            return await exchange(sock, request(transaction), waits, partial(parse, transaction=transaction))
    except NoAnswer as silence:
        return Statement(None, str(silence))
