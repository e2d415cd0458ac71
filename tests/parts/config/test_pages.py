"""The tables of docs/sites.md and docs/senders.md are configurations that the agent takes."""

from __future__ import annotations

import re

import pytest

from salsa_agent.config.file import parse
from salsa_agent.core.model import RelayKey, SrvEntry
from tests.lab.run import PROJECT

_FENCE = re.compile(r"^```toml (\S+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
PAGES = [(PROJECT / "docs" / page).read_text() for page in ("sites.md", "senders.md")]
BLOCKS = dict(_FENCE.findall("\n".join(PAGES)))


@pytest.mark.parametrize("name", BLOCKS)
def test_every_table_of_the_pages_is_taken(name: str) -> None:
    settings = parse(BLOCKS[name].encode(), {})
    assert settings.sites or settings.senders
    assert settings.static_relays


def test_the_pages_begin_with_the_three_commonest_tables() -> None:
    assert list(BLOCKS)[:3] == ["office-and-home.toml", "customers.toml", "hotels.toml"]


def test_a_site_that_takes_nothing_and_a_sender_as_the_pages_have_them() -> None:
    (hotels,) = parse(BLOCKS["hotels.toml"].encode(), {}).sites
    assert (hotels.use, hotels.relays) == ("only", ())
    (sender,) = parse(BLOCKS["traveller.toml"].encode(), {}).senders
    assert (sender.relays, sender.network) == ((SrvEntry("home.example"),), "never")
    assert parse(BLOCKS["customers.toml"].encode(), {}).sites[1].relays == (RelayKey("10.20.0.25", 2525),)
