"""The role of contrib/ansible, by the real Ansible, over SSH, on booted hosts of Debian 12 and 13.

The hosts are minimal trees of these releases (tests.lab.trees) in a network that publishes its relay (tests.lab.site).
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.lab.booted import Booted
from tests.lab.package import FOR_12, debian_package
from tests.lab.run import PROJECT
from tests.lab.site import RELAY, SERVER, Site
from tests.lab.trees import tree

KIT = PROJECT / "contrib/ansible"
HOSTS = {"bookworm": "10.53.0.12", "trixie": "10.53.0.13"} if FOR_12 else {"trixie": "10.53.0.13"}
DROP_IN = "/etc/salsa-agent.toml.d/50-ansible.toml"
UNIT = "salsa-agent.service"
OF_ONE: dict[str, dict[str, Any]] = {
    "trixie": {"salsa_agent_nrpe_directory": "/etc/nagios/nrpe.d"},
    "bookworm": {"salsa_agent_metrics": False},
}
ONLY = {"relays": ["10.53.0.25:25"], "use": "only"}
MAP = "socketmap:inet:127.0.0.1:8462:relay"

pytestmark = [pytest.mark.timeout(400), pytest.mark.needs("boot")]


def tools() -> Path:
    """The directory of Ansible's commands (`./run tests` installs them as root)."""
    found = sorted((PROJECT / os.environ.get("SALSA_CACHE", "build")).glob("fleet-*/complete"))
    if not found:
        pytest.skip("needs programs: Ansible is not installed; ./run tests does that as root")
    return max(found, key=lambda path: path.stat().st_mtime).parent / "bin"


class Played(NamedTuple):
    """What one run of the playbook did. `changed`: the names of tasks and handlers that changed a host, by host."""

    status: int
    said: str
    changed: dict[str, list[str]]


class Fleet:
    """The hosts, and the machine from which Ansible sets them up: the router of their network.

    `work` is a directory that only root reads, with a short name: Ansible makes sockets below it.
    """

    def __init__(self, site: Site, work: Path, package: Path) -> None:
        self.site, self.work = site, work
        self.hosts: dict[str, Booted] = {}
        self.kit = work / "project/contrib/ansible"
        shutil.copytree(KIT, self.kit)
        (work / "project/dist").mkdir()
        shutil.copy(package, work / "project/dist")  # where the example has it
        read = "import json, yaml; print(json.dumps(yaml.safe_load(open('inventory.example.yml'))['all']['vars']))"
        read_by = [str(tools() / "python"), "-c", read]
        said = subprocess.run(read_by, check=True, cwd=self.kit, capture_output=True, text=True, timeout=30).stdout
        self.example: dict[str, Any] = json.loads(said)
        for name in ("key", "host"):
            subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", work / name], check=True, timeout=30)

    def files(self) -> Path:
        """What is laid over each host: its keys, and a resolver that asks the site's name server."""
        files = self.work / "files"
        for name, text in {
            "root/.ssh/authorized_keys": (self.work / "key.pub").read_text(),
            "etc/ssh/ssh_host_ed25519_key": (self.work / "host").read_text(),
            "etc/ssh/ssh_host_ed25519_key.pub": (self.work / "host.pub").read_text(),
            "etc/resolv.conf": f"nameserver {SERVER}\n",
            "etc/apt/sources.list": "",  # out of reach from here
        }.items():
            (files / name).parent.mkdir(parents=True, exist_ok=True)
            (files / name).write_text(text)
            (files / name).chmod(0o600 if name.endswith("key") else 0o644)
        (files / "root").chmod(0o700)
        return files

    def cable(self, release: str, host: Booted) -> None:
        """Put the host into the network, and let it be reached by SSH; its host key is known here."""
        host.cable("wan0", self.site, f"to-{release}")
        self.site.plug(f"to-{release}")
        host.run("ip", "address", "add", f"{HOSTS[release]}/24", "dev", "wan0")
        host.run("systemctl", "start", "ssh.service", "postfix.service")
        with (self.work / "known_hosts").open("a") as known:
            known.write(f"{HOSTS[release]} {(self.work / 'host.pub').read_text()}")
        self.hosts[release] = host

    def play(self, *options: str, **changes: Any) -> Played:
        """Run the playbook with the variables of the example, and these instead."""
        hosts = {name: {"ansible_host": address, **OF_ONE.get(name, {})} for name, address in HOSTS.items()}
        variables = {
            "ansible_user": "root",
            "ansible_ssh_private_key_file": str(self.work / "key"),
            "ansible_ssh_common_args": f"-F none -o UserKnownHostsFile={self.work}/known_hosts",
            **self.example,
            **changes,
        }
        inventory = self.work / "inventory.json"
        inventory.write_text(json.dumps({"all": {"hosts": hosts, "vars": variables}}))
        with self.site.inside():
            done = subprocess.run(
                [str(tools() / "ansible-playbook"), "-i", str(inventory), "playbook.yml", *options],
                check=False, cwd=self.kit, env=environment(self.work), stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=300,
            )  # fmt: skip
        changed: dict[str, list[str]] = {name: [] for name in HOSTS}
        task = ""
        for line in done.stdout.splitlines():
            if match := re.match(r"(?:TASK|RUNNING HANDLER) \[(?:salsa_agent : )?(.*)\] \*+$", line):
                task = match[1]
            elif (match := re.match(r"changed: \[(\w+)\]", line)) and task not in changed[match[1]]:
                changed[match[1]].append(task)
        assert "PLAY RECAP" in done.stdout, done.stdout
        return Played(done.returncode, done.stdout, changed)


