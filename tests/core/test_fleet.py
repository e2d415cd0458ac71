"""The exercise of tests/core/fleet.py: a relay dies, every host has the next one, and nobody asks too much."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

import pytest

from tests.core import fleet
from tests.core.fleet import DEAD_SITE, DIES, ENDS, HOSTS, HOUR, RETURNS, SITES, Exercise, relay_of

# 480 hosts for six hours: half a minute of work, where nobody else works
pytestmark = pytest.mark.timeout(600)

BEFORE, MEANWHILE, AFTERWARDS = DIES - 1.0, DIES + 0.5 * HOUR + 60.0, RETURNS + 0.55 * HOUR + 60.0


@pytest.fixture(scope="module")
def exercise() -> Exercise:
    return fleet.run((BEFORE, MEANWHILE, AFTERWARDS))


def test_d2_when_a_sites_relay_dies_every_host_of_it_has_the_next_one(exercise: Exercise) -> None:
    """Within `verify.interval`, and the first one again within the longest delay of D5 after its return."""
    own = [Counter({f"{relay_of(site)}:25": HOSTS}) for site in range(SITES)]
    assert exercise.best[BEFORE] == own
    assert exercise.best[AFTERWARDS] == own
    own[DEAD_SITE] = Counter({f"{relay_of(DEAD_SITE + 1)}:25": HOSTS})
    assert exercise.best[MEANWHILE] == own


def test_e1_no_host_of_the_fleet_asks_again_before_its_ttl_allows(exercise: Exercise) -> None:
    """D11: up to a tenth of the TTL earlier; E1: never sooner than 60 s."""
    asked = 0
    for host in exercise.hosts:
        for question, answers in host.answers.items():
            for (before, ttl), (after, _) in pairwise(answers):
                assert after - before >= 0.9 * max(60.0, float(ttl)) - 1.0, (host.address, question)
            asked += len(answers)
    assert asked > len(exercise.hosts) * 4 * ENDS / HOUR, "they did not ask at all again"


def test_d11_no_host_of_the_fleet_speaks_to_more_servers_than_it_may(exercise: Exercise) -> None:
    """Each to the two relays that its site publishes, one conversation a `verify.interval` with the best and, of the
    site whose relay is dead, those of D5 with that: in all at most what thirty minutes and D5's delays give.
    """
    for host in exercise.hosts:
        servers = {check.key.host for _, check in host.spoken_to}
        assert servers <= {relay_of(host.site), relay_of((host.site + 1) % SITES)}
        most = 2 * (ENDS / (0.5 * HOUR)) + 8  # D5: 30 s doubling to 30 min are 6 more
        assert 0 < len(host.spoken_to) <= most, host.address


def test_caches_keep_the_fleet_from_the_name_servers(exercise: Exercise) -> None:
    asked = sum(sum(resolver.asked.values()) for resolver in exercise.resolvers)
    fetched = sum(sum(resolver.fetched.values()) for resolver in exercise.resolvers)
    assert fetched < asked / 2


def test_the_pictures_of_the_page_are_those_of_the_exercise(exercise: Exercise) -> None:
    text = (fleet.PICTURES.parent / "fleet.md").read_text()
    for name, picture in fleet.pictures(exercise).items():
        assert (fleet.PICTURES / name).read_text() == picture, "python -m tests.core.fleet draws them anew"
        assert f"](fleet/{name})" in text
