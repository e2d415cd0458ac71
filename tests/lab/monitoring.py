"""Programs that watch: Prometheus, node_exporter, Nagios and Icinga, unpacked; and the blocks of docs/monitoring.md."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.lab.bus import PATIENCE, PROJECT
from tests.lab.netns import Netns
from tests.lab.unpacked import CACHE

DOCUMENT = PROJECT / "docs" / "monitoring.md"


def tool(package: str, path: str) -> Path:
    """A file of a package of scripts/test-packages-unpacked. Skips the test where it is not unpacked."""
    file = CACHE / package / path
    if not file.exists():
        pytest.skip(f"needs programs: {package} is not unpacked; ./run tests does that as root")
    return file


def document(name: str) -> str:
    """A named block of the document."""
    found = re.search(rf"^```\w+ {re.escape(name)}\n(.*?)^```$", DOCUMENT.read_text(), re.MULTILINE | re.DOTALL)
    assert found, f"{DOCUMENT.name} has no block {name}"
    return found[1]


@contextmanager
def prometheus(space: Netns, directory: Path, targets: Sequence[str], *rules: Path) -> Iterator[None]:
    """Prometheus on 127.0.0.1:9090 of a namespace, for the length of the block; it asks the targets each second."""
    program = tool("prometheus", "usr/bin/prometheus")
    files = "".join(f"\n  - {path}" for path in rules)
    (directory / "prometheus.yml").write_text(
        f"global:\n  scrape_interval: 1s\n  evaluation_interval: 1s\nrule_files:{files}\n"
        f"scrape_configs:\n  - job_name: node\n    static_configs:\n      - targets: {json.dumps(list(targets))}\n"
    )
    share = CACHE / "prometheus/usr/share/prometheus"
    with (directory / "prometheus.log").open("wb") as log:
        process = space.exec(
            [str(program), f"--config.file={directory}/prometheus.yml", f"--storage.tsdb.path={directory}/data",
             "--web.listen-address=127.0.0.1:9090", f"--web.local-assets={share}/web",
             f"--web.console.templates={directory}/consoles", f"--web.console.libraries={share}/console_libraries"],
            stdout=log,
            stderr=log,
        )  # fmt: skip
    try:
        yield
    finally:
        process.terminate()
        process.wait(PATIENCE)


def rules_without(text: str, alert: str, expression: str) -> str:
    """The rules with this expression in the place of an alert's own."""
    pattern = rf"(- alert: {alert}\n +expr: )(?:>-\n)?.+?(\n +(?:for|labels):)"
    changed, number = re.subn(pattern, lambda found: f"{found[1]}{expression}{found[2]}", text, flags=re.DOTALL)
    assert number == 1
    return changed
