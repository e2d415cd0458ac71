"""Whether a domain's SPF record names a relay, by the rules of RFC 7208, which are spftrace's to know."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable

from salsa_agent.core.model import Answer, IPAddress, Outcome, RRType
from salsa_agent.oneshot.doctor.scene import Spf
from salsa_agent.text import sanitize

SECONDS = 10.0  # for one address
MOST_QUESTIONS = 40  # for one address; the RFC's own limits (10 terms, 2 void look-ups) hold besides
MOST_ADDRESSES = 4

Ask = Callable[[str, RRType], Awaitable[Answer]]


async def evaluate(sender: str, addresses: Iterable[IPAddress], ask: Ask) -> Spf:
    """The best that the record says of any address of the relay: which of them it sends from is not known.

    `sender`: an address with a domain. `ask`: a DNS question; never raises. Says nothing where the record depends on
    PTR records, which are not asked for (section 5.5 of the RFC advises against the mechanism).
    """
    # imported late: no other command needs it
    from spftrace import BaseResolver, Evaluator, Limits

    class Resolver(BaseResolver):
        blind = False

        async def _lookup(self, name: str, rtype: str) -> tuple[str, list[str]]:
            if rtype not in (RRType.A, RRType.AAAA, RRType.MX, RRType.TXT):
                self.blind = True
                return "SERVFAIL", []
            answer = await ask(name, RRType(rtype))
            if answer.outcome is Outcome.FAILED:
                return "SERVFAIL", []
            exchanges = [mx.exchange.rstrip(".") for mx in answer.mx if mx.exchange != "."]
            return answer.rcode or "NOERROR", [*answer.txt, *exchanges, *map(str, answer.addresses)]

    best = Spf()
    for ip in list(addresses)[:MOST_ADDRESSES]:
        resolver = Resolver()
        limits = Limits(time_limit=SECONDS, max_queries=MOST_QUESTIONS)
        said = await Evaluator(resolver, limits).evaluate(str(ip), sender)
        if resolver.blind and said.result != "pass":
            return Spf()
        why = next((str(one.data.get("reason", "")) for one in reversed(said.trace.events) if one.kind == "exit"), "")
        found = Spf(said.result, str(ip), sanitize(why))
        if not best.result or found.result == "pass":
            best = found
        if best.result == "pass":
            break
    return best
