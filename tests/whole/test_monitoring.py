"""docs/monitoring.md: the timer under a real systemd, the real node_exporter, Prometheus, Nagios and Icinga."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import urllib.parse
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.lab.booted import Booted
from tests.lab.bus import PROJECT
from tests.lab.monitoring import DOCUMENT, document, prometheus, rules_without, tool
from tests.lab.netns import Netns
from tests.lab.run import run
from tests.lab.site import HOST, SERVER, Site
from tests.lab.whole import until

pytestmark = [pytest.mark.timeout(240)]

EXAMPLES = PROJECT / "examples" / "monitoring"
RULES, DASHBOARD = EXAMPLES / "salsa.rules.yml", EXAMPLES / "grafana.json"
ALERTS = re.findall(r"- alert: (\w+)", RULES.read_text())
TEXTFILE = "/var/lib/prometheus/node-exporter/salsa.prom"
API = "http://127.0.0.1:9090/api/v1/"
OK, WARNING, CRITICAL, UNKNOWN = range(4)


# --- a host that is watched


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    with Site() as site:
        yield site


@pytest.fixture(scope="module")
def machine(site: Site, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Booted]:
    """A host in the site with the agent, and node_exporter as Debian's package has it."""
    exporter = tool("prometheus-node-exporter", "usr/bin/prometheus-node-exporter")
    files = tmp_path_factory.mktemp("files")
    run("install", DESTDIR=str(files), PREFIX="/usr")
    shutil.copy(exporter, files / "usr/bin")
    (files / "var/lib/prometheus/node-exporter").mkdir(parents=True)
    (files / "etc").mkdir(exist_ok=True)
    (files / "etc/resolv.conf").write_text(f"nameserver {SERVER}\n")
    with Booted(files) as booted:
        booted.run("systemd-sysusers")
        booted.cable("wan0", site, "host0")
        site.plug("host0")
        booted.run("ip", "address", "add", f"{HOST}/24", "dev", "wan0")
        booted.run("systemctl", "start", "salsa-agent.service")
        booted.run(
            *("systemd-run", "--unit=exporter", "prometheus-node-exporter", "--collector.disable-defaults"),
            *("--collector.textfile", f"--collector.textfile.directory={Path(TEXTFILE).parent}"),
        )
        yield booted


def scraped(site: Site) -> str:
    """What node_exporter tells Prometheus."""
    return got(site, f"http://{HOST}:9100/metrics")


def got(space: Netns, url: str) -> str:
    """The page; empty where nobody answers."""
    return space.run(["sh", "-c", 'curl --silent --fail --max-time 10 "$1" || :', "sh", url])


@pytest.fixture
def watched(machine: Booted, site: Site) -> Iterator[Booted]:
    """The timer writes each second."""
    machine.run("systemctl", "start", "salsa-agent.service")
    machine.write(
        "/run/systemd/system/salsa-metrics.timer.d/test.conf", "[Timer]\nOnUnitInactiveSec=1s\nAccuracySec=1ms\n"
    )
    machine.run("systemctl", "daemon-reload")
    machine.run("systemctl", "start", "salsa-metrics.timer")
    until(lambda: scraped(site), lambda seen: "salsa_up 1" in seen)
    yield machine
    machine.run("systemctl", "stop", "salsa-metrics.timer", "salsa-metrics.service")


@pytest.mark.needs("boot")
def test_units_of_the_metrics_are_sound_and_confined(machine: Booted) -> None:
    for unit in ("salsa-metrics.service", "salsa-metrics.timer"):
        assert machine.run("systemd-analyze", "verify", f"/usr/lib/systemd/system/{unit}") == ""
    service = PROJECT / "systemd" / "salsa-metrics.service"
    said = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", "--no-pager", str(service)],
        capture_output=True, text=True, check=True, timeout=30,
    ).stdout  # fmt: skip
    level = re.search(r"Overall exposure level for \S+: ([\d.]+)", said)
    assert level
    assert float(level[1]) <= 2.0
    assert machine.run("systemctl", "is-enabled", "salsa-metrics.timer", check=False).strip() == "disabled"


