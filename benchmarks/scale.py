"""`python -m benchmarks.scale`: what publishing costs name servers and relays, by a model, as docs/scale.md and plots.

Pure but for `main`. The questions of one host are held against the real core by tests/core/test_scale.py.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from math import exp, expm1
from pathlib import Path

from benchmarks import plot

DAY = 86400.0
SHORTEST, LONGEST, LONGEST_NEGATIVE = 60.0, 86400.0, 10800.0  # rule E1
EARLY = 0.05  # rule D11: a set is asked again up to a tenth of its TTL earlier, half of that on average
FIRST_AGAIN, LAST_AGAIN = 30.0, 1800.0  # rule E5: the delays while no relay is `ok`
INTERVAL = 1800.0  # verify.interval: how often the best relay is spoken to
HOSTS = (10**4, 10**6, 10**8)
PAGE = Path(__file__).parent.parent / "docs" / "scale.md"


@dataclass(frozen=True, slots=True)
class Fleet:
    """Hosts that roam. Times in seconds; shares from 0 to 1. One IPv4 address each, a new one on each network.

    They have no relay of their own, so that where nothing is published none is `ok`.

    `roams`: networks a day; stays are exponentially distributed. `publishing`: share of networks that have an MX set,
    with one exchange, at /24. `behind`: hosts of one network that share its resolver. `private`: share of networks
    with private addresses; `leaking`: share of their resolvers that lack the empty zones of RFC 6303.
    """

    roams: float = 4.0
    ttl: float = 3600.0
    negative: float = 3600.0
    publishing: float = 0.1
    behind: float = 50.0
    private: float = 0.8
    leaking: float = 0.05

    @property
    def stay(self) -> float:
        return DAY / self.roams


def renewals(stay: float, life: float) -> float:
    """How often something that lives so long runs out in a stay, the mean of exponentially distributed ones."""
    return 1 / expm1(life / stay)


def asked_of_set(stay: float, ttl: float) -> float:
    """Questions for a set in a stay, of a resolver that caches.

    Who asks a little before the end is given what is left of the TTL, and so asks again soon.
    """
    asked, left, passed, cycle = 1.0, ttl, 0.0, _cycle(ttl)
    while left > 0:
        wait = min(LONGEST, max(SHORTEST, left * (1 - EARLY)))
        passed += wait
        left -= wait
        # a question at this point of each cycle that the stay still reaches
        asked += sum(_reached(stay, passed + turn * cycle) for turn in range(200))
    return asked


def _cycle(ttl: float) -> float:
    left, passed = ttl, 0.0
    while left > 0:
        wait = min(LONGEST, max(SHORTEST, left * (1 - EARLY)))
        passed += wait
        left -= wait
    return passed


def _reached(stay: float, moment: float) -> float:
    return exp(-moment / stay)


def asked_of_nothing(stay: float, negative: float) -> float:
    """Questions in a stay for a name that has no record, whose negative answers live so long."""
    return 1 + renewals(stay, min(LONGEST_NEGATIVE, max(SHORTEST, negative)))


def asked_in_vain(stay: float) -> float:
    """Questions in a stay for each name where no relay is `ok`, besides those that its TTL calls for (rule E5).

    The resolver answers from its cache, with what is left of the TTL, so that those of the TTL stay what they are.
    """
    asked, passed, delay = 0.0, FIRST_AGAIN, FIRST_AGAIN
    while (more := _reached(stay, passed)) > 1e-6:
        asked += more
        delay = min(2 * delay, LAST_AGAIN)
        passed += delay
    return asked


def to_resolver(fleet: Fleet) -> float:
    """Questions of one host a day: three levels; where there is a relay, its A and AAAA records, too."""
    of_set, of_nothing = asked_of_set(fleet.stay, fleet.ttl), asked_of_nothing(fleet.stay, fleet.negative)
    published = 2 * of_set + 3 * of_nothing  # the MX set at /24 and A; /32, /16 and AAAA have nothing
    without = 3 * (of_nothing + asked_in_vain(fleet.stay))
    return fleet.roams * (fleet.publishing * published + (1 - fleet.publishing) * without)


def to_reverse_zones(fleet: Fleet) -> float:
    """Questions of one host a day that its resolver cannot answer from its cache, for reverse names.

    A name that `behind` hosts ask for, together so and so often a day, is fetched once in its TTL and the mean time to
    the next question after it; a host's own name at /32 each time.
    """
    of_set, of_nothing = asked_of_set(fleet.stay, fleet.ttl), asked_of_nothing(fleet.stay, fleet.negative)
    in_vain = asked_in_vain(fleet.stay)
    own = fleet.roams * of_nothing
    at_16 = _fetched(fleet.roams * (of_nothing + (1 - fleet.publishing) * in_vain), fleet.negative, fleet.behind)
    at_24 = _fetched(fleet.roams * of_set, fleet.ttl, fleet.behind)
    at_24_without = _fetched(fleet.roams * (of_nothing + in_vain), fleet.negative, fleet.behind)
    return own + at_16 + fleet.publishing * at_24 + (1 - fleet.publishing) * at_24_without


def _fetched(asked: float, ttl: float, behind: float) -> float:
    return 1 / (1 / asked + behind * ttl / DAY)


def to_operators(fleet: Fleet) -> float:
    """Of `to_reverse_zones`, those for public addresses, a host and day."""
    return (1 - fleet.private) * to_reverse_zones(fleet)


def to_as112(fleet: Fleet) -> float:
    """Of `to_reverse_zones`, those for private addresses that leave their network, a host and day."""
    return fleet.private * fleet.leaking * to_reverse_zones(fleet)


def to_relays(fleet: Fleet) -> float:
    """Conversations of one host a day with relays that networks publish: one on arrival, then by `verify.interval`."""
    return fleet.publishing * fleet.roams * (1 + renewals(fleet.stay, INTERVAL))


def rows() -> Iterator[str]:
    """The table of docs/scale.md: events a second, all over the world."""
    yield "| hosts | networks that publish | to resolvers | to reverse zones | to AS112 | conversations with relays |"
    yield "|---|---|---|---|---|---|"
    for hosts in HOSTS:
        for publishing in (0.0, 0.1, 1.0):
            fleet = Fleet(publishing=publishing)
            values = (to_resolver(fleet), to_operators(fleet), to_as112(fleet), to_relays(fleet))
            cells = [f"{hosts:,}", f"{publishing:.0%}", *(f"{hosts * value / DAY:,.2f}" for value in values)]
            yield f"| {' | '.join(cells)} |"


def pictures() -> dict[str, str]:
    """The plots, by file name."""
    ttls = (60.0, 300.0, 900.0, 3600.0, 14400.0, 86400.0)
    fleet = Fleet(publishing=1.0)
    return {
        "ttl.svg": plot.line(
            "Questions of one host, all networks publish", "TTL and negative TTL, s", "a day, to its resolver",
            [(ttl, to_resolver(replace(fleet, ttl=ttl, negative=ttl))) for ttl in ttls],
        ),
        "caches.svg": plot.line(
            "Questions for /24 that reach the name server", "hosts behind one resolver", "a day and host",
            [(behind, _fetched(fleet.roams * asked_of_set(fleet.stay, fleet.ttl), fleet.ttl, behind))
             for behind in (1.0, 10.0, 100.0, 1000.0, 3000.0)],
        ),
        "roams.svg": plot.line(
            "Questions of one host, a tenth of the networks publish", "networks a day", "a day, to its resolver",
            [(roams, to_resolver(Fleet(roams=roams))) for roams in (1.0, 2.0, 4.0, 10.0, 24.0, 96.0)],
        ),
    }  # fmt: skip


def page(text: str) -> str:
    """The page with the table of `rows` in the place of the one that it has."""
    return re.sub(r"^\| hosts \|.*?\n(?!\|)", "\n".join([*rows(), ""]), text, flags=re.MULTILINE | re.DOTALL)


def main() -> None:
    PAGE.write_text(page(PAGE.read_text()))
    for name, picture in pictures().items():
        (PAGE.parent / "scale" / name).write_text(picture)


if __name__ == "__main__":
    main()
