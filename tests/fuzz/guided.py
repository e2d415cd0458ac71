"""One target under atheris, guided by what its inputs reach: `python -m tests.fuzz.guided TARGET SECONDS CORPUS`.

A process of its own, for atheris ends it. The agent's modules are instrumented as they are imported, hence first.
"""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any


def main(name: str, seconds: str, corpus: str) -> None:
    """Fuzz until the time is over or something breaks; the status says which."""
    atheris: Any = importlib.import_module("atheris")  # it has no types, and need not be installed
    with atheris.instrument_imports(include=["salsa_agent"]):
        importlib.import_module("tests.fuzz.live")
        targets = importlib.import_module("tests.fuzz.targets").TARGETS
    where = Path(corpus, name)
    where.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(targets[name].seeds):
        (where / f"seed{number}").write_bytes(seed)
    atheris.Setup(
        [
            sys.argv[0],
            f"-max_total_time={seconds}",
            "-max_len=4096",
            "-timeout=30",
            "-print_final_stats=1",
            f"-artifact_prefix={corpus}/{name}-",
            str(where),
        ],
        targets[name].target,
    )
    atheris.Fuzz()


if __name__ == "__main__":
    main(*sys.argv[1:])