@pytest.mark.needs("boot")
def test_timer_writes_what_node_exporter_takes(watched: Booted, site: Site) -> None:
    watched.until(lambda: "Succeeded\n" not in watched.show("salsa-metrics.service", "Result"), "it has run")
    seen = until(lambda: scraped(site), lambda seen: 'salsa_state{salsa_state="ready"} 1' in seen)
    assert "node_textfile_scrape_error 0" in seen
    assert 'salsa_relays{verdict="ok"} 1' in seen
    assert "# TYPE salsa_rounds_total counter" in seen
    written = watched.run("stat", "-c", "%a %U %Y %i", TEXTFILE).split()
    assert written[:2] == ["644", "root"]
    watched.until(lambda: watched.run("stat", "-c", "%i", TEXTFILE).strip() != written[3], "it is written again")
    listed = watched.run("ls", "-A", str(Path(TEXTFILE).parent)).split()
    assert [name for name in listed if name.endswith(".prom")] == ["salsa.prom"]


@pytest.mark.needs("boot")
def test_timer_says_that_no_agent_runs(watched: Booted, site: Site) -> None:
    watched.run("systemctl", "stop", "salsa-agent.service")
    seen = until(lambda: scraped(site), lambda seen: "salsa_up 0" in seen)
    assert "salsa_state" not in seen, "what was said last holds no more"
    assert watched.show("salsa-metrics.service", "Result") == "success"
    watched.run("systemctl", "start", "salsa-agent.service")
    until(lambda: scraped(site), lambda seen: "salsa_up 1" in seen)


@pytest.mark.needs("boot")
def test_the_collector_takes_no_openmetrics_file(machine: Booted, site: Site) -> None:
    """Hence --textfile. If this fails one day, node_exporter has learnt it."""
    directory = Path(TEXTFILE).parent
    machine.run("sh", "-c", f"salsactl --bus system metrics >{directory}/open.prom")
    try:
        assert "node_textfile_scrape_error 1" in scraped(site)
    finally:
        machine.run("rm", f"{directory}/open.prom")


# --- Prometheus


@pytest.fixture
def server(watched: Booted, site: Site, tmp_path: Path) -> Iterator[Site]:
    """Prometheus beside the host, which it asks each second, with the example's rules."""
    with prometheus(site, tmp_path, [f"{HOST}:9100"], RULES):
        until(lambda: query(site, "salsa_up"), bool)
        yield site


def query(site: Site, expression: str) -> list[Any]:
    """The series that Prometheus answers; fails where it takes the expression for none."""
    page = got(site, f"{API}query?query={urllib.parse.quote(expression)}")
    if not page:
        return []
    answer = json.loads(page)
    assert answer["status"] == "success", answer
    return list(answer["data"]["result"])


def expressions() -> dict[str, str]:
    """The queries of the dashboard, as Grafana sends them for all hosts, by their panel and legend."""
    return {
        f"{panel['title']}/{target['legendFormat']}": target["expr"]
        .replace("$instance", ".*")
        .replace("$__rate_interval", "10s")
        for panel in json.loads(DASHBOARD.read_text())["panels"]
        for target in panel["targets"]
    }


@pytest.mark.needs("boot")
def test_each_query_of_the_dashboard_and_of_the_alerts_asks_for_what_is_there(server: Site) -> None:
    names = set(json.loads(got(server, f"{API}label/__name__/values"))["data"])
    alerts = re.findall(r"expr: (?:>-\n)?(.+?)\n +(?:for|labels):", RULES.read_text(), re.DOTALL)
    for where, expression in {**expressions(), **dict(zip(ALERTS, alerts, strict=True))}.items():
        asked = {one.rstrip("[{") for one in re.findall(r"\b(?:salsa|node)_\w+(?:[{\[]|$|(?= ))", expression)}
        assert asked, where
        assert asked <= names, where
    for text in expressions().values():
        until(partial(query, server, text), bool)


@pytest.mark.needs("boot")
def test_prometheus_holds_an_alert_while_no_agent_runs(server: Site, watched: Booted) -> None:
    def alerts() -> set[str]:
        said = json.loads(got(server, f"{API}alerts"))["data"]["alerts"]
        return {f"{one['labels']['alertname']} {one['state']}" for one in said}

    until(lambda: query(server, 'salsa_state{salsa_state="ready"} == 1'), bool)
    assert alerts() == set()
    watched.run("systemctl", "stop", "salsa-agent.service")
    until(alerts, lambda seen: "SalsaAgentDown pending" in seen)
    watched.run("systemctl", "start", "salsa-agent.service")
    until(alerts, lambda seen: seen == set())