def environment(home: Path) -> dict[str, str]:
    return {
        "PATH": f"{tools()}:/usr/sbin:/usr/bin:/sbin:/bin",
        "HOME": str(home),
        "LC_ALL": "C.UTF-8",
        "ANSIBLE_HOME": str(home / "ansible"),
        "ANSIBLE_SSH_CONTROL_PATH_DIR": str(home / "cp"),
        "ANSIBLE_PIPELINING": "1",
        "ANSIBLE_NOCOLOR": "1",
    }


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    trees = {release: tree(release) for release in HOSTS}
    package = debian_package(tmp_path_factory)
    with ExitStack() as stack:
        work = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="fleet-")))
        made = Fleet(
            stack.enter_context(Site("--local=/example.net/", "--host-record=smtp.example.net,10.53.0.25")),
            work,
            package,
        )
        files = made.files()
        for release, root in trees.items():
            made.cable(release, stack.enter_context(Booted(files, root=root)))
        yield made


def until_it_prints(host: Booted, text: str, *argv: str) -> None:
    host.until(lambda: host.result(*argv).stdout == text, f"{argv} prints {text}")


def main_pid(host: Booted) -> str:
    return host.show(UNIT, "MainPID")


def test_ansible_lint_finds_nothing_in_the_role(tmp_path: Path) -> None:
    kit = tmp_path / "kit"
    shutil.copytree(KIT, kit)  # the judge writes beside what it judges
    argv = [str(tools() / "ansible-lint"), "--offline", "--strict", "--nocolor"]
    done = subprocess.run(
        argv, check=False, cwd=kit, env=environment(tmp_path), capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"Passed: 0 failure\(s\), 0 warning\(s\) in [1-9]\d+ files", done.stdout + done.stderr)


def test_role_defaults_are_those_of_its_argument_specs() -> None:
    script = (
        "import json, sys, yaml; role = sys.argv[1]; defaults = yaml.safe_load(open(role + '/defaults/main.yml'));"
        "options = yaml.safe_load(open(role + '/meta/argument_specs.yml'))['argument_specs']['main']['options'];"
        "print(json.dumps([defaults, {name: option['default'] for name, option in options.items()}]))"
    )
    argv = [str(tools() / "python"), "-c", script, str(KIT / "roles/salsa_agent")]
    defaults, options = json.loads(subprocess.run(argv, check=True, capture_output=True, text=True, timeout=30).stdout)
    assert defaults == options


