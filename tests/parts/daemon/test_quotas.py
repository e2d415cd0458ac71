"""How many reports (rule D6) and lookups are accepted."""

from __future__ import annotations

import time

from salsa_agent.core.model import RelayKey
from salsa_agent.daemon.quotas import LookupQuota, ReportQuota

RELAYS = [RelayKey(f"r{n}.example.net", 25) for n in range(2000)]
NOC = RELAYS[0]


def accepted(quota: ReportQuota, uid: int, relay: RelayKey, now: float) -> bool:
    refusal = quota.refusal(uid, relay, now)
    assert refusal == "" or refusal.endswith("within an hour.")
    return not refusal


def test_d6_of_one_user_six_an_hour_are_accepted() -> None:
    quota = ReportQuota()
    assert [accepted(quota, 1000, RELAYS[n], 100.0 + n) for n in range(8)] == [True] * 6 + [False] * 2
    assert accepted(quota, 1001, NOC, 110.0)
    assert not accepted(quota, 1000, NOC, 3699.0)
    assert accepted(quota, 1000, NOC, 3701.0)


def test_d6_of_one_relay_six_an_hour_are_accepted_whoever_makes_them() -> None:
    quota = ReportQuota()
    assert [accepted(quota, 1000 + n, NOC, 100.0 + n) for n in range(8)] == [True] * 6 + [False] * 2
    assert accepted(quota, 1000, RELAYS[1], 110.0)
    assert not accepted(quota, 2000, NOC, 3699.0)
    assert accepted(quota, 2000, NOC, 3701.0)


def test_d6_of_root_all_are_accepted_and_they_are_not_counted() -> None:
    quota = ReportQuota()
    assert all(accepted(quota, 0, NOC, 100.0) for _ in range(100))
    assert accepted(quota, 1000, NOC, 100.0)


def test_d6_refused_reports_do_not_count() -> None:
    quota = ReportQuota()
    for second in range(3600):
        accepted(quota, 1000, NOC, float(second))
    assert len(quota) == 6
    assert accepted(quota, 1000, NOC, 3600.0)


def test_d6_the_quota_forgets_what_is_older_than_an_hour() -> None:
    quota = ReportQuota()
    for uid in range(1, 400):
        accepted(quota, uid, RELAYS[uid], float(uid))
    assert accepted(quota, 1, NOC, 10_000.0)
    assert len(quota) == 1


def test_d6_users_and_relays_that_anybody_can_make_fill_no_memory_and_cost_no_time() -> None:
    """A user may have 65,536 user ids; each call looked at all of them, for 184 ms."""
    quota = ReportQuota()
    for uid in range(1, 65_537):
        accepted(quota, uid, RELAYS[uid % 2000], uid / 100)
    assert len(quota) == 512
    started = time.perf_counter()
    for uid in range(1, 1001):
        accepted(quota, uid, NOC, 700.0)
    assert time.perf_counter() - started < 0.5


def test_lookups_of_one_user_ten_a_minute() -> None:
    quota = LookupQuota()
    assert [not quota.refusal(1000, float(n)) for n in range(12)] == [True] * 10 + [False] * 2
    assert quota.refusal(1000, 59.9) == "This user has made 10 lookups within a minute."
    assert not quota.refusal(1001, 12.0)
    assert not quota.refusal(1000, 60.0)


def test_lookups_of_all_users_thirty_a_minute_and_root_s_do_not_count() -> None:
    quota = LookupQuota()
    assert not any(quota.refusal(0, 0.0) for _ in range(100))
    assert [not quota.refusal(uid, 1.0) for uid in range(1, 41)] == [True] * 30 + [False] * 10
    assert quota.refusal(77, 1.0) == "There were 30 lookups within a minute."
    assert not quota.refusal(0, 1.0)
    assert not quota.refusal(77, 61.0)