def test_the_dashboard_is_whole() -> None:
    """What Grafana's own import asks for; Grafana is not to be had here."""
    board = json.loads(DASHBOARD.read_text())
    assert board["title"] and board["uid"] and board["schemaVersion"] >= 36
    panels = board["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    cells = [
        (x, y)
        for place in (panel["gridPos"] for panel in panels)
        for x in range(place["x"], place["x"] + place["w"])
        for y in range(place["y"], place["y"] + place["h"])
    ]
    assert len(set(cells)) == len(cells), "panels overlap"
    assert max(x for x, _ in cells) < 24, "Grafana's grid has 24 columns"
    variables = {one["name"] for one in board["templating"]["list"]}
    used = set(re.findall(r"\$\{?(\w+)", DASHBOARD.read_text())) - {"__rate_interval", "__all"}
    assert used == variables
    assert len(expressions()) == sum(len(panel["targets"]) for panel in panels)


def promtool(*argv: str, directory: Path = EXAMPLES) -> subprocess.CompletedProcess[str]:
    program = tool("prometheus", "usr/bin/promtool")
    return subprocess.run([program, *argv], cwd=directory, capture_output=True, text=True, check=False, timeout=60)


def test_promtool_takes_the_rules_and_their_tests_hold() -> None:
    for argv in (("check", "rules", RULES.name), ("test", "rules", "salsa.rules.test.yml")):
        done = promtool(*argv)
        assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("alert", ALERTS)
def test_the_tests_of_the_rules_see_an_alert_that_never_fires_or_always(alert: str, tmp_path: Path) -> None:
    shutil.copy(EXAMPLES / "salsa.rules.test.yml", tmp_path)
    for expression in ("vector(0) > 1", 'salsa_up{instance="well"} == 1'):
        (tmp_path / RULES.name).write_text(rules_without(RULES.read_text(), alert, expression))
        assert promtool("check", "rules", RULES.name, directory=tmp_path).returncode == 0
        done = promtool("test", "rules", "salsa.rules.test.yml", directory=tmp_path)
        assert alert in done.stdout + done.stderr
        assert done.returncode != 0


# --- Nagios and Icinga


