"""The configuration file: every key of design section 6, with its default, its forms, its range and its errors."""

from __future__ import annotations

import os
import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as examples
from hypothesis import strategies as st

from salsa_agent.config import file as config
from salsa_agent.config.values import relay
from salsa_agent.core.model import RelayKey, Server
from salsa_agent.core.settings import DEFAULT_IGNORE, Dns, Network, Policy, Settings, Verify
from salsa_agent.text import host_port

UNHURRIED = examples(deadline=None, suppress_health_check=[HealthCheck.too_slow])
EXAMPLE = Path(__file__).parents[3] / "examples" / "salsa-agent.toml"


def settings(text: str, **environ: str) -> Settings:
    return config.parse(text.encode(), environ)


def get(text: str) -> Any:
    """What the one `table.key = value` of the text became."""
    name = text.partition(" ")[0]
    value: Any = settings(text)
    flat = {
        "static.relays": "static_relays",
        "smtp.port": "smtp_port",
        "output.directory": "output_directory",
        "postfix.listen": "postfix_listen",
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


def test_the_defaults_are_those_of_the_design() -> None:
    assert settings("") == Settings(
        static_relays=(),
        smtp_port=25,
        network=Network(DEFAULT_IGNORE, (32, 24, 16), (128, 64, 56, 48, 32), "off", ""),
        dns=Dns((), 2.0, 2, ()),
        verify=Verify(True, 10.0, 1800, "off", ""),
        policy=Policy(("*",), (), "none"),
        output_directory="",
        postfix_listen=(),
    )
    assert " ".join(DEFAULT_IGNORE) == (
        "docker* br-" + "[0-9a-f]" * 12 + " veth* virbr* vnet* cni* flannel* cali* podman* lxc* lxd* incus* vmnet* "
        "vboxnet* cilium* nodelocaldns hassio nerdctl* cbr* kube-* waydroid* ovn-k8s-*"
    )


def test_the_example_shows_every_key_with_its_default() -> None:
    lines = [line.removeprefix("#") if line[:2] not in ("# ", "#") else "" for line in EXAMPLE.read_text().splitlines()]
    text = "\n".join(lines)
    shown = {table: set(entries) for table, entries in tomllib.loads(text).items()}
    assert shown == {table: set(keys) for table, keys in config.KEYS.items()}
    runtime = {"RUNTIME_DIRECTORY": "/run/salsa-agent"}
    assert settings(text) == settings("", **runtime)
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
    ('network.stun_server = "Stun.example.org"', "stun.example.org:3478"),
    ('network.stun_server = "192.0.2.1:5349"', "192.0.2.1:5349"),
    ('network.stun_server = "2001:db8::1"', "[2001:db8::1]:3478"),
    ('dns.servers = ["192.0.2.1", "192.0.2.1:5353"]', (Server("192.0.2.1"), Server("192.0.2.1", 5353))),
    ('dns.servers = ["2001:DB8::1"]', (Server("2001:db8::1"),)),
    ('dns.servers = ["[2001:db8::1]:54"]', (Server("2001:db8::1", 54),)),
    ('dns.servers = ["fe80::1%eth0", "[fe80::2%eth0.5]:54"]', (Server("fe80::1%eth0"), Server("fe80::2%eth0.5", 54))),
    ("dns.timeout = 0.1", 0.1),
    ("dns.timeout = 30", 30.0),
    ("dns.attempts = 1", 1),
    ("dns.attempts = 5", 5),
    ('dns.trust_ad = ["::1", "192.0.2.1:53"]', ("::1", "192.0.2.1:53")),
    ('dns.trust_ad = ["[2001:DB8::1]:53"]', ("[2001:db8::1]:53",)),
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
    ('postfix.listen = ["inet:127.0.0.1:8462"]', ("inet:127.0.0.1:8462",)),
    ('postfix.listen = ["inet:[::1]:8462"]', ("inet:[::1]:8462",)),
    ('postfix.listen = ["unix:/run/p"]', ("unix:/run/p",)),
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
    ("network.ignore", ['"wg*"', "[1]", '[""]', '["a\\n"]']),
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
    ("dns.trust_ad", ['["localhost"]', '["*"]', "[1]"]),
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
        ("[dns]\ntimeot = 1", "dns.timeot: unknown key"),
        ("[dns.timeout]\nx = 1", "dns.timeout: must be a number"),
        ("[dnss]\ntimeout = 1", "dnss: unknown key"),
        ("relays = []", "relays: unknown key"),
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


def test_g1_stun_without_a_server_is_an_error(file: Path) -> None:
    file.write_text('network.nat = "stun"')
    assert error(file) == f'{file}: network.stun_server: must be set with network.nat = "stun"'
    assert settings('network.nat = "stun"\nnetwork.stun_server = "a"').network.stun_server == "a:3478"


def test_the_output_directory_is_the_runtime_directory_if_none_is_set() -> None:
    assert settings("", RUNTIME_DIRECTORY="/run/a:/run/b").output_directory == "/run/a"
    assert settings("", RUNTIME_DIRECTORY="").output_directory == ""
    assert settings('output.directory = "/x"', RUNTIME_DIRECTORY="/run/a").output_directory == "/x"
    assert settings('output.directory = ""', RUNTIME_DIRECTORY="/run/a").output_directory == ""
    with pytest.raises(ValueError, match=r"^output\.directory: RUNTIME_DIRECTORY"):
        settings("", RUNTIME_DIRECTORY="run")


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
    assert error(Path("/dev/zero")) == "/dev/zero: longer than 1 MiB"


def test_a_file_through_a_pipe() -> None:
    read, write = os.pipe()
    try:
        os.write(write, b"smtp.port = 26\n")
        os.close(write)
        assert config.load(Path(f"/dev/fd/{read}")).smtp_port == 26
    finally:
        os.close(read)


# --- any input

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
@given(st.sampled_from([(t, k) for t in config.KEYS for k in config.KEYS[t]]), st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
))  # fmt: skip
def test_any_value_is_taken_or_refused_with_a_sentence(key: tuple[str, str], value: object) -> None:
    form = config.KEYS[key[0]][key[1]]
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
