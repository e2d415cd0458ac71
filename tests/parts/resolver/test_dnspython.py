"""dnspython without a look at installed packages: so that no new release moves it unseen."""

from __future__ import annotations

import subprocess
import sys

# what `importlib.metadata` and others would bring in
HEAVY = ("importlib.metadata", "email.message", "zipfile", "csv", "dns.message", "dns.query", "ssl")


def python(program: str) -> str:
    """What a new interpreter prints that runs this."""
    done = subprocess.run([sys.executable, "-W", "error", "-c", program], capture_output=True, text=True, timeout=30)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_nothing_heavy_is_imported() -> None:
    seen = python(f"""
import sys
before = set(sys.modules)
import salsa_agent.resolver._dnspython
print(*(set({HEAVY!r}) & (set(sys.modules) - before)))
""")
    assert not seen.split()


def test_names_and_response_codes_are_there() -> None:
    said = python("""
from salsa_agent.resolver._dnspython import dns
print(dns.name.from_text("A.Example").to_digestable().hex(), dns.rcode.to_text(dns.rcode.Rcode(3)))
try:
    dns.name.from_text("a" * 64)
except dns.exception.DNSException as error:
    print(type(error).__name__)
""")
    assert said.split() == ["0161076578616d706c6500", "NXDOMAIN", "LabelTooLong"]


def test_others_get_all_of_both() -> None:
    said = python("""
import salsa_agent.resolver._dnspython
import importlib.metadata, dns.asyncresolver
print(importlib.metadata.version("dnspython") == dns.version.version, dns.asyncresolver.Resolver(configure=False).port)
""")
    assert said.split() == ["True", "53"]


def test_one_who_knows_the_packages_already_keeps_knowing() -> None:
    said = python("""
import importlib, importlib.metadata as before, sys
import salsa_agent.resolver._dnspython
print(sys.modules["importlib.metadata"] is before, importlib.metadata is before)
""")
    assert said.split() == ["True", "True"]


def test_it_is_imported_when_the_first_name_comes_that_is_not_plain() -> None:
    said = python(r"""
import sys
import salsa_agent.daemon.agent
from salsa_agent.resolver.names import name_text, query_name, rcode_text
found = [query_name("2.0.192.in-addr.arpa"), name_text(b"\x02MX\0"), name_text(b"\0"), rcode_text(3)]
print("dns.name" in sys.modules)
found = [query_name(r"a\.b"), name_text(b"\x03a.b\0"), rcode_text(9)]
print("dns.name" in sys.modules, *found)
""")
    assert said.split() == ["False", "True", r"b'\x03a.b\x00'", r"a\.b.", "NOTAUTH"]
