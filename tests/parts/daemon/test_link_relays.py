"""What `SetLinkRelays` said is kept, and forgotten when its link goes (C9)."""

from __future__ import annotations

import socket
import stat
from pathlib import Path

import pytest

from salsa_agent.bus.api import InvalidArgs
from salsa_agent.core.model import Link, LinkRelays, RelayKey
from salsa_agent.daemon.link_relays import LinkRelayStore

LO = socket.if_nametoindex("lo")


def test_c9_the_forms_of_static_relays(tmp_path: Path) -> None:
    store = LinkRelayStore(tmp_path)
    store.set(LO, ["Mail.Example.Net.", "192.0.2.1", "[2001:DB8::1]:587", "2001:db8::2", "mail.example.net"])
    keys = (
        RelayKey("mail.example.net", 0),
        RelayKey("192.0.2.1", 0),
        RelayKey("2001:db8::1", 587),
        RelayKey("2001:db8::2", 0),
    )
    assert store.links == (LinkRelays(LO, "lo", keys),)


@pytest.mark.parametrize("bad", ["", "a b", "192.0.2.1:0", "host:99999", "[::1", "a\x00b", "-x.example.net"])
def test_c9_a_bad_form_alone_is_refused_and_nothing_changes(tmp_path: Path, bad: str) -> None:
    store = LinkRelayStore(tmp_path)
    store.set(LO, ["192.0.2.1"])
    with pytest.raises(InvalidArgs) as caught:
        store.set(LO, [bad, bad])
    assert str(caught.value).isprintable()
    assert store.links[0].relays == (RelayKey("192.0.2.1", 0),)


@pytest.mark.parametrize(
    "bad", ["", "a b", "192.0.2.1:0", "256.1.1.1", "host:99999", "[::1", "a\x00b", "-x.example.net"]
)
def test_c9_of_several_a_bad_one_is_dropped_and_logged_and_the_others_stand(
    tmp_path: Path, bad: str, caplog: pytest.LogCaptureFixture
) -> None:
    store = LinkRelayStore(tmp_path)
    store.set(LO, ["192.0.2.2", bad, "mail.example.net:26"])
    assert store.links[0].relays == (RelayKey("192.0.2.2", 0), RelayKey("mail.example.net", 26))
    [line] = [record.getMessage() for record in caplog.records]
    assert "dropped" in line
    assert line.isprintable()


@pytest.mark.parametrize("given", [["srv:example.net"], ["192.0.2.1", "SRV:example.net"]])
def test_c9_srv_is_for_the_configuration_file(tmp_path: Path, given: list[str]) -> None:
    store = LinkRelayStore(tmp_path)
    with pytest.raises(InvalidArgs, match="srv:"):
        store.set(LO, given)
    assert store.links == ()


def test_c9_no_relays_are_a_valid_answer(tmp_path: Path) -> None:
    store = LinkRelayStore(tmp_path)
    store.set(LO, [])
    assert store.links[0].relays == ()


def test_c9_more_than_16_are_refused(tmp_path: Path) -> None:
    store = LinkRelayStore(tmp_path)
    store.set(LO, [f"192.0.2.{n}" for n in range(16)])
    with pytest.raises(InvalidArgs, match="More than 16"):
        store.set(LO, [f"192.0.2.{n}" for n in range(17)])


@pytest.mark.parametrize("index", [0, -1, 2**31 - 1, 10**6])
def test_c9_a_link_that_is_not_there_is_refused(tmp_path: Path, index: int) -> None:
    with pytest.raises(InvalidArgs, match="no link"):
        LinkRelayStore(tmp_path).set(index, ["192.0.2.1"])


def test_c9_kept_over_a_restart(tmp_path: Path) -> None:
    store = LinkRelayStore(tmp_path)
    store.set(LO, ["192.0.2.1:26", "[2001:db8::1]:587", "mail.example.net"])
    again = LinkRelayStore(tmp_path)
    assert again.links == store.links
    again.revert(LO)
    again.revert(LO)
    assert LinkRelayStore(tmp_path).links == ()
    assert [path.name for path in tmp_path.iterdir()] == ["link-relays.json"]
    assert stat.S_IMODE((tmp_path / "link-relays.json").stat().st_mode) == 0o600


def test_c9_forgotten_when_index_and_name_no_longer_match(tmp_path: Path) -> None:
    store = LinkRelayStore(tmp_path)
    store.set(LO, ["192.0.2.1"])
    assert not store.keep([Link(LO, "lo", usable=True)])
    assert store.keep([Link(LO, "lo1", usable=True), Link(LO + 1, "lo", usable=True)])
    assert store.links == ()
    assert LinkRelayStore(tmp_path).links == ()


@pytest.mark.parametrize("content", ["", "{", "[1]", "null", '[{"ifindex": 1}]', "[" * 100000,
                                     '[{"ifindex": 1, "interface": "lo", "relays": ["a b"]}]',
                                     '[{"ifindex": 1, "interface": "lo", "relays": [null, {}, "a b"]}]'])  # fmt: skip
def test_c9_a_damaged_file_is_as_good_as_none(tmp_path: Path, content: str) -> None:
    (tmp_path / "link-relays.json").write_text(content)
    assert LinkRelayStore(tmp_path).links == ()


def test_c9_a_directory_that_cannot_be_written_costs_the_memory_only(tmp_path: Path) -> None:
    store = LinkRelayStore(tmp_path / "missing")
    store.set(LO, ["192.0.2.1"])
    assert len(store.links) == 1


def test_c9_without_a_directory_nothing_is_kept() -> None:
    store = LinkRelayStore(None)
    store.set(LO, ["192.0.2.1"])
    assert len(store.links) == 1
