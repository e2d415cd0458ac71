"""When a snapshot is due: the table of `schedule`, one row a test."""

from __future__ import annotations

from salsa_agent.netlink.schedule import DUMP_AGAIN, SNAPSHOT_INTERVAL, SNAPSHOTS, SnapshotSchedule
from salsa_agent.netlink.state import Kind


def test_nothing_is_due_before_something_changes() -> None:
    assert SnapshotSchedule().due_at(5.0) is None


def test_a_change_is_due_at_once() -> None:
    schedule = SnapshotSchedule()
    schedule.note()
    assert schedule.due_at(5.0) == 5.0
    assert schedule.begin(5.0) == []
    assert schedule.due_at(5.0) is None


def test_what_is_stale_is_dumped_in_order_and_once() -> None:
    schedule = SnapshotSchedule()
    schedule.note([Kind.ROUTES])
    schedule.note([Kind.ROUTES, Kind.LINKS])
    assert schedule.begin(5.0) == [Kind.LINKS, Kind.ROUTES]
    assert schedule.begin(5.0) == []


def test_a_storm_costs_ten_a_second() -> None:
    schedule = SnapshotSchedule()
    now, taken = 5.0, 0
    while now < 7.0:
        schedule.note()
        due = schedule.due_at(now)
        assert due is not None
        now = due
        schedule.begin(now)
        taken += 1
    assert taken <= SNAPSHOTS + 2.0 / SNAPSHOT_INTERVAL + 1


def test_what_changes_while_it_is_dumped_is_in_the_snapshot() -> None:
    schedule = SnapshotSchedule()
    schedule.note([Kind.LINKS])
    schedule.begin(5.0)
    schedule.note()
    schedule.taken()
    assert schedule.due_at(5.0) is None


def test_what_gets_stale_while_it_is_dumped_asks_for_another_snapshot() -> None:
    schedule = SnapshotSchedule()
    schedule.note([Kind.LINKS])
    schedule.begin(5.0)
    schedule.note([Kind.ROUTES])
    schedule.taken()
    assert schedule.due_at(5.0) == 5.0
    assert schedule.begin(5.0) == [Kind.ROUTES]


def test_what_changes_after_it_was_taken_asks_for_another() -> None:
    schedule = SnapshotSchedule()
    schedule.note()
    schedule.begin(5.0)
    schedule.taken()
    schedule.note()
    assert schedule.due_at(5.1) == 5.1


def test_e3_an_interrupted_dump_is_due_after_a_second() -> None:
    schedule = SnapshotSchedule()
    schedule.note([Kind.ADDRESSES])
    schedule.begin(5.0)
    schedule.interrupted(Kind.ADDRESSES, 5.5)
    schedule.taken()
    assert schedule.due_at(5.5) == 5.5 + DUMP_AGAIN
    assert not schedule.changed  # so that a change is waited for meanwhile
    assert schedule.begin(6.5) == [Kind.ADDRESSES]
    assert schedule.due_at(6.5) is None


def test_e3_an_interrupted_dump_is_due_with_the_next_change() -> None:
    schedule = SnapshotSchedule()
    schedule.interrupted(Kind.ADDRESSES, 5.0)
    schedule.note([Kind.LINKS])
    assert schedule.due_at(5.1) == 5.1
    assert schedule.begin(5.1) == [Kind.LINKS, Kind.ADDRESSES]
