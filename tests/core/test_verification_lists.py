"""Several lists that share verdicts (rules C11, D2, D3), and relays of the administrator's tables (C10, C12, D11)."""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import ip_address

from salsa_agent.core.events import Check
from salsa_agent.core.model import Best, CheckResult, Relay, RelayKey, Source, Verdict
from salsa_agent.core.settings import Verify
from salsa_agent.core.verification import Checks, Reach, subject_of
from salsa_agent.core.verification.servers import caller_for
from tests.core.sim import DEAD, OK

VERIFY = Verify()
WANTS_AUTH = CheckResult(Verdict.FAILED, "530 no", auth=True, wants_auth=True)


def relay(name: str, number: int, source: Source = Source.DNS, port: int = 25, srv: str = "", ip: str = "") -> Relay:
    administrator = source in (Source.SITE, Source.SENDER, Source.STATIC)
    interface = "" if source in (Source.SENDER, Source.STATIC) else "eth0"
    return Relay(
        RelayKey(name, port),
        source,
        (ip_address(ip or f"203.0.113.{number}"),),
        interface=interface,
        administrator=administrator,
        srv=srv,
    )


class Lists:
    """Checks over these lists; relays answer as `results` says, else `ok`."""

    def __init__(self, *lists: Sequence[Relay], results: dict[str, CheckResult] | None = None) -> None:
        self.checks = Checks(0)
        self.lists = lists
        self.results = results or {}
        self.spoken: list[Check] = []
        self.reach = Reach({subject_of(one): one.addresses for one_list in lists for one in one_list}, {"eth0": 2})
        self.checks.begin_round(0.0)
        self.checks.set_relays(lists)

    def start(self, now: float = 0.0) -> list[Check]:
        started = self.checks.start_checks(self.lists, self.reach, VERIFY, now)
        return [one for one in started if isinstance(one, Check)]

    def run(self, now: float = 0.0) -> None:
        while started := self.start(now):
            self.spoken += started
            for check in started:
                self.checks.record_result(check, self.results.get(check.key.host, OK), (), now)

    @property
    def names(self) -> list[str]:
        return [check.key.host for check in self.spoken]


def test_d2_the_list_of_c6_goes_first_and_the_four_places_are_for_all_lists_together() -> None:
    network = [relay(f"n{i}.example", i) for i in range(3)]
    own = [relay(f"s{i}.example", 10 + i, Source.SENDER) for i in range(4)]
    lists = Lists(network, own)
    assert [check.key.host for check in lists.start()] == ["n0.example", "n1.example", "n2.example", "s0.example"]
    assert lists.start() == []


def test_d2_the_second_ok_is_counted_in_each_list() -> None:
    network = [relay(f"n{i}.example", i) for i in range(6)]
    own = [relay(f"s{i}.example", 10 + i, Source.SENDER) for i in range(6)]
    lists = Lists(network, own)
    lists.run()
    assert "n5.example" not in lists.names
    assert {"s0.example", "s1.example"} <= set(lists.names)
    assert "s5.example" not in lists.names


def test_d2_verdicts_are_shared_by_the_lists() -> None:
    shared, other = relay("both.example", 1), relay("own.example", 2, Source.SENDER)
    lists = Lists([shared], [other, shared], results={"own.example": DEAD})
    lists.run()
    assert lists.names.count("both.example") == 1
    assert lists.checks.best([other, shared], None, enabled=True) == Best("both.example", 25, Source.DNS)


def test_d10_a_relay_that_is_the_administrators_in_one_list_is_so_in_all() -> None:
    network, own = relay("both.example", 1), relay("both.example", 1, Source.SENDER)
    lists = Lists([network], [own], results={"both.example": WANTS_AUTH})
    lists.run()
    assert lists.checks.listed(own).verdict is Verdict.OK


def test_d3_the_last_resort_of_each_list_is_its_own() -> None:
    own = [relay("a.example", 1, Source.SENDER), relay("b.example", 2, Source.SENDER)]
    lists = Lists([relay("n.example", 3)], own, results=dict.fromkeys(("a.example", "b.example", "n.example"), DEAD))
    lists.run()
    assert lists.checks.best(own, own[0].key, enabled=True) == Best("a.example", 25, Source.SENDER)
    assert lists.checks.best(lists.lists[0], None, enabled=True) == Best()


def test_d5_of_each_list_the_failed_relays_before_its_best_are_verified_again() -> None:
    network = [relay("n0.example", 1), relay("n1.example", 2), relay("n2.example", 3)]
    own = [relay("s0.example", 11, Source.SENDER), relay("s1.example", 12, Source.SENDER)]
    dead = dict.fromkeys(("n2.example", "s0.example"), DEAD)
    lists = Lists(network, own, results=dead)
    lists.run()
    bests = [(one, lists.checks.best(one, None, enabled=True) or Best()) for one in lists.lists]
    lists.checks.plan(bests, VERIFY, 0.0)
    lists.spoken.clear()
    lists.run(40.0)
    assert lists.names == ["s0.example"]  # n2 stands behind the best of its list


def test_c12_what_srv_records_name_must_prove_its_name_and_counts_for_d11() -> None:
    submissions = relay("mail.example", 1, Source.STATIC, 8465, "submissions")
    submission = relay("mail.example", 1, Source.STATIC, 587, "submission")
    first, second = Lists([submissions]).start()[0], Lists([submission]).start()[0]
    assert (first.implicit_tls, first.tls) == (True, "valid")
    assert (second.implicit_tls, second.tls) == (False, "valid")
    many = [relay(f"m{i}.example", i, Source.STATIC, 587, "submission") for i in range(12)]
    lists = Lists(many, results={f"m{i}.example": DEAD for i in range(12)})
    lists.run()
    assert len(lists.names) == 8
    assert lists.checks.listed(many[11]).reason == "D11"


def test_d11_the_administrators_relays_are_not_bounded_in_number() -> None:
    many = [relay(f"m{i}.example", i, Source.STATIC) for i in range(40)]
    lists = Lists(many, results={f"m{i}.example": DEAD for i in range(40)})
    lists.run()
    assert len(lists.names) == 40
    assert caller_for(many[0]).bounded_by == ""


def test_d11_of_a_sites_relays_the_routing_table_decides_and_of_a_links_the_link() -> None:
    site = relay("relay.corp.example", 1, Source.SITE, ip="10.1.2.3")
    link = relay("relay.lan.example", 2, Source.LINK, ip="192.168.7.7")
    for one, ifindex in ((site, 0), (link, 2)):
        (check,) = Lists([one]).start()
        assert check.link_for(one.addresses[0]) == ifindex
