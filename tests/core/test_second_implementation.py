"""Two implementations that share nothing agree on random networks: what differs is where the rules leave it open."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

from tests.core.random_vectors import random_vector
from tests.core.vectors import FOLDER, Run, Vector

HOW_MANY = 300


def decided(result: Vector) -> Vector:
    """What both have to agree on. Free are: the order of equal preferences (C1), when static names are looked up."""
    static = {relay.split()[0].rpartition(":")[0] for relay in result["relays"] if relay.endswith(" static")}
    return {
        "addresses": result["addresses"],
        "outcomes": result["outcomes"],
        "asked_mx": sorted(result["asked_mx"]),
        "asked_srv": sorted(result["asked_srv"]),
        "asked_hosts": sorted(set(result["asked_hosts"]) - static),
        "relays": sorted(result["relays"]),
        "dropped": sorted(set(result["dropped"])),
        "state": "" if static else result["state"],
    }


def test_the_core_and_the_second_implementation_agree_on_random_networks(tmp_path: Path) -> None:
    given = [random_vector(seed) for seed in range(HOW_MANY)]
    file = tmp_path / "random.json"
    file.write_text(json.dumps(given))
    done = subprocess.run(["perl", FOLDER / "salsa.pl", file], check=True, capture_output=True, text=True)
    others = [decided(json.loads(line)) for line in done.stdout.splitlines()]
    assert len(others) == HOW_MANY
    core = [decided(Run(vector).result()) for vector in given]
    differ = {seed: (core[seed], others[seed]) for seed in range(HOW_MANY) if core[seed] != others[seed]}
    assert differ == {}
    assert {outcome["outcome"] for one in core for outcome in one["outcomes"]} == {"found", "none", "refused", "failed"}
    assert {drop.split()[1] for one in core for drop in one["dropped"]} == {"B7", "B8", "C2", "C3", "C4", "C7"}
