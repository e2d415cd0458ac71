"""dbus/org.salsa.Agent1.xml as the generators of Debian read it: each makes code or documentation of all of it."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.lab.run import PROJECT

XML = str(PROJECT / "dbus" / "org.salsa.Agent1.xml")
QT5, QT6 = "/usr/lib/qt5/bin/qdbusxml2cpp", "/usr/lib/qt6/bin/qdbusxml2cpp"

GENERATORS = {
    "qdbusxml2cpp of Qt 5, proxy": [QT5, "-p", "out", XML],
    "qdbusxml2cpp of Qt 5, adaptor": [QT5, "-a", "out", XML],
    "qdbusxml2cpp of Qt 6, proxy": [QT6, "-p", "out", XML],
    "qdbusxml2cpp of Qt 6, adaptor": [QT6, "-a", "out", XML],
    "gdbus-codegen, C": ["gdbus-codegen", "--generate-c-code=out", XML],
    "gdbus-codegen, DocBook": ["gdbus-codegen", "--generate-docbook=out", XML],
    "gdbus-codegen, reStructuredText": ["gdbus-codegen", "--generate-rst=out", XML],
    "sdbus-c++-xml2cpp": ["sdbus-c++-xml2cpp", XML, "--proxy=out-proxy", "--adaptor=out-adaptor"],
    "dbus-binding-tool, client": ["dbus-binding-tool", "--mode=glib-client", "--output=out", XML],
    "dbus-binding-tool, server": ["dbus-binding-tool", "--mode=glib-server", "--prefix=salsa", "--output=out", XML],
    "dbusxx-xml2cpp, proxy": ["dbusxx-xml2cpp", XML, "--proxy=out"],
    "dbusxx-xml2cpp, adaptor": ["dbusxx-xml2cpp", XML, "--adaptor=out"],
}


@pytest.mark.parametrize("which", GENERATORS)
def test_the_interface_is_accepted_by(which: str, tmp_path: Path) -> None:
    done = subprocess.run(GENERATORS[which], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done
    assert "rror" not in done.stderr, done
    made = "".join(path.read_text() for path in tmp_path.iterdir())
    for member, snake in (("RelayFor", "relay_for"), ("SetLinkRelays", "set_link_relays")):
        assert member in made or snake in made


def test_the_gdbus_documentation_explains_every_member(tmp_path: Path) -> None:
    subprocess.run(["gdbus-codegen", "--generate-rst=out", XML], cwd=tmp_path, check=True, timeout=60)
    [page] = [path.read_text() for path in tmp_path.iterdir()]
    assert "for mail of this sender" in page
    assert "FIXME" not in page
