"""`salsactl site`: an entry for the network at hand, which the configuration takes, and which then holds there."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterator
from ipaddress import ip_address, ip_network
from pathlib import Path

import pytest

from salsa_agent.cli.salsactl.main import main
from salsa_agent.cli.salsactl.site import block, site_entry, toml
from salsa_agent.config import file as config
from salsa_agent.core.model import Address, LinkInfo, RelayKey, SrvEntry
from salsa_agent.core.selection.sites import site_of
from salsa_agent.oneshot.network_at_hand import NetworkAtHand
from tests.lab.bus import Bus, Done, system_bus
from tests.lab.netns import Netns, veth
from tests.parts.cli.test_salsactl import SALSACTL, refused

UUID = "5f0e9dd4-9cbb-4bd1-9a3c-5b0f0e9d9cbb"
PREFIX = ip_network("192.0.2.0/24")
HERE = NetworkAtHand("wlan0", "192.0.2.7", PREFIX, LinkInfo(3))


@pytest.mark.parametrize(
    ("info", "wanted"),
    [
        (LinkInfo(3, ("corp.example",), "Office", UUID), {"name": "Office", "connection": [UUID]}),
        (LinkInfo(3, (".", "corp.example", "b.example")),
         {"name": "corp.example", "prefix": [str(PREFIX)], "domain": ["corp.example", "b.example"]}),
        (LinkInfo(3, (".",)), {"name": str(PREFIX), "prefix": [str(PREFIX)]}),
    ],
)  # fmt: skip
def test_c10_the_criteria_of_an_entry(info: LinkInfo, wanted: dict[str, object]) -> None:
    found = HERE._replace(info=info)
    assert site_entry(found, ["mail.example"]) == wanted | {"relays": ["mail.example"]}
    assert site_entry(found, []) == wanted | {"use": "only"}


def test_c10_a_hostile_name_of_a_connection_is_toml_and_none_reaches_the_terminal() -> None:
    """What NetworkManager calls a connection may be what an access point is called."""
    name = 'a"\n[evil]\x7f\x9b31m\u2028\U000e0001\\ \U0001f4e7'
    text = toml(name)
    assert text.isprintable()
    assert tomllib.loads(f"name = {text}") == {"name": name}
    assert toml(["Café", "b"]) == '["Café", "b"]'


ODD = [
    "a\nb", "\x00", "\x7f", "\x9b31m", "\u2028", "\U000e0001", "\ud800", 'a"]\n[evil]', "\\", "$(x)", "%s", "'",
    "x" * 300, "a b", "-a", "a..b", "exa$mple", "0/25.example", "1.2", "é.example", "~corp", "*",
]  # fmt: skip


@pytest.mark.parametrize("odd", ODD)
def test_c10_whatever_a_network_calls_things_a_configuration_takes_the_entry(odd: str) -> None:
    """Search domains come by DHCP, and a connection is called as its access point is."""
    for info in (LinkInfo(3, (odd, "corp.example")), LinkInfo(3, (odd,), odd, UUID), LinkInfo(3, (), odd, odd)):
        text = block(HERE._replace(info=info, interface=odd), ["mail.example"])
        assert all(line.isprintable() for line in text.splitlines())
        [site] = config.parse(text.encode(), {}).sites
        assert site.relays == (RelayKey("mail.example", 25),)
        assert site.domain or site.prefix or site.connection


@pytest.fixture
def bus() -> Iterator[Bus]:
    with system_bus() as running:
        yield running


@pytest.fixture
def space() -> Iterator[Netns]:
    """A network namespace of a host with one link and one address."""
    with Netns() as host, Netns() as far:
        veth(host, "eth7", far, "far0")
        host.batch(["link set eth7 up", "addr add 192.0.2.7/24 dev eth7"])
        far.batch(["link set far0 up"])
        yield host


async def site(bus: Bus, space: Netns, *argv: str) -> Done:
    return await bus.run(["ip", "netns", "exec", space.name, "timeout", "60", *SALSACTL, "site", *argv])


async def test_c10_what_is_printed_is_a_configuration_that_holds_here(bus: Bus, space: Netns, tmp_path: Path) -> None:
    resolv = tmp_path / "resolv.conf"
    resolv.write_text("search Home.Example\n")
    done = await site(bus, space, "mail.example:26", "srv:home.example")
    assert (done.status, done.err) == (0, "")
    assert done.out.startswith("# eth7, 192.0.2.7\n[[site]]\n")
    (found,) = config.parse(done.out.encode(), {}).sites
    assert found.prefix == (PREFIX,)
    assert found.relays == (RelayKey("mail.example", 26), SrvEntry("home.example"))
    info = LinkInfo(7, found.domain)
    assert site_of("eth7", info, [Address(ip_address("192.0.2.9"), 7, "eth7")], [found]) == found
    assert json.loads((await site(bus, space, "--json", "a")).out)["site"][0]["relays"] == ["a"]


async def test_c10_without_a_relay_it_takes_none_from_this_network(bus: Bus, space: Netns) -> None:
    (found,) = config.parse((await site(bus, space)).out.encode(), {}).sites
    assert (found.use, found.relays) == ("only", ())


async def test_without_an_address_there_is_no_network(bus: Bus) -> None:
    with Netns() as empty:
        refused(await site(bus, empty), 1, "no address that counts")


@pytest.mark.parametrize("relay", ["a b", "srv:", "a:0", ""])
def test_a_bad_relay_is_a_usage_error(relay: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["site", relay])
    assert ended.value.code == 2
    assert capsys.readouterr().err.startswith("usage: salsactl site")
