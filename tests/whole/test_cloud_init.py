"""contrib/cloud-init/user-data.yaml: judged and carried out by the real cloud-init of Debian 12, on a booted host."""

from __future__ import annotations

import hashlib
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lab.booted import Booted
from tests.lab.package import FOR_12, debian_package
from tests.lab.run import PROJECT
from tests.lab.site import HOST, RELAY, SERVER, Site
from tests.lab.trees import tree

USER_DATA = (PROJECT / "contrib/cloud-init/user-data.yaml").read_text()
ADDRESS = "http://packages.example.net/"
SUM = "0" * 64
MAP = "socketmap:inet:127.0.0.1:8462:relay"
SEED = "/var/lib/cloud/seed/nocloud"

pytestmark = [pytest.mark.timeout(300), pytest.mark.needs("boot")]


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if not FOR_12:
        pytest.skip("needs programs: no package for a host of Debian 12 is built on 13")
    return debian_package(tmp_path_factory)


@pytest.fixture
def host(package: Path, tmp_path: Path) -> Iterator[Booted]:
    """A host that cloud-init did not see yet, in a network with a web server that has the package."""
    (tmp_path / "etc/cloud").mkdir(parents=True)
    (tmp_path / "etc/resolv.conf").write_text(f"nameserver {SERVER}\n")
    # no cloud but the files in SEED; the network stands, and the clock is right
    (tmp_path / "etc/cloud/cloud.cfg.d").mkdir()
    (tmp_path / "etc/cloud/cloud.cfg.d/99-lab.cfg").write_text(
        "datasource_list: [NoCloud]\nnetwork: {config: disabled}\napt: {preserve_sources_list: true}\n"
    )
    with Site() as site, Booted(tmp_path, root=tree("bookworm")) as booted:
        site.exec(
            ["python3", "-m", "http.server", "--bind", SERVER, "--directory", str(package.parent), "80"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        booted.cable("wan0", site, "cloud0")
        site.plug("cloud0")
        booted.run("ip", "address", "add", f"{HOST}/24", "dev", "wan0")
        booted.run("systemctl", "start", "postfix.service")
        yield booted


def start(host: Booted, user_data: str) -> str:
    """What cloud-init does at the first start of a host with this user data; the log of its commands."""
    host.write(f"{SEED}/meta-data", "instance-id: lab\n")
    host.write(f"{SEED}/user-data", user_data)
    # its units, in their order, without the network that they wait for
    for stage in ("init --local", "init", "modules --mode=config", "modules --mode=final"):
        host.result("cloud-init", *stage.split(), timeout=120)
    return host.run("sh", "-c", "cat /var/log/cloud-init.log /var/log/cloud-init-output.log 2>/dev/null", check=False)


def test_user_data_is_valid_by_the_schema_of_cloud_init(host: Booted) -> None:
    host.write("/root/user-data.yaml", USER_DATA)
    said = host.run("cloud-init", "schema", "--config-file", "/root/user-data.yaml")
    assert "Valid cloud-config" in said
    host.write("/root/bad.yaml", USER_DATA.replace("permissions", "permission"))
    assert host.result("cloud-init", "schema", "--config-file", "/root/bad.yaml").returncode != 0, "it does judge"


def test_user_data_sets_a_host_up_at_its_first_start(host: Booted, package: Path) -> None:
    address, digest = f"http://{SERVER}/", hashlib.sha256(package.read_bytes()).hexdigest()
    log = start(host, USER_DATA.replace(ADDRESS, address).replace(SUM, digest))
    assert host.result("salsa-agent", "--check-config").returncode == 0, log
    assert "/etc/salsa-agent.toml.d/50-cloud-init.toml" in host.run("salsa-agent", "--check-config")
    host.until(lambda: host.result("salsactl", "best").stdout == f"{RELAY}:25\n", "there is a relay")
    assert host.run("systemctl", "is-enabled", "salsa-agent").strip() == "enabled"
    assert host.run("postconf", "-h", "sender_dependent_relayhost_maps").strip() == MAP
    assert host.run("postmap", "-q", "root@host.example", MAP).startswith(f"[{RELAY}]:25")


def test_user_data_installs_no_package_with_another_sum(host: Booted) -> None:
    log = start(host, USER_DATA.replace(ADDRESS, f"http://{SERVER}/"))
    assert re.search("Hash Sum mismatch", log), log
    assert host.result("sh", "-c", "command -v salsa-agent").returncode != 0
