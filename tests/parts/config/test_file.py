"""The configuration files: every key with its default, its forms, its range and its errors; drop-ins."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as examples
from hypothesis import strategies as st

from salsa_agent.config import file as config
from salsa_agent.config.keys import Forms
from salsa_agent.config.values import relay
from salsa_agent.core.model import RelayKey, Server, SrvEntry
from salsa_agent.core.settings import (
    DEFAULT_IGNORE,
    Dns,
    InetEndpoint,
    Sender,
    Settings,
    Site,
    TrustedServer,
    UnixEndpoint,
)
from salsa_agent.text import host_port

UNHURRIED = examples(deadline=None, suppress_health_check=[HealthCheck.too_slow])
EXAMPLE = Path(__file__).parents[3] / "examples" / "salsa-agent.toml"


def settings(text: str, **environ: str) -> Settings:
    return config.parse(text.encode(), environ)


def get(text: str) -> Any:
    """What the one `table.key = value` of the text became."""
    return value_of(settings(text), text.partition(" ")[0])


def value_of(read: Settings, name: str) -> Any:
    """The value of this key."""
    value: Any = read
    flat = {
        "static.relays": "static_relays",
        "smtp.port": "smtp_port",
        "output.directory": "output_directory",
        "postfix.listen": "postfix_listen",
        "srv.targets": "srv_targets",
    }
    for part in flat.get(name, name).split("."):
        value = getattr(value, part)
    return value


def error(path: Path) -> str:
    with pytest.raises(config.ConfigError) as caught:
        config.load(path)
    return str(caught.value)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "salsa.toml"


# --- defaults


DEFAULTS = {
    "static.relays": (),
    "network.ignore": DEFAULT_IGNORE,
    "network.ipv4_levels": (32, 24, 16),
    "network.ipv6_levels": (128, 64, 56, 48, 32),
    "network.nat": "off",
    "network.stun_server": None,
    "dns.servers": (),
    "dns.timeout": 2.0,
    "dns.attempts": 2,
    "dns.trust_ad": (),
    "dns.case_randomization": True,
    "dns.srv": False,
    "smtp.port": 25,
    "srv.targets": (),
    "verify.enabled": True,
    "verify.timeout": 10.0,
    "verify.interval": 1800,
    "verify.tls": "off",
    "verify.recipient": "",
    "policy.allow": ("*",),
    "policy.deny": (),
    "policy.require": "none",
    "policy.internal": True,
    "output.directory": "",
    "postfix.listen": (),
}
ENTRY_DEFAULTS = {
    "site.prefix": (),
    "site.interface": (),
    "site.domain": (),
    "site.connection": (),
    "site.relays": (),
    "site.use": "first",
    "sender.network": "never",
}
NO_DEFAULT = ["site.name", "sender.address", "sender.relays"]


def covers(seen: Iterable[str], tables: Mapping[str, Forms], what: str) -> None:
    """Fail with a line for each key that the tests have forgotten."""
    forgotten = sorted({f"{table}.{key}" for table, keys in tables.items() for key in keys} - {*seen})
    assert not forgotten, "\n".join(f"{key}: add {what}" for key in forgotten)


def test_every_key_has_its_default_its_good_and_its_bad_values_here() -> None:
    covers(DEFAULTS, config.KEYS, "its default to DEFAULTS")
    covers([*ENTRY_DEFAULTS, *NO_DEFAULT], config.ENTRY_KEYS, "its default to ENTRY_DEFAULTS, or the key to NO_DEFAULT")
    good = [text.partition(" ")[0] for text, value in GOOD if value != DEFAULTS.get(text.partition(" ")[0])]
    covers(good, config.KEYS, "a value that is not its default to GOOD")
    entries = {"site": tomllib.loads(SITES)["site"], "sender": tomllib.loads(SENDERS)["sender"]}
    given = [f"{table}.{key}" for table, some in entries.items() for one in some for key in one]
    covers(given, config.ENTRY_KEYS, "a good value to SITES or SENDERS")
    covers([key for key, _ in BAD], config.KEYS, "bad values to BAD")
    bad = [f"site.{key}" for key, _ in BAD_SITES] + [f"sender.{key}" for key, _ in BAD_SENDERS]
    covers(bad, config.ENTRY_KEYS, "bad values to BAD_SITES or BAD_SENDERS")


@pytest.mark.parametrize("key", DEFAULTS)
def test_the_default_of_a_key(key: str) -> None:
    assert value_of(settings(""), key) == DEFAULTS[key]
    assert type(value_of(settings(""), key)) is type(DEFAULTS[key])


def test_the_defaults_of_the_keys_of_entries() -> None:
    by_prefix = settings('[[site]]\nname = "a"\nprefix = ["::/0"]\nrelays = ["b"]').sites[0]
    by_interface = settings('[[site]]\nname = "a"\ninterface = ["*"]\nuse = "only"').sites[0]
    sender = settings('[[sender]]\naddress = ["*"]\nrelays = ["b"]').senders[0]
    for key, value in ENTRY_DEFAULTS.items():
        one = {"site.prefix": by_interface, "site.relays": by_interface, "sender.network": sender}.get(key, by_prefix)
        assert getattr(one, key.partition(".")[2]) == value, key


def test_the_defaults_without_a_file() -> None:
    assert settings("") == Settings()
    assert " ".join(DEFAULT_IGNORE) == (
        "docker* br-" + "[0-9a-f]" * 12 + " veth* virbr* vnet* cni* flannel* cali* podman* lxc* lxd* incus* vmnet* "
        "vboxnet* cilium* nodelocaldns hassio nerdctl* cbr* kube-* waydroid* ovn-k8s-*"
    )


def test_the_example_shows_every_key_with_its_default() -> None:
    lines = [line.removeprefix("#") if line[:2] not in ("# ", "#") else "" for line in EXAMPLE.read_text().splitlines()]
    text = "\n".join(lines)
    document = tomllib.loads(text)
    entries = {table: document.pop(table) for table in config.ENTRY_KEYS}
    assert {table: set(keys) for table, keys in document.items()} == {k: set(v) for k, v in config.KEYS.items()}
    for table, shown in entries.items():  # a site and a sender have no default: they are an example
        assert {key for entry in shown for key in entry} == set(config.ENTRY_KEYS[table])
    runtime = {"RUNTIME_DIRECTORY": "/run/salsa-agent"}
    assert replace(settings(text), sites=(), senders=()) == settings("", **runtime)
    assert settings(EXAMPLE.read_text(), **runtime) == settings("", **runtime)  # as it is shipped: all commented out


# --- forms

GOOD = [
    ('static.relays = ["Mail.Example.NET."]', (RelayKey("mail.example.net", 25),)),
    ('static.relays = ["smtp", "localhost:587"]', (RelayKey("smtp", 25), RelayKey("localhost", 587))),
    ('static.relays = ["192.0.2.1", "192.0.2.1:26"]', (RelayKey("192.0.2.1", 25), RelayKey("192.0.2.1", 26))),
    ('static.relays = ["2001:DB8:0::1"]', (RelayKey("2001:db8::1", 25),)),
    ('static.relays = ["[2001:db8::1]:587", "[::1]"]', (RelayKey("2001:db8::1", 587), RelayKey("::1", 25))),
    ('static.relays = ["my_relay.lan", "a:65535"]', (RelayKey("my_relay.lan", 25), RelayKey("a", 65535))),
    ("network.ignore = []", ()),
    ('network.ignore = ["wg*", "tun?"]', ("wg*", "tun?")),
    ("network.ipv4_levels = []", ()),
    ("network.ipv4_levels = [8, 32, 8]", (32, 8)),
    ("network.ipv6_levels = [16, 20, 128]", (128, 20, 16)),
    ('network.nat = "nat-pmp"', "nat-pmp"),
    ('network.stun_server = "Stun.example.org"', RelayKey("stun.example.org", 3478)),
    ('network.stun_server = "192.0.2.1:5349"', RelayKey("192.0.2.1", 5349)),
    ('network.stun_server = "2001:db8::1"', RelayKey("2001:db8::1", 3478)),
    ('dns.servers = ["192.0.2.1", "192.0.2.1:5353"]', (Server("192.0.2.1"), Server("192.0.2.1", 5353))),
    ('dns.servers = ["2001:DB8::1"]', (Server("2001:db8::1"),)),
    ('dns.servers = ["[2001:db8::1]:54"]', (Server("2001:db8::1", 54),)),
    ('dns.servers = ["fe80::1%eth0", "[fe80::2%eth0.5]:54"]', (Server("fe80::1%eth0"), Server("fe80::2%eth0.5", 54))),
    ("dns.timeout = 0.1", 0.1),
    ("dns.timeout = 30", 30.0),
    ("dns.attempts = 1", 1),
    ("dns.attempts = 5", 5),
    ("dns.case_randomization = false", False),
    ("dns.srv = true", True),
    ('dns.trust_ad = ["::1", "192.0.2.1:53"]', (TrustedServer("::1"), TrustedServer("192.0.2.1", 53))),
    ('dns.trust_ad = ["[2001:DB8::1]:53"]', (TrustedServer("2001:db8::1", 53),)),
    ("smtp.port = 1", 1),
    ("smtp.port = 65535", 65535),
    ("verify.enabled = false", False),
    ("verify.timeout = 0.5", 0.5),
    ("verify.timeout = 30.0", 30.0),
    ("verify.interval = 0", 0),
    ("verify.interval = 30", 30),
    ("verify.interval = 86400", 86400),
    ('verify.tls = "offered"', "offered"),
    ('verify.tls = "valid"', "valid"),
    ('verify.recipient = "Post+x@Example.ORG"', "Post+x@example.org"),
    ('policy.allow = ["*.Example.NET."]', ("*.example.net",)),
    ('policy.deny = ["*.example.org"]', ("*.example.org",)),
    ('policy.require = "dnssec"', "dnssec"),
    ('output.directory = "/run/x"', "/run/x"),
    ('output.directory = ""', ""),
    ('postfix.listen = ["inet:127.0.0.1:8462"]', (InetEndpoint("127.0.0.1", 8462),)),
    ('postfix.listen = ["inet:[::1]:8462"]', (InetEndpoint("::1", 8462),)),
    ('postfix.listen = ["unix:/run/p"]', (UnixEndpoint("/run/p"),)),
    ('static.relays = ["srv:Example.NET.", "a"]', (SrvEntry("example.net"), RelayKey("a", 25))),
    ('static.relays = ["SRV:example.net", "srv:example.net"]', (SrvEntry("example.net"),)),
    ('srv.targets = ["*.Provider.example."]', ("*.provider.example",)),
    ("policy.internal = false", False),
]


@pytest.mark.parametrize(("text", "value"), GOOD)
def test_good_values(text: str, value: Any) -> None:
    assert get(text) == value
    assert type(get(text)) is type(value)


BAD = [
    ("static.relays", ['"a"', "[1]", '[""]', '["a b"]', '["a..b"]', '["-a"]', '["a-"]', '["a:0"]', '["a:65536"]']),
    ("static.relays", ['["a:x"]', '["a:"]', '[":25"]', '["256.1.1.1"]', '["1.2.3"]', '["[192.0.2.1]:25"]']),
    ("static.relays", ['["[::1]25"]', '["[::1"]', '["fe80::1%eth0"]', '["bücher.example"]', '["a:+5"]', '["a: 5"]']),
    ("static.relays", ['["a\\u0000"]', f'["{"a" * 64}.b"]', f'["{"a." * 127}a"]', '["a/b"]', '["."]', '["a:²"]']),
    ("static.relays", ['["srv:"]', '["srv:a b"]', '["srv:a..b"]', '["srv:192.0.2.1"]', '["srv:2001:db8::1"]']),
    ("static.relays", ['["srv:example.net:587"]', '["srv:587"]', '["srv:.example.net"]', f'["srv:{"a." * 120}a"]']),
    ("srv.targets", ['"*"', "[1]", '[""]', '["[a"]', "{}"]),
    ("policy.internal", ["1", '"no"', "[]"]),
    ("network.ignore", ['"wg*"', "[1]", '[""]', '["a\\n"]', '["wg[0"]']),
    ("network.ipv4_levels", ["24", "[0]", "[4]", "[12]", "[40]", "[24.0]", '["24"]', "[true]"]),
    ("network.ipv6_levels", ["[12]", "[18]", "[132]", "[64.0]"]),
    ("network.nat", ['"on"', "true", '""', '"NAT-PMP"']),
    ("network.stun_server", ["1", '"a b"', '"a:0"', '["a"]']),
    (
        "dns.servers",
        ['["dns.example"]', '["192.0.2.1:0"]', '["192.0.2.1:65536"]', '["192.0.2.256"]', '["192.0.2.1/24"]'],
    ),
    (
        "dns.servers",
        ['["::1%"]', '["fe80::1%a b"]', '["[192.0.2.1]:53"]', '"192.0.2.1"', '["fe80::1%averylonginterface"]'],
    ),
    ("dns.timeout", ["0.09", "30.1", "0", "-1", "nan", "inf", "-inf", "true", '"2"', "[2]", f"0x{'f' * 5000}"]),
    ("dns.attempts", ["0", "6", "2.0", "true", '"2"']),
    ("dns.case_randomization", ["1", '"no"', "[]"]),
    ("dns.srv", ["1", '"on"', "[]"]),
    ("dns.trust_ad", ['["localhost"]', '["*"]', "[1]", '["[127.0.0.1]:53"]']),
    ("smtp.port", ["0", "65536", "-25", "25.0", "true", '"25"', f"0x{'f' * 5000}"]),
    ("verify.enabled", ["1", "0", '"true"', "[]"]),
    ("verify.timeout", ["0.49", "30.5", "nan", "false"]),
    ("verify.interval", ["29", "1", "-1", "86401", "600.0", "false"]),
    ("verify.tls", ['"on"', "true", '""']),
    ("verify.recipient", ['"a"', '"a@"', '"@b.example"', '"a b@c.example"', '"<a@b.example>"', '"a@b\\r\\nQUIT"', "1"]),
    ("verify.recipient", [f'"{"a" * 65}@b.example"', '"a@192.0.2.1"', '"é@b.example"', '"a@b.example:25"']),
    ("policy.allow", ['"*"', "[1]", '[""]']),
    ("policy.deny", ['"*"', '["a\\t"]']),
    ("policy.require", ['"tls"', "true", '""']),
    ("output.directory", ['"run"', '"./x"', '"/a\\nb"', "1", '["/x"]']),
    ("postfix.listen", ['"inet:127.0.0.1:1"', '["127.0.0.1:1"]', '["inet:127.0.0.1"]', '["inet:127.0.0.1:0"]', '[""]']),
    (
        "postfix.listen",
        ['["inet:::1:8462"]', '["inet:mail.example:1"]', '["unix:p"]', '["unix:"]', f'["unix:/{"a" * 107}"]'],
    ),
]


@pytest.mark.parametrize(("key", "value"), [(key, value) for key, values in BAD for value in values])
def test_an_error_names_file_key_and_reason_on_one_line(file: Path, key: str, value: str) -> None:
    file.write_text(f"{key} = {value}\n")
    text = error(file)
    assert text.startswith(f"{file}: {key}: ")
    assert text.isprintable()
    assert 10 < len(text) - len(f"{file}: {key}: ") < 300


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("[dns]\ntimeot = 1", "dns.timeot: unknown key; did you mean dns.timeout?"),
        ("[dns]\nTIMEOUT = 1", "dns.TIMEOUT: unknown key; did you mean dns.timeout?"),
        ("timeot = 1", "timeot: unknown key; did you mean dns.timeout?"),
        ("[DNS]\ntimeout = 1", "DNS: unknown key; did you mean dns?"),
        ("[output]\npath = '/x'", "output.path: unknown key; did you mean output.directory?"),
        ("[smtp]\nrecipent = 'x'", "smtp.recipent: unknown key; did you mean verify.recipient?"),
        (
            "[policy]\npermit = []",
            "policy.permit: unknown key; known are policy.allow, policy.deny, policy.require, policy.internal",
        ),
        ("[verify]\ntrust_ad = []", "verify.trust_ad: unknown key; did you mean dns.trust_ad?"),
        ("[[sites]]\nname = 'a'", "sites: unknown key; did you mean site?"),
        ("[site]\nname = 'a'", "site: must be an array of tables, each under [[site]]"),
        ("site = [1]", "site: must be an array of tables, each under [[site]]"),
        ("sender = 'a'", "sender: must be an array of tables, each under [[sender]]"),
        ("[dns.timeout]\nx = 1", "dns.timeout: must be a number"),
        ("[dnss]\ntimeout = 1", "dnss: unknown key; did you mean dns?"),
        ("relays = []", "relays: unknown key; did you mean static.relays?"),
        ("dns = 1", "dns: must be a table"),
        ("[[dns]]\ntimeout = 1", "dns: must be a table"),
        ('"a\\nb" = 1', "a\\nb: unknown key"),
        ('[dns]\n"\\u2028" = 1', "dns.\\u2028: unknown key"),
    ],
)
def test_unknown_keys_and_tables(file: Path, text: str, names: str) -> None:
    file.write_text(text)
    assert error(file).startswith(f"{file}: {names}")
    assert error(file).isprintable()


# --- rules between keys


def test_static_relays_have_the_port_of_smtp_port() -> None:
    assert settings('static.relays = ["a", "b:25"]\nsmtp.port = 587').static_relays == (
        RelayKey("a", 587),
        RelayKey("b", 25),
    )


def test_c6_of_equal_static_relays_the_first_stays() -> None:
    assert settings('static.relays = ["a", "b", "A.:25"]').static_relays == (RelayKey("a", 25), RelayKey("b", 25))


def test_g1_a_bad_stun_server_is_one_error(file: Path) -> None:
    file.write_text('[network]\nnat = "stun"\nstun_server = "a b"')
    assert error(file) == f'{file}: network.stun_server: "a b" is neither a host name nor an address'


def test_g1_stun_without_a_server_is_an_error(file: Path) -> None:
    file.write_text('network.nat = "stun"')
    assert error(file) == f'{file}: network.stun_server: must be set with network.nat = "stun"'
    assert settings('network.nat = "stun"\nnetwork.stun_server = "a"').network.stun_server == RelayKey("a", 3478)


def test_the_output_directory_is_the_runtime_directory_if_none_is_set() -> None:
    assert settings("", RUNTIME_DIRECTORY="/run/a:/run/b").output_directory == "/run/a"
    assert settings("", RUNTIME_DIRECTORY="").output_directory == ""
    assert settings('output.directory = "/x"', RUNTIME_DIRECTORY="/run/a").output_directory == "/x"
    assert settings('output.directory = ""', RUNTIME_DIRECTORY="/run/a").output_directory == ""
    with pytest.raises(ValueError, match=r"^output\.directory: RUNTIME_DIRECTORY"):
        settings("", RUNTIME_DIRECTORY="run")


# --- sites and senders

HOME = '[[site]]\nname = "home"\ndomain = ["home.example"]\nrelays = ["smtp"]\n'


SITES = """\
smtp.port = 26
[[site]]
name = "office"
prefix = ["10.1.0.0/16", "2001:DB8:1::/48", "192.0.2.7"]
interface = ["wlan*", "eth0"]
domain = ["Corp.Example.", "."]
connection = ["Office Wi-Fi", "5f0e9dd4-9cbb-4bd1-9a3c-5b0f0e9d9cbb"]
relays = ["mail.corp.example", "mail.corp.example:26", "[2001:db8::1]:587", "srv:corp.example"]
use = "last"
[[site]]
name = "hotel"
interface = ["*"]
use = "only"
"""


def test_c10_a_site_with_all_its_keys() -> None:
    assert settings(SITES).sites == (
        Site(
            "office",
            (ip_network("10.1.0.0/16"), ip_network("2001:db8:1::/48"), ip_network("192.0.2.7")),
            ("wlan*", "eth0"),
            ("corp.example", "."),
            ("Office Wi-Fi", "5f0e9dd4-9cbb-4bd1-9a3c-5b0f0e9d9cbb"),
            (RelayKey("mail.corp.example", 26), RelayKey("2001:db8::1", 587), SrvEntry("corp.example")),
            "last",
        ),
        Site("hotel", interface=("*",), use="only"),
    )


SENDERS = """\
smtp.port = 26
[[sender]]
address = ["*@Home.example", "Me@Work.example"]
relays = ["smtp.home.example", "srv:home.example", "other.example:25"]
network = "last"
[[sender]]
address = ["*"]
relays = ["a"]
"""


def test_c11_a_relay_of_a_sender_has_port_587_whatever_smtp_port() -> None:
    assert settings(SENDERS).senders == (
        Sender(
            ("*@home.example", "me@work.example"),
            (RelayKey("smtp.home.example", 587), SrvEntry("home.example"), RelayKey("other.example", 25)),
            "last",
        ),
        Sender(("*",), (RelayKey("a", 587),), "never"),
    )


BAD_SITES = [
    ("name", ["", "name = 1", 'name = ""', 'name = "a\\n"', 'name = ["a"]', f'name = "{"a" * 256}"']),
    ("prefix", ["prefix = 1", 'prefix = "10.0.0.0/8"', 'prefix = ["10.0.0/8"]', 'prefix = ["10.0.0.0/33"]']),
    (
        "prefix",
        ['prefix = ["10.1.2.3/8"]', 'prefix = ["fe80::%1/64"]', 'prefix = ["10.0.0.0/255.0.0.0"]', "prefix = []"],
    ),
    (
        "interface",
        ["interface = 1", 'interface = "eth0"', 'interface = [""]', 'interface = ["a[b"]', "interface = [1]"],
    ),
    (
        "domain",
        ["domain = 1", 'domain = ["a b"]', 'domain = [""]', 'domain = ["~a.example"]', 'domain = ["192.0.2.1"]'],
    ),
    ("connection", ["connection = 1", 'connection = "x"', 'connection = [""]', 'connection = ["a\\u0000"]']),
    ("relays", ["relays = 1", "relays = []", 'relays = ["a b"]', 'relays = ["srv:"]', 'relays = ["a:0"]', ""]),
    ("use", ["use = 1", 'use = ""', 'use = "always"']),
    ("nam", ["nam = 1"]),
]
GOOD_SITE = {"name": 'name = "home"', "prefix": 'prefix = ["10.0.0.0/8"]', "relays": 'relays = ["smtp"]'}


@pytest.mark.parametrize(("key", "line"), [(key, line) for key, lines in BAD_SITES for line in lines])
def test_c10_an_error_in_a_site_names_file_entry_key_and_reason(file: Path, key: str, line: str) -> None:
    lines = GOOD_SITE | {key: line}
    file.write_text(f"{HOME}[[site]]\n".replace('"home"', '"first"') + "\n".join(lines.values()))
    text = error(file)
    assert text.startswith(f"{file}: site[2].{key}: ")
    assert text.isprintable()
    assert "more" not in text  # one mistake is one error


def test_c10_a_site_needs_a_criterion(file: Path) -> None:
    file.write_text('[[site]]\nname = "a"\nrelays = ["b"]\ninterface = []\n')
    assert error(file) == (
        f"{file}: site[1].prefix: must be given, or else interface, domain or connection: a site needs a criterion"
    )


def test_c10_relays_may_be_left_out_with_use_only(file: Path) -> None:
    text = '[[site]]\nname = "a"\ninterface = ["*"]\nuse = "{}"\n'
    assert settings(text.format("only") + "relays = []").sites == (Site("a", interface=("*",), use="only"),)
    for use in ("first", "last"):
        file.write_text(text.format(use))
        assert error(file) == f'{file}: site[1].relays: must name a relay, unless use = "only"'


def test_c10_two_sites_of_one_name(file: Path) -> None:
    file.write_text(HOME + HOME)
    assert error(file) == f'{file}: site[2].name: "home" is the name of site[1], too'


BAD_SENDERS = [
    (
        "address",
        ["", "address = 1", 'address = "*@a.example"', "address = []", 'address = [""]', 'address = ["a.example"]'],
    ),
    ("address", ['address = ["a@[b"]', 'address = ["a@b\\n"]', "address = [1]"]),
    ("relays", ["", "relays = 1", "relays = []", 'relays = [""]', 'relays = ["srv:a:b"]']),
    ("network", ["network = 1", 'network = "only"', "network = true"]),
    ("name", ['name = "a"']),
]


@pytest.mark.parametrize(("key", "line"), [(key, line) for key, lines in BAD_SENDERS for line in lines])
def test_c11_an_error_in_a_sender_names_file_entry_key_and_reason(file: Path, key: str, line: str) -> None:
    lines = {"address": 'address = ["*@a.example"]', "relays": 'relays = ["smtp"]'} | {key: line}
    file.write_text("[[sender]]\n" + "\n".join(lines.values()))
    assert error(file).startswith(f"{file}: sender[1].{key}: ")
    assert "more" not in error(file)


# --- drop-ins


@pytest.fixture
def drop_ins(file: Path) -> Path:
    directory = file.with_name(f"{file.name}.d")
    directory.mkdir()
    return directory


def test_drop_ins_add_to_tables_replace_keys_and_append_entries(file: Path, drop_ins: Path) -> None:
    file.write_text("[dns]\ntimeout = 1\nattempts = 1\n" + HOME)
    (drop_ins / "10-a.toml").write_text('[dns]\ntimeout = 3\n[[site]]\nname = "b"\nprefix = ["::/0"]\nrelays = ["x"]\n')
    (drop_ins / "9-b.toml").write_text("[dns]\ntimeout = 4\n[smtp]\nport = 26\n")  # "1" is before "9"
    found = config.load(file)
    assert found.dns == Dns(timeout=4.0, attempts=1)
    assert [site.name for site in found.sites] == ["home", "b"]
    assert found.sites[1].relays == (RelayKey("x", 26),)  # the port of another file


def test_drop_ins_are_read_in_byte_order_without_dotfiles_and_others(file: Path, drop_ins: Path) -> None:
    file.write_text("")
    for name in ("b.toml", "B.toml", "a\udcff.toml", "aé.toml", ".c.toml", "d.toml~", "e.conf", ".toml"):
        (drop_ins / name).write_text("nonsense" if name[0] in ".de" else "")
    read = [path.name for path in config.check(file).files]
    assert read == [file.name, "B.toml", "aé.toml", "a\udcff.toml", "b.toml"]


def test_drop_ins_are_read_where_the_default_file_is_absent(
    file: Path, drop_ins: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(config, "DEFAULT_PATH", file)
    (drop_ins / "a.toml").write_text("smtp.port = 26")
    assert config.load(None).smtp_port == 26
    assert config.check(None).files == (drop_ins / "a.toml",)
    with pytest.raises(config.ConfigError, match="no such file"):
        config.load(file)  # asked for by name it must be there


def test_a_drop_in_that_cannot_be_read_is_an_error(file: Path, drop_ins: Path) -> None:
    file.write_text("")
    (drop_ins / "a.toml").symlink_to("nowhere")
    assert error(file) == f"{drop_ins}/a.toml: no such file"
    (drop_ins / "a.toml").unlink()
    (drop_ins / "a.toml").mkdir()
    assert error(file) == f"{drop_ins}/a.toml: cannot be read: Is a directory"
    (drop_ins / "a.toml").rmdir()
    drop_ins.rmdir()
    drop_ins.touch()
    assert error(file) == f"{drop_ins}: is not a directory"


def test_errors_name_the_file_they_are_in(file: Path, drop_ins: Path) -> None:
    file.write_text(HOME)
    extra = drop_ins / "a.toml"
    extra.write_text('[network]\nnat = "stun"')
    assert error(file) == f'{extra}: network.stun_server: must be set with network.nat = "stun"'
    extra.write_text(HOME)
    assert error(file) == f'{extra}: site[1].name: "home" is the name of site[1] in {file}, too'


def test_all_that_is_wrong_is_found(file: Path, drop_ins: Path) -> None:
    file.write_text("dnss.timeout = 1\n[dns]\ntimeout = 0\nattempts = 9\n[[site]]\n[[sender]]\n")
    (drop_ins / "a.toml").write_text("a b c")
    (drop_ins / "b.toml").write_text("smtp.port = 0")
    found = config.check(file).problems
    assert [(Path(problem.file).name, problem.key) for problem in found] == [
        (file.name, "dnss"),
        (file.name, "dns.timeout"),
        (file.name, "dns.attempts"),
        ("a.toml", ""),
        ("b.toml", "smtp.port"),
        (file.name, "site[1].name"),
        (file.name, "site[1].prefix"),
        (file.name, "site[1].relays"),
        (file.name, "sender[1].address"),
        (file.name, "sender[1].relays"),
    ]
    assert error(file) == f"{found[0]} (and 9 more: see salsa-agent --check-config)"


def test_all_that_is_wrong_in_a_list_is_found(file: Path, drop_ins: Path) -> None:
    file.write_text(
        '[static]\nrelays = ["a b", "a.example", "a.example:0", "a b"]\n'
        '[[site]]\nname = "x"\nprefix = ["192.0.2.0/33", "192.0.2.0/24", "y"]\nrelays = ["r.example"]\n'
    )
    (drop_ins / "a.toml").write_text('policy.deny = ["", "*"]')
    found = [str(problem).partition(": ")[2] for problem in config.check(file).problems]
    assert found == [
        'static.relays: "a b" is neither a host name nor an address',
        'static.relays: "a.example:0": the port must be a number from 1 to 65535',
        'site[1].prefix: "192.0.2.0/33" is not a prefix such as 192.0.2.0/24 or 2001:db8::/32',
        'site[1].prefix: "y" is not a prefix such as 192.0.2.0/24 or 2001:db8::/32',
        'policy.deny: "" is not a shell pattern of 1 to 320 printable characters',
    ]


def test_generated_lists_that_are_wrong_are_not_told_entry_by_entry(file: Path, drop_ins: Path) -> None:
    for number in range(20):
        wrong = ", ".join(f'"{one}!"' for one in range(1000))
        (drop_ins / f"{number:02}.toml").write_text(f"static.relays = [{wrong}]\ndns.servers = [{wrong}]\n")
    file.write_text("")
    assert len(config.check(file).problems) == 1000 + 39


# --- the file


def test_an_absent_default_file_stands_for_the_defaults(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(config, "DEFAULT_PATH", file)
    monkeypatch.delenv("RUNTIME_DIRECTORY", raising=False)
    assert config.load(None) == Settings()
    file.write_text("smtp.port = 26")
    assert config.load(None).smtp_port == 26
    file.write_text("smtp.port = 0")
    with pytest.raises(config.ConfigError, match=r": smtp\.port: "):
        config.load(None)


def test_an_absent_file_that_was_asked_for_is_an_error(file: Path) -> None:
    assert error(file) == f"{file}: no such file"


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    assert error(tmp_path) == f"{tmp_path}: cannot be read: Is a directory"
    assert error(tmp_path / "a\x1b\nb").endswith("a\\x1b\\nb: no such file")
    below = tmp_path / "plain"
    below.touch()
    assert error(below / "x") == f"{below}/x: cannot be read: Not a directory"


def test_a_fifo_without_an_end_is_no_configuration(tmp_path: Path) -> None:
    """A reload must not hang, nor take a pipe that nobody writes to for the defaults."""
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    assert error(fifo) == f"{fifo}: cannot be read: an empty pipe"
    writer = os.open(fifo, os.O_RDWR | os.O_NONBLOCK)
    try:
        os.write(writer, b"smtp.port = 26\n")
        assert error(fifo) == f"{fifo}: cannot be read: it has no end within 1 s"
    finally:
        os.close(writer)


def test_a_syntax_error_names_the_line(file: Path) -> None:
    file.write_text("[dns]\ntimeout = 1\nattempts 2\n")
    assert error(file).startswith(f"{file}: not TOML: ")
    assert "line 3" in error(file)


@pytest.mark.parametrize(
    "text", ["a = [" * 5000, f"a = {'9' * 5000}", "a = 1\na = 2", "\x00", "a = 2024-13-45", "a.b.c"]
)
def test_damaged_toml(file: Path, text: str) -> None:
    file.write_text(text)
    assert error(file).startswith(f"{file}: not TOML: ")


def test_a_file_that_is_not_utf8(file: Path) -> None:
    file.write_bytes(b"[dns]\n# \xff\n")
    assert error(file) == f"{file}: not UTF-8 (at line 2)"


def test_a_file_without_end() -> None:
    assert error(Path("/dev/zero")) == "/dev/zero: longer than 256 KiB"


def test_a_file_through_a_pipe() -> None:
    read, write = os.pipe()
    try:
        os.write(write, b"smtp.port = 26\n")
        os.close(write)
        assert config.load(Path(f"/dev/fd/{read}")).smtp_port == 26
    finally:
        os.close(read)


# --- any input

FORMS = [form for tables in (config.KEYS, config.ENTRY_KEYS) for keys in tables.values() for form in keys.values()]

_TOML_LIKE = st.text("[]{}=\"'.,:#\\\n abdnstimeourlyv0123456789-+_%\x00é\ud800").map(
    lambda text: text.encode(errors="surrogatepass")
)


@UNHURRIED
@given(st.binary() | _TOML_LIKE)
def test_any_file_gives_settings_or_a_reason(data: bytes) -> None:
    try:
        config.parse(data, {})
    except ValueError as reason:
        assert str(reason)


@UNHURRIED
@given(st.sampled_from(FORMS), st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
))  # fmt: skip
def test_any_value_is_taken_or_refused_with_a_sentence(form: Callable[[object], object], value: object) -> None:
    try:
        form(value)
    except ValueError as reason:
        assert str(reason)


@UNHURRIED
@given(st.text() | st.from_regex(r"\[?[0-9a-f:.%]*\]?(:[0-9]*)?"))
def test_a_relay_is_canonical_or_refused_with_a_sentence(text: str) -> None:
    try:
        host, port = relay(text)
    except ValueError as reason:
        assert str(reason).isprintable()
        assert str(reason).isascii()
    else:
        assert port is None or 1 <= port <= 65535
        assert set(host) <= set("abcdefghijklmnopqrstuvwxyz0123456789.-_:")
        assert relay(host_port(host, port or 1)) == (host, port or 1)
