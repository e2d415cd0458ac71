"""The Debian package of Debian 13: built there without a network, judged by its lintian and its autopkgtest, and run.

tests/whole/test_deb.py does the same, and more, on the release that the tests run on.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from salsa_agent import __version__
from tests.lab.booted import Booted
from tests.lab.package import debian_package, in_checkout, lay_out, origins
from tests.lab.site import HOST, RELAY, SERVER, Site
from tests.lab.trees import tree

SYSTEM, OWN = "/usr/lib/python3/dist-packages", "/usr/lib/salsa-agent"

pytestmark = [pytest.mark.timeout(400), pytest.mark.needs("boot")]


@pytest.fixture(scope="module")
def trixie(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Booted]:
    """A machine of Debian 13 in a network that publishes its relay, with the packages that were built on it."""
    files = tmp_path_factory.mktemp("trixie")
    root = tree("build-trixie")
    debian_package(tmp_path_factory)  # after it the libraries are there
    lay_out(files / "root")
    (files / "etc/apt").mkdir(parents=True)
    (files / "etc/apt/sources.list").write_text("")  # out of reach from here
    (files / "etc/resolv.conf").write_text(f"nameserver {SERVER}\n")
    with Site() as site, Booted(files, root=root) as booted:
        booted.cable("wan0", site, "trixie0")
        site.plug("trixie0")
        built = in_checkout(booted, "deb")  # with all warnings and errors of lintian it fails
        assert (built.returncode, built.stdout.count("\n")) == (0, 1), built.stdout
        booted.run("ip", "address", "add", f"{HOST}/24", "dev", "wan0")
        yield booted


def test_deb_of_debian_13_takes_the_libraries_that_suffice_from_there(trixie: Booted) -> None:
    package = f"/root/project/dist/salsa-agent_{__version__}_all.deb"
    depends = trixie.run("dpkg-deb", "-f", package, "Depends")
    assert "python3-dnspython (>= 2.7)" in depends
    assert "python3-dbus-next (<< 0.2.4~)" in depends
    trixie.run("dpkg", "--install", package, timeout=120)
    trixie.until(lambda: trixie.result("salsactl", "best").stdout == f"{RELAY}:25\n", "the relay is found")
    assert trixie.show("salsa-agent.service", "NRestarts") == "0"
    assert origins(trixie) == {
        "dbus_next": SYSTEM,
        "dns": SYSTEM,
        "pyroute2": OWN,
        "spftrace": OWN,
        "salsa_agent": OWN,
    }


def test_deb_of_debian_13_passes_the_tests_that_it_brings(trixie: Booted) -> None:
    """By the real autopkgtest, on the machine itself, which is as isolated as the test of the service asks."""
    words = "cd /root/project && exec autopkgtest --ignore-restrictions=isolation-container dist/*.deb ./ -- null"
    done = trixie.result("sh", "-c", words, timeout=300)
    results = done.stdout.rpartition(" summary\n")[2].splitlines()
    assert done.returncode == 0, done.stdout
    assert [line.split() for line in results[:3]] == [[name, "PASS"] for name in ("commands", "service", "desktop")]
