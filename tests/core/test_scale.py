"""The model behind docs/scale.md against the real core, and the page against the model."""

from __future__ import annotations

import random
from math import inf, log

import pytest

from benchmarks import scale
from benchmarks.scale import Fleet
from salsa_agent.core.model import Answer, Outcome, Question, RRType
from tests.core.sim import World, at, mx
from tests.lab.run import PROJECT

NETWORKS = 40


class Resolver(World):
    """A host whose resolver caches; each network has a relay at /24, or nothing."""

    def __init__(self, fleet: Fleet) -> None:
        super().__init__()
        self.fleet = fleet
        self.fetched: dict[tuple[str, RRType], float] = {}

    def answer(self, question: Question) -> Answer:
        found = super().answer(question)
        answer = Answer(Outcome.NONE, rcode="NXDOMAIN") if found.outcome is Outcome.NONE else found
        ttl = self.fleet.negative if answer.outcome is Outcome.NONE else self.fleet.ttl
        key = question.name, question.rtype
        if self.now >= self.fetched.get(key, -inf) + ttl:
            self.fetched[key] = self.now
        return answer._replace(ttl=int(self.fetched[key] + ttl - self.now) + 1)


@pytest.mark.parametrize(
    "fleet",
    [
        Fleet(publishing=0.0),
        Fleet(publishing=0.0, negative=600.0, roams=10.0),
        Fleet(publishing=0.0, negative=10800.0, roams=2.0),
        Fleet(publishing=1.0),
        Fleet(publishing=1.0, ttl=900.0, negative=600.0, roams=10.0),
        Fleet(publishing=1.0, ttl=14400.0, negative=10800.0, roams=12.0),
        Fleet(publishing=1.0, negative=60.0, roams=24.0),
    ],
)
def test_the_questions_of_a_host_are_those_that_the_core_asks(fleet: Fleet) -> None:
    stays = [-fleet.stay * log(1 - (index + 0.5) / NETWORKS) for index in range(NETWORKS)]
    random.Random(16).shuffle(stays)
    host = Resolver(fleet)
    host.host("relay.example.net", at("203.0.113.25"))
    for network, stay in enumerate(stays):
        if int(network * fleet.publishing) < int((network + 1) * fleet.publishing):
            host.mx(f"{network}.0.198.in-addr.arpa", mx("10:relay.example.net."))
        host.fetched.clear()  # another network, another resolver
        if network:
            host.move(f"198.0.{network}.7")
        else:
            host.start(f"198.0.{network}.7")
        host.pass_time(stay)
    days = sum(stays) / scale.DAY
    assert len(host.asked) / days == pytest.approx(scale.to_resolver(fleet), rel=0.1)
    assert len(host.checked) / days == pytest.approx(scale.to_relays(fleet), rel=0.1)


def test_caches_bound_what_reaches_the_name_servers() -> None:
    alone, many = Fleet(behind=1.0), Fleet(behind=10_000.0)
    assert scale.to_reverse_zones(alone) <= scale.to_resolver(alone)
    own = alone.roams * scale.asked_of_nothing(alone.stay, alone.negative)
    assert scale.to_reverse_zones(many) == pytest.approx(own, rel=0.01)


def test_the_page_and_its_plots_are_what_the_model_says() -> None:
    text = scale.PAGE.read_text()
    assert scale.page(text) == text
    for name, picture in scale.pictures().items():
        assert (PROJECT / "docs" / "scale" / name).read_text() == picture
        assert f"](scale/{name})" in text