def test_role_sets_a_host_up_changes_nothing_the_second_time_and_reloads_for_a_change(fleet: Fleet) -> None:
    done = fleet.play()
    assert done.status == 0, done.said
    for release, host in fleet.hosts.items():
        assert "Install the package" in done.changed[release]
        until_it_prints(host, f"{RELAY}:25\n", "salsactl", "best")
        host.run("salsactl", "status")
        assert host.run("postconf", "-h", "sender_dependent_relayhost_maps").strip() == MAP
        asked = host.run("postmap", "-q", "root@host.example", MAP)
        assert asked.startswith(f"[{RELAY}]:25")
        until_it_prints(host, "[smtp.example.net]:587\n", "postmap", "-q", "me@example.net", MAP)
        assert "interval = 600\n" in host.run("cat", DROP_IN)
        assert host.run("systemctl", "is-enabled", UNIT) == "enabled\n"
    before = {release: main_pid(host) for release, host in fleet.hosts.items()}
    is_watched(fleet.hosts["trixie"])

    done = fleet.play()
    assert (done.status, done.changed) == (0, {release: [] for release in HOSTS}), done.said

    sites = [
        *fleet.example["salsa_agent_sites"],
        {"name": "Büro \N{GRINNING FACE}", "domain": ["office.example"], **ONLY},
    ]
    sites += [{"name": "here", "prefix": ["10.53.0.0/24"], **ONLY}]
    done = fleet.play(salsa_agent_sites=sites)
    assert done.status == 0, done.said
    for release, host in fleet.hosts.items():
        assert done.changed[release] == ["Write the configuration, once the agent found it good", "Reload the agent"]
        until_it_prints(host, "10.53.0.25:25\n", "salsactl", "best")
        assert main_pid(host) == before[release], "reloaded, not restarted"

    done = fleet.play(salsa_agent_sites=sites, salsa_agent_postfix_map="transport")
    assert done.status == 0, done.said
    for release, host in fleet.hosts.items():
        assert done.changed[release] == [
            "Set the map of Postfix, and none but that",
            "Add the service for TLS from the first octet",
            "Reload Postfix",
        ]
        assert host.run("postconf", "-h", "sender_dependent_relayhost_maps") == "\n"
        transport = host.run("postconf", "-h", "sender_dependent_default_transport_maps").strip()
        assert host.run("postmap", "-q", "root@host.example", transport) == "relay:[10.53.0.25]:25\n"
        assert "smtp_tls_wrappermode=yes" in host.run("postconf", "-M", "smtps/unix")
        assert main_pid(host) == before[release]


def is_watched(host: Booted) -> None:
    """What the role does for monitoring is understood by the real node exporter, and by NRPE."""
    host.until(
        lambda: host.result("test", "-s", "/var/lib/prometheus/node-exporter/salsa.prom").returncode == 0,
        "there are metrics",
    )
    host.run("systemctl", "start", "prometheus-node-exporter")
    fetch = "import urllib.request as u; print(u.urlopen('http://127.0.0.1:9100/metrics').read().decode())"
    host.until(lambda: "node_textfile" in host.result("python3", "-c", fetch).stdout, "the exporter answers")
    seen = host.run("python3", "-c", fetch)
    assert "\nnode_textfile_scrape_error 0\n" in seen
    assert '\nsalsa_state{salsa_state="ready"} 1\n' in seen
    assert "\n# TYPE salsa_checks_total counter\n" in seen
    ask = ["/usr/lib/nagios/plugins/check_nrpe", "-H", "127.0.0.1", "-c", "check_salsa"]
    host.until(lambda: host.result(*ask).stdout.startswith("SALSA OK - "), "NRPE answers")


def test_role_a_bad_value_fails_with_the_agents_sentence_and_changes_nothing(fleet: Fleet) -> None:
    before = {release: host.run("sha256sum", DROP_IN) for release, host in fleet.hosts.items()}
    done = fleet.play(salsa_agent_sites=[{"name": "x", "prefix": ["10.1.0.0/33"], "relays": ["a.example"]}])
    assert done.status == 2
    assert done.changed == {release: [] for release in HOSTS}
    assert {release: host.run("sha256sum", DROP_IN) for release, host in fleet.hosts.items()} == before
    sentence = 'site[1].prefix: \\"10.1.0.0/33\\" is not a prefix such as 192.0.2.0/24 or 2001:db8::/32'
    assert done.said.count(sentence) >= len(HOSTS), done.said

    # good by itself, and bad beside what the administrator of the host wrote
    own = '[[site]]\nname = "twice"\nprefix = ["10.2.0.0/16"]\nrelays = ["b.example"]\n'
    for host in fleet.hosts.values():
        host.write("/etc/salsa-agent.toml.d/10-own.toml", own)
    done = fleet.play(salsa_agent_sites=[{"name": "twice", "prefix": ["10.1.0.0/16"], "relays": ["a.example"]}])
    assert done.status == 2
    assert re.search(r"site\[1\]\.name: [^\n]*twice", done.said), done.said
    assert {release: host.run("sha256sum", DROP_IN) for release, host in fleet.hosts.items()} == before