def test_nagios_takes_the_commands(tmp_path: Path) -> None:
    root = tool("nagios4-core", "usr/sbin/nagios4").parents[2]
    (tmp_path / "salsa.cfg").write_text(document("nagios.cfg"))
    (tmp_path / "base.cfg").write_text(
        "define timeperiod {\n timeperiod_name always\n alias always\n monday 00:00-24:00\n}\n"
        "define contact {\n contact_name me\n host_notifications_enabled 0\n service_notifications_enabled 0\n"
        " host_notification_period always\n service_notification_period always\n"
        " host_notification_commands none\n service_notification_commands none\n}\n"
        "define command {\n command_name none\n command_line /bin/true\n}\n"
        "define host {\n host_name laptop\n address 192.0.2.1\n max_check_attempts 1\n check_period always\n"
        " contacts me\n notification_period always\n}\n"
        "define service {\n name generic-service\n register 0\n max_check_attempts 1\n check_period always\n"
        " contacts me\n notification_period always\n check_interval 5\n retry_interval 1\n}\n"
    )
    (tmp_path / "nagios.cfg").write_text(
        f"log_file={tmp_path}/log\ncfg_file={tmp_path}/base.cfg\ncfg_file={tmp_path}/salsa.cfg\n"
        f"status_file={tmp_path}/status\ntemp_file={tmp_path}/temp\ntemp_path={tmp_path}\n"
        f"check_result_path={tmp_path}\nobject_cache_file={tmp_path}/cache\nillegal_object_name_chars=`\n"
        "nagios_user=root\nnagios_group=root\n"
    )
    done = subprocess.run(
        [root / "usr/sbin/nagios4", "-v", tmp_path / "nagios.cfg"],
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
    assert "Checked 1 services." in done.stdout
    broken = (tmp_path / "salsa.cfg").read_text().replace("check_command", "check_comand")
    (tmp_path / "salsa.cfg").write_text(broken)
    assert subprocess.run([root / "usr/sbin/nagios4", "-v", tmp_path / "nagios.cfg"], capture_output=True).returncode


def test_icinga_takes_the_command_and_applies_the_service(tmp_path: Path) -> None:
    program = tool("icinga2-bin", "usr/lib/x86_64-linux-gnu/icinga2/sbin/icinga2")
    root = program.parents[5]
    base = 'include <itl>\nconst NodeName = "laptop"\n'
    for name, watched in (("laptop", "true"), ("other", "false")):
        base += f'object Host "{name}" {{\n check_command = "dummy"\n vars.salsa = {watched}\n}}\n'
    places = [f"Configuration.{name}={tmp_path}" for name in ("DataDir", "LogDir", "CacheDir", "InitRunDir")]
    users = [f"{prefix}RunAs{kind}=root" for prefix in ("", "Configuration.") for kind in ("User", "Group")]

    def validate(text: str) -> subprocess.CompletedProcess[str]:
        (tmp_path / "icinga2.conf").write_text(base + text)
        return subprocess.run(
            [program, "daemon", "-C", "-c", tmp_path / "icinga2.conf", "-I", root / "usr/share/icinga2/include",
             *(word for place in (*places, *users) for word in ("-D", place))],
            env={"LD_LIBRARY_PATH": f"{root}/usr/lib/x86_64-linux-gnu", "PATH": "/usr/bin:/bin"},
            capture_output=True, text=True, check=False, timeout=60,
        )  # fmt: skip

    done = validate(document("icinga2.conf"))
    assert done.returncode == 0, done.stdout
    assert "Instantiated 1 Service." in done.stdout
    assert validate(document("icinga2.conf").replace("assign where", "assign were")).returncode == 1


@pytest.mark.needs("boot")
def test_the_check_is_run_as_nagios_nrpe_and_icinga_run_it(watched: Booted, site: Site) -> None:
    nagios = re.findall(r"command_line +(.+)", document("nagios.cfg"))
    nrpe = re.findall(r"command\[\w+\]=(.+)", document("nrpe.cfg"))
    icinga = " ".join(re.findall(r'"([^"]+)"', document("icinga2.conf").partition("command = [")[2].partition("]")[0]))
    assert (*nagios, *nrpe, icinga) == ("salsactl --bus system check",) * 3

    def check() -> tuple[int, str]:
        done = watched.result("setpriv", "--reuid=nobody", "--clear-groups", "sh", "-c", icinga)
        return done.returncode, done.stdout

    until(check, lambda seen: seen == (OK, document("check.out")))
    watched.run("ip", "address", "flush", "dev", "wan0")
    until(check, lambda seen: seen == (CRITICAL, document("offline.out")))
    watched.run("ip", "address", "add", f"{HOST}/24", "dev", "wan0")
    until(check, lambda seen: seen[0] == OK)
    watched.run("systemctl", "stop", "salsa-agent.service")
    assert check()[0] == UNKNOWN


# --- the document


def test_the_commands_of_the_page() -> None:
    """The one for promtool as it stands, from the directory of the examples; the one for systemd on a booted host."""
    for line in document("rules").splitlines():
        program, *argv = line.split()
        assert program == "promtool"
        assert promtool(*argv).returncode == 0, line


@pytest.mark.needs("boot")
def test_the_timer_is_enabled_as_the_page_says(machine: Booted) -> None:
    machine.run("rm", "-f", TEXTFILE)
    machine.run("sh", "-ec", document("enable"))
    assert machine.run("systemctl", "is-enabled", "salsa-metrics.timer").strip() == "enabled"
    machine.until(lambda: machine.result("test", "-e", TEXTFILE).returncode == 0, "the file is written")
    machine.run("systemctl", "disable", "--now", "salsa-metrics.timer")


def test_the_page_names_every_metric_and_every_alert(machine: Booted) -> None:
    page = DOCUMENT.read_text()
    written = machine.run(
        "sh", "-c", "systemctl start salsa-agent; salsactl --bus system metrics --textfile /tmp/x; cat /tmp/x"
    )
    metrics = set(re.findall(r"^(salsa_\w+)", written, re.MULTILINE))
    assert metrics == set(re.findall(r"`(salsa_\w+)(?:\{\w+\})?`", page)) - {"salsa_state_"}
    assert {alert for alert in ALERTS if f"`{alert}`" not in page} == set()
    blocks = [line.split()[1] for line in page.splitlines() if line.startswith("```") and len(line) > 3]
    tests = Path(__file__).read_text()
    assert [name for name in blocks if f'document("{name}")' not in tests] == []
