"""Every command and block of configuration in the README and its pages is run, here or in the test named here."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import dns.zone
import pytest

from salsa_agent.config import file as config
from tests.lab.bus import PATIENCE, PROJECT
from tests.lab.whole import CONFIG, HOME, NET24, NOC, VERTEX, World

PAGES = ("README.md", *(f"docs/{name}.md" for name in ("laptop", "fleet", "operators", "programmers", "packagers")))
README = "\n".join((PROJECT / page).read_text() for page in PAGES)
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
COMMANDS = [line for kind, text in BLOCKS if kind == "sh" and not text.startswith("#!") for line in text.splitlines()]
INLINE = sorted(set(re.findall(r"`(salsactl [^`]+|man -l [^`]+|salsa-agent --[^`]+|\./run[^`]*)`", README)))

ELSEWHERE = {  # commands that are run by another test: its file, and words that it runs them by
    "./run": ("whole/test_run.py", "run("),
    "./run tests": ("whole/test_run.py", "tests"),
    "./run demo": ("whole/test_demo.py", "demo"),
    "sudo ./run install": ("whole/test_install.py", "install"),
    "./run uninstall": ("whole/test_install.py", "uninstall"),
    "./run deb": ("whole/test_deb.py", "deb"),
    "ansible-playbook -i inventory.yml contrib/ansible/playbook.yml": ("whole/test_ansible.py", "ansible-playbook"),
    "cloud-init schema --config-file user-data.yaml": ("whole/test_cloud_init.py", '"cloud-init", "schema", "--config'),
    "python3 -m venv /opt/salsa-agent": ("whole/test_wheel.py", '"-m", "venv"'),
    "/opt/salsa-agent/bin/pip install salsa-agent": ("whole/test_wheel.py", "pip"),
    "/opt/salsa-agent/bin/salsactl install-files /": ("whole/test_wheel.py", "install-files"),
    "salsactl install-files": ("whole/test_wheel.py", "install-files"),
    "salsactl audit --submissions": ("parts/cli/test_audit.py", "--submissions"),
    "sudo systemctl enable --now salsa-agent": ("whole/test_systemd.py", "systemctl"),
    "systemctl reload salsa-agent": ("whole/test_systemd.py", "reload"),
    "salsactl send-test --to ADDRESS": ("whole/test_doctor.py", "send-test"),
    "salsactl site": ("parts/cli/test_site.py", "site"),
    "salsactl zone": ("parts/cli/test_zone.py", "zone"),
    "salsactl zone 192.0.2.0/24 --mx 10:relay1.example.net": ("parts/cli/test_zone.py", "zone"),
    "salsactl audit 192.0.2.0/24": ("parts/cli/test_audit.py", "audit"),
}


@pytest.fixture
def world() -> Iterator[World]:
    with World() as made:
        for relay in (NOC, VERTEX, HOME):
            made.relay(relay)
        made.join("165.154.15.1")
        made.agent(CONFIG)
        made.wait_for_best(NOC, "ready")
        yield made


def shell(world: World, command: str, status: int = 0) -> str:
    """Run a command of the README where the agent's bus is the system bus; what it printed.

    None that changes this machine: `./run install` would be done in earnest.
    """
    assert not command.removeprefix("sudo ").startswith("./run"), f"{command} needs a test of its own: see ELSEWHERE"
    environment = world.bus.environment | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    # what asks the network itself does so from the host of the story; the others ask the agent there
    where = ["ip", "netns", "exec", world.host.name] if command.startswith(("salsactl find", "salsactl doctor")) else []
    done = subprocess.run(
        [*where, "timeout", "--preserve-status", str(int(PATIENCE)), "sh", "-c", command],
        check=False, capture_output=True, text=True, env=environment, cwd=PROJECT, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    assert done.returncode == status, f"{command}: {done.returncode}: {done.stderr}"
    return done.stdout


def test_the_first_two_commands_are_the_two_of_the_project() -> None:
    assert COMMANDS[:2] == ["./run", "./run tests"]


@pytest.mark.parametrize("command", sorted({*COMMANDS, *INLINE} & ELSEWHERE.keys()))
def test_a_command_that_is_run_elsewhere_is(command: str) -> None:
    file, words = ELSEWHERE[command]
    assert words in (PROJECT / "tests" / file).read_text()


def test_the_commands_of_the_blocks(world: World) -> None:
    for command in COMMANDS:
        if command not in ELSEWHERE:
            if "ReportFailure" in command:
                command = command.replace("smtp.example.net", NOC)
            command = command.replace(".venv/bin/", "")
            assert shell(world, command) or "call" in command


def test_the_commands_in_the_text(world: World) -> None:
    for command in INLINE:
        if command in ELSEWHERE:
            continue
        if command == "salsactl watch":
            assert shell(world, f"{command} | head -n 1") == f"{world.best}\n"
        elif command == "salsactl lookup 192.0.2.1":  # nothing is published there
            shell(world, f"{command} --config {world.config}", status=1)
        elif command == "salsactl report-failure HOST":
            world.kill(NOC)  # one that answers is found to do so, and is used again (rule D6)
            shell(world, command.replace("HOST", NOC))
            assert world.best == f"{VERTEX}:25"
        elif command == "salsa-agent --check-config":
            assert "good" in shell(world, f"{command} --config {world.config}")
        else:
            out = shell(world, command)
            assert out or command == "salsactl refresh"


def test_each_link_leads_somewhere() -> None:
    """Of the README and of every page below docs/: a file that is there, and a heading of it where one is named."""
    for page in [PROJECT / "README.md", *PROJECT.glob("*.md"), *PROJECT.glob("docs/**/*.md")]:
        for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
            if re.match(r"[a-z]+:", target):
                continue
            path, _, anchor = target.partition("#")
            file = page if not path else (page.parent / path).resolve()
            assert file.exists(), f"{page.relative_to(PROJECT)}: {target}"
            if anchor and file.suffix == ".md":
                headings = re.findall(r"^#+ (.+)$", file.read_text(), re.MULTILINE)
                anchors = [re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings]
                assert anchor in anchors, f"{page.relative_to(PROJECT)}: {target}"


def test_what_run_says_is_what_the_readme_shows() -> None:
    guide = (PROJECT / "scripts" / "lib" / "guide.py").read_text()
    (shown,) = (text for kind, text in BLOCKS if text.startswith("salsa-agent runs"))
    for words in (
        "salsa-agent runs, on",
        "a bus of its own",
        "its state is",
        "addresses to ask about.",
        "This network names",
    ):
        assert words in shown
        assert words in guide


def test_the_configuration_is_good() -> None:
    (text,) = (text for kind, text in BLOCKS if kind == "toml")
    settings = config.parse(text.encode(), {})
    assert [str(endpoint) for endpoint in settings.postfix_listen] == ["inet:127.0.0.1:8462"]
    for setting in re.findall(r"`([a-z_.0-9]+ = [^`]+)`", README):
        key, _, value = setting.partition(" = ")
        table, _, name = key.partition(".")
        extra = "stun_server" if value == '"stun"' else ""
        assert not extra
        config.parse(f"[{table}]\n{name} = {value}\n".encode(), {})


def test_the_inventory_is_the_one_that_is_played() -> None:
    (text,) = (text for kind, text in BLOCKS if kind == "yaml")
    assert text == (PROJECT / "contrib/ansible/inventory.example.yml").read_text()


def test_the_line_for_postfix_is_the_one_that_is_tested() -> None:
    (line,) = (text.strip() for kind, text in BLOCKS if "socketmap:" in text)
    assert line in (PROJECT / "docs" / "consumers.md").read_text()


def test_the_dispatcher_script_asks_the_agent(world: World, tmp_path: Path) -> None:
    (script,) = (text for kind, text in BLOCKS if text.startswith("#!/bin/sh"))
    logger = tmp_path / "logger"
    logger.write_text(f'#!/bin/sh\necho "$*" >{tmp_path}/said\n')
    logger.chmod(0o755)
    (tmp_path / "script").write_text(script)
    shell(world, f"PATH={shlex.quote(str(tmp_path))}:$PATH sh {tmp_path}/script up0 down")
    assert not (tmp_path / "said").exists()
    shell(world, f"PATH={shlex.quote(str(tmp_path))}:$PATH sh {tmp_path}/script up0 up")
    assert (tmp_path / "said").read_text() == f"mail goes by way of {NOC}:25\n"


def test_the_records_for_an_operator_are_found(world: World) -> None:
    (text,) = (text for kind, text in BLOCKS if text.startswith("@"))
    zone = dns.zone.from_text(f"$TTL 300\n{text}", origin="2.0.192.in-addr.arpa.", check_origin=False, relativize=False)
    records = [str(record) for _, _, record in zone.iterate_rdatas("MX")]
    assert records == ["10 relay1.example.net.", "20 relay2.example.net."]
    relays = {"relay1.example.net": {"A": ["203.0.113.2"]}, "relay2.example.net": {"A": ["203.0.113.3"]}}
    world.publish(world.zone | {NET24: {"MX": records}} | relays)
    world.call("Refresh")
    assert world.best == "relay1.example.net:25"
