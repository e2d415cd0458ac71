"""The hosts file of rule C8, whatever stands in its place."""

from __future__ import annotations

import os
from ipaddress import ip_address
from pathlib import Path

from salsa_agent.resolver import hosts


def test_c8_a_fifo_as_hosts_file_is_not_waited_for(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    assert hosts.lookup("smtp.home", fifo) == ()


def test_c8_of_a_huge_hosts_file_the_first_whole_lines_count(tmp_path: Path) -> None:
    file, line = tmp_path / "hosts", b"192.0.2.1 smtp.home\n"
    file.write_bytes(line + b"#" * (hosts.MAX_BYTES - len(line)) + b"\n192.0.2.2 smtp.home\n")
    assert hosts.lookup("smtp.home", file) == (ip_address("192.0.2.1"),)
