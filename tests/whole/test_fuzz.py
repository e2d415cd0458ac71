"""Bytes from outside, for as long as the test command has time; `./run fuzz` takes longer."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as examples

from tests.fuzz import live
from tests.fuzz.mutate import inputs
from tests.fuzz.targets import TARGETS, close, watched_log

MANY, FEW = 200, 40
SLOW = {"dbus_messages", "netlink_kernel", "netlink_strangers"}

pytestmark = pytest.mark.timeout(120)


@pytest.fixture(autouse=True, scope="module")
def _given_back() -> Iterator[None]:
    yield
    close()
    live.close_kernel()


@pytest.mark.parametrize("name", TARGETS)
def test_any_bytes_are_read_or_refused(name: str) -> None:
    one = TARGETS[name]
    for seed in one.seeds:
        one.target(seed)

    @examples(
        deadline=None, max_examples=FEW if name in SLOW else MANY, database=None,
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(inputs(one.seeds))
    def fuzz(data: bytes) -> None:
        one.target(data)

    fuzz()


def test_h3_a_bus_that_says_nonsense_with_its_first_answer_is_lost() -> None:
    """In one piece with the answer to Hello; an agent that did not notice would wait for ever."""
    TARGETS["dbus_messages"].target(b"x" * 17)


def test_a_defect_that_is_only_logged_is_seen() -> None:
    with pytest.raises(AssertionError, match="broken"), watched_log():
        logging.getLogger("salsa-agent").error("broken")
